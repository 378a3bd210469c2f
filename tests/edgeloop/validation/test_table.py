"""Reading CSV files that may be none."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from edgeloop.validation import lines
from edgeloop.validation.columns import NULLS
from edgeloop.validation.table import BadFileError, CsvFile, Line, Shape, WiderError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = Shape(columns=("site", "at", "power"), exact=True)
HEADER = "site,at,power\n"
ROW = "north,2014-01-01T00:00:00Z,1.5\n"
WHOLE = {len(ROW)}
"""Bytes to cut between two lines: what is left is a whole file, as far as anybody can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """All of a file: its rows, where each stands, and its torn lines."""

    frame: pd.DataFrame
    lines: tuple[Line, ...]
    ragged: tuple[Line, ...]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Whole]:
    """Read a file's bytes, by default in chunks larger than it."""

    def read(data: bytes, shape: Shape = SHAPE, rows: int = 1000) -> Whole:
        path = tmp_path / "file.csv"
        path.write_bytes(data)
        file = CsvFile(path, shape)
        try:
            frames = [chunk.frame() for chunk in file.chunks(rows)]
        except WiderError:
            frames = [chunk.frame() for chunk in file.chunks(rows)]
        pieces = [piece for piece, _ in file.tables()]
        return Whole(
            frame=pd.concat(frames, ignore_index=True),
            lines=tuple(piece.line(row) for piece in pieces for row in range(len(piece))),
            ragged=tuple(line for piece in pieces for line in piece.torn),
        )

    return read


Read = "Callable[..., Whole]"


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
def test_a_bad_file_says_what_is_wrong(read: Read, data: bytes, reason: str) -> None:
    """Each kind of bad file has its reason; none of them shows a value."""
    with pytest.raises(BadFileError) as caught:
        read(data, SHAPE)
    assert caught.value.what.startswith(reason)


@pytest.mark.parametrize("cut", [one for one in range(1, len(HEADER + ROW + ROW)) if one not in WHOLE])
def test_a_file_cut_anywhere_is_noticed(read: Read, cut: int) -> None:
    """However many bytes of a file are there, as long as its last line is not, it is set aside."""
    text = (HEADER + ROW + ROW)[: len(HEADER + ROW + ROW) - cut]
    with pytest.raises(BadFileError):
        read(text.encode(), SHAPE)


def test_a_producer_may_leave_the_last_line_open(read: Read) -> None:
    """With final_newline off, such a file is whole; a torn last line is still noticed."""
    lenient = Shape(columns=SHAPE.columns, exact=True, final_newline=False)
    assert len(read((HEADER + ROW.rstrip()).encode(), lenient).frame) == 1
    with pytest.raises(BadFileError, match="no CSV: 1 of 2"):
        read((HEADER + ROW + "north,2014").encode(), lenient)


def test_rows_know_their_lines(read: Read) -> None:
    """Line numbers are those an editor shows: the header is 1, blank lines count, quoted line ends too."""
    text = "site,at,power\n\nnorth,a,1\n" + 'north,"b\nc",2\nnorth,d,3\n'
    table = read(text.encode(), SHAPE)
    assert [one.number for one in table.lines] == [3, 4, 6]
    assert table.lines[0].text == "north,a,1"
    assert list(table.frame["power"]) == [1, 2, 3]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system_are_read(read: Read, end: str) -> None:
    """A file from another system has the same rows."""
    table = read((HEADER + ROW * 5).replace("\n", end).encode(), SHAPE)
    assert [one.number for one in table.lines] == [2, 3, 4, 5, 6]
    assert list(table.frame["power"]) == [1.5] * 5


def test_a_byte_order_mark_is_no_part_of_the_first_column(read: Read) -> None:
    """Windows tools put one at the start."""
    assert list(read(b"\xef\xbb\xbf" + (HEADER + ROW).encode(), SHAPE).frame.columns) == ["site", "at", "power"]


def test_a_few_torn_lines_are_told_apart_from_the_rest(read: Read) -> None:
    """One in a hundred is quarantined, not the file."""
    text = HEADER + ROW * 50 + "north,torn\n" + ROW * 50
    table = read(text.encode(), SHAPE)
    assert len(table.frame) == 100
    assert [(one.number, one.text) for one in table.ragged] == [(52, "north,torn")]
    assert table.lines[50].number == 53


@pytest.mark.parametrize(("torn", "rows", "fits"), [(1, 99, True), (3, 287, False), (3, 297, True)])
def test_torn_lines_are_a_share_of_all_lines(read: Read, *, torn: int, rows: int, fits: bool) -> None:
    """One in a hundred, themselves included, is the most."""
    data = (HEADER + ROW * rows + "north,torn\n" * torn).encode()
    if fits:
        assert len(read(data).ragged) == torn
    else:
        with pytest.raises(BadFileError, match=f"no CSV: {torn} of {torn + rows} lines"):
            read(data)


