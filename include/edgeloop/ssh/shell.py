"""Commands on a machine over one SSH connection, for workers (paramiko, synchronous).

Three time-outs hold everywhere: CONNECT_SECONDS until logged in, IDLE_SECONDS without a sign of life from the peer's
kernel, and the whole time each command is given. A dead peer raises ``UnreachableError`` that names the connection.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from edgeloop.errors import ConfigurationError
from edgeloop.ssh import problems
from edgeloop.ssh.endpoint import CONNECT_SECONDS, IDLE_SECONDS, KEEPALIVE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paramiko import Channel, PKey, SSHClient, Transport

    from edgeloop.ssh.endpoint import Endpoint

CHUNK_BYTES = 256 * 1024
WINDOW_BYTES = 16 * 1024 * 1024
CONNECT_PAUSE_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that ended: its exit code (-1 if the far side told none), standard output, standard error as text."""

    exit: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output as text, without white space at its ends."""
        return self.out.decode(errors="replace").strip()


class Sink(Protocol):
    """Where standard output can go as it comes; a binary file is one."""

    def write(self, data: bytes, /) -> int:
        """Take a chunk."""
        ...


class Shell:
    """One login on a machine, as a context manager; commands run one after the other or from several threads.

    Raises ``UnreachableError`` when the machine does not answer in time and ``ConfigurationError`` when its host key
    is not the pinned one or it refuses the key.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._client: SSHClient | None = None

    def __enter__(self) -> Self:
        self._client = _connect(self.endpoint)
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Iterator[bytes] | None = None,
        timeout: float,
        sink: Sink | None = None,
    ) -> Completed:
        """Run ``command`` in the login shell and wait at most ``timeout`` seconds for its end.

        Args:
            command: Shell text.
            stdin: What the command reads; an iterator is sent chunk by chunk, so memory stays bounded.
            timeout: The whole time in seconds, sending and receiving included.
            sink: Where standard output goes as it comes; then ``Completed.out`` is empty.

        Raises:
            UnreachableError: The machine fell silent, or the command did not end in time.
        """
        from paramiko import SSHException

        deadline = time.monotonic() + timeout
        try:
            channel = self._open()
            try:
                return _Exchange(channel, deadline).run(command, stdin, sink)
            finally:
                channel.close()
        except TimeoutError as error:
            raise problems.too_slow(self.endpoint, command, timeout) from error
        except (SSHException, EOFError, OSError) as error:
            raise problems.lost(self.endpoint, error) from error

    def check(
        self,
        command: str,
        *,
        stdin: bytes | Iterator[bytes] | None = None,
        timeout: float,
        sink: Sink | None = None,
    ) -> Completed:
        """As :meth:`run`, but any exit code other than 0 raises ``RemoteCommandError`` with the last lines."""
        done = self.run(command, stdin=stdin, timeout=timeout, sink=sink)
        if done.exit != 0:
            raise problems.command_failed(self.endpoint, command, done.exit, done.err.strip() or done.text)
        return done

    def dial(self, host: str, port: int) -> Channel:
        """A TCP connection made by the far side, used like a socket; ``ConnectionRefusedError`` if nothing listens."""
        from paramiko import ChannelException, SSHException

        try:
            return self._transport().open_channel(
                "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=CONNECT_SECONDS
            )
        except ChannelException as error:
            raise ConnectionRefusedError(f"{host}:{port} on {self.endpoint.host}: {error}") from error
        except (SSHException, EOFError, OSError) as error:
            raise problems.lost(self.endpoint, error) from error

    def _open(self) -> Channel:
        return self._transport().open_session(window_size=WINDOW_BYTES, timeout=CONNECT_SECONDS)

    def _transport(self) -> Transport:
        transport = self._client.get_transport() if self._client is not None else None
        if transport is None or not transport.is_active():
            raise EOFError("the SSH connection is closed")
        return transport


