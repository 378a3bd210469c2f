"""Listing and reading a share that others write to."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import NotFoundError, UnreachableError
from edgeloop.share import Folder
from edgeloop.share.patience import Patience
from edgeloop.share.source import ClosedError, Scope

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize("few", [0, 2000], ids=["by find", "by ourselves"])
def test_both_walks_find_the_same(share: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """A large folder is listed by GNU find, a small one is not: files, markers, names and what is told are the same."""
    names = [
        "a.csv",
        ".hidden.csv",
        "x.part/in.csv",
        "2014/b.csv",
        "2014/done",
        ".snapshot/a.csv",
        "tmp1/c.csv",
        "n.txt",
    ]
    for name in names:
        write(share, name)
    os.utime(share / "exports" / "a.csv", ns=(1, 1_234_567_890_123_456_789))
    os.utime(share / "exports" / "2014" / "b.csv", ns=(-5, -1_500_000_000))
    (share / "exports" / "pipe.csv").unlink(missing_ok=True)
    os.mkfifo(share / "exports" / "pipe.csv")
    (share / "exports" / "link.csv").symlink_to(share / "exports" / "a.csv")
    for name in ("line\nbreak.csv", "\udcff.csv", "dir\udcff/a.csv", "tab\t/deep/a.csv"):
        write(share, name)
    monkeypatch.setattr("edgeloop.share.scan.FEW", few)
    found = folder(share, exclude=("*.part", ".*", "tmp?", "[")).listing(marker="done")
    assert [(one.path, one.mtime_ns) for one in found.files] == [
        ("2014/b.csv", -1_500_000_000),
        ("a.csv", 1_234_567_890_123_456_789),
    ]
    assert [one.path for one in found.markers] == ["2014/done"]
    assert [one.path for one in found.broken] == ["\\udcff.csv", "dir\\udcff", "line\\x0abreak.csv", "tab\\x09"]


@pytest.mark.parametrize("few", [0, 2000], ids=["by find", "by ourselves"])
def test_a_folder_may_be_too_deep(share: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Files in 64 folders are found, deeper ones are told once, for their folder."""
    inside = "/".join(["d"] * 64)
    for name in ("a.csv", f"{inside}/b.csv", f"{inside}/e/c.csv", f"{inside}/e/f/d.csv"):
        write(share, name)
    monkeypatch.setattr("edgeloop.share.scan.FEW", few)
    found = folder(share).listing()
    assert [one.path for one in found.files] == ["a.csv", f"{inside}/b.csv"]
    assert [(one.path, "deep" in one.reason) for one in found.broken] == [(f"{inside}/e", True)]


@pytest.mark.parametrize("few", [0, 2000], ids=["by find", "by ourselves"])
def test_a_folder_that_may_not_be_listed_is_told_and_the_others_go_on(
    share: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """A right that is missing on one folder holds up nothing but that folder; an excluded one is not told."""
    for name in ("a.csv", "closed/b.csv", "open/c.csv", "tmp1/d.csv"):
        write(share, name)
    user = 12345
    for path in (share, *share.rglob("*")):
        os.chown(path, user, user)
    for path in (share / "exports" / "closed", *reversed(share.parents), share):
        path.chmod(path.stat().st_mode | 0o055)
    for name in ("closed", "tmp1"):
        (share / "exports" / name).chmod(0)
    monkeypatch.setattr("edgeloop.share.scan.FEW", few)
    os.seteuid(user)
    try:
        found = folder(share, exclude=("tmp?",)).listing()
    finally:
        os.seteuid(0)
    assert [one.path for one in found.files] == ["a.csv", "open/c.csv"]
    assert [(one.path, "the right to" in one.reason) for one in found.broken] == [("closed", True)]


def test_links_are_not_followed(share: Path, tmp_path: Path) -> None:
    """A link out of the share brings nothing in, whatever place it takes: a file's, a folder's, the source's own."""
    secret = tmp_path / "secret.csv"
    secret.write_text("x")
    exports = share / "exports"
    (exports / "link.csv").symlink_to(secret)
    (exports / "all").symlink_to(tmp_path)
    one = folder(share)
    assert one.scan() == ()
    assert one.scan(Scope(folders=("all",))) == ()
    assert one.look("link.csv") is None
    assert one.look("all/secret.csv") is None
    for path in ("link.csv", "all/secret.csv"):
        with pytest.raises(NotFoundError):
            one.read(path, 100)
    with pytest.raises(UnreachableError):
        folder(share, below="exports/all").scan()


def test_a_pipe_in_a_files_place_is_not_waited_for(share: Path) -> None:
    """Opening one would hang until somebody writes."""
    os.mkfifo(share / "exports" / "a.csv")
    with pytest.raises(NotFoundError):
        folder(share).read("a.csv", 100)
    assert folder(share).look("a.csv") is None


def test_a_file_that_may_not_be_read_is_told(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no changed file, and the share is there: somebody must give the right to this file."""
    path = write(share, "a.csv")
    seen = folder(share).look("a.csv")
    assert seen is not None
    path.chmod(0)
    for one in (share, *share.parents):
        one.chmod(one.stat().st_mode | 0o055)
    os.seteuid(12345)
    try:
        with pytest.raises(ClosedError, match=r"a\.csv on the share .* may not be read"):
            folder(share).digest(seen)
    finally:
        os.seteuid(0)


def test_a_missing_share_names_its_connection(share: Path) -> None:
    """A share that is not mounted is unreachable, never empty."""
    lost = folder(share, below="gone")
    for work in (lost.scan, lost.check, lambda: lost.look("a.csv"), lambda: lost.read("a.csv", 1)):
        with pytest.raises(UnreachableError, match="'edgeloop_share' is not there") as caught:
            work()
        assert "airflow connections get edgeloop_share" in str(caught.value)


@pytest.mark.fault
def test_a_call_that_gets_on_may_take_longer() -> None:
    """The limit is for standing still: 100,000 files on a slow mount take their time."""
    steps = iter(range(1, 5))
    done = [0]

    def slow() -> str:
        for step in steps:
            threading.Event().wait(0.06)
            done[0] = step
        return "done"

    waiting = Patience("It", seconds=0.15, connection="c")
    assert waiting.call("slow", slow, lambda: done[0]) == "done"


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
