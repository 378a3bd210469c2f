"""A script that has ended keeps its container until somebody has seen the engine: the text, run by real shells."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.training.conftest import eventually

from edgeloop.training import guard, hold
from edgeloop.training.job import Job

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 20.0
SHELLS = tuple(found for name in ("dash", "bash", "busybox") if (found := shutil.which(name)))
SAVES = """
import signal, sys, time
def end(*_):
    signal.signal(signal.SIGTERM, lambda *_: print('again', flush=True))
    print('saving', flush=True)
    time.sleep(0.5)
    print('saved', flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, end)
print('ready', flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def _hearing() -> Iterator[None]:
    """Under nohup a shell starts deaf to SIGHUP, and may not change that; a container's does not."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(params=SHELLS, ids=[Path(one).name for one in SHELLS])
def shell(request: pytest.FixtureRequest) -> list[str]:
    """A POSIX shell of this machine."""
    return [request.param, *(["sh"] if request.param.endswith("busybox") else [])]


@pytest.fixture
def here(tmp_path: Path) -> str:
    """A job's folder with its pipe."""
    os.mkfifo(tmp_path / hold.PIPE)
    return str(tmp_path)


def said(text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a shell on the VM makes of a text."""
    env = os.environ | variables
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=SECONDS, env=env, check=False)


def waiting(here: str) -> bool:
    """Whether somebody waits to be let go."""
    return said(hold.waits(here)).returncode == 0


@contextmanager
def held(shell: list[str], here: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A command under the shell, as in the container."""
    text = hold.HELD.replace(f"/{hold.PIPE}", f"{here}/{hold.PIPE}")
    line = [*shell, "-c", text, "train", *command]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def until(here: str) -> None:
    """Wait until the script has ended."""
    eventually(lambda: waiting(here), "somebody to be let go")


def line(process: subprocess.Popen[str]) -> str:
    """The next line that it says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def passes_on(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Wait until the shell passes a signal on; before that one ends the shell, and the container with it."""

    def catches() -> bool:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
        return bool(int(status["SigCgt"], 16) >> (number - 1) & 1)

    eventually(catches, f"the trap of {number.name}")


ENDINGS = {"exit 0": 0, "exit 3": 3, "exit 127": 127, "kill -KILL $$": 137, "kill -SEGV $$": 139, "kill -TERM $$": 143}


@pytest.mark.parametrize(("script", "code"), ENDINGS.items())
def test_it_stays_until_it_is_let_go_and_ends_as_the_script_did(
    shell: list[str], here: str, script: str, code: int
) -> None:
    """Nothing is heard of the shell itself, the exit code is the script's, and nobody is let go by the question."""
    with held(shell, here, "sh", "-c", f"echo out; echo err >&2; echo last; {script}") as process:
        until(here)
        assert [waiting(here), waiting(here), process.poll()] == [True, True, None]
        assert said(hold.let_go(here)).returncode == 0
        assert process.communicate(timeout=SECONDS) == ("out\nerr\nlast\n", "")
    assert process.returncode == code
    assert not waiting(here)


def test_a_command_that_is_not_there_is_told_in_the_log(shell: list[str], here: str) -> None:
    """What the shell itself complains about stands where the script's lines would."""
    with held(shell, here, "/no/such/command") as process:
        until(here)
        said(hold.let_go(here))
        out, _ = process.communicate(timeout=SECONDS)
    assert "/no/such/command" in out
    assert process.returncode == 127


def test_arguments_and_variables_arrive_as_they_are(shell: list[str], here: str) -> None:
    """Blanks, quotes, line ends, an empty argument, and variables named like the shell's own."""
    script = "import os, sys; print(sys.argv[1:], os.environ['code'])"
    arguments = ["a b", "", "it's", '"$HOME"', "two\nlines", "*"]
    line = [sys.executable, "-c", script, *arguments]
    with held(["env", "code=mine", *shell], here, *line) as process:
        until(here)
        said(hold.let_go(here))
        assert process.communicate(timeout=SECONDS) == (f"{arguments} mine\n", "")


def test_a_script_that_is_told_to_stop_saves_and_ends_by_itself(shell: list[str], here: str) -> None:
    """SIGTERM reaches it, a second one too, its own exit code counts, and who sent them need not let anybody go."""
    with held(shell, here, sys.executable, "-c", SAVES) as process:
        assert line(process) == "ready"
        passes_on(process, signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert line(process) == "saving"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=SECONDS) == ("again\nsaved\n", "")
    assert process.returncode == 5


def test_an_end_and_a_signal_in_the_same_instant_are_the_scripts_end(shell: list[str], here: str) -> None:
    """The shell hears of both at once: the exit code is that of the script."""
    with held(shell, here, "sh", "-c", "sleep 0.3; exit 3") as process:
        passes_on(process, signal.SIGUSR1)
        process.send_signal(signal.SIGSTOP)
        (job,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        eventually(lambda: ") Z " in Path(f"/proc/{job}/stat").read_text(), "the script's end")
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 3


@pytest.mark.parametrize("name", ["HUP", "USR1", "USR2"])
def test_other_signals_reach_the_script(shell: list[str], here: str, name: str) -> None:
    """What somebody sends into the container is for the script, not for the shell around it."""
    script = (
        "import signal, time\n"
        f"signal.signal(signal.SIG{name}, lambda *_: (print('heard', flush=True), exit(6)))\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    with held(shell, here, sys.executable, "-c", script) as process:
        assert line(process) == "ready"
        passes_on(process, signal.Signals[f"SIG{name}"])
        process.send_signal(signal.Signals[f"SIG{name}"])
        assert process.communicate(timeout=SECONDS) == ("heard\n", "")
    assert process.returncode == 6


def test_a_signal_at_the_very_beginning_ends_it(shell: list[str], here: str) -> None:
    """Sent at any moment of the start, a SIGTERM ends shell or script (the container goes with both), never neither."""
    for delay in range(100):
        with held(shell, here, "sleep", "5") as process:
            time.sleep(delay / 25000)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=2) in {143, -signal.SIGTERM}


def test_an_engine_that_ends_what_is_held_gets_the_scripts_exit_code(shell: list[str], here: str) -> None:
    """An engine that was away and does not keep its containers stops them: what ended well has ended well."""
    with held(shell, here, "true") as process:
        until(here)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 0


def test_nobody_is_waited_for_who_does_not_read(here: str, tmp_path: Path) -> None:
    """Without a pipe, without a reader, or with a pipe that somebody filled, neither question nor word blocks."""
    assert not waiting(str(tmp_path / "nowhere"))
    assert not waiting(here)
    assert said(hold.let_go(here)).returncode != 0
    hostile = os.open(f"{here}/{hold.PIPE}", os.O_RDWR | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(hostile, bytes(4096))
        assert waiting(here)
        assert said(hold.let_go(here)).returncode != 0
    finally:
        os.close(hostile)
    assert (tmp_path / hold.PIPE).is_fifo()


DOCKER = """#!/bin/sh
echo "$@" >>"$LOG"
case $1 in
run) exit $PROBE ;;
image) printf %s "$COMMAND" ;;
esac
"""


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A folder for commands that stand before the machine's own, with a Docker that says what the test wants."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    return folder


def launched(bin_folder: Path, *, probe: int = 0, command: str = "'python3' 'train me.py' ") -> tuple[int, list[str]]:
    """The end of the shell that launches, and the arguments that `docker run` would get."""
    home = bin_folder.parent
    text = f"set -eu\ncd\nmkdir -p job\n{hold.launch('job', 'sha256:feed', '--network none')}\nprintf '%s\\0' \"$@\""
    path = f"{bin_folder}:{os.environ['PATH']}"
    done = said(text, HOME=str(home), PATH=path, PROBE=str(probe), COMMAND=command, LOG=str(home / "log"))
    return done.returncode, done.stdout.split("\0")[:-1]


def test_an_image_with_a_shell_is_held(bin_folder: Path) -> None:
    """Its own command runs under the shell, and the pipe is all that the container gets besides."""
    home = bin_folder.parent
    assert launched(bin_folder) == (
        0,
        [
            *("-v", f"{home}/job/engine:/engine:ro", "--entrypoint", "/bin/sh", "sha256:feed"),
            *("-c", hold.HELD, "train", "python3", "train me.py"),
        ],
    )
    assert (home / "job" / hold.PIPE).is_fifo()
    assert (home / "job" / hold.PIPE).stat().st_mode & 0o777 == 0o666
    assert (
        (home / "log")
        .read_text()
        .startswith("run --rm --pull never --network none --entrypoint /bin/sh sha256:feed -c :\n")
    )


@pytest.mark.parametrize("probe", [126, 127])
def test_an_image_without_a_shell_runs_as_it_is(bin_folder: Path, probe: int) -> None:
    """Not there, or not to be run: the image's own command is Docker's to start."""
    assert launched(bin_folder, probe=probe) == (0, ["sha256:feed"])


def test_an_image_without_a_command_is_for_docker_to_refuse(bin_folder: Path) -> None:
    """Docker says what is wrong with it; a shell around nothing would end well."""
    assert launched(bin_folder, command="") == (0, ["sha256:feed"])


def test_a_vm_that_could_not_let_go_holds_nothing(bin_folder: Path) -> None:
    """A dd that cannot open a pipe without waiting would leave the container there for ever."""
    (bin_folder / "dd").write_text("#!/bin/sh\nexit 1\n")
    (bin_folder / "dd").chmod(0o755)
    assert launched(bin_folder) == (0, ["sha256:feed"])
    assert "run" not in (bin_folder.parent / "log").read_text()


def test_an_engine_in_trouble_starts_nothing(bin_folder: Path) -> None:
    """That is no answer to whether the image has a shell."""
    assert launched(bin_folder, probe=125) == (125, [])


ALIVE = """#!/bin/sh
echo "$1" >>"$LOG"
if test "$1" != ps; then exit 0; fi
if test -e "/proc/$HELD"; then echo id running; else echo id exited; fi
"""
"""A Docker that calls the container running as long as a process is there."""


def test_a_script_that_has_ended_is_let_go_before_it_is_stopped(
    shell: list[str], here: str, bin_folder: Path, tmp_path: Path
) -> None:
    """Its time was over when the engine was seen again: it ended by itself all the same, and the stop came too late."""
    (bin_folder / "docker").write_text(ALIVE)
    job = Job(run_id="a" * 64, pipeline="p", image="i")
    attempt = tmp_path / job.folder / "attempt-1"
    attempt.mkdir(parents=True)
    (attempt / "cancel").write_text("deadline its time was over\n")
    (attempt.parent / hold.PIPE).symlink_to(f"{here}/{hold.PIPE}")
    with held(shell, here, "true") as process:
        until(here)
        env = {"HOME": str(tmp_path), "PATH": f"{bin_folder}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
        watch = ["sh", "-c", f"cd\n{guard.guard(job)}", "watch", "1"]
        with subprocess.Popen(watch, env=os.environ | env | {"HELD": str(process.pid)}) as guarding:
            process.wait(timeout=SECONDS)
            guarding.wait(timeout=SECONDS)
    assert "kill" not in (tmp_path / "log").read_text().split()
    assert (attempt / "late").exists()


def test_a_pipe_of_an_attempt_before_gives_way(bin_folder: Path) -> None:
    """Each attempt has a pipe of its own, so nobody lets go what another attempt holds."""
    (bin_folder.parent / "job").mkdir()
    (bin_folder.parent / "job" / hold.PIPE).write_text("left over")
    assert launched(bin_folder)[0] == 0
    assert (bin_folder.parent / "job" / hold.PIPE).is_fifo()
