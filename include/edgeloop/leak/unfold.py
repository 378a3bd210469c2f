"""Bytes and texts to pieces: what is written in them, encoded or compressed, a few levels deep.

Unfolded: base64 (also URL-safe and in lines), base32, base85, hexadecimal, percent signs, HTML and backslash escapes,
UTF-16, and everything of :mod:`edgeloop.leak.unpack`. Not unfolded, for nobody can list them all: reversed text,
rotated alphabets, ciphers, sums.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import unquote

from edgeloop.leak.columnwise import columnwise
from edgeloop.leak.piece import Numbers, Text
from edgeloop.leak.unpack import refuse_closed, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.leak.piece import Budget, Piece

DEPTH = 6
"""How many wrappings inside each other are taken off."""
LEAST = 12
PRINTABLE = 0.9
BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}(?:\r?\n[A-Za-z0-9+/_-]{4,})*={0,2}")
BASE32 = re.compile(r"[A-Za-z2-7]{16,}={0,6}")
HEX = re.compile(r"(?:[0-9A-Fa-f]{2}[ :,-]?){8,}")
ESCAPED_BYTES = re.compile(r"(?:\\x[0-9A-Fa-f]{2}){4,}")
DENSE = re.compile(r"[!-~]{20,}")
PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
BACKSLASH = re.compile(r"\\u([0-9A-Fa-f]{4})")
LARGE_BYTES = 1 << 20
SHORT_RUN, LONG_RUN = 4, 16
"""Characters in a row that are taken for text; in many bytes of weights the short ones are everywhere."""
PRINTED = rb"[\x20-\x7e\t\r\n]"


def unfold(data: bytes, where: str, budget: Budget, depth: int = 0) -> Iterator[Piece]:
    """Everything that bytes hold, as texts and numbers.

    Raises ``LeakError`` beyond the budget, and for files that cannot be searched.
    """
    budget.spend(len(data))
    refuse_closed(data, budget.name)
    text = plain(data)
    if text is not None:
        yield from unfold_text(text, where, budget, depth)
    else:
        for how, run in runs(data):
            yield from unfold_text(run, f"{where}, {how}", budget, depth + 1)
        yield from numbers(data, where)
    if depth < DEPTH and text is None:
        for kind, inner in unpacked(data, budget):
            yield from unfold(inner, f"{where}, {kind}", budget, depth + 1)


def plain(data: bytes) -> str | None:
    """The bytes as text, if they are text and nothing else."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    odd = sum(text.count(chr(code)) for code in range(32) if code not in (9, 10, 12, 13))
    return text if odd <= (1 - PRINTABLE) * len(text) and "\0" not in text else None


def runs(data: bytes) -> Iterator[tuple[str, str]]:
    """Text inside bytes that are something else, each kind of run joined by line ends."""
    least = b"{%d,}" % (SHORT_RUN if len(data) <= LARGE_BYTES else LONG_RUN)
    kinds = (("text", "ascii", PRINTED), ("utf-16", "utf-16-le", PRINTED + rb"\x00"),
             ("utf-16", "utf-16-be", rb"\x00" + PRINTED))  # fmt: skip
    for how, codec, character in kinds:
        if found := [one.decode(codec) for one in re.findall(b"(?:" + character + b")" + least, data)]:
            yield how, "\n".join(found)


def numbers(data: bytes, where: str) -> Iterator[Numbers]:
    """Bytes read as numbers from every offset, for where they begin is not known; few are read in both byte orders."""
    import numpy as np

    for kind in ("<f4", "<f8", ">f4", ">f8") if len(data) <= LARGE_BYTES else ("<f4", "<f8"):
        width = int(kind[-1])
        for start in range(width):
            count = (len(data) - start) // width
            if count >= 1:
                values = np.frombuffer(data, kind, count, start)
                yield Numbers(where=f"{where}, as {8 * width}-bit numbers from byte {start}", values=values)


def unfold_text(text: str, where: str, budget: Budget, depth: int = 0) -> Iterator[Piece]:
    """A text, its columns read downwards, and what is encoded in it."""
    budget.spend(len(text))
    if not text.isascii():
        # Full-width digits are digits to whoever reads them.
        text = unicodedata.normalize("NFKC", text)
    yield Text(where=where, text=text, loose=depth > 0)
    if (down := columnwise(text)) is not None:
        yield Text(where=f"{where}, read by columns", text=down, loose=depth > 0)
    if depth >= DEPTH:
        return
    for how, plainer in _escapes(text):
        yield from unfold_text(plainer, f"{where}, {how}", budget, depth + 1)
    for how, data in _encoded(text):
        yield from unfold(data, f"{where}, {how}", budget, depth + 1)


def _escapes(text: str) -> Iterator[tuple[str, str]]:
    if PERCENT.search(text):
        yield "percent signs", unquote(text)
    if "&" in text and (unescaped := html.unescape(text)) != text:
        yield "HTML escapes", unescaped
    if BACKSLASH.search(text):
        yield "backslash escapes", BACKSLASH.sub(lambda one: chr(int(one[1], 16)), text)


def _encoded(text: str) -> Iterator[tuple[str, bytes]]:
    for how, pattern, decode in WRAPPINGS:
        for match in pattern.finditer(text):
            data = decode(match.group())
            if len(data) >= LEAST:
                yield how, data


def _quiet(decode: Callable[[str], bytes]) -> Callable[[str], bytes]:
    def attempt(text: str) -> bytes:
        try:
            return decode(text)
        except (ValueError, binascii.Error):
            return b""

    return attempt


def _base64(text: str) -> bytes:
    bare = re.sub(r"\s", "", text).rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(bare[: len(bare) - (len(bare) % 4 == 1)] + "==")


def _base32(text: str) -> bytes:
    bare = text.rstrip("=")
    whole = len(bare) - (len(bare) % 8 in (1, 3, 6))
    return base64.b32decode(bare[:whole] + "=" * (-whole % 8), casefold=True)


def _hex(text: str) -> bytes:
    return bytes.fromhex(re.sub(r"[^0-9A-Fa-f]", "", text))


WRAPPINGS: tuple[tuple[str, re.Pattern[str], Callable[[str], bytes]], ...] = (
    ("base64", BASE64, _quiet(_base64)),
    ("base32", BASE32, _quiet(_base32)),
    ("hexadecimal", HEX, _quiet(_hex)),
    ("backslash bytes", ESCAPED_BYTES, _quiet(lambda text: bytes.fromhex(text.replace("\\x", "")))),
    ("base85", DENSE, _quiet(base64.b85decode)),
    ("ascii85", DENSE, _quiet(base64.a85decode)),
)
