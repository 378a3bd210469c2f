"""Following a running job from afar: its log as it comes, its end within one poll, and a link that may break.

Nothing here stops a job: a follower that dies is replaced by another, which goes on where the first one was.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from edgeloop.errors import UnreachableError
from edgeloop.ssh.async_shell import AsyncShell
from edgeloop.training import commands
from edgeloop.training.job import parse_state

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.training.job import Found, Job

POLL_TIMEOUT_SECONDS = 20.0
HEARTBEAT_SECONDS = 30.0
RECONNECT_SECONDS = 2.0
PROGRESS = "progress "


class Ending(StrEnum):
    """Why following ended."""

    ENDED = "ended"
    DEADLINE = "deadline"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """New log lines, without Docker's timestamps, and the timestamp of the last one."""

    texts: tuple[str, ...]
    cursor: str
    cut: bool
    """Whether there is more that did not fit into this piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often to look, and for how long a silent VM is only a line in the log; seconds."""

    poll: float = 1.0
    link: float = 120.0
    heartbeat: float = HEARTBEAT_SECONDS


def read_log(raw: bytes, since: str, limit: int = commands.LOG_PIECE_BYTES) -> Lines:
    """Split ``docker logs --timestamps --since`` into lines that were not passed on yet.

    ``--since`` is inclusive, so lines up to ``since`` are dropped; a piece that was cut ends at its last whole line.
    Docker's timestamps have a fixed width and compare as text.
    """
    cut = len(raw) >= limit
    if cut:
        whole = raw.rfind(b"\n") + 1
        raw = raw[: whole or len(raw)]
    texts, cursor = [], since
    for line in raw.decode(errors="replace").split("\n"):
        stamp, _, text = line.partition(" ")
        if not line or stamp <= since:
            continue
        # Docker keeps a line of more than 16 KiB in parts and prints the first part's timestamp before each.
        texts.append(text.replace(f"{stamp} ", "").rstrip("\r"))
        cursor = stamp
    return Lines(texts=tuple(texts), cursor=cursor, cut=cut)


@dataclass(slots=True)
class Follower:
    """Follows one job.

    Args:
        job: The job; its deadline is kept here.
        endpoint: Asked for at every connect, so that a changed connection is taken up.
        say: Takes one line of the task's log.
        patience: How often to look and how long to bear a broken link.
    """

    job: Job
    endpoint: Callable[[], Awaitable[Endpoint]]
    say: Callable[[str], None]
    patience: Patience = field(default_factory=Patience)
    _shell: AsyncShell | None = None
    _cursor: str | None = None
    _kept: str | None = None
    _started: float = field(default_factory=time.monotonic)
    _contact: float = field(default_factory=time.monotonic)
    _beat: float = field(default_factory=time.monotonic)
    _lost: bool = False
    _lines: int = 0
    _progress: str = ""

    async def run(self) -> Ending:
        """Follow until the job ended, its deadline passed, or the VM was silent for longer than the budget."""
        try:
            while True:
                pause = self.patience.poll
                try:
                    if await self._once():
                        return Ending.ENDED
                except UnreachableError as error:
                    await self._drop(error)
                    if time.monotonic() - self._contact > self.patience.link:
                        return Ending.UNREACHABLE
                    pause = min(RECONNECT_SECONDS, self.patience.link / 4)
                if self.job.deadline and time.time() > self.job.deadline:
                    return Ending.DEADLINE
                await asyncio.sleep(pause)
        finally:
            if self._shell is not None:
                await self._shell.close()

    async def _once(self) -> bool:
        """One look; True when nothing runs any more and its whole log was passed on."""
        shell = await self._connected()
        while True:
            found, lines = await self._poll(shell)
            for text in lines.texts:
                self.say(text)
                if text.startswith(PROGRESS):
                    self._progress = text
            self._lines += len(lines.texts)
            moved, self._cursor = lines.cursor != self._cursor, lines.cursor
            await self._keep(shell)
            if not (lines.cut and moved):
                break
        if not found.ended:
            await self._heartbeat(shell)
        return found.ended

    async def _connected(self) -> AsyncShell:
        if self._shell is None:
            shell = AsyncShell(await self.endpoint())
            await shell.__aenter__()
            self._shell = shell
        if self._cursor is None:
            done = await self._shell.run(commands.kept(self.job), timeout=POLL_TIMEOUT_SECONDS)
            self._cursor = self._kept = done.text
        return self._shell

    async def _poll(self, shell: AsyncShell) -> tuple[Found, Lines]:
        since = self._cursor or ""
        done = await shell.run(commands.poll(self.job, since), timeout=POLL_TIMEOUT_SECONDS)
        head, _, rest = done.out.partition(b"\n")
        if done.exit == commands.ENGINE_DOWN or not head:
            said = done.err.strip()[-200:]
            raise UnreachableError(f"Docker on {shell.endpoint.host} does not answer. {said}".strip())
        if self._lost:
            self.say(f"The VM answers again after {time.monotonic() - self._contact:.0f} s; the log goes on.")
        self._lost, self._contact = False, time.monotonic()
        return parse_state(head.decode()), read_log(rest, since)

    async def _keep(self, shell: AsyncShell) -> None:
        """Keep the place at once: a triggerer that dies in between repeats these lines, it never loses any."""
        if self._cursor and self._cursor != self._kept:
            await shell.run(commands.keep(self.job, self._cursor), timeout=POLL_TIMEOUT_SECONDS)
            self._kept = self._cursor

    async def _heartbeat(self, shell: AsyncShell) -> None:
        if time.monotonic() - self._beat < self.patience.heartbeat:
            return
        self._beat = time.monotonic()
        used = (await shell.run(commands.memory(self.job), timeout=POLL_TIMEOUT_SECONDS)).text
        parts = [f"{self._beat - self._started:.0f} s followed", f"{self._lines} lines"]
        parts += [f"memory {used}"] if used else []
        parts += [self._progress] if self._progress else []
        self.say(f"{self.job.name} is running: " + ", ".join(parts))

    async def _drop(self, error: UnreachableError) -> None:
        if not self._lost:
            self.say(f"The VM does not answer ({error.what}); the job goes on, trying for {self.patience.link:g} s.")
        self._lost = True
        if self._shell is not None:
            shell, self._shell = self._shell, None
            await shell.close()