def test_the_first_torn_lines_of_a_file_are_named(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five of them, in however many pieces they stand."""
    monkeypatch.setattr(lines, "PIECE_BYTES", 40)
    with pytest.raises(BadFileError, match=r"12 of 24 lines .*\(lines 3, 5, 7, 9, 11\.\.\.\)"):
        read((HEADER + (ROW + "torn\n") * 12).encode())


@pytest.mark.parametrize("size", range(2, 12))
def test_a_piece_may_end_between_carriage_return_and_line_feed(
    read: Read, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Such a line end is one, wherever a read stops; a blank at the end of a quoted record is part of its text."""
    monkeypatch.setattr("edgeloop.validation.table.TORN_SHARE", 0.5)
    shape = Shape(columns=("a", "b"), exact=True)
    data = b'a,b\r\n10000,2\r\n\r\n33,4\r\n5,"6", \r\n'
    for piece_bytes in (64, size + 5):
        monkeypatch.setattr(lines, "PIECE_BYTES", piece_bytes)
        found = read(data, shape)
        assert [(line.number, line.text) for line in found.lines] == [(2, "10000,2"), (4, "33,4")]
        assert [(line.number, line.text) for line in found.ragged] == [(5, '5,"6", ')]


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize(
    ("wrong", "reason"), [(b"\xff", "no CSV: byte {at} is no UTF-8"), (b"\x00", "no CSV: it is binary")]
)
def test_bytes_that_are_no_text_are_found_in_any_piece(
    read: Read, monkeypatch: pytest.MonkeyPatch, quote: str, wrong: bytes, reason: str
) -> None:
    """And where they are is counted from the beginning of the file."""
    monkeypatch.setattr(lines, "PIECE_BYTES", 70)
    data = (HEADER + ROW.replace("north", f"{quote}north{quote}") * 20).encode()
    with pytest.raises(BadFileError) as caught:
        read(data + wrong + data)
    assert caught.value.what.startswith(reason.format(at=len(data)))


def test_chunks_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each begins where the one before it ended and has as many rows as asked, however large a piece is."""
    monkeypatch.setattr(lines, "PIECE_BYTES", 1000)
    path = tmp_path / "file.csv"
    path.write_text(HEADER + ROW * 100)
    found = [(one.start, len(one)) for one in CsvFile(path, SHAPE).chunks(7)]
    assert found == [(start, min(7, 100 - start)) for start in range(0, 100, 7)]


@pytest.mark.parametrize("more", range(0, 30, 5))
def test_a_type_stays_wide_though_narrow_rows_follow(read: Read, monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    """Pieces that were parsed ahead, before the wide value was known, make nothing narrow again."""
    monkeypatch.setattr(lines, "PIECE_BYTES", 64)
    column = ["1"] * 40 + ["x"] + ["1"] * more
    found = read((HEADER + "".join(f"north,at,{value}\n" for value in column)).encode(), rows=7)
    assert found.frame["power"].tolist() == column


def test_other_columns_are_fine_unless_the_suite_is_exact(read: Read) -> None:
    """Only what is missing counts then."""
    loose = Shape(columns=("site", "at"), exact=False)
    assert len(read((HEADER + ROW).encode(), loose).frame) == 1


WORDS = (
    "",
    "x",
    "1.5",
    "7",
    "-3",
    "true",
    "a,b",
    'say "so"',
    "two\nlines",
    "three\r\nlines\n.",
    "NA",
    "ü",
    "2014-01-01",
)


def table_of(seed: int) -> tuple[bytes, list[list[str]], list[int], list[int]]:
    """A random file: its bytes, its rows, the line each begins on, and the lines that are torn."""
    chance = random.Random(seed)
    end = chance.choice(["\n", "\r\n"])
    words = chance.choice([WORDS, WORDS[:6], ("1", "2", ""), ("1", "2.5")])
    text, line = end.join(["site,at,power", ""]), 2
    rows, numbers, torn = [], [], []
    for _ in range(200):
        if chance.random() < 0.05:
            text, line = text + end, line + 1
        if chance.random() < 0.005:
            text, line = text + "torn" + end, (torn.append(line) or line + 1)
        row = ["north", str(line), chance.choice(words)]
        quoted = [f'"{one.replace(chr(34), chr(34) * 2)}"' if set(one) & set(',"\r\n') else one for one in row]
        text += ",".join(quoted) + end
        rows.append(row)
        numbers.append(line)
        line += 1 + row[2].count("\n")
    return text.encode(), rows, numbers, torn


@pytest.mark.parametrize("seed", range(12))
def test_chunks_and_pieces_change_nothing(read: Read, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Rows, types, line numbers and texts are those of the file, wherever a piece or a chunk ends."""
    data, rows, numbers, torn = table_of(seed)
    whole = read(data)
    assert [one.number for one in whole.lines] == numbers
    assert [one.number for one in whole.ragged] == torn
    assert [str(one) for one in whole.frame["at"]] == [row[1] for row in rows]
    chance = random.Random(seed)
    for _ in range(4):
        monkeypatch.setattr(lines, "PIECE_BYTES", chance.randint(60, 900))
        cut = read(data, rows=chance.randint(1, 90))
        pd.testing.assert_frame_equal(cut.frame, whole.frame)
        assert (cut.lines, cut.ragged) == (whole.lines, whole.ragged)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["1", "2"], "int64"),
        (["1", ""], "float64"),
        (["1", "2.5"], "float64"),
        (["+1", " 2.5", "1e3", "inf"], "float64"),
        (["1", "9223372036854775808"], "float64"),
        (["1", "x"], "str"),
        (["1", "true"], "str"),
        (["007", "x"], "str"),
        (["1.5", "x"], "str"),
        (["true", "False"], "bool"),
        (["True", "FALSE"], "bool"),
        (["TRUE", "false"], "bool"),
        (["true", ""], "object"),
        (["", "7"], "float64"),
        (["", "2.5"], "float64"),
        (["", "true"], "object"),
        (["", "007", "x", "NA"], "str"),
        (["", "NA"], "float64"),
        (["2014-01-01", "2014-01-02"], "str"),
        (["12:30", "13:30"], "str"),
    ],
)
def test_a_columns_type_is_that_of_all_its_rows(
    read: Read, monkeypatch: pytest.MonkeyPatch, values: list[str], dtype: str
) -> None:
    """As pandas has it for the file in one piece, also where the value that decides comes last, chunks later."""
    filler = values[0]
    column = [filler] * 40 + values
    data = (HEADER + "".join(f"north,{number},{value}\n" for number, value in enumerate(column))).encode()
    whole = read(data)
    assert str(whole.frame["power"].dtype) == dtype
    monkeypatch.setattr(lines, "PIECE_BYTES", 64)
    cut = read(data, rows=7)
    pd.testing.assert_frame_equal(cut.frame, whole.frame)
    texts: dict[str, Any] = {"keep_default_na": False, "na_values": ["", "NA"]}
    alone = pd.read_csv(io.BytesIO(data), low_memory=False, **texts)
    if "9223372036854775808" not in values:  # uint64 there, which nothing else of ours has room for
        assert str(alone["power"].dtype) == dtype
        assert whole.frame["power"].astype(object).fillna("gap").tolist() == alone["power"].fillna("gap").tolist()


