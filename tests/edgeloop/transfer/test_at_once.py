"""Small files: one thread computes at a time, and all of them wait for the service at once."""

from __future__ import annotations

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.transfer.conftest import noise

from edgeloop.azure.account import BlobAccount
from edgeloop.transfer import Outgoing, Terms
from edgeloop.transfer.batch import IN_TURN_BYTES, send_all
from edgeloop.transfer.plan import MOST_WORKERS

if TYPE_CHECKING:
    from pathlib import Path

LISTING = b"<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>"
KEY = base64.b64encode(b"a key that nobody checks").decode()
DEADLINE_S = 20.0


@pytest.mark.parametrize("size", [0, 20 * 1024, IN_TURN_BYTES, IN_TURN_BYTES + 1])
def test_as_many_writes_as_workers_wait_for_the_service_at_once(tmp_path: Path, size: int) -> None:
    """No write is answered before those of all workers are there: on a link with latency that is what counts."""
    together, arrived = threading.Barrier(MOST_WORKERS), list[str]()

    class Service(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """An empty container."""
            self._say(200, LISTING)

        def do_PUT(self) -> None:
            """A blob, once all workers' are there; or the container."""
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            if "restype=container" not in self.path:
                together.wait(DEADLINE_S)
                arrived.append(self.path)
            self._say(201, b"")

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("ETag", '"x"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    files = []
    for number in range(3 * MOST_WORKERS):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(noise(size, seed=number))
        files.append(Outgoing(name=path.name, path=path))
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a"
        text = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={KEY};BlobEndpoint={url};"
        account = BlobAccount(connection="c", connection_string=text, preset="stack_hub")
        sent = send_all(account.container("box"), files, terms=Terms(link_mbit=1000))
        server.shutdown()
    assert len(arrived) == len(files)
    assert [one.file.path for one in sent] == [one.name for one in files]
