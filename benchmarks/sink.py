"""A blob service that is no bottleneck: it takes what is sent, remembers names and sizes, and throws the bytes away.

    python -m benchmarks.sink <port>

Azurite spends two thirds of its time on a checksum in JavaScript, so a large upload to it measures Azurite. This one
answers Put Blob, Put Block, Put Block List, Get Block List, HEAD, and an empty listing; it checks no signature.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

SCRATCH = 1 << 20
EMPTY_LISTING = b'<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs/><NextMarker/></EnumerationResults>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """What is remembered of a blob: size in bytes and the headers that say what it is."""

    size: int
    headers: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Shelf:
    """Blobs and uncommitted blocks by path, with counts of what arrived."""

    blobs: dict[str, Blob] = field(default_factory=dict)
    blocks: dict[str, dict[str, int]] = field(default_factory=dict)
    received: int = 0
    checked: int = 0
    """Writes that came with a checksum of their bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request whose body has been thrown away, but for a block list's."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers and body."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def answer(shelf: Shelf, asked: Request) -> Answer:
    """What the service says to one request."""
    wanted = asked.query.get("comp", "")
    length = int(asked.headers.get("content-length", "0"))
    if asked.method == "PUT" and wanted == "block":
        shelf.blocks.setdefault(asked.path, {})[asked.query["blockid"]] = length
        return _received(shelf, asked, length)
    if asked.method == "PUT" and asked.query.get("restype") == "container":
        return Answer(status=201)
    if asked.method == "PUT":
        return _make(shelf, asked, length)
    return _told(shelf, asked, wanted)


def _told(shelf: Shelf, asked: Request, wanted: str) -> Answer:
    if wanted == "list":
        return Answer(status=200, headers=(("Content-Type", "application/xml"),), body=EMPTY_LISTING)
    if wanted == "blocklist":
        return _block_list(shelf, asked.path)
    if "restype" in asked.query:
        return Answer(status=200, headers=(("x-ms-account-kind", "StorageV2"), ("x-ms-sku-name", "Standard_LRS")))
    return _head(shelf, asked)


def _received(shelf: Shelf, asked: Request, length: int) -> Answer:
    shelf.received += length
    shelf.checked += "content-md5" in asked.headers or "x-ms-content-crc64" in asked.headers
    kept = tuple((name, asked.headers[name]) for name in ("content-md5",) if name in asked.headers)
    return Answer(status=201, headers=kept)


def _make(shelf: Shelf, asked: Request, length: int) -> Answer:
    if asked.headers.get("if-none-match") == "*" and asked.path in shelf.blobs:
        return Answer(status=409, headers=(("x-ms-error-code", "BlobAlreadyExists"),))
    listed = asked.query.get("comp") == "blocklist"
    size = sum(shelf.blocks.pop(asked.path, {}).values()) if listed else length
    kept = [(name, value) for name, value in asked.headers.items() if name.startswith("x-ms-meta-")]
    if md5 := asked.headers.get("x-ms-blob-content-md5") or ("" if listed else asked.headers.get("content-md5")):
        kept.append(("Content-MD5", md5))
    shelf.blobs[asked.path] = Blob(size=size, headers=tuple(kept))
    return Answer(status=201) if listed else _received(shelf, asked, length)


def _block_list(shelf: Shelf, path: str) -> Answer:
    blocks = shelf.blocks.get(path)
    if blocks is None and path not in shelf.blobs:
        return Answer(status=404, headers=(("x-ms-error-code", "BlobNotFound"),))
    rows = "".join(
        f"<Block><Name>{escape(name)}</Name><Size>{size}</Size></Block>" for name, size in (blocks or {}).items()
    )
    body = f'<?xml version="1.0" encoding="utf-8"?><BlockList><UncommittedBlocks>{rows}</UncommittedBlocks></BlockList>'
    return Answer(status=200, headers=(("Content-Type", "application/xml"),), body=body.encode())


def _head(shelf: Shelf, asked: Request) -> Answer:
    blob = shelf.blobs.get(asked.path)
    if blob is None or asked.method != "HEAD":
        return Answer(status=404, headers=(("x-ms-error-code", "BlobNotFound"),))
    told = (("x-ms-blob-type", "BlockBlob"), ("Content-Length", str(blob.size)), *blob.headers)
    return Answer(status=200, headers=told)


class Connection(asyncio.BufferedProtocol):
    """One kept connection; bodies are read over the same scratch memory again and again."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf, self._scratch, self._head = shelf, memoryview(bytearray(SCRATCH)), b""
        self._left, self._kept, self._request = 0, b"", ("", "", {})

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """The scratch memory."""
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Take what arrived: of bodies the length, of heads the text."""
        start = 0
        while start < nbytes or (self._request[0] and not self._left):
            if not self._request[0]:
                start = self._take_head(start, nbytes)
                continue
            took = min(self._left, nbytes - start)
            if self._request[0] == "PUT" and "comp=blocklist" in self._request[1]:
                self._kept += bytes(self._scratch[start : start + took])
            self._left, start = self._left - took, start + took
            if self._left:
                return
            self._finish()

    def _take_head(self, start: int, end: int) -> int:
        before = len(self._head)
        self._head += bytes(self._scratch[start:end])
        cut = self._head.find(b"\r\n\r\n")
        if cut < 0:
            return end
        lines = self._head[:cut].decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self._head, self._request = b"", (method, target, headers)
        self._left = int(headers.get("content-length", "0")) if method == "PUT" else 0
        if headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return start + cut + 4 - before

    def _finish(self) -> None:
        method, target, headers = self._request
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        asked = Request(method=method, path=unquote(url.path), query=query, headers=headers, body=self._kept)
        said = answer(self._shelf, asked)
        self._request, self._kept = ("", "", {}), b""
        names = {name for name, _ in said.headers}
        more = [*said.headers, *(() if "Content-Length" in names else (("Content-Length", str(len(said.body))),))]
        more += [("ETag", f'"0x{abs(hash(asked.path)):X}"'), ("Date", formatdate(usegmt=True))]
        more += [("Last-Modified", formatdate(usegmt=True)), ("x-ms-version", headers.get("x-ms-version", ""))]
        head = f"HTTP/1.1 {said.status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in more) + "\r\n"
        self._transport.write(head.encode("latin-1") + said.body)


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    shelf = Shelf()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(shelf), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
