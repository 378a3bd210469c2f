"""The walk by GNU find, where it differs from our own."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.share import Folder, find
from edgeloop.share.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeloop.share.source import Listing

AT = 1_234_567_890_123_456_789


@pytest.fixture(params=[0, 2000], ids=["by find", "by ourselves"])
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[..., Folder]:
    """A folder with files of those names, walked in either way."""
    monkeypatch.setattr("edgeloop.share.scan.FEW", request.param)

    def made(*names: str, exclude: tuple[str, ...] = ()) -> Folder:
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x" * number)
            os.utime(path, ns=(AT + number, AT + number))
        return Folder(connection="share", root=tmp_path, pattern="*.csv", exclude=exclude)

    return made


def test_records_that_come_in_parts_are_whole_files(
    walk: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Path, size and time to the nanosecond of every file, sorted, wherever an answer of the pipe ends."""
    monkeypatch.setattr(find, "PIPE_BYTES", 61)
    monkeypatch.setattr(find, "CHUNK_BYTES", 1)
    names = [f"{number % 7}/{99 - number}.csv" for number in range(60)]
    expected = sorted((name, number, AT + number, "") for number, name in enumerate(names))
    assert walk(*names).listing().files == tuple(expected)


def test_a_marker_may_bear_an_excluded_name(walk: Callable[..., Folder]) -> None:
    """It is asked for by name; a folder of such a name is not entered all the same."""
    found = walk("a.csv", ".done", ".old/b.csv", ".old/.done", exclude=(".*",)).listing(marker=".done")
    assert [one.path for one in found.files] == ["a.csv"]
    assert [one.path for one in found.markers] == [".done"]


def test_globs_count_characters(walk: Callable[..., Folder]) -> None:
    """For find in the C locale they count bytes: one letter with two of them must not hide a folder."""
    found = walk("tmp\u00fc/a.csv", "tmpxx/b.csv", exclude=("tmp??",)).listing()
    assert [one.path for one in found.files] == ["tmp\u00fc/a.csv"]


@pytest.mark.parametrize(
    ("script", "told"), [("echo find: boom >&2", "boom"), ("exit 1", "find failed")], ids=["words", "a status"]
)
def test_a_find_that_gives_up_is_no_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    """Half a listing would look like files that are gone."""
    program = tmp_path / "find"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr("edgeloop.share.scan.FEW", 0)
    monkeypatch.setattr("edgeloop.share.scan.program", lambda: str(program))
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(Exception, match=told):
        Folder(connection="share", root=tmp_path, pattern="*.csv").listing()


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_left_as_it_was(*, on: bool) -> None:
    """Off during a walk, and after it as before."""
    was = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        with find._uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() is on
    finally:
        (gc.enable if was else gc.disable)()


def test_a_folder_known_to_be_large_is_not_walked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Find lists it at once; when few files are left our own walk does again."""
    monkeypatch.setattr("edgeloop.share.scan.FEW", 3)
    walked: list[Path] = []
    real = Walk.over

    def over(self: Walk, root: Path, *where: Any) -> Listing:
        walked.append(root)
        return real(self, root, *where)

    monkeypatch.setattr(Walk, "over", over)
    folder = Folder(connection="share", root=tmp_path)

    def listed(count: int) -> bool:
        """Whether that many files are listed by a walk of our own."""
        for path in tmp_path.iterdir():
            path.unlink()
        for number in range(count):
            (tmp_path / f"{number}.csv").touch()
        walked.clear()
        assert [one.path for one in folder.scan()] == [f"{number}.csv" for number in range(count)]
        return bool(walked)

    assert [listed(count) for count in (4, 4, 3, 3, 4, 5)] == [True, False, False, True, True, False]
