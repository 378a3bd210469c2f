"""Memory is bounded by workers and the size of a block, whatever the size of the file; against the benchmarks' sink."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from benchmarks.sink import Connection, Shelf
from edgeloop.transfer import Terms, plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024 * 1024
SIZE = 256 * MIB
LINK_MBIT = 100.0

CHILD = """
import resource, sys
from pathlib import Path
from edgeloop.azure.account import BlobAccount
from edgeloop.transfer import Courier, Terms

endpoint, big, small = sys.argv[1:]
text = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint={endpoint}/a;"
courier = Courier(BlobAccount(connection="sink", connection_string=text).container("c"), Terms(link_mbit=100))
courier.send("small", Path(small))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sent = courier.send("big", Path(big))
print(sent.sent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.fixture
def sink() -> Iterator[tuple[str, Shelf]]:
    """A service that throws bytes away, and what it remembers."""
    shelf, loop, ready = Shelf(), asyncio.new_event_loop(), threading.Event()
    port: list[int] = []

    async def serve() -> None:
        server = await loop.create_server(lambda: Connection(shelf), "127.0.0.1", 0)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()

    loop.create_task(serve())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    ready.wait()
    yield f"http://127.0.0.1:{port[0]}", shelf
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_memory_does_not_grow_with_the_file(sink: tuple[str, Shelf], tmp_path: Path) -> None:
    """A child that sends 256 MiB grows by what its workers hold, not by the file."""
    way = plan(SIZE, Terms(link_mbit=LINK_MBIT))
    big, small = tmp_path / "big", tmp_path / "small"
    small.write_bytes(b"x")
    with big.open("wb") as stream:
        stream.truncate(SIZE)
    command = [sys.executable, "-c", CHILD, sink[0], str(big), str(small)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    sent, grown_kib = (int(one) for one in done.stdout.split())
    assert sent == sink[1].received - 1 == SIZE
    assert sink[1].checked == SIZE // way.block_bytes + 1
    # Each worker holds a block, and the allocator one more each at worst.
    assert grown_kib * 1024 < 2 * way.workers * way.block_bytes + 16 * MIB
