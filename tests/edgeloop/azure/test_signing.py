"""Requests signed by an account's key as the SDK signs them."""

from __future__ import annotations

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.pipeline.transport import HttpRequest
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy

from edgeloop.azure.account import BlobAccount
from edgeloop.azure.address import Address
from edgeloop.azure.signing import shared_key
from edgeloop.azure.wire import Wire

KEY = base64.b64encode(bytes(range(64))).decode()
DATED = {"x-ms-version": "2019-02-02", "x-ms-date": "Sun, 22 Nov 2026 08:00:00 GMT"}
PUT = {
    "x-ms-meta-sha256": "ab" * 32,
    "x-ms-meta-sha256_base64": "q6urq6s=",
    "x-ms-blob-type": "BlockBlob",
    "If-None-Match": "*",
    "Content-Length": "20480",
    "Content-Type": "application/octet-stream",
    "Content-MD5": "ZmZmZmZmZmZmZmZmZmZmZg==",
}


@pytest.mark.parametrize(
    ("method", "path", "query", "headers"),
    [
        ("PUT", "/c/a.csv", "", PUT),
        ("PUT", "/devstore/c/2014/%C3%BC%20b.csv", "comp=block&blockid=MDAwMDAwMDEtYWI%3D", PUT),
        ("PUT", "/c/empty", "", PUT | {"Content-Length": "0"}),
        ("GET", "/c/a.csv", "", {"x-ms-range": "bytes=0-99", "If-Match": '"0x8D"'}),
        ("GET", "/c", "restype=container&comp=list&prefix=a%2Fb&marker=2%21%3D", {}),
    ],
    ids=["a blob", "a block", "an empty blob", "a range of one version", "a listing"],
)
def test_a_signature_is_the_sdks(method: str, path: str, query: str, headers: dict[str, str]) -> None:
    """For every request that is sent past it."""
    request = HttpRequest(method, f"https://host{path}{'?' if query else ''}{query}", headers=headers | DATED)
    SharedKeyCredentialPolicy("account", KEY).on_request(PipelineRequest(request, PipelineContext(None)))
    asked = dict(one.split("=", 1) for one in query.split("&")) if query else {}
    ours = shared_key("account", base64.b64decode(KEY), method=method, path=path, query=asked, headers=headers | DATED)
    assert ours == request.headers["Authorization"]


def test_a_proxy_is_told_the_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the service's own name as host; without a proxy the same request goes straight to the service."""
    asked: list[tuple[str, str]] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            """Whatever is put is taken."""
            asked.append((self.path, self.headers["Host"]))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    def put(endpoint: str) -> None:
        text = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={KEY};BlobEndpoint={endpoint};"
        account = BlobAccount(connection="c", connection_string=text, preset="stack_hub")
        Wire(account, Address.of(account.client("box"))).put("x.csv", b"1", {})

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"127.0.0.1:{server.server_port}"
        monkeypatch.setenv("http_proxy", f"http://{here}")
        put("http://blob.example/a")
        monkeypatch.delenv("http_proxy")
        put(f"http://{here}/a")
        server.shutdown()
    assert asked == [("http://blob.example/a/box/x.csv", "blob.example"), ("/a/box/x.csv", here)]
