"""A large blob that is read back in part: what is noticed, what is read, and that it is said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.transfer.conftest import BLOCK, SLOW, noise
from tests.edgeloop.transfer.link import link_to, through

from edgeloop.errors import ConflictError, IntegrityError
from edgeloop.transfer import Terms, upload, verify

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.azure.blob import BlobAccount, BlobContainer
    from edgeloop.records import FileRef

SAMPLED = replace(SLOW, sampled=True, sample_above=BLOCK)
BLOCKS = 40


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Forty blocks: eighteen of them are read back."""
    path = tmp_path / "large.bin"
    path.write_bytes(noise(BLOCKS * BLOCK))
    return path


def test_a_sample_is_read_and_said(blob_account: BlobAccount, container: BlobContainer, large: Path) -> None:
    """Less than half of the blob comes back, and the proof says how much."""
    container.ensure()
    with link_to(blob_account) as link:
        sent = upload(through(blob_account, link).container(container.name), "large", large, terms=SAMPLED)
    assert sent.proof.startswith("sampled: 18 of 40 blocks (45.0 % of the bytes) read back")
    assert 18 * BLOCK < link.down < 20 * BLOCK


def test_small_ones_are_read_whole(container: BlobContainer, path: Path) -> None:
    """The policy is for blobs above its size, and for those that went up in blocks."""
    assert upload(container, "a", path, terms=SAMPLED).proof == "full"
    container.put("b", noise(2 * BLOCK))
    assert verify(container, _ref("b", noise(2 * BLOCK)), SAMPLED).how == "full"


@pytest.mark.fault
def test_other_blocks_under_our_metadata_are_noticed(container: BlobContainer, large: Path) -> None:
    """The blocks' names say other content; so does their order, a missing one, and bytes that are not their name's."""
    sent = upload(container, "large", large, terms=SAMPLED)
    ids = list(container.committed("large"))
    meta = container.metadata("large")
    for blocks in ([*ids[1:], ids[0]], ids[:-1]):
        _rebuild(container, large, blocks, meta)
        with pytest.raises(IntegrityError):
            verify(container, sent.file, SAMPLED)
    _rebuild(container, large, ids, meta, wrong=0)
    with pytest.raises(IntegrityError, match="with other bytes in block 0 of 40"):
        verify(container, sent.file, SAMPLED)
    _rebuild(container, large, ids, meta | {"sha256": "0" * 64})
    with pytest.raises(IntegrityError, match="in its metadata"):
        verify(container, sent.file, SAMPLED)
    _rebuild(container, large, ids, meta)
    assert verify(container, sent.file, SAMPLED).how.startswith("sampled")


def test_what_is_there_is_judged_by_the_same_policy(container: BlobContainer, large: Path) -> None:
    """The same content is found by its sample; other content of the same size is refused."""
    upload(container, "large", large, terms=SAMPLED)
    assert upload(container, "large", large, terms=SAMPLED).found
    large.write_bytes(noise(BLOCKS * BLOCK, seed=1))
    with pytest.raises(ConflictError, match="is there with other content"):
        upload(container, "large", large, terms=SAMPLED)


def test_full_is_the_default(container: BlobContainer, large: Path) -> None:
    """Nobody gets less proof without having asked for it."""
    assert not Terms().sampled
    assert upload(container, "large", large, terms=SLOW).proof == "full"


def _ref(name: str, data: bytes) -> FileRef:
    from edgeloop.records import FileRef, sha256_hex

    return FileRef(path=name, size=len(data), sha256=sha256_hex(data))


def _rebuild(container: BlobContainer, file: Path, ids: list[str], meta: dict[str, str], wrong: int = -1) -> None:
    """Make the blob anew of the named blocks, block ``wrong`` with other bytes under its name."""
    container.delete("large")
    for name in ids:
        number = int(name[:8])
        data = file.read_bytes()[number * BLOCK : (number + 1) * BLOCK]
        container.stage("large", name, data[::-1] if number == wrong else data)
    container.commit("large", ids, metadata=meta)
