"""Uploads on a real Azurite: conditional, resumed, read back."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.transfer.conftest import BLOCK, SLOW, noise
from tests.edgeloop.transfer.link import link_to, through

from edgeloop.azure.blob import BlobAccount, BlobContainer
from edgeloop.errors import ConfigurationError, ConflictError, IntegrityError, UnreachableError
from edgeloop.records import FileRef
from edgeloop.transfer import Progress, upload, verify
from edgeloop.transfer.proof import block_id

if TYPE_CHECKING:
    from pathlib import Path


class DiedError(Exception):
    """Stands for SIGKILL after a chosen block."""


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 3])
def test_a_file_arrives_with_its_digest(container: BlobContainer, tmp_path: Path, size: int) -> None:
    """Size and sha256 are those of the file, the blob's bytes are the file's, the digest is in its metadata."""
    path, content = tmp_path / "a.bin", noise(size)
    path.write_bytes(content)
    sent = upload(container, "data/ä b+c%.bin", path, terms=SLOW)
    assert (sent.file.size, sent.file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (sent.found, sent.sent, sent.proof) == (False, size, "full")
    assert container.get("data/ä b+c%.bin") == content
    assert container.metadata("data/ä b+c%.bin")["sha256"] == sent.file.sha256
    assert sent.etag == container.look("data/ä b+c%.bin").etag
    assert container.staged("data/ä b+c%.bin") == {}


def test_a_small_file_is_one_request_and_a_large_one_a_block_each(
    blob_account: BlobAccount, container: BlobContainer, path: Path, big: Path
) -> None:
    """Whoever reads the wire sees no more writes than needed, each block with its checksum."""
    container.ensure()
    with link_to(blob_account) as link:
        near = through(blob_account, link).container(container.name)
        upload(near, "small", path, terms=SLOW)
        upload(near, "big", big, terms=SLOW)
    writes = [path.partition(container.name)[2] for method, path in link.requests if method == "PUT"]
    assert sum(one.startswith("/small") for one in writes) == 1
    assert sum("comp=block&" in one for one in writes) == 12
    assert sum("comp=blocklist" in one for one in writes) == 1


def test_the_same_content_again_is_found(
    blob_account: BlobAccount, container: BlobContainer, path: Path, big: Path
) -> None:
    """Nothing is sent a second time, small or large."""
    upload(container, "a", path, terms=SLOW)
    upload(container, "big", big, terms=SLOW)
    with link_to(blob_account) as link:
        near = through(blob_account, link).container(container.name)
        again = [upload(near, "a", path, terms=SLOW), upload(near, "big", big, terms=SLOW)]
    assert [(one.found, one.sent) for one in again] == [(True, 0), (True, 0)]
    assert link.up < BLOCK


@pytest.mark.parametrize("other", [b"other", b"longer"])
def test_other_content_under_the_name_is_refused(container: BlobContainer, path: Path, other: bytes) -> None:
    """What is there stays, whatever wants its name, of the same size or not."""
    upload(container, "a", path)
    path.write_bytes(other)
    with pytest.raises(ConflictError, match="is there with other content"):
        upload(container, "a", path)
    assert container.get("a") == b"hello"


def test_metadata_alone_convinces_nobody(container: BlobContainer, path: Path) -> None:
    """A blob that carries our sha256 but not our bytes is other content."""
    container.put("a", b"HELLO", metadata={"sha256": hashlib.sha256(b"hello").hexdigest()})
    with pytest.raises(ConflictError, match="is there with other content"):
        upload(container, "a", path)


def test_progress_is_told_block_by_block(container: BlobContainer, big: Path) -> None:
    """Each block is reported with what is done so far, by whichever worker."""
    told: list[Progress] = []
    upload(container, "big", big, terms=SLOW, report=told.append)
    assert len(told) == 12
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert (told[-1].done, told[-1].size, told[-1].resumed) == (big.stat().st_size, big.stat().st_size, 0)


@pytest.mark.fault
@pytest.mark.parametrize("arrived", [1, 6, 12])
def test_an_interrupted_upload_goes_on_where_it_was(
    container: BlobContainer, big: Path, monkeypatch: pytest.MonkeyPatch, arrived: int
) -> None:
    """Killed after some blocks there is no blob; the retry sends only those that the service does not hold."""
    stage, count, lock = BlobContainer.stage, [], threading.Lock()

    def die(self: BlobContainer, name: str, block: str, data: bytes) -> None:
        with lock:
            if len(count) == arrived:
                raise DiedError
            count.append(block)
        stage(self, name, block, data)
        if len(count) == 12:
            raise DiedError

    with monkeypatch.context() as patch:
        patch.setattr(BlobContainer, "stage", die)
        with pytest.raises(DiedError):
            upload(container, "big", big, terms=SLOW)
    assert not container.exists("big")
    held = sum(container.staged("big").values())
    assert held >= min(arrived * BLOCK, big.stat().st_size) - BLOCK
    assert upload(container, "big", big, terms=SLOW).sent == big.stat().st_size - held
    assert container.get("big") == big.read_bytes()


@pytest.mark.fault
@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("percent", [30, 60, 90])
def test_after_a_cut_at_most_a_block_per_worker_travels_twice(
    blob_account: BlobAccount, container: BlobContainer, big: Path, percent: int
) -> None:
    """The link goes in the middle of blocks; both tries together send the file and what was on its way."""
    container.ensure()
    size = big.stat().st_size
    dead = pytest.raises(UnreachableError, match="'edgeloop_private' did not answer")
    with link_to(blob_account, cut_after=size * percent // 100) as cut, dead:
        upload(through(blob_account, cut).container(container.name), "big", big, terms=SLOW)
    assert not container.exists("big")
    with link_to(blob_account) as whole:
        sent = upload(through(blob_account, whole).container(container.name), "big", big, terms=SLOW)
    assert sent.sent < size
    assert cut.up + whole.up <= size + 2 * BLOCK + 64 * 1024
    assert container.get("big") == big.read_bytes()


@pytest.mark.fault
def test_bytes_that_change_on_the_way_are_sent_again(
    blob_account: BlobAccount, container: BlobContainer, big: Path
) -> None:
    """The service refuses a block whose MD5 is not that of its bytes; the next attempt arrives."""
    container.ensure()
    with link_to(blob_account, damage=big.read_bytes()[5 * BLOCK + 100 : 5 * BLOCK + 116], damages=1) as link:
        sent = upload(through(blob_account, link).container(container.name), "big", big, terms=SLOW)
    assert link.damages == 0
    assert sent.proof == "full"
    assert container.get("big") == big.read_bytes()


@pytest.mark.fault
@pytest.mark.usefixtures("at_once")
def test_bytes_that_change_again_and_again_make_no_blob(
    blob_account: BlobAccount, container: BlobContainer, path: Path
) -> None:
    """A broken card or proxy is told as such."""
    container.ensure()
    path.write_bytes(noise(1000))
    with link_to(blob_account, damage=noise(1000)[:16], damages=99) as link:
        near = through(blob_account, link).container(container.name)
        with pytest.raises(IntegrityError, match="arrived with another MD5"):
            upload(near, "a", path)
    assert not container.exists("a")


@pytest.mark.fault
def test_blocks_of_another_content_are_not_used(container: BlobContainer, big: Path) -> None:
    """What an earlier try sent of another file under that name does not get into the blob."""
    other = b"y" * BLOCK
    container.stage("big", block_id(0, other), other)
    upload(container, "big", big, terms=SLOW)
    assert container.get("big") == big.read_bytes()


@pytest.mark.fault
@pytest.mark.parametrize("name", ["path", "big"])
def test_two_uploads_at_once_make_one_blob(container: BlobContainer, name: str, request: pytest.FixtureRequest) -> None:
    """Both succeed, one of them by finding what the other sent."""
    file: Path = request.getfixturevalue(name)
    start, results, errors = threading.Barrier(2), [], []

    def go() -> None:
        start.wait()
        try:
            results.append(upload(container, "one", file, terms=SLOW))
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(one.found for one in results) == [False, True]
    assert container.get("one") == file.read_bytes()


@pytest.mark.fault
def test_a_file_that_changes_while_it_is_sent_makes_no_blob(
    container: BlobContainer, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what it was nor what it is now arrives: nobody can say what the mixture would be."""
    stage = BlobContainer.stage

    def overtaken(self: BlobContainer, name: str, block: str, data: bytes) -> None:
        stage(self, name, block, data)
        with big.open("r+b") as stream:
            stream.seek(8 * BLOCK)
            stream.write(b"z" * BLOCK)
        os.utime(big, ns=(1, 1))

    monkeypatch.setattr(BlobContainer, "stage", overtaken)
    with pytest.raises(IntegrityError, match="changed while it was uploaded"):
        upload(container, "big", big, terms=SLOW)
    assert not container.exists("big")


