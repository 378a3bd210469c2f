"""Commands on a machine over one SSH connection, for triggers (asyncssh): never blocks their event loop.

The same pinning, time-outs and errors as :class:`edgeloop.ssh.shell.Shell`; a keepalive notices a dead peer.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from edgeloop.ssh import async_connect, problems
from edgeloop.ssh.shell import Completed

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection, SSHClientProcess

    from edgeloop.ssh.endpoint import Endpoint

SESSIONS = 4
"""At once on one connection. sshd's MaxSessions is 10, and it counts one for a moment after it has ended."""
SESSION_PAUSE_SECONDS = 0.2


class AsyncShell:
    """One login on a machine, as an asynchronous context manager; many tasks may run commands at once.

    Raises ``UnreachableError`` when the machine does not answer in time and ``ConfigurationError`` when its host key
    is not the pinned one or it refuses the login; the same for every jump host before it.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._hops = AsyncExitStack()
        self._connection: SSHClientConnection | None = None
        self._room = asyncio.Semaphore(SESSIONS)
        self._running: set[asyncio.Task[Completed]] = set()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._connection = await async_connect.login(self.endpoint, stack)
            self._hops = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def alive(self) -> bool:
        """Whether the connection is open as far as is known here."""
        return self._connection is not None and not self._connection.is_closed()

    async def close(self) -> None:
        """Close the connection; a dead one is dropped without waiting for it."""
        self._connection = None
        await self._hops.aclose()

    async def retire(self) -> None:
        """Close the connection when the commands that run over it have ended; each has its time."""
        while self._running:
            await asyncio.wait(self._running)
        await self.close()

    async def run(self, command: str, *, timeout: float) -> Completed:  # noqa: ASYNC109 - as in Shell
        """Run ``command`` in the login shell and wait at most ``timeout`` seconds for its end.

        Of more than SESSIONS commands at once some wait for their turn; that does not count.

        Raises:
            UnreachableError: The machine fell silent, or the command did not end in time.
        """
        work = asyncio.create_task(self._in_turn(command, timeout))
        self._running.add(work)
        work.add_done_callback(self._ended)
        return await work

    def _ended(self, work: asyncio.Task[Completed]) -> None:
        self._running.discard(work)
        if not work.cancelled():
            work.exception()

    async def _in_turn(self, command: str, seconds: float) -> Completed:
        import asyncssh

        async with self._room:
            try:
                return await self._exchange(command, seconds)
            except TimeoutError as error:
                raise problems.too_slow(self.endpoint, command, seconds) from error
            except (asyncssh.Error, EOFError, OSError) as error:
                raise problems.lost(self.endpoint, error) from error

    async def _exchange(self, command: str, seconds: float) -> Completed:
        until = asyncio.get_running_loop().time() + seconds
        process = await self._session(command, until)
        try:
            async with asyncio.timeout_at(until):
                done = await process.wait()
        finally:
            process.close()
        told = done.exit_status is not None or done.exit_signal is not None
        if not told or (not self.alive and done.exit_status in {None, -1}):
            raise EOFError("the connection ended before the command did")
        out, err = (part if isinstance(part, bytes) else b"" for part in (done.stdout, done.stderr))
        code = -1 if done.exit_status is None else done.exit_status
        return Completed(exit=code, out=out, err=err.decode(errors="replace"))

    async def _session(self, command: str, until: float) -> SSHClientProcess[bytes]:
        """Open a session; where sshd allows fewer of them than SESSIONS, wait for one to end."""
        import asyncssh

        while True:
            if self._connection is None or not self.alive:
                raise EOFError("the SSH connection is closed")
            try:
                async with asyncio.timeout_at(until):
                    return await self._connection.create_process(command, encoding=None, stdin=asyncssh.DEVNULL)
            except asyncssh.ChannelOpenError as error:
                if self.alive and asyncio.get_running_loop().time() + SESSION_PAUSE_SECONDS > until:
                    raise problems.no_session(self.endpoint, error) from error
            await asyncio.sleep(SESSION_PAUSE_SECONDS * random.uniform(0.5, 1.0))
