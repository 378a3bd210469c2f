"""Logging in with asyncssh, through jump hosts where the connection names them; each is pinned for itself."""

from __future__ import annotations

import asyncio
import base64
import random
import socket
from typing import TYPE_CHECKING

from edgeloop.ssh import keys, problems
from edgeloop.ssh.endpoint import CONNECT_SECONDS, IDLE_SECONDS, KEEPALIVE_SECONDS

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from asyncssh import SSHClientConnection

    from edgeloop.ssh.endpoint import Endpoint

CLOSE_SECONDS = 2.0
DIAL_SECONDS = 1.0
"""Another SYN is sent by then: the kernel's own third comes after 3 s and its fourth after 7, and a machine that boots
in between would be noticed as late as that."""
PAUSE_SECONDS = 0.3
OTHER_HOST_KEYS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "rsa-sha2-512")
"""Offered after the pinned kind: a machine without that kind would just hang up, and its other key tells more."""


async def login(endpoint: Endpoint, stack: AsyncExitStack) -> SSHClientConnection:
    """Log in, first on the machines before it; ``stack`` closes what was opened, the last one first.

    Raises:
        UnreachableError: One of the machines did not answer within CONNECT_SECONDS.
        ConfigurationError: One shows another host key or refuses the login, or a jump host opens no way.
    """
    import asyncssh

    # Five lines per command would stand in the task's log; Airflow's namespace_levels do not reach it (tried).
    asyncssh.set_log_level("CRITICAL")
    before = await login(endpoint.jump, stack) if endpoint.jump is not None else None
    connection = await _patiently(endpoint, before)
    stack.push_async_callback(_close, connection)
    return connection


async def _close(connection: SSHClientConnection) -> None:
    connection.close()
    try:
        await asyncio.wait_for(connection.wait_closed(), CLOSE_SECONDS)
    except TimeoutError:
        connection.abort()


async def _patiently(endpoint: Endpoint, before: SSHClientConnection | None) -> SSHClientConnection:
    """Log in within CONNECT_SECONDS; a busy sshd drops some at random (MaxStartups), so those are tried again."""
    import asyncssh

    options = await asyncio.to_thread(_options, endpoint)
    deadline, pause = asyncio.get_running_loop().time() + CONNECT_SECONDS, PAUSE_SECONDS
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return await _attempt(endpoint, before, options)
        except asyncssh.PermissionDenied as error:
            raise problems.refused(endpoint, error) from error
        except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
            raise problems.other_host_key(endpoint) from error
        except asyncssh.ChannelOpenError as error:
            forbidden = error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
            raise problems.no_way(endpoint, error, forbidden=forbidden) from error
        except (TimeoutError, ConnectionRefusedError) as error:
            raise problems.lost(endpoint, error) from error
        except (asyncssh.Error, OSError) as error:
            if asyncio.get_running_loop().time() + pause >= deadline:
                raise problems.lost(endpoint, error) from error
            # Thirty jobs that were dropped together would knock together again.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause *= 2


async def _attempt(
    endpoint: Endpoint, before: SSHClientConnection | None, options: dict[str, object]
) -> SSHClientConnection:
    import asyncssh

    if before is not None:
        return await asyncssh.connect(endpoint.host, port=endpoint.port, tunnel=before, **options)
    sock = await dial(endpoint.host, endpoint.port)
    try:
        return await asyncssh.connect(sock=sock, **options)
    except BaseException:
        sock.close()
        raise


async def dial(host: str, port: int) -> socket.socket:
    """A TCP connection; while none answers another attempt is begun every DIAL_SECONDS, and the first one wins."""
    attempts: set[asyncio.Task[socket.socket]] = set()
    try:
        while True:
            attempts.add(asyncio.create_task(_dial(host, port)))
            done, _ = await asyncio.wait(attempts, timeout=DIAL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if done:
                first = done.pop()
                attempts |= done
                attempts.discard(first)
                return first.result()
    finally:
        for one in attempts:
            one.add_done_callback(_drop)
            one.cancel()


def _drop(late: asyncio.Task[socket.socket]) -> None:
    if not late.cancelled() and late.exception() is None:
        late.result().close()


async def _dial(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    (family, kind, proto, _, address), *_ = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _options(endpoint: Endpoint) -> dict[str, object]:
    """Everything but the address. In a thread: a key with a passphrase takes most of a second to open."""
    import asyncssh

    kind, blob = keys.host_key(endpoint)
    pinned = asyncssh.import_public_key(f"{kind} {base64.b64encode(blob).decode()}")
    kinds = dict.fromkeys((*(name.decode() for name in pinned.sig_algorithms), *OTHER_HOST_KEYS))
    proof: dict[str, object] = {
        "client_keys": None, "password": endpoint.password, "preferred_auth": "password,keyboard-interactive",
    }  # fmt: skip
    if not endpoint.by_password:
        key = asyncssh.import_private_key(keys.private_key(endpoint))
        proof = {"client_keys": [key], "preferred_auth": "publickey"}
    return proof | {
        "username": endpoint.user,
        "known_hosts": ([pinned], [], []),
        "server_host_key_algs": list(kinds),
        "config": None,
        "agent_path": None,
        "connect_timeout": CONNECT_SECONDS,
        "login_timeout": CONNECT_SECONDS,
        "keepalive_interval": KEEPALIVE_SECONDS,
        "keepalive_count_max": int(IDLE_SECONDS / KEEPALIVE_SECONDS),
    }
