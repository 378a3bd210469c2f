"""Following a running job from afar: its log as it comes, its end within one poll, and a link that may break.

Nothing here stops a job: a follower that dies is replaced by another, which goes on where the first one was. Where
that was stands on the VM, one poll late: a line whose place is kept has long left this process. A line may therefore
be passed on twice by two followers, with the same stamp; it is never lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError, UnreachableError
from edgeloop.ssh import kept
from edgeloop.training import commands, follow_commands
from edgeloop.training.follow_log import LogReader, Piece, padded
from edgeloop.training.job import Found, parse_state

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.ssh.kept import Held
    from edgeloop.training.follow_log import Ask, Entry
    from edgeloop.training.job import Job

POLL_TIMEOUT_SECONDS = 20.0
HEARTBEAT_SECONDS = 30.0
GOODBYE_SECONDS = 2.0
SKEW_SECONDS = 5.0
PROGRESS = "progress "
AT_ONCE = 500
"""Lines passed on before others in the event loop have their turn; a triggerer that is blocked counts as dead."""


class Ending(StrEnum):
    """Why following ended."""

    ENDED = "ended"
    DEADLINE = "deadline"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often to look, and for how long a silent VM is only a line in the log; seconds."""

    poll: float = 1.0
    link: float = 120.0
    heartbeat: float = HEARTBEAT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a follower was: the stamp of the last line it passed on, and the machine whose log it wrote to."""

    stamp: str = ""
    host: str = ""

    @staticmethod
    def read(text: str) -> Place:
        """What :meth:`text` wrote."""
        stamp, _, host = text.strip().partition(" ")
        return Place(stamp=stamp, host=host)

    @property
    def text(self) -> str:
        """As it is kept on the VM."""
        return f"{self.stamp} {self.host}".strip()


def resume(kept_place: Place, *, host: str, logged: str) -> str:
    """The stamp after which to go on.

    Args:
        kept_place: What the last follower kept on the VM.
        host: This machine.
        logged: The stamp of the last of the job's lines in the task's log on this machine, if it can be read.
    """
    if logged and kept_place.host == host:
        # What the log holds is what was passed on, down to the line at which a process was killed.
        return logged
    return max(kept_place.stamp, logged)


async def nowhere() -> str:
    """The stamp of the last line logged on this machine, where nobody can tell."""
    return ""


@dataclass(slots=True, kw_only=True)
class Follower:
    """Follows one job.

    Args:
        job: The job; its deadline is kept here.
        connection: The VM's Airflow connection; followers of the same one share one SSH connection.
        endpoint: Asked for at every connect, so that a changed connection is taken up.
        say: Takes one line of the task's log.
        quote: Takes one line of the job and its stamp; by default it is said without.
        patience: How often to look and how long to bear a broken link.
        who: In whose name the place in the log is kept; each name gets the whole log.
        host: This machine's name.
        logged: Asks for the stamp of the last of the job's lines in the task's log on this machine.
    """

    job: Job
    connection: str
    endpoint: Callable[[], Awaitable[Endpoint]]
    say: Callable[[str], None]
    quote: Callable[[str, str], None] | None = None
    patience: Patience = field(default_factory=Patience)
    who: str = ""
    host: str = ""
    logged: Callable[[], Awaitable[str]] = nowhere
    _reader: LogReader | None = None
    _kept: str = ""
    _contact: float = field(default_factory=time.monotonic)
    _beat: float = field(default_factory=time.monotonic)
    _memory: asyncio.Task[str] | None = None
    _lost: bool = False
    _skewed: bool = False
    _clock: float = 0.0
    _lines: int = 0
    _progress: str = ""

    async def run(self) -> Ending:
        """Follow until the job ended, its deadline passed, or the VM was silent for longer than the budget."""
        link = kept.hold(self.connection, self.endpoint)
        try:
            while True:
                try:
                    if await self._once(link):
                        return Ending.ENDED
                except UnreachableError as error:
                    self._bear(error)
                    if time.monotonic() - self._contact > self.patience.link:
                        return Ending.UNREACHABLE
                if self.job.deadline and time.time() > self.job.deadline:
                    return Ending.DEADLINE
                # With as many followers as jobs, all of them looking in the same instant would be a queue.
                await asyncio.sleep(self.patience.poll * random.uniform(0.75, 1.0))
        finally:
            if self._memory is not None:
                self._memory.cancel()
            with contextlib.suppress(EdgeloopError, TimeoutError):
                # Whoever comes next need not repeat the last lines; if there is no time for it, it repeats them.
                await asyncio.wait_for(self._keep(link), GOODBYE_SECONDS)
            link.close()

    @property
    def place(self) -> str:
        """The stamp of the last line that was passed on; "" if there was none."""
        return self._reader.cursor if self._reader is not None else ""

    async def _once(self, link: Held) -> bool:
        """One look; True when nothing runs any more and its whole log was passed on."""
        if self._reader is None:
            self._reader = await self._open(link)
        ask: Ask | None = self._reader.ask()
        while ask is not None:
            found, piece = await self._poll(link, ask)
            await self._pass_on(piece)
            ask = piece.more
        if found.ended:
            await self._keep(link)
        else:
            self._heartbeat(link, found)
        return found.ended

    async def _open(self, link: Held) -> LogReader:
        said = (await link.run(follow_commands.kept(self.job, self.who), timeout=POLL_TIMEOUT_SECONDS)).text
        stamp = resume(Place.read(said), host=self.host, logged=await self.logged())
        self._kept = stamp
        return LogReader(stamp)

    async def _poll(self, link: Held, ask: Ask) -> tuple[Found, Piece]:
        assert self._reader is not None
        place = Place(stamp=self._reader.cursor, host=self.host)
        keep = follow_commands.keep(self.job, self.who, place.text) if place.stamp != self._kept else ""
        done = await link.run(follow_commands.poll(self.job, ask, keep=keep), timeout=POLL_TIMEOUT_SECONDS)
        head, made, clock, raw = (*done.out.split(b"\n", 3), b"", b"", b"")[:4]
        if done.exit == commands.ENGINE_DOWN or not clock:
            said = done.err.strip()[-200:]
            raise UnreachableError(f"Docker behind connection {self.connection!r} does not answer. {said}".strip())
        self._kept = place.stamp
        self._answered(float(clock))
        if self._reader.cursor and padded(made.decode()) > self._reader.cursor:
            # Another attempt's container; what was passed on of the one before it is not in this one's log.
            self._reader = LogReader()
            return parse_state(head.decode()), Piece(more=self._reader.ask())
        return parse_state(head.decode()), self._reader.take(raw, ask)

    def _answered(self, clock: float) -> None:
        if self._lost:
            self.say(f"The VM answers again after {time.monotonic() - self._contact:.0f} s; the log goes on.")
        self._lost, self._contact = False, time.monotonic()
        self._clock = clock
        skew = clock - time.time()
        if abs(skew) > SKEW_SECONDS and not self._skewed:
            self._skewed = True
            self.say(f"The VM's clock is {skew:+.0f} s off; the job's lines carry its times.")

    async def _pass_on(self, piece: Piece) -> None:
        assert self._reader is not None
        for line in piece.trouble.splitlines():
            self.say(line)
        for number, entry in enumerate(piece.entries, 1):
            self._quote(entry)
            self._reader.passed(entry)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._lines += len(piece.entries)

    def _quote(self, entry: Entry) -> None:
        if entry.text.startswith(PROGRESS):
            self._progress = entry.text
        if self.quote is None:
            self.say(entry.text)
        else:
            self.quote(entry.text, entry.stamp)

    async def _keep(self, link: Held) -> None:
        if self._reader is None or self._reader.cursor == self._kept:
            return
        place = Place(stamp=self._reader.cursor, host=self.host)
        await link.run(follow_commands.keep(self.job, self.who, place.text), timeout=POLL_TIMEOUT_SECONDS)
        self._kept = place.stamp

    def _heartbeat(self, link: Held, found: Found) -> None:
        """Say now and then that it lives; Docker takes two seconds to tell the memory, nothing waits for it."""
        if self._memory is not None and self._memory.done():
            used = "" if self._memory.cancelled() or self._memory.exception() else self._memory.result()
            self._memory = None
            self.say(heartbeat(self.job, found, clock=self._clock, lines=self._lines, used=used, last=self._progress))
        elif self._memory is None and time.monotonic() - self._beat >= self.patience.heartbeat:
            self._beat = time.monotonic()
            self._memory = asyncio.create_task(_text(link, commands.memory(self.job)))

    def _bear(self, error: UnreachableError) -> None:
        if not self._lost:
            self.say(f"The VM does not answer ({error.what}); the job goes on, trying for {self.patience.link:g} s.")
        self._lost = True


def heartbeat(job: Job, found: Found, *, clock: float, lines: int, used: str, last: str) -> str:
    """That the job lives: since when by the VM's own clock, what it uses, and the progress that it told last."""
    seconds = max(clock - started(found), 0.0) if found.started_at else 0.0
    parts = [f"{seconds:.0f} s", f"{lines} lines"]
    parts += [f"memory {used}"] if used else []
    parts += [last] if last else []
    return f"{job.name} is {found.status}: " + ", ".join(parts)


def started(found: Found) -> float:
    """When it started, seconds since 1970 by the VM's clock."""
    from datetime import datetime

    # Docker writes nanoseconds, datetime reads microseconds.
    return datetime.fromisoformat(f"{found.started_at[:19]}+00:00").timestamp()


async def _text(link: Held, command: str) -> str:
    return (await link.run(command, timeout=POLL_TIMEOUT_SECONDS)).text
