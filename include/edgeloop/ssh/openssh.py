"""Large streams over OpenSSH's own client where it can be used: one and a half times as fast as paramiko.

It is given nothing but the connection's pin and key: no configuration of the user's, no agent, no other key or host.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from edgeloop.errors import UnreachableError
from edgeloop.ssh import problems
from edgeloop.ssh.endpoint import CONNECT_SECONDS, IDLE_SECONDS, KEEPALIVE_SECONDS
from edgeloop.ssh.shell import Completed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.ssh.shell import Sink

CHUNK_BYTES = 256 * 1024
PIPE_BYTES = 1024 * 1024
OWN_FAILURE = 255
"""ssh's exit code when it is the connection that failed and not the command."""
ALIAS = "edgeloop"
CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr"
LAST_LINES = 300


class Carrier(Protocol):
    """Runs a command on a machine and moves its streams; :class:`edgeloop.ssh.shell.Shell` is one."""

    endpoint: Endpoint

    def run(
        self, command: str, *, stdin: bytes | Iterator[bytes] | None = None, timeout: float, sink: Sink | None = None
    ) -> Completed:
        """As :meth:`edgeloop.ssh.shell.Shell.run`."""
        ...


def why_not(endpoint: Endpoint) -> str:
    """Why OpenSSH's client cannot be used for this login, or ""."""
    if shutil.which("ssh") is None:
        return "there is no ssh command on the worker"
    for name in ("private_key", "passphrase", "jump"):
        if getattr(endpoint, name, None):
            return f"the connection has a {name.replace('_', ' ')}, which is not handed to another program"
    if not endpoint.key_file:
        return "the connection has no key file"
    try:
        found = Path(endpoint.key_file).expanduser().stat()
    except OSError as error:
        return f"the key file cannot be read: {error.strerror}"
    if found.st_uid == os.getuid() and found.st_mode & 0o077:
        return "the key file may be read by others, which ssh refuses"
    return ""


def argv(endpoint: Endpoint, known_hosts: str, command: str) -> list[str]:
    """The command line; nothing secret is in it."""
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "UserKnownHostsFile": known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": ALIAS,
        "CheckHostIP": "no",
        "UpdateHostKeys": "no",
        "ConnectTimeout": f"{CONNECT_SECONDS:.0f}",
        "ServerAliveInterval": f"{KEEPALIVE_SECONDS:.0f}",
        "ServerAliveCountMax": f"{IDLE_SECONDS / KEEPALIVE_SECONDS:.0f}",
        "ControlPath": "none",
        "Ciphers": CIPHERS,
        "Compression": "no",
        "LogLevel": "ERROR",
    }
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    key = str(Path(endpoint.key_file).expanduser())
    where = ["-i", key, "-p", str(endpoint.port), "-l", endpoint.user, "--", endpoint.host, command]
    return ["ssh", "-F", "none", "-T", *given, *where]


def known_host(host_key: str) -> str:
    """The line of known_hosts that pins the machine; a host's name before the key or a comment behind it is dropped."""
    words = host_key.split()
    start = next((at for at, word in enumerate(words) if word.startswith(("ssh-", "ecdsa-"))), 0)
    return f"{ALIAS} {' '.join(words[start : start + 2])}\n"


