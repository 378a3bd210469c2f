"""Commands on a machine over one SSH connection, for workers (paramiko, synchronous).

Three time-outs hold everywhere: CONNECT_SECONDS until logged in, IDLE_SECONDS without a sign of life from the peer's
kernel, and the whole time each command is given. A dead peer raises ``UnreachableError`` that names the connection.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from edgeloop.ssh import connect, problems
from edgeloop.ssh.endpoint import CONNECT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paramiko import Channel, Transport

    from edgeloop.ssh.endpoint import Endpoint

CHUNK_BYTES = 4 * 1024 * 1024
"""The most that is taken at once: paramiko moves all that is left behind it, a third of the work with 256 KiB."""
WINDOW_BYTES = 16 * 1024 * 1024
PACKET_BYTES = 128 * 1024
"""The most of one packet that comes: each costs Python the same, whatever its size. sshd packs 256 KiB at most."""


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
    is not the pinned one or it refuses the login; the same for every jump host before it.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._hops = ExitStack()
        self._last: Transport | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._last = connect.login(self.endpoint, stack)
            self._hops = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._last = None
        self._hops.close()

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
        return self._transport().open_session(
            window_size=WINDOW_BYTES, max_packet_size=PACKET_BYTES, timeout=CONNECT_SECONDS
        )

    def _transport(self) -> Transport:
        if self._last is None or not self._last.is_active():
            raise EOFError("the SSH connection is closed")
        return self._last


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
        if self._channel.exit_status < 0 and not self._channel.get_transport().is_active():
            # paramiko ends every stream of a connection that it closes, as if the command had ended well.
            raise EOFError("the connection ended before the command did")
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
        except (TimeoutError, OSError, EOFError):
            # The link broke, or the command ended without reading to the end; its exit code and standard error say why.
            return
        except BaseException as error:  # noqa: BLE001 - a failing source must fail the run, not vanish in a thread
            self._failure = error
            with suppress(OSError, EOFError):
                self._channel.close()
