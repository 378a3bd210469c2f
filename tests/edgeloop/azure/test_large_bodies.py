"""A blob service that hangs up, stalls or is slow in the middle of a large body, in both directions."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Self

import pytest
from tests.edgeloop.azure.hub import KEY, certificates
from tests.edgeloop.azure.listener import head_of, length_of, shut

from edgeloop.azure import account, wire
from edgeloop.azure.account import BlobAccount
from edgeloop.azure.turn import Turn
from edgeloop.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.azure.wire import Wire

BIG = bytes(range(256)) * 16 * 1024
HALF = len(BIG) // 2
CREATED = b'HTTP/1.1 201 Created\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'
PIECE = b'HTTP/1.1 206 Partial\r\nETag: "e"\r\nContent-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n\r\n' % (
    len(BIG) - 1,
    len(BIG),
    len(BIG),
)
IDLE_SECONDS, REST_SECONDS = 0.3, 0.01
STEP = 256 * 1024
DEADLINE_S = 20.0


@dataclass(slots=True)
class Service:
    """Treats its requests one after the other as ``manners`` say, the rest well; keeps the sha256 of whole bodies.

    ``hang up`` and ``stall`` in the middle of a body, whichever way it goes; ``handshake`` takes a connection and ends
    it; ``busy`` is a 503; ``slow`` takes a body in small pieces, with a rest between them.
    """

    manners: list[str]
    tls: ssl.SSLContext | None = None
    tried: int = 0
    bodies: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _server: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    def __enter__(self) -> Self:
        # What a socket takes unread must be small beside a body.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        shut(self._server)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.getsockname()[1])

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                if self.manners[:1] == ["handshake"]:
                    self.manners.pop(0)
                    client.close()
                    continue
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with suppress(OSError), self.tls.wrap_socket(client, server_side=True) if self.tls else client as link:
            while head := head_of(link):
                self.tried += 1
                manner = self.manners.pop(0) if self.manners else ""
                go_on = self._give(link, manner) if head.startswith(b"GET") else self._take(link, head, manner)
                if not go_on:
                    return

    def _take(self, link: socket.socket, head: bytes, manner: str) -> bool:
        length = length_of(head)
        body = bytearray()
        while len(body) < length:
            more = link.recv(min(HALF // 2, length - len(body)))
            if manner == "slow" and (len(body) + len(more)) // STEP > len(body) // STEP:
                self._over.wait(REST_SECONDS)
            body += more
            if manner in {"hang up", "stall"} and len(body) >= HALF:
                return self._end(manner)
        if manner == "busy":
            link.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            return True
        self.bodies.append(hashlib.sha256(body).hexdigest())
        link.sendall(CREATED)
        return True

    def _give(self, link: socket.socket, manner: str) -> bool:
        link.sendall(PIECE)
        link.sendall(BIG[:HALF] if manner else BIG)
        return self._end(manner) if manner else True

    def _end(self, manner: str) -> bool:
        if manner == "stall":
            self._over.wait(DEADLINE_S)
        return False


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the CA that signed for it."""
    ca, cert, key = certificates(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, ca


@pytest.fixture
def serving(opened: Callable[..., tuple[Service, BlobContainer]]) -> Callable[..., tuple[Service, Wire]]:
    """The same past the SDK, which is how data travels."""

    def start(*manners: str) -> tuple[Service, Wire]:
        service, container = opened(*manners)
        return service, container._wire

    return start


@pytest.fixture(params=["plain", "TLS"])
def opened(
    request: pytest.FixtureRequest, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[Service, BlobContainer]]]:
    """Starts a service of such manners, and opens a container there with no pauses between tries."""
    secure = request.param == "TLS"
    monkeypatch.setattr(account, "IDLE_SECONDS", IDLE_SECONDS)
    monkeypatch.setattr(wire, "PAUSES", (0.0,) * 4)
    started: list[Service] = []

    def start(*manners: str) -> tuple[Service, BlobContainer]:
        service = Service(manners=list(manners), tls=tls[0] if secure else None).__enter__()
        started.append(service)
        where = f"{'https' if secure else 'http'}://127.0.0.1:{service.port}/hub"
        text = f"DefaultEndpointsProtocol=https;AccountName=hub;AccountKey={KEY};BlobEndpoint={where}"
        ca = str(tls[1]) if secure else ""
        hub = BlobAccount(connection="hub", connection_string=text, preset="stack_hub", ca_file=ca)
        return service, hub.container("data")

    yield start
    for one in started:
        one.__exit__()


