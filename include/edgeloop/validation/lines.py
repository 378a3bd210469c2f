"""A CSV file cut into pieces of whole records, so that a file larger than memory is read a few MiB at a time.

Without quotes a record is a line and numpy finds them; with quotes Python's own csv reader does, which knows that a
quoted value may hold line ends. A piece never ends inside a record, whichever of the two found its end.
"""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    import numpy as np
    import numpy.typing as npt

PIECE_BYTES = 1024 * 1024
LONGEST_RECORD = 16 * 1024 * 1024
NEWLINE, COMMA = 10, 44


class BadFileError(EdgeloopError):
    """A file that cannot be validated at all; the batch goes on without it. The text holds no values of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A record of a file: the number of its first line as an editor shows it (the header is 1) and its text."""

    number: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Whole records of a file.

    Args:
        data: The records with as many fields as the header, each ended by a line feed.
        rows: How many there are.
        numbers: The line each begins on, or that of the first where every line is a record.
        lengths: The bytes of each; None where each is a line.
        torn: The records with another number of fields.
        quoted: Whether values may hold line ends.
    """

    data: bytes
    rows: int
    numbers: npt.NDArray[np.int64] | int
    lengths: npt.NDArray[np.int64] | None = None
    torn: tuple[Line, ...] = ()
    quoted: bool = False

    def __len__(self) -> int:
        return self.rows

    @property
    def even(self) -> bool:
        """Whether every line of it is a record without quotes."""
        return isinstance(self.numbers, int)

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        import numpy as np

        if self.lengths is not None:
            return np.cumsum(self.lengths)
        return np.flatnonzero(np.frombuffer(self.data, dtype=np.uint8) == NEWLINE) + 1

    def line(self, row: int) -> Line:
        """One record, as it stands in the file."""
        begin = int(self._ends[row - 1]) if row else 0
        text = self.data[begin : int(self._ends[row])].decode().rstrip("\r\n")
        number = self.numbers + row if isinstance(self.numbers, int) else int(self.numbers[row])
        return Line(number=number, text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The names in a file's first record, and where the next one begins: its byte, its line number."""

    names: tuple[str, ...]
    text: bytes
    offset: int
    line: int


def read_header(path: Path, *, final_newline: bool) -> Header:
    """The header of a file.

    Raises:
        BadFileError: ``empty``, ``no CSV`` or ``half-written``, with the detail.
    """
    with path.open("rb") as stream:
        head = stream.read(PIECE_BYTES)
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(size - 1, 0))
        last = stream.read(1)
    if not head.strip() and len(head) == size:
        raise BadFileError("empty: there is nothing in it" if not head else "empty: there is nothing in it but blanks")
    whole = len(head) == size
    body = head if whole else head[: _cut(head)]
    text = _text(body, 0)
    if final_newline and last not in (b"\n", b"\r"):
        raise BadFileError("half-written: the last line is cut off (it has no line end)")
    return _header(text.removeprefix("\ufeff"), 3 if text.startswith("\ufeff") else 0)


def _header(text: str, offset: int) -> Header:
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, strict=True)
    before = 0
    try:
        for fields in reader:
            raw = "".join(lines[before : reader.line_num]).encode()
            offset += len(raw)
            before = reader.line_num
            if fields:
                return Header(names=tuple(fields), text=raw, offset=offset, line=before + 1)
    except csv.Error as error:
        raise _no_csv(error) from None
    raise BadFileError("empty: there is nothing in it but blank lines")


def even_pieces(path: Path, header: Header) -> Iterator[Piece]:
    """What :func:`pieces` gives of a file known to have even pieces only: no line is looked into again."""
    import numpy as np

    at, number = header.offset, header.line
    with path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        while at < size:
            length = PIECE_BYTES
            raw = os.pread(stream.fileno(), length, at)
            while at + len(raw) < size and not _cut(raw):
                length *= 2
                raw = os.pread(stream.fileno(), length, at)
            if at + len(raw) < size:
                raw = raw[: _cut(raw)]
            at += len(raw)
            data = _line_feeds(raw)
            # A third of the time of bytes.count.
            rows = int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == NEWLINE))
            yield Piece(data=data, rows=rows, numbers=number)
            number += rows


