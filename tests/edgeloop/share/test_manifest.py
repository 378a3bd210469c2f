"""What a manifest may look like, and what is said of one that is none."""

from __future__ import annotations

import json

import pytest

from edgeloop.share.manifest import Entry, ManifestError, parse

A, B = "a" * 64, "B" * 64


def test_lines_as_sha256sum_writes_them() -> None:
    """Text and binary mode, comments, empty lines; paths are placed in the manifest's own folder."""
    text = f"# exported\n{A}  a.csv\n\n{B} *sub/b c.csv\n".encode()
    found = parse(text, "2014/03")
    assert found.entries == (Entry("2014/03/a.csv", A), Entry("2014/03/sub/b c.csv", B.lower()))
    assert not found.cut
    assert parse(text, "").entries[0].path == "a.csv"
    assert parse(f"{A}  ./a.csv\n".encode(), "").entries[0].path == "a.csv"


def test_what_windows_writes_is_read_too() -> None:
    """A byte order mark and line ends of two characters."""
    assert parse(f"\ufeff{A}  a.csv\r\n{B}  b.csv\r\n".encode(), "").entries == (
        Entry("a.csv", A),
        Entry("b.csv", B.lower()),
    )


def test_json_says_sizes_as_well() -> None:
    """Other keys are the producer's own."""
    body = {"made_by": "historian", "files": [{"path": "ä.csv", "size": 0, "sha256": A, "rows": 5}]}
    assert parse(json.dumps(body).encode(), "x").entries == (Entry("x/ä.csv", A, 0),)
    assert parse(json.dumps({"files": [{"path": "a", "sha256": A}]}).encode(), "").entries == (Entry("a", A, None),)


def test_a_last_line_without_an_end_may_go_on() -> None:
    """JSON that ends is whole, a list is not."""
    assert parse(f"{A}  a.csv\n{B}  b.cs".encode(), "").cut
    assert not parse(json.dumps({"files": [{"path": "a", "sha256": A}]}).encode(), "").cut


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "names no files"),
        (b"{", "is no whole JSON"),
        (b'{"files": [', "is no whole JSON"),
        (b"{}", "has no 'files'"),
        (b'{"files": {}}', "'files' is no list"),
        (b'{"files": []}', "names no files"),
        (b'{"files": ["a"]}', r"files\[0\] needs path, sha256"),
        (b'{"files": [{"path": "a", "sha256": "abc"}]}', r"files\[0\] needs path, sha256"),
        (f'{{"files": [{{"path": "a", "size": "1", "sha256": "{A}"}}]}}'.encode(), r"files\[0\] needs"),
        (f'{{"files": [{{"path": "a", "size": true, "sha256": "{A}"}}]}}'.encode(), r"files\[0\] needs"),
        (f'{{"files": [{{"path": "a", "size": -1, "sha256": "{A}"}}]}}'.encode(), r"files\[0\] needs"),
        (b"hello\n", "line 1 is not '<sha256>  <path>'"),
        (f"{A}  a.csv\n{A[:10]}\n".encode(), "line 2 is not"),
        (f"\\{A}  a\\nb.csv\n".encode(), "line 1 is not"),
        (f"{A}  a.csv\n{B}  a.csv\n".encode(), "names a file twice"),
        (f"{A}  ./a.csv\n{B}  a.csv\n".encode(), "names a file twice"),
        (f"{A}  ../a.csv\n".encode(), "no path below its own folder"),
        (f"{A}  /etc/passwd\n".encode(), "no path below its own folder"),
        (f"{A}  a\\..\\b.csv\n".encode(), "no path below its own folder"),
        (f"{A}  a\x1bb.csv\n".encode(), r"names 'a\\x1bb.csv', which is no path"),
        (f"{A}  .\n".encode(), "no path below its own folder"),
        (b"\xff\xfe", "is not UTF-8"),
        (b'{"files": [' + b"[" * 100_000, "is no whole JSON"),
    ],
)
def test_what_is_no_manifest_is_told(text: bytes, told: str) -> None:
    """With what is wrong and where, in characters that a log can show."""
    with pytest.raises(ManifestError, match=told):
        parse(text, "")
