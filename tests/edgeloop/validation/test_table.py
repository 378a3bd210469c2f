"""Reading CSV files that may be none."""

from __future__ import annotations

import pytest

from edgeloop.validation.table import BadFileError, Shape, read

SHAPE = Shape(columns=("site", "at", "power"), exact=True)
HEADER = "site,at,power\n"
ROW = "north,2014-01-01T00:00:00Z,1.5\n"
WHOLE = {len(ROW)}
"""Bytes to cut between two lines: what is left is a whole file, as far as anybody can tell."""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty: there is nothing in it"),
        (b" \n\n", "empty: there is nothing in it but blanks"),
        (HEADER.encode(), "empty: a header and no rows"),
        (b"PK\x03\x04\x00\x00\x08\n", "no CSV: it is binary (it holds zero bytes)"),
        (b"\xff\xd8\xff\xe0JFIF\n", "no CSV: byte 0 is no UTF-8"),
        (b"<html><body>Not found</body></html>\n", "no CSV: its first line names none of the columns site, at, power"),
        (ROW.encode(), "no CSV: its first line names none of the columns site, at, power"),
        (b"site,at\nnorth,1\n", "other schema: missing power"),
        (b"site,at,power,wind\nnorth,1,2,3\n", "other schema: unexpected column 4"),
        (b"site,at,kW\nnorth,1,2\n", "other schema: missing power; unexpected column 3"),
        (b"site,at,powernorth,2014,1\n", "other schema: missing power; unexpected column 3, column 4, column 5"),
        (b"site,at,power,at\nnorth,1,2,3\n", "other schema: more than once at"),
        ((HEADER + ROW + "north,2014-01-01T00:1").encode(), "half-written: the last line is cut off"),
        ((HEADER + ROW + ROW.rstrip()).encode(), "half-written: the last line is cut off"),
        ((HEADER + ROW + 'north,"2014\n').encode(), "half-written: it ends inside a quoted value"),
        ((HEADER + "a;b\n" * 9 + ROW).encode(), "no CSV: 9 of 10 lines do not have 3 fields (lines 2, 3, 4, 5, 6...)"),
    ],
)
def test_a_bad_file_says_what_is_wrong(data: bytes, reason: str) -> None:
    """Each kind of bad file has its reason; none of them shows a value."""
    with pytest.raises(BadFileError) as caught:
        read(data, SHAPE)
    assert caught.value.what.startswith(reason)


@pytest.mark.parametrize("cut", [one for one in range(1, len(HEADER + ROW + ROW)) if one not in WHOLE])
def test_a_file_cut_anywhere_is_noticed(cut: int) -> None:
    """However many bytes of a file are there, as long as its last line is not, it is set aside."""
    text = (HEADER + ROW + ROW)[: len(HEADER + ROW + ROW) - cut]
    with pytest.raises(BadFileError):
        read(text.encode(), SHAPE)


def test_a_producer_may_leave_the_last_line_open() -> None:
    """With final_newline off, such a file is whole; a torn last line is still noticed."""
    lenient = Shape(columns=SHAPE.columns, exact=True, final_newline=False)
    assert len(read((HEADER + ROW.rstrip()).encode(), lenient).frame) == 1
    with pytest.raises(BadFileError, match="no CSV: 1 of 2"):
        read((HEADER + ROW + "north,2014").encode(), lenient)


def test_rows_know_their_lines() -> None:
    """Line numbers are those an editor shows: the header is 1, blank lines count, quoted line ends too."""
    text = "site,at,power\n\nnorth,a,1\n" + 'north,"b\nc",2\nnorth,d,3\n'
    table = read(text.encode(), SHAPE)
    assert [one.number for one in table.lines] == [3, 4, 6]
    assert table.lines[0].text == "north,a,1"
    assert list(table.frame["power"]) == [1, 2, 3]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system_are_read(end: str) -> None:
    """A file from another system has the same rows."""
    table = read((HEADER + ROW + ROW).replace("\n", end).encode(), SHAPE)
    assert [one.number for one in table.lines] == [2, 3]
    assert list(table.frame["power"]) == [1.5, 1.5]


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    """Windows tools put one at the start."""
    assert list(read(b"\xef\xbb\xbf" + (HEADER + ROW).encode(), SHAPE).frame.columns) == ["site", "at", "power"]


def test_a_few_torn_lines_are_told_apart_from_the_rest() -> None:
    """One in a hundred is quarantined, not the file."""
    text = HEADER + ROW * 50 + "north,torn\n" + ROW * 50
    table = read(text.encode(), SHAPE)
    assert len(table.frame) == 100
    assert [(one.number, one.text) for one in table.ragged] == [(52, "north,torn")]
    assert table.lines[50].number == 53


def test_other_columns_are_fine_unless_the_suite_is_exact() -> None:
    """Only what is missing counts then."""
    loose = Shape(columns=("site", "at"), exact=False)
    assert len(read((HEADER + ROW).encode(), loose).frame) == 1
