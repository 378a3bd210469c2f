"""One kept connection per machine, shared by everybody in an event loop who talks to it.

Thirty jobs on one VM would be thirty logins: sshd drops some of them at random from the tenth on (MaxStartups
10:30:100). A connection is opened when the first one needs it, replaced when it died, when a command on it did not
end in time or when the Airflow connection changed, and closed when the last one let go.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from edgeloop.errors import ConfigurationError, UnreachableError
from edgeloop.ssh.async_shell import AsyncShell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.ssh.shell import Completed

    Resolve = Callable[[], Awaitable[Endpoint]]

REFRESH_SECONDS = 60.0
"""How long a change of the Airflow connection may go unnoticed; asking for it at every command would be a request
to Airflow's API a second for each job."""
_log = logging.getLogger(__name__)
_LINES: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Line]] = WeakKeyDictionary()
_AT_WORK: set[asyncio.Task[None]] = set()
"""The event loop only holds tasks weakly."""


def hold(connection: str, resolve: Resolve) -> Held:
    """A share in the machine's connection, opened at the first command; the caller must close it.

    Args:
        connection: The Airflow connection id; one connection is kept for each.
        resolve: Reads the Airflow connection; asked at every login and once in REFRESH_SECONDS.
    """
    lines = _LINES.setdefault(asyncio.get_running_loop(), {})
    line = lines.setdefault(connection, _Line(connection=connection))
    line.holders += 1
    return Held(line=line, resolve=resolve)


class Held:
    """A share in a kept connection, with a shell's ``run``."""

    def __init__(self, *, line: _Line, resolve: Resolve) -> None:
        self._line: _Line | None = line
        self._resolve = resolve

    async def run(self, command: str, *, timeout: float) -> Completed:  # noqa: ASYNC109 - as in Shell
        """Run ``command`` as :meth:`AsyncShell.run` does; logs in first if need be, which has time-outs of its own."""
        if self._line is None:
            raise ValueError("this share of the connection was closed")
        line = self._line
        shell = await line.shell(self._resolve)
        try:
            return await shell.run(command, timeout=timeout)
        except UnreachableError:
            line.replace(shell)
            raise

    def close(self) -> None:
        """Let go; the last one closes the connection. Twice is no error."""
        line, self._line = self._line, None
        if line is None:
            return
        line.holders -= 1
        if not line.holders:
            lines = _LINES.get(asyncio.get_running_loop(), {})
            if lines.get(line.connection) is line:
                del lines[line.connection]
            line.end()


@dataclass(slots=True, eq=False)
class _Line:
    """The connection of one machine: ``opening`` is the login under way, or its outcome."""

    connection: str
    holders: int = 0
    opening: asyncio.Task[AsyncShell] | None = None
    endpoint: Endpoint | None = None
    asked: float = field(default=0.0)

    async def shell(self, resolve: Resolve) -> AsyncShell:
        """The open connection; whoever comes while a login is under way waits for that one and shares its outcome."""
        opening = self.opening
        if opening is not None and opening.done():
            shell = _outcome(opening)
            if shell is not None and shell.alive and not await self._changed(resolve, shell):
                return shell
            # Another may have begun a login while this one asked for the Airflow connection.
            if self.opening is opening:
                self._drop(opening)
        if self.opening is None:
            self.opening = asyncio.create_task(self._login(resolve))
            self.opening.add_done_callback(_outcome)
        # One that gives up must not take the login from the others.
        return await asyncio.shield(self.opening)

    def replace(self, shell: AsyncShell) -> None:
        """Do not use this connection again; the commands that run over it may end."""
        if self.opening is not None and _outcome(self.opening) is shell:
            self._drop(self.opening)

    def end(self) -> None:
        """Close what is open and give up what is being opened."""
        if self.opening is not None:
            self._drop(self.opening)

    def _drop(self, opening: asyncio.Task[AsyncShell]) -> None:
        self.opening = None
        opening.cancel()
        # Without effect on a login that is done, or is done before the cancellation reaches it.
        opening.add_done_callback(_retire)

    async def _login(self, resolve: Resolve) -> AsyncShell:
        self.endpoint = await self._resolved(resolve)
        return await AsyncShell(self.endpoint).__aenter__()

    async def _resolved(self, resolve: Resolve) -> Endpoint:
        self.asked = asyncio.get_running_loop().time()
        try:
            return await resolve()
        except ConfigurationError:
            raise
        except Exception:
            # Airflow's API may be away for longer than the link; what it said last time is most likely still true.
            if self.endpoint is None:
                raise
            _log.warning("Connection %r cannot be read now, its last state is used", self.connection, exc_info=True)
            return self.endpoint

    async def _changed(self, resolve: Resolve, shell: AsyncShell) -> bool:
        if asyncio.get_running_loop().time() - self.asked < REFRESH_SECONDS:
            return False
        try:
            return await self._resolved(resolve) != shell.endpoint
        except ConfigurationError as error:
            # The open connection is good; a new login would be refused, and says so when it is needed.
            _log.warning("Connection %r was changed and cannot be used: %s", self.connection, error)
            return False


def _outcome(opening: asyncio.Task[AsyncShell]) -> AsyncShell | None:
    if not opening.done() or opening.cancelled() or opening.exception() is not None:
        return None
    return opening.result()


def _retire(opening: asyncio.Task[AsyncShell]) -> None:
    if (shell := _outcome(opening)) is not None:
        _in_background(shell.retire() if shell.alive else shell.close())


def _in_background(work: Coroutine[None, None, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    _AT_WORK.add(task)
    task.add_done_callback(_AT_WORK.discard)
