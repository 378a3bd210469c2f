"""Requests over kept connections: every form of answer, every way it can break off, and large bodies."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, cast

import pytest
import urllib3
from tests.edgeloop.azure.hub import certificates
from tests.edgeloop.azure.listener import head_of, length_of, shut
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

from edgeloop.azure.exchange import CLASSES, Pool, Reply

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = b"HTTP/1.1 201 Created\r\nETag: x\r\nContent-Length: 0\r\n\r\n"
BIG = bytes(range(256)) * 16 * 1024
IDLE_SECONDS = 0.3


@dataclass(slots=True)
class Service:
    """Answers the n-th request with the n-th of ``answers``, the rest with the last; None for silence.

    Counts connections, keeps heads and bodies. An answer that ends in a NUL is its connection's last; with ``at_once``
    no body is read, with ``dribble`` an answer comes byte by byte.
    """

    answers: tuple[bytes | None, ...]
    at_once: bool = False
    dribble: bool = False
    tls: ssl.SSLContext | None = None
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    _server: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        shut(self._server)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.getsockname()[1])

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self.connections += 1
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with suppress(OSError), self.tls.wrap_socket(client, server_side=True) if self.tls else client as link:
            while head := head_of(link):
                self.heads.append(head)
                answer = self.answers[min(len(self.heads), len(self.answers)) - 1]
                if not self.at_once:
                    self.bodies.append(self._body(link, head))
                if answer is None:
                    link.recv(1)
                    return
                whole = answer.removesuffix(b"\0")
                for piece in (whole[i : i + 1] for i in range(len(whole))) if self.dribble else (whole,):
                    link.sendall(piece)
                if answer.endswith(b"\0"):
                    return

    def _body(self, link: socket.socket, head: bytes) -> bytes:
        length = length_of(head)
        body = bytearray()
        while len(body) < length:
            body += link.recv(length - len(body))
        return bytes(body)


def pool_to(service: Service, ca: Path | None = None) -> Pool:
    """A pool of one connection or more to it."""
    options = {"cert_reqs": "CERT_REQUIRED", "ca_certs": str(ca)} if ca else {}
    manager = urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=IDLE_SECONDS), maxsize=4, **options)
    manager.pool_classes_by_scheme = CLASSES
    url = f"{'https' if ca else 'http'}://127.0.0.1:{service.port}"
    return cast("Pool", manager.connection_from_url(url))


def ask(pool: Pool, body: bytes = b"") -> Reply:
    """One request."""
    headers = {"Host": "blob.example", "Content-Length": str(len(body)), "x-ms-version": "2019-02-02"}
    return pool.ask("PUT", "/a/b?c=%20", headers, body or None)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the CA that signed for it."""
    ca, cert, key = certificates(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, ca


@pytest.mark.parametrize("dribble", [False, True], ids=["in one piece", "byte by byte"])
@pytest.mark.parametrize(
    ("answer", "status", "reason", "data", "connections"),
    [
        (EMPTY, 201, "Created", b"", 1),
        (b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 3\r\n\r\nabc", 200, "OK", b"abc", 1),
        (
            b"HTTP/1.1 404 No\r\nETag: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            404,
            "No",
            b"abc",
            1,
        ),
        (b"HTTP/1.1 100 Continue\r\nETag: y\r\n\r\n" + EMPTY, 201, "Created", b"", 1),
        (b"HTTP/1.1 204 None\r\netag: x\r\n\r\n", 204, "None", b"", 1),
        (
            b"HTTP/1.1 201 Created\r\nETag: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            201,
            "Created",
            b"",
            3,
        ),
        (b"HTTP/1.1 200 OK\r\nETag: x\r\n\r\nabc\0", 200, "OK", b"abc", 3),
        (b"HTTP/1.0 200 OK\r\nETag: x\r\nContent-Length: 3\r\n\r\nabc\0", 200, "OK", b"abc", 3),
    ],
    ids=["empty", "length", "chunks", "100 before", "no content", "close", "until the end", "HTTP/1.0"],
)
def test_an_answer_is_the_same_over_a_new_connection_and_a_kept_one(
    answer: bytes, status: int, reason: str, data: bytes, connections: int, *, dribble: bool
) -> None:
    """Read by urllib3 the first time, by llhttp from then on; a connection that is to end is not used again."""
    with Service(answers=(EMPTY, answer), dribble=dribble) as service:
        pool = pool_to(service)
        ask(pool)
        replies = [ask(pool, b"body") for _ in range(2)]
        assert {(one.status, one.data, one.headers["etag"]) for one in replies} == {(status, data, "x")}
        assert {one.reason for one in replies} == {reason}
        assert ask(pool).status == status
        assert service.connections == connections
        assert service.heads[1].startswith(b"PUT /a/b?c=%20 HTTP/1.1\r\nHost: blob.example\r\n")
        assert service.bodies[:3] == [b"", b"body", b"body"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc\0", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc\0", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Le\0", ProtocolError),
        (b"\0", ProtocolError),
        (b"220 mail.example ESMTP\r\n\r\n", ProtocolError),
        (EMPTY + EMPTY, ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", ProtocolError),
        (None, ReadTimeoutError),
    ],
    ids=["short", "short chunk", "half a head", "nothing", "no HTTP", "two answers", "two lengths", "silence"],
)
def test_a_broken_answer_is_an_error_and_its_connection_is_not_used_again(
    answer: bytes | None, error: type[HTTPError]
) -> None:
    """Cut off, no HTTP, more than was asked for, silence: all of them in urllib3's terms, which are retried."""
    with Service(answers=(EMPTY, answer, EMPTY)) as service:
        pool = pool_to(service)
        ask(pool)
        with pytest.raises(error):
            ask(pool, b"body")
        assert ask(pool).status == 201
        assert service.connections == 2


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_a_large_body_arrives_whole(tls: tuple[ssl.SSLContext, Path], *, secure: bool) -> None:
    """4 MiB, more than a socket takes at once, and a small one; all over one connection."""
    context, ca = tls
    with Service(answers=(EMPTY,), tls=context if secure else None) as service:
        pool = pool_to(service, ca if secure else None)
        sent = [b"first", BIG, b"small", BIG[:-7], b""]
        assert {ask(pool, one).status for one in sent} == {201}
        assert service.bodies == sent
        assert service.connections == 1


@pytest.mark.parametrize("body", [b"1" * 100, BIG], ids=["small", "large"])
@pytest.mark.parametrize("first", [EMPTY, None], ids=["kept connection", "new connection"])
def test_a_refusal_without_reading_the_body_is_told(body: bytes, first: bytes | None) -> None:
    """The service answers a write at its head, and hangs up."""
    no = b"HTTP/1.1 403 No\r\nx-ms-error-code: AuthorizationFailure\r\nContent-Length: 0\r\n\r\n\0"
    answers = (first, no) if first else (no,)
    with Service(answers=answers, at_once=True) as service:
        pool = pool_to(service)
        if first:
            ask(pool)
        reply = ask(pool, body)
        assert (reply.status, reply.headers["x-ms-error-code"]) == (403, "AuthorizationFailure")


def test_a_header_cannot_hold_another() -> None:
    """The end of a line in a value is refused before anything is sent."""
    with Service(answers=(EMPTY,)) as service:
        pool = pool_to(service)
        ask(pool)
        with pytest.raises(ValueError, match="end of a line"):
            pool.ask("PUT", "/a", {"Host": "x", "x-ms-meta-a": "1\r\nx-ms-meta-b: 2"}, None)
        assert len(service.heads) == 1
