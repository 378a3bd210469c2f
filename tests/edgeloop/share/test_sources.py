"""What every source of files does alike: a folder, a real smbd's share, a real Azurite's container."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.share.places import CONNECTION, Place, Tripwire, blob_at, folder_at, silence, smb_at

from edgeloop.errors import ConfigurationError, IntegrityError, NotFoundError, UnreachableError
from edgeloop.share.copy import ScratchError
from edgeloop.share.source import Scope, Seen

if TYPE_CHECKING:
    from edgeloop.share.source import FileSource

REAL = [
    "folder",
    pytest.param("smb", marks=pytest.mark.system),
    pytest.param("blob", marks=pytest.mark.system),
]
MIB = 1024 * 1024


@pytest.fixture(params=REAL)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Somewhere to put files, and the source that finds them."""
    if request.param == "folder":
        return folder_at(tmp_path)
    if request.param == "smb":
        return smb_at(request.getfixturevalue("site"))
    return blob_at(request.getfixturevalue("container"))


def paths(source: FileSource, **asked: Scope) -> list[str]:
    """The paths of a listing."""
    return [one.path for one in source.scan(**asked)]


def only(source: FileSource) -> Seen:
    """The one file that is there."""
    (one,) = source.scan()
    return one


def sha256(content: bytes) -> str:
    """Of these bytes."""
    return hashlib.sha256(content).hexdigest()


def test_an_empty_source_holds_nothing(place: Place) -> None:
    """No files are no error, and a check passes."""
    source = place.source()
    assert source.listing() == ((), (), ())
    source.check()
    assert source.look("none.csv") is None
    assert source.connection == CONNECTION


def test_files_are_found_in_every_depth_by_path(place: Place) -> None:
    """Paths are relative and in order, also where a folder's name begins a file's; sizes are the files'."""
    names = ["b.csv", "2014/01/a.csv", "2014/a.csv", "2014.csv", "2014-x/a.csv"]
    for name in names:
        place.put(name, name.encode())
    found = place.source().scan()
    assert [one.path for one in found] == sorted(names)
    assert [one.size for one in found] == [len(name) for name in sorted(names)]
    assert [place.source().look(one.path) for one in found] == list(found)


def test_other_patterns_and_excluded_files_are_passed_over(place: Place) -> None:
    """The pattern chooses, exclude overrules it, an excluded folder is not entered; with a slash globs see the path."""
    for name in ("a.csv", "a.csv.part", ".a.csv", "notes.txt", ".trash/old.csv", "x.part/in.csv", "2014/b.csv"):
        place.put(name, b"1")
    assert paths(place.source()) == ["2014/b.csv", "a.csv"]
    assert paths(place.source(pattern="2014/*.csv")) == ["2014/b.csv"]
    assert paths(place.source(exclude=(".*", "*.part", "20*/b.*"))) == ["a.csv"]
    assert paths(place.source(pattern="[!b].csv", exclude=(".trash",))) == ["a.csv"]
    assert paths(place.source(below="in/2014")) == ["b.csv"]


def test_markers_come_with_the_listing_and_are_no_data(place: Place) -> None:
    """What the marker's glob matches is told apart, though the pattern matches it or it is excluded."""
    for name in ("a.csv", "done.csv", "2014/done.csv", ".done", "a.txt"):
        place.put(name, b"1")
    found = place.source().listing(marker="done.csv")
    assert [one.path for one in found.files] == ["a.csv"]
    assert [one.path for one in found.markers] == ["2014/done.csv", "done.csv"]
    assert [one.path for one in place.source().markers(".done")] == [".done"]
    assert place.source().markers("*.sha256") == ()


def test_a_scope_looks_into_its_folders_only(place: Place) -> None:
    """Folders of the scope with all that is below them; one that is not there, excluded, or a file holds nothing."""
    for name in ("2014/01/a.csv", "2014/01/deep/b.csv", "2014/02/c.csv", "2014/011/d.csv", ".x/e.csv", "top.csv"):
        place.put(name, b"1")
    scope = Scope(folders=("2014/01", "2014/03", ".x", "top.csv"))
    assert paths(place.source(), scope=scope) == ["2014/01/a.csv", "2014/01/deep/b.csv"]
    assert paths(place.source(), scope=Scope(folders=())) == []
    many = Scope(folders=tuple(f"2014/{month:02d}" for month in range(1, 60)))
    assert paths(place.source(), scope=many) == ["2014/01/a.csv", "2014/01/deep/b.csv", "2014/02/c.csv"]
    assert [one.path for one in place.source().markers("a.csv", scope)] == ["2014/01/a.csv"]


def test_names_of_any_language_and_with_spaces(place: Place, tmp_path: Path) -> None:
    """What is no ASCII comes as it was written, and can be read."""
    names = sorted(["Zählerstände März.csv", "データ/一月.csv", "a b/c  d.csv", "100%#&+'=~.csv"])
    for name in names:
        place.put(name, name.encode())
    source = place.source()
    assert paths(source) == names
    assert [source.digest(one) for one in source.scan()] == [sha256(name.encode()) for name in names]


def test_a_file_without_bytes(place: Place, tmp_path: Path) -> None:
    """It is found, read and copied like any other."""
    place.put("empty.csv", b"")
    source = place.source()
    one = only(source)
    assert one.size == 0
    assert source.digest(one, tmp_path / "copy") == sha256(b"")
    assert (tmp_path / "copy").read_bytes() == b""
    assert source.read("empty.csv", 0) == b""


