"""What is sent again after a cut at 30, 60 and 90 % of an upload, in blocks beyond what was missing.

The limit is a block for each worker: what was on its way when the link went. The link is cut in the middle of blocks,
between our courier and the sink, and everything that goes over it is counted.
"""

from __future__ import annotations

import re
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from benchmarks import carriers, grounds
from benchmarks.harness import Figure, Pair, beyond_peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.carriers import Place

PERCENT = (30, 60, 90)
MIB = 1024 * 1024
SIZE_MIB = 512
PIECE = 64 * 1024
HEADERS_SHARE = 0.001
"""Of a block: what its request's head takes on the wire."""


def measure(say: Callable[[str], None]) -> list[Figure]:
    """One figure for each cut: MiB over the wire in both tries beyond the file's size; the bar is workers x block."""
    from edgeloop.transfer import Terms, plan

    way = plan(SIZE_MIB * MIB, Terms())
    bar = way.workers * way.block_bytes / MIB + SIZE_MIB * HEADERS_SHARE
    figures = []
    with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as scratch, grounds.sink() as places:
        folder = grounds.large(Path(scratch) / "large", SIZE_MIB)
        for percent in PERCENT:
            again = _cut_and_resume(folder, places(), percent)
            say(f"cut at {percent} %: {again:.1f} MiB sent again")
            pair = Pair(ours=SIZE_MIB + again, peer=float(SIZE_MIB))
            peer = f"file's size; bar {way.workers} workers x {way.block_bytes // MIB} MiB"
            figures.append(beyond_peer(f"resume: cut at {percent} %", [pair], unit="MiB", bar=bar, peer=peer))
    return figures


def _cut_and_resume(folder: Path, place: Place, percent: int) -> float:
    with Meter(SIZE_MIB * MIB * percent // 100) as cut:
        with suppress(Exception):
            carriers.run(carriers.ours("send", folder, _through(place, cut.port)))
        first = cut.passed
    if not cut.closed:
        raise SystemExit(f"The link was not cut at {percent} %: the upload ended before.")
    with Meter(0) as whole:
        carriers.run(carriers.ours("send", folder, _through(place, whole.port)))
        return (first + whole.passed) / MIB - SIZE_MIB


def _through(place: Place, port: int) -> Place:
    text = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", place.connection_string)
    return carriers.Place(url=place.url, container=place.container, sas=place.sas, connection_string=text)


class Meter:
    """Forwards connections to the sink, counts what clients send, and closes everything after ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self.passed, self.closed = limit, 0, False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                service = socket.create_connection(("127.0.0.1", grounds.SINK_PORT))
                self._ends += [client, service]
                threading.Thread(
                    target=self._pump, args=(client, service), kwargs={"counted": True}, daemon=True
                ).start()
                threading.Thread(
                    target=self._pump, args=(service, client), kwargs={"counted": False}, daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, *, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE):
                if counted:
                    with self._lock:
                        self.passed += len(data)
                        over = self._limit and self.passed >= self._limit
                    if over:
                        self.closed = True
                        self._close()
                        return
                sink.sendall(data)

    def _close(self) -> None:
        for one in (self._server, *self._ends):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
