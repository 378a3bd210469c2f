"""What every way of staging stands on: where to, for which job, and what the far side says as it goes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edgeloop.errors import ConflictError, IntegrityError
from edgeloop.ssh import problems
from edgeloop.training import stage_commands
from edgeloop.training.job import FOLDER
from edgeloop.transfer.progress import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.errors import EdgeloopError
    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.ssh.openssh import Bulk, Carrier
    from edgeloop.ssh.shell import Completed
    from edgeloop.training.bundle import Cargo, Member
    from edgeloop.training.job import Job
    from edgeloop.transfer.progress import Meter

LARGE_BYTES = 8 * MIB
"""From this size on a file travels alone and is resumed where it broke off."""
BATCH_BYTES = 64 * MIB
"""What a cut costs of small files at most."""
LOOK_SECONDS = 60.0
SLOWEST_BYTES = MIB // 4
"""Per second; the whole time of a transfer is that of such a link."""
WAITS = 6
"""How often a file that another staging brings is waited for without it getting any larger."""


def whole_seconds(size: int) -> float:
    """How long moving ``size`` bytes may take; a dead link is noticed long before."""
    return 600.0 + size / SLOWEST_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """One staging: the VM (``shell`` for short commands, ``bulk`` for large streams), the job, what it is sent."""

    shell: Carrier
    bulk: Bulk
    job: Job
    cargo: Cargo
    meter: Meter
    say: Callable[[str], None]

    @property
    def host(self) -> str:
        """The VM, for errors."""
        return f"{self.shell.endpoint.host} (connection {self.shell.endpoint.connection!r})"


@dataclass
class Answer:
    """What a receiver on the VM says, line by line, as a sink of its standard output.

    ``start`` is from where on it wants the bytes; ``word`` how it ended: good, found, bad, short or busy.
    """

    on_size: Callable[[int], None] = lambda _: None
    start: int = -1
    word: str = ""
    size: int = 0
    http: dict[str, str] = field(default_factory=dict)
    curl: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    ready: threading.Event = field(default_factory=threading.Event)
    _rest: bytes = b""

    def write(self, data: bytes) -> int:
        """Take a chunk."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode(errors="replace").split())
        return len(data)

    def _line(self, words: list[str]) -> None:
        match words:
            case ["from", size]:
                self.start = int(size)
                self.ready.set()
            case ["at", size]:
                self.on_size(int(size))
            case ["good" | "bad" as verdict, digest]:
                self.digests[digest] = verdict
            case ["good" | "found" | "bad" as word]:
                self.word = word
                self.ready.set()
            case ["short" | "busy" as word, size]:
                self.word, self.size = word, int(size)
                self.ready.set()
            case ["http", code, *name]:
                self.http[" ".join(name)] = code
            case ["curl", code]:
                self.curl = int(code)
            case _:
                return

    @property
    def here(self) -> bool:
        """Whether the file is there now."""
        return self.word in {"good", "found"}


class Attempt(Protocol):
    """One try at bringing one large file."""

    def __call__(self, one: Member, answer: Answer) -> Completed:
        """Run the command."""
        ...


def bring_large(yard: Yard, one: Member, attempt: Attempt, *, tries: int) -> tuple[Answer, Completed]:
    """Try until the file is there, or no try gets it any further; a resumed file that is wrong is brought anew.

    Raises ``ConflictError`` when another staging holds the file and gets no further either.
    """
    waits, seen, left = 0, -1, tries
    while True:
        answer = Answer()
        done = attempt(one, answer)
        if answer.here or left <= 1:
            return answer, done
        if answer.word == "busy":
            waits, seen = (waits + 1 if answer.size == seen else 0), answer.size
            if waits >= WAITS:
                raise _held_up(yard, one)
            yard.say(f"Another staging brings {one.path}: {answer.size / MIB:.1f} MiB so far; waiting for it")
        elif no_space(done.err) or (answer.word == "bad" and not answer.start):
            return answer, done
        else:
            left -= 1


def _held_up(yard: Yard, one: Member) -> ConflictError:
    part = f"~/{stage_commands.CACHE}/{one.sha256}.part"
    return ConflictError(
        f"Another staging on {yard.host} has been bringing {one.path} for a while and gets no further.",
        left=f"what has arrived, in {part}",
        next=f"Look at who holds it with `fuser -v {part}` there, end it, and clear the task.",
    )


def no_space(said: str) -> bool:
    """Whether a command on the VM failed because its disk is full."""
    return "No space left" in said or "Disk quota exceeded" in said


def failure(yard: Yard, done: Completed, what: str) -> EdgeloopError:
    """The error for a command that did not do its work."""
    if no_space(done.err):
        return full(yard.shell.endpoint, "its disk ran full while data arrived")
    return problems.command_failed(yard.shell.endpoint, what, done.exit, done.err)


def full(endpoint: Endpoint, why: str) -> ConflictError:
    """The error for a VM whose disk has no room."""
    return ConflictError(
        f"The disk of {endpoint.host} (connection {endpoint.connection!r}) is too full: {why}.",
        left="nothing was started; what has arrived is used by the next try",
        next=f"Log in, remove what is not needed (`du -sh ~/{FOLDER}/* ~`, `docker system df`), or lower "
        "training.disk_mb, and clear the task.",
    )


def spoiled(yard: Yard, path: str) -> IntegrityError:
    """The error for bytes that are not what their record says."""
    return IntegrityError(
        f"What arrived on {yard.host} is not what was sent: sha256sum differs for {path}.",
        left="nothing was started, and nothing of that file was kept",
        next="Clear the task; if it happens again, compare the blob with its record's sha256.",
    )
