"""Commands on a machine over one SSH connection, for triggers (asyncssh): never blocks their event loop.

The same pinning, time-outs and errors as :class:`edgeloop.ssh.shell.Shell`; a keepalive notices a dead peer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from edgeloop.errors import ConfigurationError
from edgeloop.ssh import problems
from edgeloop.ssh.endpoint import CONNECT_SECONDS, IDLE_SECONDS, KEEPALIVE_SECONDS
from edgeloop.ssh.shell import Completed

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection

    from edgeloop.ssh.endpoint import Endpoint

CLOSE_SECONDS = 2.0
OTHER_HOST_KEYS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "rsa-sha2-512")
"""Offered after the pinned kind: a machine without that kind would just hang up, and its other key tells more."""


class AsyncShell:
    """One login on a machine, as an asynchronous context manager.

    Raises ``UnreachableError`` when the machine does not answer in time and ``ConfigurationError`` when its host key
    is not the pinned one or it refuses the key.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._connection: SSHClientConnection | None = None

    async def __aenter__(self) -> Self:
        self._connection = await _connect(self.endpoint)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; a dead one is dropped without waiting for it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close()
        try:
            await asyncio.wait_for(connection.wait_closed(), CLOSE_SECONDS)
        except TimeoutError:
            connection.abort()

    async def run(self, command: str, *, timeout: float) -> Completed:  # noqa: ASYNC109 - as in Shell
        """Run ``command`` in the login shell and wait at most ``timeout`` seconds for its end.

        Raises:
            UnreachableError: The machine fell silent, or the command did not end in time.
        """
        import asyncssh

        if self._connection is None:
            raise problems.lost(self.endpoint, EOFError("the SSH connection is closed"))
        try:
            done = await asyncio.wait_for(self._connection.run(command, encoding=None, stdin=asyncssh.DEVNULL), timeout)
        except TimeoutError as error:
            raise problems.too_slow(self.endpoint, command, timeout) from error
        except (asyncssh.Error, OSError) as error:
            raise problems.lost(self.endpoint, error) from error
        out, err = (part if isinstance(part, bytes) else b"" for part in (done.stdout, done.stderr))
        if done.exit_status is None and done.exit_signal is None:
            raise problems.lost(self.endpoint, EOFError("the connection ended before the command did"))
        code = -1 if done.exit_status is None else done.exit_status
        return Completed(exit=code, out=out, err=err.decode(errors="replace"))


async def _connect(endpoint: Endpoint) -> SSHClientConnection:
    import asyncssh

    # Five lines per command would stand in the task's log; Airflow's namespace_levels do not reach it (tried).
    asyncssh.set_log_level("WARNING")
    try:
        pinned = asyncssh.import_public_key(endpoint.host_key)
        key = asyncssh.read_private_key(endpoint.key_file)
        kinds = dict.fromkeys((*(name.decode() for name in pinned.sig_algorithms), *OTHER_HOST_KEYS))
    except (asyncssh.KeyImportError, OSError) as error:
        raise ConfigurationError(
            f"Host key or private key of connection {endpoint.connection!r} cannot be read: {error}",
            left="nothing was connected",
            next="host_key must read 'ssh-ed25519 AAAA...', and key_file name an ed25519 key without a passphrase that "
            "the triggerer can read.",
        ) from error
    try:
        return await asyncio.wait_for(
            asyncssh.connect(
                endpoint.host,
                port=endpoint.port,
                username=endpoint.user,
                client_keys=[key],
                known_hosts=([pinned], [], []),
                server_host_key_algs=list(kinds),
                config=None,
                agent_path=None,
                preferred_auth="publickey",
                connect_timeout=CONNECT_SECONDS,
                login_timeout=CONNECT_SECONDS,
                keepalive_interval=KEEPALIVE_SECONDS,
                keepalive_count_max=int(IDLE_SECONDS / KEEPALIVE_SECONDS),
            ),
            CONNECT_SECONDS,
        )
    except asyncssh.PermissionDenied as error:
        raise problems.refused(endpoint, error) from error
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise problems.other_host_key(endpoint) from error
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise problems.lost(endpoint, error) from error
