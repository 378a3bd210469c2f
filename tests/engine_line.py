"""A line to a real Docker engine that breaks at a request of the test's choice, and stays broken for a while."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from edgeloop.containers.endpoint import EngineEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 65536
REQUEST = re.compile(rb"(GET|POST|DELETE|HEAD|PUT) (\S+) HTTP")


@dataclass
class EngineLine:
    """Passes on to the engine at the socket ``to`` until a request matches ``at``.

    ``how``: that request is lost (``before``), its answer is (``after``), or its answer's stream is closed in order
    and nothing else happens (``closed``). Who connects within ``away`` seconds of the first two is turned away.
    """

    to: str
    at: str
    how: str = "after"
    away: float = 0.3
    cut: bool = False
    url: str = ""
    _server: socket.socket | None = None
    _back: float = 0.0
    _ends: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Listen."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        self._hang_up()

    @property
    def endpoint(self) -> EngineEndpoint:
        """The engine behind the line."""
        return EngineEndpoint(connection="edgeloop_builder", url=self.url)

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            if time.monotonic() < self._back:
                near.close()
                continue
            far = socket.socket(socket.AF_UNIX)
            far.connect(self.to)
            self._ends += [near, far]
            struck = threading.Event()
            for work in (self._asked, self._told):
                threading.Thread(target=self._quietly, args=(work, near, far, struck), daemon=True).start()

    @staticmethod
    def _quietly(work: Callable[..., None], *ends: object) -> None:
        with suppress(OSError):
            work(*ends)

    def _asked(self, near: socket.socket, far: socket.socket, struck: threading.Event) -> None:
        while data := near.recv(PIECE):
            found = REQUEST.match(data)
            if found and not self.cut and re.search(self.at, b" ".join(found.groups()).decode()):
                struck.set()
                if self.how == "before":
                    self._break()
                    return
            far.sendall(data)
        far.shutdown(socket.SHUT_WR)

    def _told(self, near: socket.socket, far: socket.socket, struck: threading.Event) -> None:
        while data := far.recv(PIECE):
            if struck.is_set() and not self.cut:
                if self.how == "after":
                    self._break()
                    return
                self.cut = True
                near.sendall(data)
                break
            near.sendall(data)
        near.shutdown(socket.SHUT_WR)

    def _break(self) -> None:
        self.cut, self._back = True, time.monotonic() + self.away
        self._hang_up()

    def _hang_up(self) -> None:
        for one in self._ends:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
