"""Downloads from a real Azurite: resumed, proven, in place by rename."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.transfer.conftest import BLOCK, SLOW, noise
from tests.edgeloop.transfer.link import link_to, through

from edgeloop.azure.ranges import in_order
from edgeloop.azure.wire import Ranged
from edgeloop.errors import IntegrityError, NotFoundError, UnreachableError
from edgeloop.records import FileRef, sha256_hex
from edgeloop.transfer import Fetched, Progress, download, stream

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.azure.blob import BlobAccount, BlobContainer

SIZE = 11 * BLOCK + 1000


def stored(container: BlobContainer, size: int, name: str = "data/a.bin") -> FileRef:
    """A blob of noise."""
    container.put(name, noise(size))
    return FileRef(path=name, size=size, sha256=sha256_hex(noise(size)))


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1, SIZE])
def test_a_blob_arrives_whole(container: BlobContainer, tmp_path: Path, size: int) -> None:
    """Its bytes are at the path, nothing else is beside it, and a second download finds it."""
    file = stored(container, size)
    told: list[Progress] = []
    fetched = download(container, file, tmp_path / "a.bin", terms=SLOW, report=told.append)
    assert fetched == Fetched(found=False, received=size, resumed=0)
    assert (tmp_path / "a.bin").read_bytes() == noise(size)
    assert [one.name for one in tmp_path.iterdir()] == ["a.bin"]
    assert told[-1].done == size
    assert download(container, file, tmp_path / "a.bin", terms=SLOW).found
    assert [one.name for one in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.fault
@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("percent", [30, 60, 90])
def test_a_download_that_was_cut_goes_on_where_it_was(
    blob_account: BlobAccount, container: BlobContainer, tmp_path: Path, percent: int
) -> None:
    """There is no file until it is whole; both tries together receive it and what was on its way."""
    file, path = stored(container, SIZE), tmp_path / "a.bin"
    with link_to(blob_account, cut_down_after=SIZE * percent // 100) as cut, pytest.raises(UnreachableError):
        download(through(blob_account, cut).container(container.name), file, path, terms=SLOW)
    assert not path.exists()
    with link_to(blob_account) as whole:
        fetched = download(through(blob_account, whole).container(container.name), file, path, terms=SLOW)
    assert fetched.resumed > 0
    assert fetched.resumed + fetched.received == SIZE
    assert cut.down + whole.down <= SIZE + 3 * BLOCK + 64 * 1024
    assert path.read_bytes() == noise(SIZE)


@pytest.mark.fault
def test_a_part_that_is_damaged_is_thrown_away(container: BlobContainer, tmp_path: Path) -> None:
    """After a power cut a file may have its length and not its bytes: the download begins anew by itself."""
    file, path = stored(container, SIZE), tmp_path / "a.bin"
    part = tmp_path / f".a.bin.{file.sha256[:12]}.part"
    for damaged in (bytes(3 * BLOCK), bytes(SIZE), bytes(2 * SIZE)):
        part.write_bytes(damaged)
        assert download(container, file, path, terms=SLOW) == Fetched(found=False, received=SIZE, resumed=0)
        assert path.read_bytes() == noise(SIZE)
        path.unlink()


@pytest.mark.fault
@pytest.mark.parametrize("size", [SIZE, SIZE - 1])
def test_a_blob_that_is_another_is_refused(container: BlobContainer, tmp_path: Path, size: int) -> None:
    """Whatever lay at the path stays; nothing is left beside it."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    file = stored(container, SIZE)
    container.put(file.path, noise(size, seed=7))
    with pytest.raises(IntegrityError, match="is not the file that is meant"):
        download(container, file, path, terms=SLOW)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("a.bin", b"before")]


@pytest.mark.fault
def test_a_blob_that_is_shorter_than_what_arrived_before_is_refused(container: BlobContainer, tmp_path: Path) -> None:
    """It has no range to go on with; told as another blob, and the next try is not caught by the same part."""
    file, path = stored(container, SIZE), tmp_path / "a.bin"
    (tmp_path / f".a.bin.{file.sha256[:12]}.part").write_bytes(noise(SIZE)[: 3 * BLOCK])
    container.put(file.path, noise(BLOCK, seed=7))
    with pytest.raises(IntegrityError, match="is not the file that is meant"):
        download(container, file, path, terms=SLOW)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(IntegrityError, match=f"ends before byte {2 * BLOCK}"):
        container.fetch(file.path, 2 * BLOCK, 1)
    container.put(file.path, noise(SIZE))
    assert download(container, file, path, terms=SLOW).received == SIZE


def test_a_blob_that_is_not_there_is_told(container: BlobContainer, tmp_path: Path) -> None:
    """By its name."""
    file = FileRef(path="data/gone", size=1, sha256="0" * 64)
    container.ensure()
    with pytest.raises(NotFoundError, match="data/gone"):
        download(container, file, tmp_path / "a.bin")
    with pytest.raises(NotFoundError, match="data/gone"):
        list(stream(container, file))


@pytest.mark.fault
def test_two_downloads_at_once_are_one(blob_account: BlobAccount, container: BlobContainer, tmp_path: Path) -> None:
    """The second waits and finds what the first brought."""
    file, path = stored(container, SIZE), tmp_path / "a.bin"
    results, start = list[Fetched](), threading.Barrier(2)

    def go() -> None:
        start.wait()
        results.append(download(blob_account.container(container.name), file, path, terms=SLOW))

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.found for one in results) == [False, True]
    assert path.read_bytes() == noise(SIZE)
    assert [one.name for one in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("size", [0, 1, BLOCK, SIZE])
def test_a_stream_gives_the_blob_in_order(container: BlobContainer, size: int) -> None:
    """For readers that send it on at once, as the staging on the VM does."""
    assert b"".join(stream(container, stored(container, size), terms=SLOW)) == noise(size)


@pytest.mark.fault
def test_a_wrong_stream_is_never_whole(container: BlobContainer) -> None:
    """The reader gets an error before the last piece, so it cannot take it for the file."""
    file = stored(container, SIZE)
    container.put(file.path, noise(SIZE, seed=3))
    got = list[bytes]()
    with pytest.raises(IntegrityError, match="not as"):
        got.extend(stream(container, file, terms=SLOW))
    assert sum(len(piece) for piece in got) < SIZE


@pytest.mark.fault
def test_a_blob_that_is_replaced_while_it_is_read_is_noticed(container: BlobContainer) -> None:
    """Every range is asked of the version that the first one was of."""
    stored(container, SIZE)
    pieces = container.chunks("data/a.bin", block=BLOCK, workers=1)
    next(pieces)
    container.put("data/a.bin", noise(SIZE, seed=5))
    with pytest.raises(IntegrityError, match="changed while it was read"):
        list(pieces)


def test_no_more_is_read_ahead_than_workers_hold() -> None:
    """Memory is bounded whatever the size: what the reader has not taken is not fetched beyond the workers."""
    asked: list[int] = []

    def fetch(start: int, length: int, etag: str) -> Ranged:
        asked.append(start)
        return Ranged(size=1000 * 10, etag=etag or "e", data=bytes(length))

    pieces = in_order(fetch, 10, 4)
    for taken in range(1, 50):
        next(pieces)
        assert len(asked) <= taken + 4
    pieces.close()