def test_a_large_file_is_copied_as_it_is(place: Place, tmp_path: Path) -> None:
    """64 MiB and a bit arrive whole, with their sha256."""
    content = os.urandom(MIB) * 64 + b"end"
    place.put("large.csv", content)
    source = place.source()
    assert source.digest(only(source), tmp_path / "copy") == sha256(content)
    assert (tmp_path / "copy").read_bytes() == content


def test_a_file_that_changed_since_it_was_seen_has_no_digest(place: Place) -> None:
    """What was listed and what lies there now are not the same file; nor is what is gone."""
    place.put("a.csv", b"before")
    source = place.source()
    seen = only(source)
    assert source.digest(seen) == sha256(b"before")
    place.put("a.csv", b"after!")
    assert source.look("a.csv") != seen
    assert source.digest(seen) is None
    seen = only(source)
    place.remove("a.csv")
    assert source.digest(seen) is None
    assert source.look("a.csv") is None


@pytest.mark.fault
def test_a_file_rewritten_while_it_is_read_has_no_digest(place: Place) -> None:
    """A writer that comes in the middle of reading makes the digest void, though the size stays."""
    place.put("a.csv", b"1" * 9 * MIB)
    source = place.source()
    seen = only(source)
    trap = Tripwire(lambda: place.put("a.csv", b"2" * 9 * MIB))
    assert source.digest(seen, trap) is None  # type: ignore[arg-type]
    assert trap.sprung


@pytest.mark.fault
@pytest.mark.parametrize("size", [10, 9 * MIB], ids=["at the end", "on the way"])
def test_a_full_disk_here_is_no_source_that_is_gone(place: Place, size: int) -> None:
    """On-call is sent to the worker's disk and not to the share, which answers as before."""
    place.put("a.csv", b"1" * size)
    source = place.source()
    seen = only(source)
    with pytest.raises(ScratchError, match="No space left on device") as caught:
        source.digest(seen, Path("/dev/full"))
    assert "df -h /dev" in caught.value.next
    assert source.digest(seen) == sha256(b"1" * size)


@pytest.mark.fault
def test_files_may_be_renamed_while_they_are_listed(place: Place) -> None:
    """A listing in the middle of renames holds each file under a name it bore, and never fails."""
    for number in range(40):
        place.put(f"{number:02d}/a.csv", b"1")
    source, stop = place.source(), threading.Event()

    def shuffle() -> None:
        while not stop.is_set():
            for before, after in (("a.csv", "b.csv"), ("b.csv", "a.csv")):
                for number in range(0, 40, 5):
                    place.rename(f"{number:02d}/{before}", f"{number:02d}/{after}")

    thread = threading.Thread(target=shuffle)
    thread.start()
    try:
        found = [paths(source) for _ in range(12)]
    finally:
        stop.set()
        thread.join()
    still = {f"{number:02d}/a.csv" for number in range(40) if number % 5}
    moving = {f"{number:02d}/{name}" for number in range(0, 40, 5) for name in ("a.csv", "b.csv")}
    assert all(still <= set(one) <= still | moving for one in found)


def test_small_files_are_read_up_to_a_limit(place: Place) -> None:
    """A manifest of a gigabyte is refused, one that is not there is told as such."""
    place.put("m.json", b"0123456789")
    source = place.source()
    assert source.read("m.json", 10) == b"0123456789"
    with pytest.raises(IntegrityError, match=r"m\.json.*larger than 9 bytes"):
        source.read("m.json", 9)
    with pytest.raises(NotFoundError):
        source.read("none.json", 10)


@pytest.mark.parametrize("path", ["../secret.csv", "/etc/passwd", "a/../../secret.csv"])
def test_no_path_leads_out_of_the_source(place: Place, path: str) -> None:
    """Neither a pipeline's folder nor a name in a manifest reaches what lies beside."""
    place.put("a/in.csv", b"1")
    with pytest.raises(ConfigurationError, match="leads out of"):
        place.source().read(path, 100)
    with pytest.raises(ConfigurationError, match="leads out of"):
        place.source().look(path)
    with pytest.raises(ConfigurationError, match=f"leads out of.*{CONNECTION}"):
        place.source(below=path).scan()


@pytest.mark.fault
def test_a_source_that_does_not_answer_names_its_connection(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead peer is given up within the time-out, with what to check; nothing is taken for an empty source."""
    hung, ended = threading.Event(), threading.Event()
    monkeypatch.setattr("edgeloop.share.scan.SCAN_SECONDS", 0.2)
    monkeypatch.setattr("edgeloop.share.walk.Walk.over", lambda *_: (hung.wait(60), ended.set()))
    monkeypatch.setattr("edgeloop.share.smb_link.CONNECT_SECONDS", 1.0)
    monkeypatch.setattr("edgeloop.azure.account.IDLE_SECONDS", 1)
    monkeypatch.setattr("edgeloop.azure.account.RETRIES", 0)
    with silence() as port:
        source = place.dead(port)
        try:
            with pytest.raises(UnreachableError, match=f"'{CONNECTION}' did not answer") as caught:
                source.scan()
        finally:
            hung.set()
    assert f"airflow connections get {CONNECTION}" in str(caught.value) or "mount behind" in str(caught.value)
    assert place.kind != "folder" or ended.wait(10)
