"""Listing and reading a share that others write to."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from edgeloop.errors import ConfigurationError, UnreachableError
from edgeloop.share import Folder, Seen
from edgeloop.share.patience import Patience


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A share with one folder for the source."""
    (tmp_path / "exports").mkdir()
    return tmp_path


def folder(share: Path, **changes: object) -> Folder:
    """The source's folder on the share."""
    known = {"connection": "edgeloop_share", "root": share, "below": "exports", "pattern": "*.csv"}
    return Folder(**{**known, "exclude": ("*.part", ".*"), **changes})  # type: ignore[arg-type]


def write(share: Path, name: str, content: str = "x") -> Path:
    """A file below the source's folder."""
    path = share / "exports" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_files_are_found_in_every_depth_by_path(share: Path) -> None:
    """Paths are relative to the source's folder, sorted, with size and time as the file system has them."""
    for name in ("b.csv", "2014/01/a.csv", "2014/a.csv"):
        write(share, name, name)
    found = folder(share).scan()
    assert [one.path for one in found] == ["2014/01/a.csv", "2014/a.csv", "b.csv"]
    info = (share / "exports" / "b.csv").stat()
    assert (found[2].size, found[2].mtime_ns) == (info.st_size, info.st_mtime_ns)


def test_other_patterns_and_excluded_files_are_passed_over(share: Path) -> None:
    """The pattern chooses, exclude overrules it, and an excluded folder is not entered."""
    for name in ("a.csv", "a.csv.part", ".a.csv", "notes.txt", ".trash/old.csv", "x.part/in.csv"):
        write(share, name)
    assert [one.path for one in folder(share).scan()] == ["a.csv"]
    write(share, "2014/b.csv")
    assert [one.path for one in folder(share, pattern="2014/*.csv").scan()] == ["2014/b.csv"]


def test_links_are_not_followed(share: Path, tmp_path: Path) -> None:
    """A link out of the share brings nothing in."""
    secret = tmp_path / "secret.csv"
    secret.write_text("x")
    (share / "exports" / "link.csv").symlink_to(secret)
    (share / "exports" / "all").symlink_to(tmp_path)
    assert folder(share).scan() == ()
    assert folder(share).look("link.csv") is None


def test_a_missing_share_names_its_connection(share: Path) -> None:
    """A share that is not mounted is unreachable, never empty."""
    lost = folder(share, below="gone")
    for work in (lost.scan, lost.check):
        with pytest.raises(UnreachableError, match="'edgeloop_share' is not there") as caught:
            work()
        assert "airflow connections get edgeloop_share" in str(caught.value)


@pytest.mark.parametrize("below", ["/etc", "../other", "a/../../b"])
def test_a_folder_out_of_the_share_is_refused(share: Path, below: str) -> None:
    """A pipeline cannot read what lies beside its share."""
    with pytest.raises(ConfigurationError, match="leads out of the share"):
        folder(share, below=below).scan()


def test_a_file_is_digested_and_copied(share: Path, tmp_path: Path) -> None:
    """The digest is the file's sha256, and the copy holds the same bytes."""
    write(share, "a.csv", "hello")
    seen = folder(share).look("a.csv")
    assert seen is not None
    assert folder(share).digest(seen, tmp_path / "copy") == hashlib.sha256(b"hello").hexdigest()
    assert (tmp_path / "copy").read_bytes() == b"hello"


def test_a_file_that_changed_since_it_was_seen_has_no_digest(share: Path) -> None:
    """What was listed and what lies there now are not the same file: nothing is claimed of it."""
    path = write(share, "a.csv", "before")
    seen = folder(share).look("a.csv")
    assert seen is not None
    path.write_text("after, longer")
    assert folder(share).digest(seen) is None
    path.unlink()
    assert folder(share).digest(seen) is None


@pytest.mark.fault
def test_a_file_rewritten_while_it_is_read_has_no_digest(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that comes in the middle of reading makes the digest void, also if the size stays."""
    path = write(share, "a.csv", "before")
    os.utime(path, (1, 1))
    seen = folder(share).look("a.csv")
    assert seen is not None
    plain = Path.open

    def open_and_be_overtaken(self: Path, *args: object, **kwargs: object) -> object:
        stream = plain(self, *args, **kwargs)  # type: ignore[arg-type]
        if self == path:
            with plain(self, "w") as other:
                other.write("BEFORE")
        return stream

    monkeypatch.setattr(Path, "open", open_and_be_overtaken)
    assert folder(share).digest(seen) is None


def test_a_state_is_named_by_path_size_and_time() -> None:
    """Each of the three makes another name."""
    one = Seen(path="a", size=1, mtime_ns=1)
    others = [
        Seen(path="b", size=1, mtime_ns=1),
        Seen(path="a", size=2, mtime_ns=1),
        Seen(path="a", size=1, mtime_ns=2),
    ]
    assert len({one.state, *(other.state for other in others)}) == 4
    assert one.state == Seen(path="a", size=1, mtime_ns=1).state


@pytest.mark.fault
def test_a_hung_mount_is_unreachable_and_not_asked_again_while_it_hangs() -> None:
    """The call that hangs is given up after its limit, and the next does not start a second thread behind it."""
    release, calls = threading.Event(), []

    def hang() -> str:
        calls.append(1)
        release.wait(60)
        return "late"

    waiting = Patience("The share behind connection 'edgeloop_share'", seconds=0.05, connection="edgeloop_share")
    with pytest.raises(UnreachableError, match=r"did not answer within 0\.05 s"):
        waiting.call("mount", hang)
    with pytest.raises(UnreachableError):
        waiting.call("mount", hang)
    assert len(calls) == 1
    release.set()
    for thread in threading.enumerate():
        if thread.name == "edgeloop mount":
            thread.join(10)
    assert waiting.call("mount", lambda: "well") == "well"


def test_what_a_call_raises_reaches_the_caller() -> None:
    """An error inside the limit is the caller's, unchanged."""
    with pytest.raises(KeyError, match="here"):
        Patience("It", seconds=5, connection="c").call("raises", lambda: {}["here"])
