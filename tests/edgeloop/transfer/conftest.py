"""What transfers are tested with: a slow link's terms, so that small files have many blocks, and a link to cut."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from edgeloop.azure import account
from edgeloop.transfer import Terms, plan

if TYPE_CHECKING:
    from pathlib import Path

SLOW = Terms(link_mbit=5)
"""Two workers, blocks of 256 KiB."""
BLOCK = plan(0, SLOW).block_bytes


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no two blocks of which are the same."""
    return random.Random(seed).randbytes(size)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of five bytes."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"hello")
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file of twelve blocks under SLOW, the last one short."""
    path = tmp_path / "big.bin"
    path.write_bytes(noise(11 * BLOCK + 1000))
    return path


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No retries: what a test wants to see is the first failure, not the pauses after it."""
    monkeypatch.setattr(account, "RETRIES", 0)
