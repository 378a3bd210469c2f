"""Files that are known without reading them, on a real Azurite; and those that must be read all the same."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.transfer.conftest import noise

from edgeloop.errors import ConflictError
from edgeloop.transfer import Outgoing, batch, stamp, upload_all
from edgeloop.transfer.upload import Courier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeloop.azure.blob import BlobContainer

AT_ONCE, NEVER = -(10**18), 10**18


@pytest.fixture
def files(tmp_path: Path) -> list[Outgoing]:
    """Three small files."""
    made = []
    for number in range(3):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(noise(1000, seed=number))
        made.append(Outgoing(name=f"data/{number}.bin", path=path))
    return made


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are hashed because the manifest does not know them by their stamp."""
    seen: list[str] = []

    def read(name: str, path: Path) -> object:
        seen.append(name)
        return stamp.read(name, path)

    monkeypatch.setattr(batch, "read", read)
    return seen


@pytest.fixture
def settle(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how old a file's times must be, in ns."""
    return lambda age: monkeypatch.setattr(stamp, "SETTLED_NS", age)


def _stamps(container: BlobContainer) -> list[str]:
    return [one.get("stamp", "") for one in json.loads(container.get("manifests/b.json"))["files"]]


def test_an_unchanged_file_is_not_read_again(
    container: BlobContainer, files: list[Outgoing], readings: list[str], settle: Callable[[int], None]
) -> None:
    """Size, inode and times as they were noted; with ``checksum`` every file is read."""
    settle(AT_ONCE)
    first = upload_all(container, files, batch="b")
    assert _stamps(container) == [stamp.stamp_of(one.path.stat()) for one in files]
    again = upload_all(container, files, batch="b")
    assert readings == []
    assert (again.found, again.refs) == (3, first.refs)
    assert upload_all(container, files, batch="b", checksum=True).found == 3
    assert readings == [one.name for one in files]


def test_a_file_that_may_change_unseen_is_read_again(
    container: BlobContainer, files: list[Outgoing], readings: list[str], settle: Callable[[int], None]
) -> None:
    """Changed so shortly before it was read that the next change may leave it its times: no stamp of it is kept."""
    settle(NEVER)
    upload_all(container, files, batch="b")
    assert _stamps(container) == ["", "", ""]
    assert upload_all(container, files, batch="b").found == 3
    assert readings == [one.name for one in files]


def test_a_file_that_settled_meanwhile_is_read_once_more_only(
    container: BlobContainer, files: list[Outgoing], readings: list[str], settle: Callable[[int], None]
) -> None:
    """The manifest is written again with the stamps, and with nothing else changed."""
    settle(NEVER)
    upload_all(container, files, batch="b")
    before = json.loads(container.get("manifests/b.json"))
    settle(AT_ONCE)
    upload_all(container, files, batch="b")
    assert readings == [one.name for one in files]
    after = json.loads(container.get("manifests/b.json"))
    assert after != before
    assert [{**one, "stamp": ""} for one in after["files"]] == [{**one, "stamp": ""} for one in before["files"]]
    upload_all(container, files, batch="b")
    assert len(readings) == len(files)


@pytest.mark.parametrize("how", ["written over", "put in its place", "of another name"])
def test_another_file_with_the_old_time_is_not_taken_for_the_old_one(
    container: BlobContainer, files: list[Outgoing], settle: Callable[[int], None], tmp_path: Path, how: str
) -> None:
    """Same size and the time of change put back: the inode, or its own time of change, tells."""
    settle(AT_ONCE)
    upload_all(container, files, batch="b")
    path, other = files[1].path, tmp_path / "other"
    seen = path.stat()
    (path if how == "written over" else other).write_bytes(noise(1000, seed=99))
    os.utime(path if how == "written over" else other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    if how == "put in its place":
        other.replace(path)
    if how == "of another name":
        files[1] = Outgoing(name=files[1].name, path=other)
    with pytest.raises(ConflictError, match="is there with other content"):
        upload_all(container, files, batch="b")


def test_a_file_of_known_content_that_was_not_read_leaves_no_stamp(
    container: BlobContainer, files: list[Outgoing], settle: Callable[[int], None]
) -> None:
    """Found in the account, the file itself is not read: its times say nothing of its content."""
    settle(AT_ONCE)
    sent = Courier(container).upload(files[0].name, files[0].path)
    assert sent.stamp
    files[0].path.write_bytes(noise(1000, seed=99))
    files[0] = Outgoing(name=files[0].name, path=files[0].path, known=sent.file)
    for _ in ("not in the manifest", "in the manifest"):
        assert upload_all(container, files[:1], batch="b").found == 1
        assert _stamps(container) == [""]


def test_a_stamp_is_of_a_file_whose_times_are_past(path: Path) -> None:
    """The later of both times counts, and a time ahead of our clock is none to trust."""
    found = path.stat()
    later = max(found.st_mtime_ns, found.st_ctime_ns) + stamp.SETTLED_NS
    assert stamp.lasting(found, later) == ""
    assert stamp.lasting(found, later + 1) == stamp.stamp_of(found)
    os.utime(path, ns=(0, later + 10**12))
    assert stamp.lasting(path.stat(), later + 1) == ""
    os.utime(path, ns=(0, 0))
    changed = path.stat().st_ctime_ns
    assert stamp.lasting(path.stat(), changed + 1) == ""
