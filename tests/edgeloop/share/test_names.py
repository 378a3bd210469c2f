"""Names on a share, and how globs choose among them."""

from __future__ import annotations

import fnmatch
import itertools
import json

import pytest

from edgeloop.records import sha256_hex
from edgeloop.share.names import Matching, matcher, refused, speakable
from edgeloop.share.source import Seen

GLOBS = [
    "*.csv",
    ".*",
    "*",
    "a*",
    "a.csv",
    "*a*",
    "?.csv",
    "[!a].csv",
    "x/*.csv",
    "x/*",
    "*/b.csv",
    "[",
    "a[",
    "",
    "**",
]
NAMES = ["a.csv", "b.csv", ".a.csv", "a", "x/a.csv", "x/y/b.csv", "x/.b.csv", "[", "a[", "A.CSV", "ä.csv", "x\\a.csv"]


@pytest.mark.parametrize("globs", [*itertools.combinations(GLOBS, 1), *itertools.combinations(GLOBS, 2), ()])
def test_globs_match_as_fnmatch_does(globs: tuple[str, ...]) -> None:
    """The shortcuts for common globs change nothing; a glob with a slash sees the path, another the name."""
    for path in NAMES:
        name = path.rpartition("/")[2]
        wanted = any(fnmatch.fnmatchcase(path if "/" in glob else name, glob) for glob in globs)
        assert bool(matcher(globs)(name, path)) == wanted, path


def test_a_folder_below_an_excluded_one_is_hidden() -> None:
    """However deep; its own name need not match."""
    matching = Matching("*", (".*", "old/2013"), "")
    assert [matching.hides(one) for one in ("a", "a/.b/c", "old", "old/2013/x", "2013")] == [
        False,
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("name", ["a\nb.csv", "a\x00", "\x1b[31m.csv", "a\x85.csv", "\udcff.csv", "a\u2028.csv"])
def test_names_that_a_log_cannot_show_are_refused_in_words(name: str) -> None:
    """What is told about them is plain text."""
    assert not speakable(name)
    told = refused(name)
    assert speakable(told.path)
    assert "rename it" in told.reason


@pytest.mark.parametrize("name", ["a.csv", "März 2014 (1).csv", "データ.csv", "a\u00a0b.csv"])
def test_names_that_people_give_are_fine(name: str) -> None:
    """Letters of any language, spaces and signs."""
    assert speakable(name)


def test_a_state_is_named_by_path_size_time_and_etag() -> None:
    """Each makes another name; without an etag it is the name that batches of earlier versions were claimed under."""
    one = Seen(path='a "b"\\ä.csv', size=1, mtime_ns=2)
    text = json.dumps([one.path, 1, 2], separators=(",", ":"), ensure_ascii=False)
    assert one.state == sha256_hex(text.encode())
    others = [one._replace(path="b"), one._replace(size=2), one._replace(mtime_ns=1), one._replace(etag="0x1")]
    assert len({one.state, *(other.state for other in others)}) == 5
