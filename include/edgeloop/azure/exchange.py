"""One request and its answer over a connection that was kept.

urllib3 makes the connections, with their time-outs, proxies and certificates, sends the first request over each, keeps
them and closes them. All further requests go straight to the socket: head and body in one call, the answer read by
llhttp. That takes a third of what urllib3 and http.client take, which is more than hashing, signing and sending.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from httptools import HttpParserError, HttpResponseParser
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from edgeloop.azure.turn import waiting

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from urllib3 import BaseHTTPResponse

READ_BYTES = 64 * 1024
TOGETHER_BYTES = 128 * 1024
INTERIM, NEWLINES_BESIDE_HEADERS = 200, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the service answered; names of headers in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    data: bytes


class Connection(HTTPConnection):
    """A connection whose first request may take as long as any: what has an end is a link on which nothing moves."""

    idle: float | None = None

    def send(self, data: Any) -> None:
        """Send piece by piece."""
        # http.client gives sendall what urllib3 set for connecting, and that is for all of a body: one of 4 MiB that
        # took longer than 5 s was given up, with its connection, and so was every further try on a new one.
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.idle)
        _go_on(self.sock, memoryview(data))


class SecureConnection(Connection, HTTPSConnection):
    """The same under TLS."""


class Pool(HTTPConnectionPool):
    """Kept connections to one service; safe to use from several threads."""

    ConnectionCls = Connection

    def _new_conn(self) -> Any:
        made: Any = super()._new_conn()
        made.idle = self.timeout.read_timeout
        return made

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """One request, ``headers`` with Host; raises urllib3's ``HTTPError``, and retries nothing."""
        connection = cast("HTTPConnection", self._get_conn())
        sock = connection.sock
        if sock is None:
            self._put_conn(connection)
            with waiting:
                return reply_of(self.urlopen(method, target, body=body, headers=headers, redirect=False, retries=False))
        kept = False
        try:
            answer = _exchange(sock, _head(method, target, headers), body or b"", joined=self.scheme == "https")
            kept = answer.kept
        except TimeoutError as error:
            text = f"Read timed out. (read timeout={sock.gettimeout()})"
            raise ReadTimeoutError(self, target, text) from error
        except (OSError, HttpParserError) as error:
            message = "Connection aborted."
            raise ProtocolError(message, error) from error
        finally:
            if not kept:
                connection.close()
            self._put_conn(connection)
        return answer.reply()


class SecurePool(Pool, HTTPSConnectionPool):
    """The same under TLS."""

    ConnectionCls = SecureConnection


CLASSES: dict[str, type[HTTPConnectionPool]] = {"http": Pool, "https": SecurePool}
"""For a pool manager's ``pool_classes_by_scheme``."""


def reply_of(response: BaseHTTPResponse) -> Reply:
    """What urllib3 read."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(status=response.status, reason=response.reason or "", headers=headers, data=response.data)


@dataclass(slots=True)
class _Answer:
    """What the parser tells, until ``whole``; ``kept`` if the connection may be used again."""

    whole: bool = False
    kept: bool = False
    _status: int = 0
    _reason: bytes = b""
    _headers: dict[str, str] = field(default_factory=dict)
    _pieces: list[bytes] = field(default_factory=list)
    _parser: HttpResponseParser = field(init=False)

    def __post_init__(self) -> None:
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take what arrived; nothing if the service hung up."""
        if data:
            self._parser.feed_data(data)
        elif self._status and not self._headers.keys() & {"content-length", "transfer-encoding"}:
            # Without either, the body ends where the connection does.
            self.whole = True
        else:
            message = "the service hung up before its answer was whole"
            raise ConnectionResetError(message)

    def on_status(self, reason: bytes) -> None:
        """A status line."""
        if self.whole:
            message = "a second answer to one request"
            raise ValueError(message)
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """All of them; what is told before the answer (100 Continue) is forgotten."""
        status = self._parser.get_status_code()
        if status < INTERIM:
            self._headers.clear()
            self._reason = b""
        else:
            self._status = status

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The end of it."""
        if self._status:
            self.whole, self.kept = True, self._parser.should_keep_alive()

    def reply(self) -> Reply:
        """All of it."""
        # The parser holds us as we hold it: the body would stay in memory until the collector comes by.
        del self._parser
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        return Reply(status=self._status, reason=self._reason.decode("latin-1"), headers=self._headers, data=data)


def _exchange(sock: socket.socket, head: bytes, body: bytes, *, joined: bool) -> _Answer:
    answer, taken = _Answer(), False
    # Who refuses a request may answer and hang up before all of it was sent: the answer says why.
    with suppress(BrokenPipeError, ConnectionResetError):
        _send(sock, head, body, joined=joined)
        taken = True
    while not answer.whole:
        with waiting:
            data = sock.recv(READ_BYTES)
        answer.feed(data)
    answer.kept &= taken
    return answer


def _send(sock: socket.socket, head: bytes, body: bytes, *, joined: bool) -> None:
    """Send both at once: a head by itself wakes the service up twice."""
    if len(body) <= TOGETHER_BYTES and joined:
        head, body = head + body, b""
    sent = sock.send(head) if joined or not body else sock.sendmsg([head, body])
    _go_on(sock, memoryview(head)[sent:])
    _go_on(sock, memoryview(body)[max(0, sent - len(head)) :])


def _go_on(sock: socket.socket, left: memoryview) -> None:
    """Send piece by piece, so that the time-out is that of a link on which nothing moves."""
    while left:
        with waiting:
            sent = sock.send(left)
        left = left[sent:]


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()], "\r\n"]
    head = "\r\n".join(lines)
    newlines = len(headers) + NEWLINES_BESIDE_HEADERS
    if head.count("\n") != newlines or head.count("\r") != newlines:
        message = "A header holds the end of a line."
        raise ValueError(message)
    return head.encode("latin-1")
