"""Compressed streams anywhere in some bytes, unpacked as far as the budget goes.

Found by their first bytes: gzip, zlib, bzip2, xz, lzma, zstd, lz4, members of a zip, the image data of a PNG.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from typing import TYPE_CHECKING, Any

from edgeloop.errors import LeakError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.leak.piece import Budget

MAGIC = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "zlib": re.compile(rb"(?=[\x08\x18\x28\x38\x48\x58\x68\x78])", re.DOTALL),
    "bzip2": re.compile(rb"BZh[1-9]1AY&SY"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "lzma": re.compile(rb"\x5d\x00\x00.{2}[\x00-\x3f\xff]", re.DOTALL),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "lz4": re.compile(rb"\x04\x22\x4d\x18"),
    "zip": re.compile(rb"PK\x03\x04"),
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
}
"""One after the other, for what begins like one kind may be another."""
CLOSED = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3\0": "a SQLite database",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"Salted__": "an encrypted file",
}
PIECE_BYTES = 1 << 20
FIRST_BYTES = 1 << 12
SMALL_BYTES = 1 << 22
"""In more than this only zlib's usual first bytes are believed; the others stand in every 1,000 bytes of weights."""
LEAST_BYTES = 8
ZLIB_CHECK, USUAL_ZLIB = 31, re.compile(rb"\x78(?=[\x01\x5e\x9c\xda])")
ZIP_HEADER = 30


def unpacked(data: bytes, budget: Budget) -> Iterator[tuple[str, bytes]]:
    """Every compressed stream in ``data``: which kind, and what it unpacks to, as far as it is sound.

    Raises ``LeakError`` when that is more than the budget allows.
    """
    view = memoryview(data)
    for kind, start in _starts(data):
        inner = b"".join(_open(kind, view[start:], budget))
        if len(inner) >= LEAST_BYTES:
            yield kind, inner
    # Raw deflate has no first bytes to know it by.
    inner = b"".join(_inflate(zlib.decompressobj(-zlib.MAX_WBITS), view, budget))
    if len(inner) >= LEAST_BYTES:
        yield "deflate", inner


def refuse_closed(data: bytes, name: str) -> None:
    """Raise ``LeakError`` for a file that says nothing about what is in it: a data file, a locked archive."""
    kind = next((kind for first, kind in CLOSED.items() if data.startswith(first)), "")
    if data[:4] == b"PK\x03\x04" and len(data) > ZIP_HEADER and data[6] & 1:
        kind = "an encrypted zip"
    if kind:
        raise LeakError(
            f"{name} is, or has in it, {kind}, which cannot be searched for training rows.",
            left="the outputs on the VM; nothing was stored",
            next="Let train.py write text, HTML or images as reports, and no files of data. Changed code trains anew.",
        )


def _starts(data: bytes) -> Iterator[tuple[str, int]]:
    for kind, pattern in MAGIC.items():
        if kind == "zlib" and len(data) > SMALL_BYTES:
            pattern = USUAL_ZLIB  # noqa: PLW2901 - the same kind, known by less
        for match in pattern.finditer(data):
            start = match.start()
            if kind != "zlib" or int.from_bytes(data[start : start + 2], "big") % ZLIB_CHECK == 0:
                yield kind, start


def _open(kind: str, view: memoryview, budget: Budget) -> Iterator[bytes]:
    if kind in ("zstd", "lz4"):
        yield from _arrow(kind, view, budget)
    elif kind == "zip":
        yield from _member(view, budget)
    elif kind == "png":
        yield from _inflate(zlib.decompressobj(), memoryview(_image_data(view)), budget)
    elif kind in ("gzip", "zlib"):
        yield from _inflate(zlib.decompressobj(zlib.MAX_WBITS | 32), view, budget)
    else:
        makers: dict[str, Callable[[], Any]] = {"bzip2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor}
        maker = makers.get(kind, lambda: lzma.LZMADecompressor(format=lzma.FORMAT_ALONE))
        yield from _decompress(maker(), view, budget)


def _inflate(engine: Any, view: memoryview, budget: Budget) -> Iterator[bytes]:
    """The engine of zlib hands back what it did not take, so that a bomb is unpacked in pieces."""
    at, rest, step = 0, b"", FIRST_BYTES
    while not engine.eof and (rest or at < len(view)):
        fed = rest or bytes(view[at : at + step])
        at, step = at + (0 if rest else len(fed)), PIECE_BYTES
        try:
            out = engine.decompress(fed, PIECE_BYTES)
        except zlib.error:
            return
        rest = engine.unconsumed_tail
        budget.spend(len(out))
        yield out


def _decompress(engine: Any, view: memoryview, budget: Budget) -> Iterator[bytes]:
    at, step = 0, FIRST_BYTES
    while not engine.eof:
        fed = b""
        if engine.needs_input:
            fed, at, step = bytes(view[at : at + step]), at + step, PIECE_BYTES
            if not fed:
                return
        try:
            out = engine.decompress(fed, PIECE_BYTES)
        except (OSError, lzma.LZMAError, EOFError):
            return
        budget.spend(len(out))
        yield out


def _arrow(kind: str, view: memoryview, budget: Budget) -> Iterator[bytes]:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.BufferReader(pa.py_buffer(view)), kind) as stream:
            while out := stream.read(PIECE_BYTES):
                budget.spend(len(out))
                yield out
    except (OSError, pa.ArrowException):
        return


def _member(view: memoryview, budget: Budget) -> Iterator[bytes]:
    """A member of a zip by its own header; one that is stored as it is needs no unpacking."""
    header = bytes(view[:ZIP_HEADER])
    method = int.from_bytes(header[8:10], "little")
    start = ZIP_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if method == zlib.DEFLATED:
        yield from _inflate(zlib.decompressobj(-zlib.MAX_WBITS), view[start:], budget)


def _image_data(view: memoryview) -> bytes:
    """The IDAT chunks of a PNG, put together: one zlib stream is cut into them."""
    found, at = [], len(b"\x89PNG\r\n\x1a\n")
    while at + 8 <= len(view):
        size, kind = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        if kind == b"IDAT":
            found.append(bytes(view[at + 8 : at + 8 + size]))
        at += size + 12
    return b"".join(found)
