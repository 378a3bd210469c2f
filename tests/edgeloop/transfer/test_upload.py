"""Uploads on a real Azurite: conditional, resumed, read back."""

from __future__ import annotations

import hashlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from edgeloop.azure.blob import BlobAccount, BlobContainer
from edgeloop.errors import ConfigurationError, ConflictError, IntegrityError, UnreachableError
from edgeloop.transfer import Progress, Transferred, upload, verify
from edgeloop.transfer.upload import BLOCK_BYTES, block_id

if TYPE_CHECKING:
    from pathlib import Path

TWO_BLOCKS_AND_A_BIT = bytes(range(256)) * (2 * BLOCK_BYTES // 256 + 3)


class DiedError(Exception):
    """Stands for SIGKILL after a chosen block."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small file."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"hello")
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file of three blocks, the last one short."""
    path = tmp_path / "big.bin"
    path.write_bytes(TWO_BLOCKS_AND_A_BIT)
    return path


@pytest.mark.parametrize("content", [b"", b"x", TWO_BLOCKS_AND_A_BIT], ids=["empty", "small", "blocks"])
def test_a_file_arrives_with_its_digest(container: BlobContainer, tmp_path: Path, content: bytes) -> None:
    """Size and sha256 are those of the file, the blob's bytes are the file's, the digest is in its metadata."""
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    sent = upload(container, "data/a.bin", path)
    assert (sent.file.size, sent.file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert not sent.found
    assert container.get("data/a.bin") == content
    assert container.metadata("data/a.bin")["sha256"] == sent.file.sha256
    assert container.staged("data/a.bin") == {}


def test_the_same_content_again_is_found(container: BlobContainer, path: Path) -> None:
    """Nothing is sent a second time."""
    first = upload(container, "a", path)
    assert upload(container, "a", path) == Transferred(file=first.file, found=True, sent=0)


def test_other_content_under_the_name_is_refused(container: BlobContainer, path: Path) -> None:
    """What is there stays, whatever wants its name."""
    upload(container, "a", path)
    path.write_bytes(b"other")
    with pytest.raises(ConflictError, match="is there with other content"):
        upload(container, "a", path)
    assert container.get("a") == b"hello"


def test_progress_is_told_block_by_block(container: BlobContainer, big: Path) -> None:
    """Each block is reported with what is done so far."""
    told: list[Progress] = []
    upload(container, "big", big, report=told.append)
    size = len(TWO_BLOCKS_AND_A_BIT)
    assert [one.done for one in told] == [BLOCK_BYTES, 2 * BLOCK_BYTES, size]
    assert {(one.size, one.resumed) for one in told} == {(size, 0)}


@pytest.mark.fault
@pytest.mark.parametrize("arrived", [1, 2, 3])
def test_an_interrupted_upload_goes_on_where_it_was(
    container: BlobContainer, big: Path, monkeypatch: pytest.MonkeyPatch, arrived: int
) -> None:
    """Killed after some blocks there is no blob; the retry sends only the others."""
    stage, count = BlobContainer.stage, []

    def die(self: BlobContainer, name: str, block: str, data: bytes) -> None:
        stage(self, name, block, data)
        count.append(block)
        if len(count) == arrived:
            raise DiedError

    with monkeypatch.context() as patch:
        patch.setattr(BlobContainer, "stage", die)
        with pytest.raises(DiedError):
            upload(container, "big", big)
    assert not container.exists("big")
    sent = upload(container, "big", big)
    assert sent.sent == max(0, len(TWO_BLOCKS_AND_A_BIT) - arrived * BLOCK_BYTES)
    assert container.get("big") == TWO_BLOCKS_AND_A_BIT


@pytest.mark.fault
def test_blocks_of_another_content_are_not_used(container: BlobContainer, big: Path) -> None:
    """What an earlier try sent of another file under that name does not get into the blob."""
    other = b"y" * BLOCK_BYTES
    container.stage("big", block_id(0, other), other)
    upload(container, "big", big)
    assert container.get("big") == TWO_BLOCKS_AND_A_BIT


@pytest.mark.fault
def test_two_uploads_at_once_make_one_blob(container: BlobContainer, big: Path) -> None:
    """Both succeed, one of them by finding what the other sent."""
    start, results, errors = threading.Barrier(2), [], []

    def go() -> None:
        start.wait()
        try:
            results.append(upload(container, "big", big))
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(one.found for one in results) == [False, True]
    assert container.get("big") == TWO_BLOCKS_AND_A_BIT


@pytest.mark.fault
def test_a_file_that_changes_while_it_is_sent_makes_no_blob(
    container: BlobContainer, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digest was taken before; what was read in between is not that file."""
    stage = BlobContainer.stage

    def overtaken(self: BlobContainer, name: str, block: str, data: bytes) -> None:
        stage(self, name, block, data)
        big.write_bytes(b"z" * len(TWO_BLOCKS_AND_A_BIT))

    monkeypatch.setattr(BlobContainer, "stage", overtaken)
    with pytest.raises(IntegrityError, match="changed while it was uploaded"):
        upload(container, "big", big)
    assert not container.exists("big")


@pytest.mark.fault
def test_a_blob_that_reads_back_wrong_is_removed(
    container: BlobContainer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored bytes that are not what was sent are an error, and do not stand in the way of the retry."""
    commit = BlobContainer.commit

    def corrupt(self: BlobContainer, name: str, blocks: list[str], **more: object) -> None:
        commit(self, name, blocks, **more)  # type: ignore[arg-type]
        self.put(name, b"HELLO")

    with monkeypatch.context() as patch:
        patch.setattr(BlobContainer, "commit", corrupt)
        with pytest.raises(IntegrityError, match="reads back as 5 bytes"):
            upload(container, "a", path)
    assert not upload(container, "a", path).found


@pytest.mark.fault
def test_a_changed_blob_is_noticed_afterwards(container: BlobContainer, path: Path) -> None:
    """Verifying reads the bytes; metadata and size are not believed."""
    sent = upload(container, "a", path)
    verify(container, sent.file)
    container.put("a", b"HELLO", metadata={"sha256": sent.file.sha256})
    with pytest.raises(IntegrityError):
        verify(container, sent.file)


@pytest.mark.system
@pytest.mark.fault
def test_a_dead_account_is_unreachable_by_the_name_of_its_connection(path: Path) -> None:
    """Nothing listens there: the error names the connection and what to look at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dead = BlobAccount(
        connection="edgeloop_private",
        connection_string=f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;"
        f"BlobEndpoint=http://127.0.0.1:{port}/a;",
    )
    with pytest.raises(UnreachableError, match="'edgeloop_private' did not answer") as caught:
        upload(dead.container("dead"), "a", path)
    assert "airflow connections get edgeloop_private" in str(caught.value)


def test_a_refused_key_is_told_as_such(blob_account: BlobAccount, path: Path) -> None:
    """A wrong key is the connection's fault, not the network's."""
    parts = [one for one in blob_account.connection_string.split(";") if one and not one.startswith("AccountKey=")]
    wrong = BlobAccount(connection="edgeloop_private", connection_string=";".join([*parts, "AccountKey=a2V5"]))
    with pytest.raises(ConfigurationError, match="refused the key"):
        upload(wrong.container("refused"), "a", path)
