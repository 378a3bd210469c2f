"""What an ONNX file may be: pure."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
STANDARD, TREES = "", "ai.onnx.ml"
ALIASES = {"ai.onnx": STANDARD}
OPSETS = {STANDARD: (7, 26), TREES: (1, 5)}
"""Of each domain that is allowed the first and last opset that the scorer's onnxruntime (1.31) supports."""
IR_VERSIONS = (3, 13)
"""The file format's versions: 3 is the first with opsets, 13 the last that onnxruntime 1.31 reads."""
ENDLESS = frozenset({"Loop", "Scan", "SequenceMap"})
"""What a row could make go round for hours: no regressor of a row needs it."""
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""What answers the same row differently, so no proof by golden rows can hold."""
DEPTH = 4
"""How deep graphs may lie in graphs (the branches of If)."""
NODES = 50_000
SPARE = 16
"""By how many times a tensor may be larger than the file says it with: packed integers take a byte for eight."""
SHOWN = (100, 250)
"""How much of a library's message is told: its start, and its end, where onnxruntime says what it found."""

_KINDS = (
    (b"PK\x03\x04", "a zip archive, such as a PyTorch checkpoint or an .npz"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"%PDF", "a PDF"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3", "an SQLite database"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_PICKLE_STARTS = b"}](cX\x95\x8c"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a file may be, and what loading it and asking it some rows may take: bytes, seconds, bytes."""

    size: int = 512 * MIB
    seconds: float = 30.0
    memory: int = 1024 * MIB
    """Beside ten times the file's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a file is found to be; ``problem`` is empty if it may be loaded.

    ``features`` is the width of its input, ``nodes`` counts its operators, ``branches`` the branches of its trees.
    """

    problem: str = ""
    features: int = 0
    nodes: int = 0
    branches: int = 0


def unfit(content: bytes, limits: Limits) -> str:
    """What is wrong with a file by its first bytes and its size alone; empty if nothing is."""
    if not content:
        return "it is empty"
    if len(content) > limits.size:
        return f"it has {len(content)} bytes, {limits.size} are allowed"
    return f"it is {kind}, no ONNX" if (kind := _kind(content)) else ""


def _kind(content: bytes) -> str:
    for start, kind in _KINDS:
        if content.startswith(start):
            return kind
    if content.startswith(_PICKLES) and content[2:3] in {bytes((one,)) for one in _PICKLE_STARTS}:
        return "a Python pickle"
    start = content[:1024].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "a page of HTML or XML"
    # An ONNX file starts with the tag of a field and its length, never with two printable characters of a text.
    if start.startswith((b"{", b"[")) and content.isascii():
        return "a text, such as JSON"
    return ""


def readable(text: str) -> str:
    """A library's message as one line of plain characters, cut to what a log should hold."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    start, end = SHOWN
    return line if len(line) <= start + end else f"{line[:start]} ... {line[-end:]}"