@pytest.mark.fault
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
@pytest.mark.parametrize("manner", ["hang up", "stall", "busy"])
def test_a_body_on_its_way_up_is_sent_again_whole(
    serving: Callable[..., tuple[Service, Wire]], manner: str, *, kept: bool
) -> None:
    """Whatever becomes of it half-way, and over whichever connection: it arrives once, as it was."""
    service, one = serving(*([""] if kept else []), manner, manner)
    if kept:
        one.stage("b", "00", b"small")
    one.stage("b", "01", BIG)
    assert service.bodies[-1] == hashlib.sha256(BIG).hexdigest()
    assert (len(service.bodies), service.tried) == ((2, 4) if kept else (1, 3))


@pytest.mark.fault
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
@pytest.mark.parametrize("manner", ["hang up", "stall"])
def test_a_body_on_its_way_down_is_asked_for_again(
    serving: Callable[..., tuple[Service, Wire]], manner: str, *, kept: bool
) -> None:
    """Half a body is none, and what came of it is not mixed with the next answer."""
    service, one = serving(*([""] if kept else []), manner, manner)
    if kept:
        one.stage("b", "00", b"small")
    assert one.fetch("b", 0, len(BIG)).data == BIG
    assert service.tried == (4 if kept else 3)


@pytest.mark.fault
@pytest.mark.parametrize("manner", ["hang up", "stall"])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_a_service_that_never_takes_all_of_it_is_unreachable(
    serving: Callable[..., tuple[Service, Wire]], manner: str, *, up: bool
) -> None:
    """After as many tries as there are, by the name of its connection."""
    service, one = serving(*[manner] * 9)
    with pytest.raises(UnreachableError, match="'hub' did not answer"):
        _ = one.stage("b", "01", BIG) if up else one.fetch("b", 0, len(BIG))
    assert service.tried == 1 + account.RETRIES
    assert service.bodies == []


@pytest.mark.fault
@pytest.mark.parametrize("manner", ["hang up", "stall"])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_so_it_is_for_what_the_sdk_sends(
    opened: Callable[..., tuple[Service, BlobContainer]], monkeypatch: pytest.MonkeyPatch, manner: str, *, up: bool
) -> None:
    """Records, ledgers and their heads: an answer that breaks off is no error of the SDK's that nobody knows."""
    monkeypatch.setattr(account, "RETRIES", 0)
    monkeypatch.setattr("azure.storage.blob._download.time", SimpleNamespace(sleep=lambda _: None))
    service, container = opened("", *[manner] * 9)
    container.ensure()
    with pytest.raises(UnreachableError, match="'hub' did not answer") as caught:
        _ = container.put_new("b", BIG[:-1]) if up else container.get("b")
    assert "airflow connections get hub" in caught.value.next
    assert service.tried > 1


@pytest.mark.fault
def test_a_slow_link_may_take_longer_for_a_body_than_to_connect(
    serving: Callable[..., tuple[Service, Wire]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a link on which nothing moves is given up, over a new connection as over a kept one."""
    monkeypatch.setattr(account, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(account, "IDLE_SECONDS", DEADLINE_S)
    service, one = serving("slow", "slow")
    body = BIG * 4
    one.stage("b", "01", body)
    one.stage("b", "02", body)
    assert service.bodies == [hashlib.sha256(body).hexdigest()] * 2
    assert service.tried == 2


@pytest.mark.fault
def test_a_service_that_ends_connections_before_a_word_is_asked_again(
    serving: Callable[..., tuple[Service, Wire]],
) -> None:
    """One that starts anew behind a balancer takes connections and ends them, under TLS in the handshake."""
    service, one = serving("handshake", "handshake")
    one.stage("b", "01", b"small")
    assert service.tried == 1


@pytest.mark.fault
@pytest.mark.parametrize("manner", ["hang up", "busy"])
def test_the_pause_before_a_further_try_is_somebody_elses_turn(
    serving: Callable[..., tuple[Service, Wire]], monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    """Others go on while one waits for a service to get well."""
    service, one = serving(manner, manner)
    turn, went_on = Turn(), list[bool]()

    def pause(_: float) -> None:
        taken = threading.Event()

        def other() -> None:
            with turn:
                taken.set()

        threading.Thread(target=other, daemon=True).start()
        went_on.append(taken.wait(DEADLINE_S))

    monkeypatch.setattr(wire.time, "sleep", pause)
    with turn:
        one.stage("b", "01", BIG)
    assert went_on == [True, True]
    assert len(service.bodies) == 1
