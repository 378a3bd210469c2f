"""A link between client and service that counts what goes over it, cuts it, and changes bytes."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from edgeloop.azure.account import BlobAccount

PIECE = 16 * 1024
REQUEST = re.compile(rb"(GET|PUT|HEAD|DELETE|POST) (\S+) HTTP/1\.1\r\n")
VERSION = re.compile(rb"x-ms-version: (\S+)\r\n", re.IGNORECASE)


@dataclass(slots=True)
class Link:
    """Forwards connections to ``host:port``.

    ``cut_after`` bytes from the client (or, with ``cut_down_after``, from the service) every connection is closed and
    no new one is taken. ``damage`` is sent changed, the first ``damages`` times it passes.
    """

    host: str
    port: int
    cut_after: int = 0
    cut_down_after: int = 0
    damage: bytes = b""
    damages: int = 0
    up: int = 0
    down: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    _server: socket.socket = field(init=False)
    _open: list[socket.socket] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        for thread in self._threads:
            thread.join(10)

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def cut(self) -> None:
        """Close everything, take nothing more."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _run(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                service = socket.create_connection((self.host, self.port))
                self._open += [client, service]
                self._run(self._pump, client, service, True)
                self._run(self._pump, service, client, False)

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE):
                if upwards:
                    data = self._seen(data)
                else:
                    self.down += len(data)
                sink.sendall(data)
                if (self.cut_after and self.up >= self.cut_after) or (
                    self.cut_down_after and self.down >= self.cut_down_after
                ):
                    self.cut()
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _seen(self, data: bytes) -> bytes:
        with self._lock:
            self.up += len(data)
            self.requests += [(method.decode(), path.decode()) for method, path in REQUEST.findall(data)]
            self.versions += [one.decode() for one in VERSION.findall(data)]
            if self.damages and self.damage in data:
                self.damages -= 1
                return data.replace(self.damage, bytes(len(self.damage)), 1)
        return data


def through(account: BlobAccount, link: Link) -> BlobAccount:
    """The same account at the link's end."""
    text = account.connection_string
    where = re.search(r"BlobEndpoint=http://([^/;]+)", text)
    assert where is not None
    return replace(account, connection_string=text.replace(where.group(1), link.address))


def link_to(account: BlobAccount, **how: int | bytes) -> Link:
    """A link to where the account answers."""
    where = re.search(r"BlobEndpoint=http://([^/:;]+):(\d+)", account.connection_string)
    assert where is not None
    return Link(host=where.group(1), port=int(where.group(2)), **how)  # type: ignore[arg-type]
