"""Reading a CSV file that may be none: empty, binary, cut off, of another schema, or with torn lines in it."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

RAGGED_SHARE = 0.01
"""More torn lines than this share and the file is no CSV; fewer are quarantined one by one."""
SHOWN = 5


class BadFileError(EdgeloopError):
    """A file that cannot be validated at all; the batch goes on without it. The text holds no values of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a file must look like: its columns, whether it may have others, and whether its last line must end."""

    columns: tuple[str, ...]
    exact: bool
    final_newline: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a file: its number as an editor shows it (the header is 1) and its text."""

    number: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A file's rows as pandas reads them, ``lines[i]`` being where row ``i`` stands; ``ragged`` are torn lines."""

    frame: pd.DataFrame
    lines: tuple[Line, ...]
    ragged: tuple[Line, ...] = ()


def read(data: bytes, shape: Shape) -> Table:
    """The rows of a CSV file.

    Raises:
        BadFileError: ``empty``, ``no CSV``, ``half-written`` or ``other schema``, with the detail.
    """
    text = _text(data)
    if shape.final_newline and not text.endswith(("\n", "\r")):
        raise BadFileError("half-written: the last line is cut off (it has no line end)")
    rows = _rows(text)
    try:
        head, header = next(rows)
        _check_header(header, shape)
        good: list[Line] = []
        ragged: list[Line] = []
        for line, fields in rows:
            (good if len(fields) == len(header) else ragged).append(line)
    except StopIteration:
        raise BadFileError("empty: there is nothing in it but blank lines") from None
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise BadFileError("half-written: it ends inside a quoted value") from None
        raise BadFileError(f"no CSV: {error}") from None
    if len(ragged) > RAGGED_SHARE * (len(good) + len(ragged)):
        raise BadFileError(
            f"no CSV: {len(ragged)} of {len(good) + len(ragged)} lines do not have {len(header)} fields "
            f"(lines {', '.join(str(one.number) for one in ragged[:SHOWN])}...)"
        )
    if not good:
        raise BadFileError("empty: a header and no rows")
    return Table(frame=_frame(head, good), lines=tuple(good), ragged=tuple(ragged))


def _text(data: bytes) -> str:
    if not data.strip():
        raise BadFileError("empty: there is nothing in it" if not data else "empty: there is nothing in it but blanks")
    if b"\x00" in data:
        raise BadFileError("no CSV: it is binary (it holds zero bytes)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFileError(f"no CSV: byte {error.start} is no UTF-8") from None


def _rows(text: str) -> Iterator[tuple[Line, list[str]]]:
    # StringIO splits lines where csv does; str.splitlines would also split at form feeds and the like.
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, strict=True)
    before = 0
    for fields in reader:
        start, before = before, reader.line_num
        if fields:
            yield Line(number=start + 1, text="".join(lines[start:before]).rstrip("\r\n")), fields


def _check_header(header: list[str], shape: Shape) -> None:
    found, wanted = set(header), set(shape.columns)
    if not found & wanted:
        # The line is not shown: without a header it is data.
        raise BadFileError(f"no CSV: its first line names none of the columns {', '.join(shape.columns)}")
    twice = sorted({name for name in header if header.count(name) > 1})
    # A name nobody asked for is told by its place: a header that runs into its first row holds values.
    wrong = [
        f"{what} {', '.join(name if name in wanted else f'column {header.index(name) + 1}' for name in names)}"
        for what, names in (
            ("missing", sorted(wanted - found)),
            ("unexpected", sorted(found - wanted, key=header.index) if shape.exact else []),
            ("more than once", twice),
        )
        if names
    ]
    if wrong:
        raise BadFileError(f"other schema: {'; '.join(wrong)}")


def _frame(head: Line, good: list[Line]) -> pd.DataFrame:
    import pandas as pd

    text = "\n".join(one.text for one in (head, *good)) + "\n"
    try:
        frame = pd.read_csv(io.StringIO(text, newline=""), index_col=False, low_memory=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise BadFileError(f"no CSV: pandas cannot read it ({type(error).__name__})") from None
    if len(frame) != len(good):
        raise BadFileError(f"no CSV: it has {len(good)} lines of data, read as {len(frame)} rows")
    return frame