class OpenSsh:
    """One login per command. Raises ``UnreachableError`` when the machine does not answer or falls silent."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def run(
        self, command: str, *, stdin: bytes | Iterator[bytes] | None = None, timeout: float, sink: Sink | None = None
    ) -> Completed:
        """As :meth:`edgeloop.ssh.shell.Shell.run`."""
        with tempfile.NamedTemporaryFile("w", prefix="edgeloop-pin-", suffix=".known_hosts") as pins:
            pins.write(known_host(self.endpoint.host_key))
            pins.flush()
            with _process(argv(self.endpoint, pins.name, command)) as process:
                done = _Exchange(process, time.monotonic() + timeout).run(stdin, sink)
        if done is None:
            raise problems.too_slow(self.endpoint, command, timeout)
        if done.exit == OWN_FAILURE:
            raise problems.lost(self.endpoint, EOFError(done.err.strip()[-LAST_LINES:] or "ssh gave up"))
        return done


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    # LC_* and others would be sent on by a system-wide configuration; -F none and a bare environment send nothing.
    bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=bare,
        bufsize=0,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


class _Exchange:
    """The three streams of one ssh, each with a thread: any of them can fill up first."""

    def __init__(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        self._process, self._deadline = process, deadline
        self._err = bytearray()
        self._failure: BaseException | None = None

    def run(self, stdin: bytes | Iterator[bytes] | None, sink: Sink | None) -> Completed | None:
        """What came of it, or None if it did not end in time; what a source or sink raised is raised."""
        process, out = self._process, bytearray()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        take = sink.write if sink is not None else _taker(out)
        threads = [
            threading.Thread(target=self._drain, args=(process.stdout, take), daemon=True),
            threading.Thread(target=self._drain, args=(process.stderr, _taker(self._err)), daemon=True),
            threading.Thread(target=self._feed, args=(process.stdin, stdin), daemon=True),
        ]
        for thread in threads:
            thread.start()
        for thread in threads[:2]:
            thread.join(max(self._deadline - time.monotonic(), 0))
        if self._failure is None and any(thread.is_alive() for thread in threads[:2]):
            return None
        code = process.wait()
        threads[2].join(max(self._deadline - time.monotonic(), 0))
        if self._failure is not None:
            raise self._failure
        return Completed(exit=code, out=bytes(out), err=self._err.decode(errors="replace"))

    def _drain(self, stream: IO[bytes], take: Callable[[bytes], object]) -> None:
        try:
            while chunk := stream.read(CHUNK_BYTES):
                take(chunk)
        except ValueError:
            return  # closed by who gave up on it
        except BaseException as error:  # noqa: BLE001 - a failing sink must fail the run, not vanish in a thread
            self._fail(error)

    def _feed(self, stream: IO[bytes], stdin: bytes | Iterator[bytes] | None) -> None:
        try:
            for chunk in () if stdin is None else (stdin,) if isinstance(stdin, bytes) else stdin:
                view = memoryview(chunk)
                while view:
                    view = view[stream.write(view) :]
            stream.close()
        except (BrokenPipeError, ValueError):
            # The command ended without reading to the end; its exit code and standard error say why.
            return
        except BaseException as error:  # noqa: BLE001 - as above
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        with suppress(OSError):
            self._process.send_signal(signal.SIGKILL)


def _taker(buffer: bytearray) -> Callable[[bytes], object]:
    def take(chunk: bytes) -> int:
        buffer.extend(chunk)
        return len(chunk)

    return take


class Bulk:
    """Large streams over OpenSSH's client where it can be used, else over the connection that is there.

    An ssh that never got through (a cipher list, a policy of the worker's) is given up, and paramiko goes on.
    """

    def __init__(self, shell: Carrier) -> None:
        self.endpoint = shell.endpoint
        self.reason = why_not(shell.endpoint)
        self._shell, self._fast = shell, None if self.reason else OpenSsh(shell.endpoint)
        self._proven = False

    @property
    def name(self) -> str:
        """Which client carries, for the log."""
        return "OpenSSH's client" if self._fast else f"paramiko ({self.reason})"

    def run(
        self,
        command: str,
        *,
        stdin: Callable[[], Iterator[bytes]] | None = None,
        timeout: float,
        sink: Sink | None = None,
    ) -> Completed:
        """As :meth:`edgeloop.ssh.shell.Shell.run`; ``stdin`` makes the stream, a second time for a second client."""
        if self._fast is not None:
            heard = _Heard(sink)
            try:
                done = self._fast.run(command, stdin=stdin and stdin(), timeout=timeout, sink=heard if sink else None)
            except UnreachableError as error:
                if self._proven or heard.anything:
                    raise
                self.reason, self._fast = f"OpenSSH's client did not get through: {error.what}", None
            else:
                self._proven = True
                return done
        return self._shell.run(command, stdin=stdin and stdin(), timeout=timeout, sink=sink)

    def check(self, command: str, *, timeout: float, sink: Sink | None = None) -> Completed:
        """As :meth:`edgeloop.ssh.shell.Shell.check`, for what only answers."""
        done = self.run(command, timeout=timeout, sink=sink)
        if done.exit != 0:
            raise problems.command_failed(self.endpoint, command, done.exit, done.err.strip() or done.text)
        return done


class _Heard:
    """A sink that knows whether anything came."""

    def __init__(self, sink: Sink | None) -> None:
        self._sink, self.anything = sink, False

    def write(self, data: bytes) -> int:
        self.anything = True
        return self._sink.write(data) if self._sink is not None else len(data)