@pytest.mark.parametrize("name", ["path", "big"])
def test_a_file_that_is_not_the_one_that_is_known_makes_no_blob(
    container: BlobContainer, name: str, request: pytest.FixtureRequest
) -> None:
    """Its digest was taken when it was claimed; what lies there now is another."""
    file: Path = request.getfixturevalue(name)
    known = FileRef(path="x", size=file.stat().st_size, sha256="0" * 64)
    with pytest.raises(IntegrityError, match="changed while it was uploaded"):
        upload(container, "x", file, known=known, terms=SLOW)
    assert not container.exists("x")


@pytest.mark.fault
def test_a_blob_that_reads_back_wrong_is_removed(
    container: BlobContainer, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored bytes that are not what was sent are an error, and do not stand in the way of the retry."""
    commit = BlobContainer.commit

    def corrupt(self: BlobContainer, name: str, blocks: list[str], **more: object) -> str:
        etag = commit(self, name, blocks, **more)  # type: ignore[arg-type]
        self.put(name, b"HELLO")
        return etag

    with monkeypatch.context() as patch:
        patch.setattr(BlobContainer, "commit", corrupt)
        with pytest.raises(IntegrityError, match="reads back as 5 bytes"):
            upload(container, "a", big, terms=SLOW)
    assert not upload(container, "a", big, terms=SLOW).found


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
@pytest.mark.usefixtures("at_once")
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
