"""Processes of a site: started in a session of their own, recorded, and found again by whoever runs next.

A record is `<state>/run/<name>.json` with pid, start time and boot; a pid whose start time differs is somebody
else's and is never signalled. Each process also carries its site and name in its environment, so that one whose
starter died before writing the record, and every descendant, is still recognised as ours.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from lab import proc
from lab.errors import LabError, MissingToolError, UnhealthyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

MARK = "EDGELOOP_LAB_PROCESS"
_POLL_S = 0.02
_children: dict[int, subprocess.Popen[bytes]] = {}


class Home(Protocol):
    """What a process belongs to: a Site, or the layout of one that is not up yet."""

    @property
    def name(self) -> str:
        """The site's name."""

    @property
    def state(self) -> Path:
        """The site's state folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One recorded process. `start` is in clock ticks since boot (field 22 of /proc/<pid>/stat)."""

    name: str
    pid: int
    start: int
    boot: str
    argv: tuple[str, ...]
    log: str
    stop_signal: str = "SIGTERM"

    @property
    def running(self) -> bool:
        """Whether this very process still runs."""
        if (child := _children.get(self.pid)) is not None:
            child.poll()
        found = proc.stat(self.pid)
        return found is not None and not found.dead and found.start == self.start and self.boot == proc.boot()


def spawn(
    home: Home,
    name: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    netns: str | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Process:
    """Start `argv` as the site's process `name`, detached, its output appended to `<state>/logs/<name>.log`.

    Args:
        home: The site it belongs to.
        name: Unique in the site; also the name `stop` takes.
        argv: Program and arguments.
        env: Added to this process's own environment.
        netns: Network namespace to run in, as `ip netns` names it (`site.netns("vm")`).
        cwd: Working folder; the state folder when not given.
        user: Unix user to run as.
        stop_signal: What asks it to end.

    Returns the running process when one of that name runs the same command already.
    Raises LabError when it runs another command, MissingToolError when the program does not exist.
    """
    command = tuple(argv) if netns is None else ("nsenter", f"--net=/run/netns/{netns}", *argv)
    if (found := find(home, name)) is not None:
        if found.argv == command:
            return found
        what = f"process {name} of site {home.name} already runs another command: {' '.join(found.argv)}"
        raise LabError(what, left=f"pid {found.pid} runs on", next=f"stop it first: lab.processes.stop(site, {name!r})")
    logs, run = home.state / "logs", home.state / "run"
    logs.mkdir(parents=True, exist_ok=True)
    run.mkdir(parents=True, exist_ok=True)
    environment = os.environ | dict(env or {}) | {MARK: _mark(home, name)}
    log = logs / f"{name}.log"
    try:
        with log.open("ab") as out:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                cwd=cwd or home.state,
                user=user,
                start_new_session=True,
            )
    except FileNotFoundError as error:
        what = f"cannot start {name}: {error.filename} does not exist"
        raise MissingToolError(what, left="nothing was started", next="python -m lab install") from error
    found_stat = proc.stat(child.pid)
    process = Process(
        name=name,
        pid=child.pid,
        start=found_stat.start if found_stat else 0,
        boot=proc.boot(),
        argv=command,
        log=str(log),
        stop_signal=stop_signal.name,
    )
    _children[child.pid] = child
    _write(run / f"{name}.json", process)
    return process


def find(home: Home, name: str) -> Process | None:
    """The site's process `name` if it runs, else None."""
    process = _read(home.state / "run" / f"{name}.json")
    return process if process is not None and process.running else None


def every(home: Home) -> list[Process]:
    """Every process the site has a record of, running or not."""
    records = (_read(path) for path in sorted((home.state / "run").glob("*.json")))
    return [record for record in records if record is not None]


def stop(home: Home, name: str, *, deadline: float = 20.0) -> bool:
    """Ask the site's process `name` to end, after `deadline` seconds kill it and all it started.

    Returns whether anything of it still ran. Raises UnhealthyError when something survives SIGKILL.
    """
    path = home.state / "run" / f"{name}.json"
    record = _read(path)
    ran = False
    if record is not None and record.running:
        ran = True
        proc.signal_all([record.pid], signal.Signals[record.stop_signal])
        wait(lambda: not record.running, deadline)
    left = [found.pid for found in _members(home, name, record)]
    proc.signal_all(left, signal.SIGKILL)
    if left and not wait(lambda: not any(True for _ in _members(home, name, record)), 10.0):
        pids = ", ".join(str(found.pid) for found in _members(home, name, record))
        what = f"process {name} of site {home.name} survives SIGKILL: pid {pids}"
        raise UnhealthyError(what, left=str(path), next=f"look at it with: ps -o pid,stat,wchan,args -p {pids}")
    if record is not None:
        _children.pop(record.pid, None)
    path.unlink(missing_ok=True)
    return ran or bool(left)


def kill(home: Home, name: str) -> None:
    """SIGKILL the site's process `name`, as a crash would; its record stays, as after a crash."""
    if (process := find(home, name)) is not None:
        proc.signal_all([process.pid], signal.SIGKILL)
        wait(lambda: not process.running, 10.0)


def strays(home: Home) -> set[str]:
    """Names of processes of this site that run without a record: their starter died before writing it."""
    prefix = _mark(home, "")
    recorded = {record.name for record in every(home)}
    marks = (proc.environ(found.pid).get(MARK, "") for found in proc.every() if not found.dead)
    return {mark.removeprefix(prefix) for mark in marks if mark.startswith(prefix)} - recorded


def wait(condition: Callable[[], bool], deadline: float, *, poll: float = _POLL_S) -> bool:
    """Poll `condition` until it holds or `deadline` seconds passed; returns whether it holds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            return condition()
        time.sleep(poll)
    return True


def _members(home: Home, name: str, record: Process | None) -> Iterator[proc.Stat]:
    """All that `name` started and that still runs: its session, and whoever carries its mark."""
    session = None
    if record is not None and record.boot == proc.boot():
        leader = proc.stat(record.pid)
        # The kernel reuses no pid that a session still bears: another start time means the session is empty.
        session = record.pid if leader is None or leader.start == record.start else None
    mark = _mark(home, name)
    mine = os.getpid()
    for found in proc.every():
        if found.dead or found.pid == mine:
            continue
        if found.session == session or proc.environ(found.pid).get(MARK) == mark:
            yield found


def _mark(home: Home, name: str) -> str:
    return f"{home.state}:{name}"


def _write(path: Path, process: Process) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(process)))
    part.replace(path)


def _read(path: Path) -> Process | None:
    try:
        raw = json.loads(path.read_text())
        return Process(**(raw | {"argv": tuple(raw["argv"])}))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        # A record cut short by a kill says nothing; the mark in the process's environment still finds it.
        return None
