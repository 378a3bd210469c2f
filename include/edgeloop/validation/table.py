"""Reading a CSV file that may be none, chunk by chunk: the same rows and types wherever the chunks begin."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.validation.columns import Columns, frame, join, parse, widened
from edgeloop.validation.lines import BadFileError, Header, Line, Piece, even_pieces, pieces, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

__all__ = ["BadFileError", "Chunk", "CsvFile", "Line", "Shape"]

TORN_SHARE = 0.01
"""More torn lines than this share and the file is no CSV; fewer are quarantined one by one."""
SHOWN = 5
AHEAD = 3
"""Pieces being parsed while one is worked on."""


class WiderError(Exception):
    """A value does not fit the types that the file seemed to have: begin anew, they are settled now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a file must look like: its columns, whether it may have others, and whether its last line must end."""

    columns: tuple[str, ...]
    exact: bool
    final_newline: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Consecutive rows of a file; ``start`` is the position of the first (from 0), ``table`` their values."""

    table: pa.Table
    start: int
    columns: Columns

    def __len__(self) -> int:
        return len(self.table)

    def frame(self) -> pd.DataFrame:
        """The rows as pandas has them, index 0 to n-1."""
        return frame(self.table, self.columns)


class CsvFile:
    """A CSV file: its header at once, its rows as often as wanted.

    Args:
        path: Where it lies.
        shape: What it must look like.

    Raises:
        BadFileError: ``empty``, ``no CSV``, ``half-written`` or ``other schema``, with the detail.
    """

    def __init__(self, path: Path, shape: Shape) -> None:
        self.path = path
        self.header: Header = read_header(path, final_newline=shape.final_newline)
        _check_header(list(self.header.names), shape)
        self.columns: Columns = {}
        """The columns' types: those of the first piece, from then on those that hold every row read so far."""
        self._even = False
        """Whether every line is known to be a record without quotes; nobody has to look into them again then."""

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """Every row, ``rows`` at a time, in the types of the whole file.

        Raises:
            BadFileError: ``empty``, ``no CSV`` or ``half-written``, with the detail.
            WiderError: The types taken from the first rows do not hold for a later one. Those of the whole file are
                known now, so it is raised once at most.
        """
        import pyarrow as pa

        held: list[pa.Table] = []
        waiting = start = 0
        for _, table in self.tables():
            if len(table):
                held.append(table)
                waiting += len(table)
            del table
            while waiting >= rows:
                whole = pa.concat_tables(held)
                # Handed out and not kept: a chunk's table can be freed as soon as its frame is made.
                ready = [Chunk(table=whole.slice(0, rows), start=start, columns=self.columns)]
                start, waiting = start + rows, waiting - rows
                held = [whole.slice(rows)] if waiting else []
                del whole
                yield ready.pop()
        if waiting:
            yield Chunk(table=pa.concat_tables(held), start=start, columns=self.columns)

    def tables(self, without: str = "") -> Iterator[tuple[Piece, pa.Table]]:
        """Every piece of the file with its values, in the types of the whole file; raises as :meth:`chunks` does.

        A piece of torn lines alone comes with a table without columns. The column ``without`` is left out.
        """
        for piece, table, found in self._parsed(without):
            if found is not self.columns and any(
                column.dtype != self.columns[name].dtype for name, column in found.items()
            ):
                for _ in self._parsed():
                    pass
                raise WiderError
            yield piece, widened(table, self.columns)

    def _parsed(self, without: str = "") -> Iterator[tuple[Piece, pa.Table, Columns]]:
        """Pieces, their values, the types of the file so far; two threads parse ahead."""
        rows = 0
        torn: list[int] = []
        count = 0
        even = True
        for piece, (table, found) in self._ahead(without):
            even &= piece.even
            rows += len(piece)
            count += len(piece.torn)
            torn += [one.number for one in piece.torn[: SHOWN - len(torn)]]
            yield piece, table, found
            if found is not self.columns and (wider := join(found, self.columns)) != self.columns:
                self.columns = wider
        if count > TORN_SHARE * (rows + count):
            raise BadFileError(
                f"no CSV: {count} of {rows + count} lines do not have {len(self.header.names)} fields "
                f"(lines {', '.join(map(str, torn))}{'...' if count > SHOWN else ''})"
            )
        if not rows:
            raise BadFileError("empty: a header and no rows")
        self._even = even

    def _ahead(self, without: str) -> Iterator[tuple[Piece, tuple[pa.Table, Columns]]]:
        names, waiting = self.header.names, deque[Any]()
        threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="edgeloop-csv")
        try:
            for piece in (even_pieces if self._even else pieces)(self.path, self.header):
                if not self.columns and len(piece):
                    self.columns = parse(piece, names, {})[1]
                waiting.append((piece, threads.submit(parse, piece, names, self.columns, without)))
                if len(waiting) > AHEAD:
                    first, parsed = waiting.popleft()
                    yield first, parsed.result()
            for one, parsed in waiting:
                yield one, parsed.result()
        finally:
            threads.shutdown(cancel_futures=True)


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
