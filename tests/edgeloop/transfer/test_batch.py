"""Many files and their manifest, on a real Azurite: proven first, written last, found again without reading."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.transfer.conftest import BLOCK, SLOW, noise
from tests.edgeloop.transfer.link import link_to, through

from edgeloop.azure.blob import BlobContainer
from edgeloop.errors import ConflictError, IntegrityError, UnreachableError
from edgeloop.transfer import Outgoing, upload_all

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.azure.blob import BlobAccount

MANIFEST = "manifests/b1.json"


@pytest.fixture
def files(tmp_path: Path) -> list[Outgoing]:
    """Eight small files and one of three blocks."""
    made = []
    for number, size in enumerate([0, 1, 10, 100, 1000, 10_000, 50_000, BLOCK, 2 * BLOCK + 7]):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(noise(size, seed=number))
        made.append(Outgoing(name=f"data/b1/{number}.bin", path=path))
    return made


def test_a_batch_arrives_and_its_manifest_says_so(container: BlobContainer, files: list[Outgoing]) -> None:
    """Every file by name, size, sha256, the version that was read back, and how it was proven."""
    shipped = upload_all(container, files, batch="b1", terms=SLOW)
    assert [one.path for one in shipped.refs] == [one.name for one in files]
    assert shipped.found == 0
    assert shipped.sent == sum(one.path.stat().st_size for one in files)
    body = json.loads(container.get(shipped.manifest))
    assert body["batch"] == "b1"
    for entry, ref in zip(body["files"], shipped.refs, strict=True):
        etag = container.look(ref.path).etag
        noted = {"path": ref.path, "size": ref.size, "sha256": ref.sha256, "etag": etag, "proof": "full"}
        assert {**entry, "stamp": ""} == {**noted, "stamp": ""}
    for one in files:
        assert container.get(one.name) == one.path.read_bytes()


def test_the_same_batch_again_reads_nothing_back(
    blob_account: BlobAccount, container: BlobContainer, files: list[Outgoing]
) -> None:
    """One look at the manifest and one listing; nothing is written, sent or read back."""
    upload_all(container, files, batch="b1", terms=SLOW)
    with link_to(blob_account) as link:
        again = upload_all(through(blob_account, link).container(container.name), files, batch="b1", terms=SLOW)
    assert (again.found, again.sent) == (len(files), 0)
    asked = [(method, path.partition("?")[0].partition(container.name)[2]) for method, path in link.requests]
    assert asked == [("GET", "/manifests/b1.json"), ("GET", "")]


@pytest.mark.fault
def test_a_blob_that_was_written_since_is_proven_again(container: BlobContainer, files: list[Outgoing]) -> None:
    """Another etag: restored with the same bytes it is read and noted, with other bytes refused."""
    upload_all(container, files, batch="b1", terms=SLOW)
    name = files[5].name
    container.put(name, files[5].path.read_bytes())
    assert upload_all(container, files, batch="b1", terms=SLOW).files[5].proof == "full"
    assert upload_all(container, files, batch="b1", terms=SLOW).files[5].proof == "proven before"
    container.put(name, noise(10_000, seed=99))
    with pytest.raises(ConflictError, match="is there with other content"):
        upload_all(container, files, batch="b1", terms=SLOW)


def test_a_file_that_changed_since_is_refused(container: BlobContainer, files: list[Outgoing]) -> None:
    """The manifest vouches for what was sent, not for what lies on the share now."""
    upload_all(container, files, batch="b1", terms=SLOW)
    files[5].path.write_bytes(noise(10_000, seed=98))
    with pytest.raises(ConflictError, match="is there with other content"):
        upload_all(container, files, batch="b1", terms=SLOW)


def test_other_files_under_a_batchs_name_are_refused(container: BlobContainer, files: list[Outgoing]) -> None:
    """A manifest is never replaced by one of other files, nor two blobs asked for under one name."""
    upload_all(container, files, batch="b1", terms=SLOW)
    before = container.get(MANIFEST)
    with pytest.raises(ConflictError, match="is there with other files"):
        upload_all(container, [*files, Outgoing(name="data/b1/more", path=files[3].path)], batch="b1", terms=SLOW)
    assert container.get(MANIFEST) == before
    with pytest.raises(ConflictError, match="want the same blob's name"):
        upload_all(container, [files[0], files[0]], batch="b2", terms=SLOW)


@pytest.mark.fault
@pytest.mark.usefixtures("at_once")
def test_a_batch_that_was_cut_has_no_manifest_and_goes_on(
    blob_account: BlobAccount, container: BlobContainer, files: list[Outgoing]
) -> None:
    """The service dies in the middle: nothing says that the batch is there until all of it is."""
    container.ensure()
    with link_to(blob_account, cut_after=BLOCK + BLOCK // 2) as link, pytest.raises(UnreachableError):
        upload_all(through(blob_account, link).container(container.name), files, batch="b1", terms=SLOW)
    assert not container.exists(MANIFEST)
    again = upload_all(container, files, batch="b1", terms=SLOW)
    assert again.found > 0
    assert container.exists(MANIFEST)
    assert [container.get(one.name) for one in files] == [one.path.read_bytes() for one in files]


@pytest.mark.fault
def test_a_batch_of_which_one_blob_is_wrong_has_no_manifest(
    container: BlobContainer, files: list[Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is the proof of every file in it."""
    put = BlobContainer.put_whole

    def corrupt(self: BlobContainer, name: str, data: bytes, *, metadata: dict[str, str]) -> str:
        return put(self, name, data[::-1], metadata=metadata)

    with monkeypatch.context() as patch:
        patch.setattr(BlobContainer, "put_whole", corrupt)
        with pytest.raises(IntegrityError):
            upload_all(container, files, batch="b1", terms=SLOW)
    assert not container.exists(MANIFEST)
    upload_all(container, files, batch="b1", terms=SLOW)


def test_a_manifest_that_cannot_be_read_is_told(container: BlobContainer, files: list[Outgoing]) -> None:
    """It is not taken for none: somebody damaged it."""
    container.put(MANIFEST, b"{")
    with pytest.raises(IntegrityError, match=r"manifests/b1\.json cannot be read"):
        upload_all(container, files, batch="b1", terms=SLOW)
