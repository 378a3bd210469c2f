"""A relay in front of a registry that counts every byte of both directions, also inside a device's own network."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_NEWNET = 0x40000000
PIECE = 65536


@dataclass(slots=True)
class Exchange:
    """One request and its answer: the request's first line, and the bytes of both."""

    request: str
    sent: int = 0
    received: int = 0


@dataclass(slots=True)
class Relay:
    """Listens on 127.0.0.1, of the network of process ``inside`` if one is given, and passes on to ``to``.

    Docker engines take a registry on 127.0.0.1 without TLS. ``count`` are bytes of both directions together;
    ``exchanges`` tell them apart for a client that awaits each answer.
    """

    to: str
    inside: int = 0
    count: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    address: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: socket.socket | None = None

    def __enter__(self) -> Self:
        """Listen."""
        maker = threading.Thread(target=self._listen)
        maker.start()
        maker.join()
        if self._server is None:
            raise OSError(f"No relay could listen in the network of process {self.inside}.")
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    def taken(self) -> int:
        """Bytes since the last time somebody asked."""
        with self._lock:
            found, self.count, self.exchanges = self.count, 0, []
        return found

    def _listen(self) -> None:
        """A socket stays in the network of the thread that made it; this thread ends there."""
        if self.inside:
            handle = os.open(Path(f"/proc/{self.inside}/ns/net"), os.O_RDONLY)
            failed = ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET)
            os.close(handle)
            if failed:
                return
        self._server = socket.create_server(("127.0.0.1", 0))

    def _accept(self, server: socket.socket) -> None:
        host, _, port = self.to.rpartition(":")
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            far = socket.create_connection((host, int(port)))
            for source, target, note in ((near, far, self._asked), (far, near, self._answered)):
                threading.Thread(target=self._pump, args=(source, target, note), daemon=True).start()

    def _asked(self, data: bytes) -> None:
        if not self.exchanges or self.exchanges[-1].received:
            self.exchanges.append(Exchange(request=data.partition(b"\r\n")[0].decode(errors="replace")))
        self.exchanges[-1].sent += len(data)

    def _answered(self, data: bytes) -> None:
        if self.exchanges:
            self.exchanges[-1].received += len(data)

    def _pump(self, source: socket.socket, target: socket.socket, note: Callable[[bytes], None]) -> None:
        try:
            while data := source.recv(PIECE):
                with self._lock:
                    self.count += len(data)
                    note(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            target.close()
