"""Processes of a site: recorded, found again, ended with all they started, and nobody else's ever signalled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lab import proc, processes
from lab.errors import LabError, MissingToolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLEEP = ["sleep", "1000"]


@dataclass(frozen=True)
class Home:
    name: str
    state: Path


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A site's folder; whatever a test leaves running in it is ended."""
    made = Home(name="scratch", state=tmp_path)
    yield made
    for name in {record.name for record in processes.every(made)} | processes.strays(made):
        processes.stop(made, name, deadline=0.0)


def test_a_started_process_is_found_and_stopped(home: Home) -> None:
    """It runs in a session of its own, is found by name, ends when asked, and stopping it again is no error."""
    process = processes.spawn(home, "nap", SLEEP)
    found = processes.find(home, "nap")
    assert found == process
    assert os.getsid(process.pid) == process.pid
    assert processes.stop(home, "nap") is True
    assert processes.find(home, "nap") is None
    assert processes.stop(home, "nap") is False


def test_starting_it_again_finds_it(home: Home) -> None:
    """The same command under the same name is already so; another command is refused and the first runs on."""
    process = processes.spawn(home, "nap", SLEEP)
    assert processes.spawn(home, "nap", SLEEP) == process
    with pytest.raises(LabError, match="runs another command"):
        processes.spawn(home, "nap", ["sleep", "2000"])
    assert process.running


def test_its_output_is_kept(home: Home) -> None:
    """Both streams go to the log named for it, and its environment is ours with the additions."""
    process = processes.spawn(home, "talk", ["sh", "-c", "echo $WORD; echo err >&2"], env={"WORD": "out"})
    assert processes.wait(lambda: not process.running, 10)
    assert (home.state / "logs" / "talk.log").read_text() == "out\nerr\n"


def test_a_process_that_ignores_the_request_is_killed(home: Home) -> None:
    """After its deadline SIGKILL follows, for the children too."""
    script = "trap '' TERM; sleep 1000 & echo $! > child; while :; do sleep 0.05; done"
    process = processes.spawn(home, "deaf", ["sh", "-c", script])
    child = home.state / "child"
    assert processes.wait(lambda: child.exists() and child.read_text().strip() != "", 10)
    assert processes.stop(home, "deaf", deadline=0.2)
    assert not process.running
    left = proc.stat(int(child.read_text()))
    assert left is None or left.dead


def test_the_stop_signal_is_the_processs_own(home: Home) -> None:
    """PostgreSQL asks for SIGINT: SIGTERM would wait for its clients."""
    script = "trap 'echo int; exit' INT; echo up; while :; do sleep 0.05; done"
    process = processes.spawn(home, "own", ["sh", "-c", script], stop_signal=signal.SIGINT)
    log = home.state / "logs" / "own.log"
    assert processes.wait(lambda: "up" in log.read_text(), 10)
    processes.stop(home, "own")
    assert not process.running
    assert log.read_text() == "up\nint\n"


def test_a_reused_pid_is_nobody_of_ours(home: Home) -> None:
    """A record whose pid now belongs to a process with another start time is neither found nor signalled."""
    with subprocess.Popen(SLEEP, start_new_session=True) as other:
        try:
            (home.state / "run").mkdir()
            record = {
                "name": "nap", "pid": other.pid, "start": 1, "boot": proc.boot(), "argv": SLEEP, "log": "",
                "stop_signal": "SIGTERM",
            }  # fmt: skip
            (home.state / "run" / "nap.json").write_text(json.dumps(record))
            assert processes.find(home, "nap") is None
            assert processes.stop(home, "nap") is False
            assert other.poll() is None
        finally:
            other.kill()


def test_a_record_of_another_boot_is_nobody_of_ours(home: Home) -> None:
    """After a reboot pid and start time may both meet by chance."""
    process = processes.spawn(home, "nap", SLEEP)
    path = home.state / "run" / "nap.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": "another"}))
    assert processes.find(home, "nap") is None
    assert process.running


def test_a_process_whose_record_was_lost_is_found_by_its_mark(home: Home) -> None:
    """If the starter dies between starting and recording, the next `up` still knows the process for its own."""
    process = processes.spawn(home, "lost", SLEEP)
    (home.state / "run" / "lost.json").write_text('{"name": "lo')
    assert processes.find(home, "lost") is None
    assert processes.strays(home) == {"lost"}
    assert processes.stop(home, "lost") is True
    assert not process.running
    assert processes.strays(home) == set()


def test_orphans_of_a_killed_process_are_ended(home: Home) -> None:
    """A server killed from outside leaves workers behind; stopping it by name ends them."""
    process = processes.spawn(home, "server", ["sh", "-c", "sleep 1000 & echo $! > child; wait"])
    child = home.state / "child"
    assert processes.wait(lambda: child.exists() and child.read_text().strip() != "", 10)
    processes.kill(home, "server")
    assert not process.running
    assert processes.stop(home, "server") is True
    left = proc.stat(int(child.read_text()))
    assert left is None or left.dead


def test_sites_do_not_see_each_other(home: Home, tmp_path: Path) -> None:
    """Two sites may run processes of the same name."""
    other = Home(name="other", state=tmp_path / "other")
    other.state.mkdir()
    process = processes.spawn(home, "nap", SLEEP)
    assert processes.find(other, "nap") is None
    assert processes.stop(other, "nap") is False
    assert process.running


def test_a_program_that_is_not_there_is_said(home: Home) -> None:
    """A missing program is named, with the command that installs it."""
    with pytest.raises(MissingToolError, match="no-such-program does not exist"):
        processes.spawn(home, "ghost", ["no-such-program"])


@pytest.mark.parametrize("name", ["sh", "a b", "tmux: server", "(sd-pam)", "x) S 1 2 (y"])
def test_the_name_of_a_process_cannot_confuse_its_stat(name: str) -> None:
    """The command stands in parentheses and may hold blanks and parentheses itself."""
    rest = "S 1 42 43 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 98765 0 0"
    assert proc.parse_stat(f"42 ({name}) {rest}") == proc.Stat(
        pid=42,
        name=name,
        state="S",
        kernel=False,
        parent=1,
        session=43,
        start=98765,
    )


def test_kernel_threads_are_left_out() -> None:
    """They carry no mark, and looking at each would double the time of every stop."""
    line = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 1 2 0 0 20 0 1 0 98765 0 0"
    assert proc.parse_stat(line).kernel
    assert os.getpid() in {found.pid for found in proc.every()}
    assert not any(found.kernel for found in proc.every())
