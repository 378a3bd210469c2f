"""A layer in gzip's format, smaller than one pass of zlib makes it; every engine unpacks it as any other.

A tree ensemble in ONNX is one table after another, and what suits one is wide of the next. So a layer is cut into
sections, each packed in small blocks and in large ones, looking back into the section before, and the shorter is kept:
6 % less than gzip's own choice for the sample's models, at 2.5 MB/s. That is what a retrain sends and devices pull.
"""

from __future__ import annotations

import gzip
import io
import zlib

from edgeloop.packaging.base_layers import LEVEL

SECTION = WINDOW = 32 * 1024
SMALL, LARGE = 5, 9
"""zlib's memLevel: blocks of 2,048 symbols, and of 32,768."""
MOST_BYTES = 32 * 1024 * 1024
"""A larger layer is packed in one pass, ten times as fast: a push must not wait for minutes."""
RAW = -15
HEADER = bytes.fromhex("1f8b0800000000000000")
"""RFC 1952: deflate, no name, no time, no word on who packed it where."""


def gzipped(data: bytes) -> bytes:
    """``data`` as one gzip member; the same bytes from the same zlib."""
    size = SECTION if len(data) <= MOST_BYTES else len(data)
    starts = range(0, len(data), size) or (0,)
    body = b"".join(_section(data, start, min(start + size, len(data))) for start in starts)
    return HEADER + body + zlib.crc32(data).to_bytes(4, "little") + (len(data) % 2**32).to_bytes(4, "little")


def gzipped_at_once(data: bytes) -> bytes:
    """``data`` as Python's gzip packs it."""
    buffer = io.BytesIO()
    # gzip.compress() writes another header than this with some versions of Python.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=buffer, mtime=0) as target:
        target.write(data)
    return buffer.getvalue()


def _section(data: bytes, start: int, end: int) -> bytes:
    """Whole blocks for ``data[start:end]``, to be unpacked after those for what stands before."""
    if end - start > SECTION:
        return _deflated(data, start, end, zlib.compressobj(LEVEL, zlib.DEFLATED, RAW))
    seen = data[max(0, start - WINDOW) : start]
    tries = (zlib.compressobj(zlib.Z_BEST_COMPRESSION, zlib.DEFLATED, RAW, one, zdict=seen) for one in (SMALL, LARGE))
    return min((_deflated(data, start, end, one) for one in tries), key=len)


def _deflated(data: bytes, start: int, end: int, packer: zlib._Compress) -> bytes:
    # A flush ends at a whole byte, so that the next section's blocks can follow.
    last = zlib.Z_FINISH if end == len(data) else zlib.Z_SYNC_FLUSH
    return packer.compress(memoryview(data)[start:end]) + packer.flush(last)