class _Exchange:
    """One command's three streams; standard error and input have a thread each, since either can fill up first."""

    def __init__(self, channel: Channel, deadline: float) -> None:
        self._channel, self._deadline = channel, deadline
        self._err: list[bytes] = []
        self._failure: BaseException | None = None

    def run(self, command: str, stdin: bytes | Iterator[bytes] | None, sink: Sink | None) -> Completed:
        self._channel.settimeout(self._left())
        self._channel.exec_command(command)
        threads = [threading.Thread(target=self._drain_err, daemon=True)]
        if stdin is None:
            self._channel.shutdown_write()
        else:
            threads.append(threading.Thread(target=self._feed, args=(stdin,), daemon=True))
        for thread in threads:
            thread.start()
        out = self._drain_out(sink)
        for thread in threads:
            thread.join(self._left())
        if not self._channel.status_event.wait(self._left()):
            raise TimeoutError
        if self._failure is not None:
            raise self._failure
        return Completed(exit=self._channel.exit_status, out=out, err=b"".join(self._err).decode(errors="replace"))

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _drain_out(self, sink: Sink | None) -> bytes:
        kept: list[bytes] = []
        while True:
            self._channel.settimeout(self._left())
            chunk = self._channel.recv(CHUNK_BYTES)
            if not chunk:
                return b"".join(kept)
            if sink is None:
                kept.append(chunk)
            else:
                sink.write(chunk)

    def _drain_err(self) -> None:
        try:
            while chunk := self._channel.recv_stderr(CHUNK_BYTES):
                self._err.append(chunk)
        except (TimeoutError, OSError):
            return

    def _feed(self, stdin: bytes | Iterator[bytes]) -> None:
        try:
            for chunk in (stdin,) if isinstance(stdin, bytes) else stdin:
                self._channel.sendall(chunk)
            self._channel.shutdown_write()
        except (TimeoutError, OSError):
            # The command ended without reading to the end; its exit code and standard error say why.
            return
        except BaseException as error:  # noqa: BLE001 - a failing source must fail the run, not vanish in a thread
            self._failure = error
            self._channel.close()


def _connect(endpoint: Endpoint) -> SSHClient:
    """Log in within CONNECT_SECONDS; a busy sshd drops some at random (MaxStartups), so those are tried again."""
    from paramiko import AuthenticationException, BadHostKeyException, SSHException

    # It logs a traceback for every banner that does not come, between the lines of a task's log; we raise the same.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    pinned, key = _host_key(endpoint), _private_key(endpoint)
    deadline, pause = time.monotonic() + CONNECT_SECONDS, CONNECT_PAUSE_SECONDS
    while True:
        try:
            return _login(endpoint, pinned, key, deadline)
        except BadHostKeyException as error:
            raise problems.other_host_key(endpoint) from error
        except AuthenticationException as error:
            raise problems.refused(endpoint, error) from error
        except (TimeoutError, ConnectionRefusedError) as error:
            raise problems.lost(endpoint, error) from error
        except (SSHException, EOFError, OSError) as error:
            if "no acceptable host key" in str(error):
                raise problems.other_host_key(endpoint) from error
            if time.monotonic() + pause >= deadline:
                raise problems.lost(endpoint, error) from error
            time.sleep(pause)
            pause *= 2


def _login(endpoint: Endpoint, pinned: PKey, key: PKey, deadline: float) -> SSHClient:
    from paramiko import RejectPolicy, SSHClient

    left = max(deadline - time.monotonic(), 0.1)
    sock = socket.create_connection((endpoint.host, endpoint.port), timeout=left)
    client = SSHClient()
    try:
        # Without it each 32 KiB write waits for a delayed ACK: 1.1 MB/s instead of 75 times that.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # paramiko sends keepalives but never misses an answer; the kernel does.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(IDLE_SECONDS * 1000))
        name = endpoint.host if endpoint.port == 22 else f"[{endpoint.host}]:{endpoint.port}"  # noqa: PLR2004 - as known_hosts writes it
        client.get_host_keys().add(name, pinned.get_name(), pinned)
        client.set_missing_host_key_policy(RejectPolicy())
        client.connect(
            endpoint.host,
            port=endpoint.port,
            username=endpoint.user,
            pkey=key,
            sock=sock,
            allow_agent=False,
            look_for_keys=False,
            timeout=left,
            banner_timeout=left,
            auth_timeout=left,
            channel_timeout=CONNECT_SECONDS,
        )
    except BaseException:
        client.close()
        sock.close()
        raise
    transport = client.get_transport()
    assert transport is not None
    transport.set_keepalive(int(KEEPALIVE_SECONDS))
    return client


def _host_key(endpoint: Endpoint) -> PKey:
    import base64

    from paramiko import PKey

    kind, _, rest = endpoint.host_key.strip().partition(" ")
    try:
        return PKey.from_type_string(kind, base64.b64decode(rest.split()[0], validate=True))
    except Exception as error:
        raise ConfigurationError(
            f"The host key of connection {endpoint.connection!r} cannot be read: {error}",
            left="nothing was connected",
            next="It must read 'ssh-ed25519 AAAA...', as `ssh-keyscan` prints it without the host's name.",
        ) from error


def _private_key(endpoint: Endpoint) -> PKey:
    from paramiko import PasswordRequiredException, PKey, SSHException

    try:
        return PKey.from_path(endpoint.key_file)
    except (OSError, SSHException, PasswordRequiredException, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"The private key {endpoint.key_file} of connection {endpoint.connection!r} cannot be read: {error}",
            left="nothing was connected",
            next="Put an ed25519 private key there, readable by the user that runs Airflow, without a passphrase.",
        ) from error