def pieces(path: Path, header: Header) -> Iterator[Piece]:
    """The records after the header, a few MiB at a time.

    Raises:
        BadFileError: ``no CSV`` or ``half-written``, with the detail.
    """
    fields, number, done = len(header.names), header.line, header.offset
    with path.open("rb") as stream:
        stream.seek(header.offset)
        rest, ended = b"", False
        while not ended:
            block, ended = _more(stream, rest)
            if not block:
                return
            raw = block if ended else block[: _cut(block)]
            if b'"' in raw:
                piece, used = _quoted(raw, fields, number, done, last=ended)
                number += _line_ends(raw[:used])
            else:
                piece, lines = _plain(raw, fields, number, done)
                used = len(raw)
                number += lines
            done += used
            rest = block[used:]
            if len(piece) or piece.torn:
                yield piece


def _more(stream: BinaryIO, rest: bytes) -> tuple[bytes, bool]:
    """What is left over and the next block after it, with at least one line end; and whether the file has ended."""
    block = rest
    while True:
        if len(block) > LONGEST_RECORD:
            raise BadFileError(f"no CSV: a record is longer than {LONGEST_RECORD // 1024 // 1024} MiB")
        new = stream.read(PIECE_BYTES)
        block += new
        if not new:
            return block, True
        if _cut(block) > 0:
            return block, False


def _cut(block: bytes) -> int:
    """Where the last whole line of a block ends; 0 if none does. A final CR may belong to an LF that follows."""
    at = block.rfind(b"\n")
    return at + 1 if at >= 0 else block.rfind(b"\r", 0, -1) + 1


def _line_ends(raw: bytes) -> int:
    if b"\r" not in raw:
        return raw.count(b"\n")
    return raw.count(b"\n") + raw.count(b"\r") - raw.count(b"\r\n")


def _text(raw: bytes, offset: int) -> str:
    if b"\x00" in raw:
        raise BadFileError("no CSV: it is binary (it holds zero bytes)")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadFileError(f"no CSV: byte {offset + error.start} is no UTF-8") from None


def _line_feeds(raw: bytes) -> bytes:
    """The same lines, each ended by a line feed."""
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return raw if raw.endswith(b"\n") else raw + b"\n"


def _plain(raw: bytes, fields: int, number: int, offset: int) -> tuple[Piece, int]:
    """The records of a block without quotes, and how many lines it has."""
    import numpy as np

    if b"\x00" in raw or not raw.isascii():
        _text(raw, offset)
    raw = _line_feeds(raw)
    array = np.frombuffer(raw, dtype=np.uint8)
    edges = np.concatenate([np.zeros(1, dtype=np.int64), np.flatnonzero(array == NEWLINE) + 1])
    commas = np.add.reduceat(array == COMMA, edges[:-1], dtype=np.int64)
    lengths = np.diff(edges)
    filled = lengths > 1
    good = (commas == fields - 1) & filled
    if good.all():
        return Piece(data=raw, rows=len(good), numbers=number), len(good)
    torn = tuple(
        Line(number=number + int(row), text=raw[edges[row] : edges[row + 1] - 1].decode())
        for row in np.flatnonzero(filled & ~good)
    )
    piece = Piece(
        data=array[np.repeat(good, lengths)].tobytes(),
        rows=int(good.sum()),
        numbers=number + np.flatnonzero(good),
        lengths=lengths[good],
        torn=torn,
    )
    return piece, len(good)


def _quoted(raw: bytes, fields: int, number: int, offset: int, *, last: bool) -> tuple[Piece, int]:
    """The records of a block with quotes, and the bytes they take; a record that goes on behind it is left."""
    import numpy as np

    # StringIO splits lines where csv does; str.splitlines would also split at form feeds and the like.
    lines = list(io.StringIO(_text(raw, offset), newline=""))
    reader = csv.reader(lines, strict=True)
    good: list[bytes] = []
    numbers: list[int] = []
    torn: list[Line] = []
    used = before = 0
    try:
        for found in reader:
            text = "".join(lines[before : reader.line_num])
            line = Line(number=number + before, text=text.rstrip("\r\n"))
            before, used = reader.line_num, used + len(text.encode())
            if len(found) == fields:
                good.append(line.text.encode() + b"\n")
                numbers.append(line.number)
            elif found:
                torn.append(line)
    except csv.Error as error:
        if last or "unexpected end of data" not in str(error):
            raise _no_csv(error) from None
    piece = Piece(
        data=b"".join(good),
        rows=len(good),
        numbers=np.array(numbers, dtype=np.int64),
        lengths=np.array([len(one) for one in good], dtype=np.int64),
        torn=tuple(torn),
        quoted=True,
    )
    return piece, used


def _no_csv(error: csv.Error) -> BadFileError:
    if "unexpected end of data" in str(error):
        return BadFileError("half-written: it ends inside a quoted value")
    return BadFileError(f"no CSV: {error}")
