"""Reading /proc: who a pid is, so that no process is ever signalled on its number alone."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PROC = Path("/proc")
_PF_KTHREAD = 0x00200000  # include/linux/sched.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """The fields of /proc/<pid>/stat that tell one process from a later one with the same number."""

    pid: int
    name: str
    state: str
    kernel: bool
    parent: int
    session: int
    start: int

    @property
    def dead(self) -> bool:
        """Whether it only waits to be reaped."""
        return self.state in "ZX"


def parse_stat(text: str) -> Stat:
    """Read one line of /proc/<pid>/stat; the command in parentheses may itself hold spaces and parentheses."""
    head, _, tail = text.rpartition(")")
    rest = tail.split()
    pid, _, name = head.partition(" (")
    return Stat(
        pid=int(pid),
        name=name,
        state=rest[0],
        kernel=bool(int(rest[6]) & _PF_KTHREAD),
        parent=int(rest[1]),
        session=int(rest[3]),
        start=int(rest[19]),
    )


def stat(pid: int) -> Stat | None:
    """The process numbered `pid`, or None when there is none."""
    try:
        return parse_stat((_PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def every() -> Iterator[Stat]:
    """Every process there is now, but for the kernel's own threads."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (found := stat(int(entry.name))) and not found.kernel:
            yield found


def environ(pid: int) -> dict[str, str]:
    """The environment `pid` was started with; empty when it is gone, not ours to read, or overwritten."""
    with suppress(OSError):
        pairs = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        return dict(os.fsdecode(pair).split("=", 1) for pair in pairs if b"=" in pair)
    return {}


def command(pid: int) -> str:
    """The command line of `pid`, "" when it is gone."""
    with suppress(OSError):
        return os.fsdecode((_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ")).strip()
    return ""


def children(pid: int) -> list[int]:
    """The children of `pid`'s first thread."""
    with suppress(OSError):
        return [int(child) for child in (_PROC / str(pid) / "task" / str(pid) / "children").read_text().split()]
    return []


def open_files(pid: int) -> list[str]:
    """What `pid` has open, as /proc/<pid>/fd links to it; one that is closed meanwhile is passed over."""
    found = []
    with suppress(OSError):
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                found.append(str(entry.readlink()))
    return found


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send `number` to each of `pids`; one that ended meanwhile is passed over."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def boot() -> str:
    """The identity of this boot: after a reboot every recorded pid is somebody else's."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def namespace(pid: int, kind: str) -> int | None:
    """The inode of one of `pid`'s namespaces ("net", "mnt", "pid"), None when it is gone."""
    with suppress(OSError):
        return (_PROC / str(pid) / "ns" / kind).stat().st_ino
    return None
