"""Layers in gzip's format: what any gzip unpacks, smaller than one pass makes it, the same every time."""

from __future__ import annotations

import gzip
import random
import struct
import subprocess

import pytest

from edgeloop.packaging import squeeze

NOISE = random.Random(1).randbytes(70_000)


def tables() -> bytes:
    """As a tree ensemble lies in ONNX: whole columns of indices, of words and of floats."""
    draw = random.Random(2)
    rows = range(8_000)
    indices = bytes(min(int(draw.expovariate(0.05)), 255) for _ in range(5 * len(rows)))
    words = b"".join(draw.choice((b"BRANCH_LEQ", b"LEAF")) for _ in rows)
    floats = b"".join(struct.pack("<f", round(draw.uniform(0, 20), 1)) for _ in rows)
    return indices + words + floats


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"a" * 32_768, NOISE[:32_768], NOISE[:32_769], NOISE, NOISE + NOISE, tables()],
    ids=["nothing", "a byte", "one section", "noise", "a section and a byte", "sections", "twice", "tables"],
)
def test_it_is_unpacked_as_it_was(data: bytes) -> None:
    """By Python and by GNU's gzip, which takes no member that is not whole."""
    packed = squeeze.gzipped(data)
    assert gzip.decompress(packed) == data
    unpacked = subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True).stdout
    assert unpacked == data
    assert packed == squeeze.gzipped(data)


def test_tables_get_smaller_than_by_one_pass() -> None:
    """Else a retrain sends what it need not; what cannot be packed takes a few bytes more for each section."""
    assert len(squeeze.gzipped(tables())) < 0.98 * min(len(gzip.compress(tables(), level)) for level in (6, 9))
    assert len(squeeze.gzipped(NOISE)) < len(NOISE) + 60


@pytest.mark.parametrize("blocks", [squeeze.SMALL, squeeze.LARGE])
def test_what_suits_one_table_is_wide_of_another(monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    """Blocks of one size alone take more."""
    both = len(squeeze.gzipped(tables()))
    for name in ("SMALL", "LARGE"):
        monkeypatch.setattr(squeeze, name, blocks)
    assert both < len(squeeze.gzipped(tables()))


def test_a_large_layer_is_packed_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A push does not wait for minutes; the format is the same."""
    monkeypatch.setattr(squeeze, "MOST_BYTES", 40_000)
    packed = squeeze.gzipped(tables())
    assert gzip.decompress(packed) == tables()
    assert packed[10:-8] == squeeze.gzipped_at_once(tables())[10:-8]