def test_a_text_stays_as_it_stands_where_its_neighbour_gets_its_first_values(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column of gaps turns into numbers without a second reading; texts beside it are not read as numbers then."""
    monkeypatch.setattr(lines, "PIECE_BYTES", 64)
    data = HEADER + "north,x,\n" * 40 + "north,007,1.5\n" * 40
    assert set(read(data.encode()).frame["at"]) == {"x", "007"}


def test_a_value_longer_than_a_piece_is_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quoted text that spans several blocks stays one value of one row, and the rows after it keep their lines."""
    monkeypatch.setattr(lines, "PIECE_BYTES", 50)
    text = "one\n" * 100
    table = read((HEADER + ROW + f'north,"{text}",2\n' + ROW).encode())
    assert table.frame["at"][1] == text
    assert [one.number for one in table.lines] == [2, 3, 104]


def test_a_record_without_an_end_is_refused(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without line ends is not gathered in memory until there is none left."""
    monkeypatch.setattr(lines, "PIECE_BYTES", 64)
    monkeypatch.setattr(lines, "LONGEST_RECORD", 1024)
    with pytest.raises(BadFileError, match="a record is longer than"):
        read((HEADER + ROW + "x" * 4000 + "\n").encode())


def test_what_does_not_fit_a_type_is_not_quoted(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a value that widens its column would hold the value; nothing of it is in the context either."""
    monkeypatch.setattr(lines, "PIECE_BYTES", 64)
    with pytest.raises(BadFileError) as caught:
        read((HEADER + "a;b\n" * 20 + ROW * 20 + "north,secret,x\n" * 20 + "a;b\n" * 20).encode())
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None or "secret" not in str(caught.value.__context__)


@pytest.mark.parametrize("text", NULLS)
def test_whatever_pandas_reads_as_missing_is_a_gap(read: Read, text: str) -> None:
    """Alone in its file, so that no other text of the kind tells how to read it."""
    data = f"{HEADER}x,1,1.5\nx,2,{text}\n{text},3,2.5\n".encode()
    frame = read(data).frame
    assert list(frame["power"].isna()) == [False, True, False]
    assert list(frame["site"].isna()) == [False, False, True]
    assert frame["power"].dtype == "float64"
