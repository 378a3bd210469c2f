"""What type each column of a file has: decided over all of its rows, never over the chunk that is being read.

pandas infers types chunk by chunk: a column of whole numbers would be int64 in one chunk and float64 in the next that
holds a gap, and an expectation about types would depend on where the chunks begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

from edgeloop.validation.lines import BadFileError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from edgeloop.validation.lines import Piece

NULLS = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NAN", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""What pandas reads as missing, quoted or not."""
BLANK, N_LOWER, N_UPPER = NULLS[:1], b"n", b"N"
"""All but the empty one hold an n: a piece without any is spared the others, a tenth of the time."""
TRUE, FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")


class Type(StrEnum):
    """The types a column may have."""

    EMPTY = "empty"
    WHOLE = "whole"
    NUMBER = "number"
    TRUTH = "truth"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's type, and whether it has gaps."""

    type: Type
    gaps: bool

    def join(self, other: Column) -> Column:
        """The narrowest that holds both."""
        return Column(type=_wider(self.type, other.type), gaps=self.gaps or other.gaps)

    @property
    def dtype(self) -> str:
        """What pandas makes of it: a whole number or a truth value has no room for gaps."""
        if self.type is Type.TEXT:
            return "str"
        if self.type is Type.TRUTH:
            return "object" if self.gaps else "bool"
        return "int64" if self.type is Type.WHOLE and not self.gaps else "float64"


def _wider(one: Type, other: Type) -> Type:
    if one is other or other is Type.EMPTY:
        return one
    if one is Type.EMPTY:
        return other
    return Type.NUMBER if {one, other} == {Type.WHOLE, Type.NUMBER} else Type.TEXT


Columns = dict[str, Column]


def join(one: Columns, other: Columns) -> Columns:
    """Every column of ``other`` as the narrowest type that holds both; as it is where ``one`` does not know it."""
    return {name: one[name].join(column) if name in one else column for name, column in other.items()}


def parse(piece: Piece, names: tuple[str, ...], known: Columns, without: str = "") -> tuple[pa.Table, Columns]:
    """A piece's values, and the types of the file so far: those ``known``, or wider where they do not fit.

    A piece without records is a table without columns. The column ``without`` is not read.

    Raises:
        BadFileError: ``no CSV``.
    """
    import pyarrow as pa

    if not len(piece):  # torn lines alone; no rows have no types
        return pa.table({}), known
    pins = {name: _arrow(column.type) for name, column in known.items()}
    try:
        table = _read(piece, names, pins, without)
    except pa.ArrowInvalid:
        # A value does not fit (or the file is no CSV, which the next reading says). The message would quote it.
        pins = {name: pa.string() for name, column in known.items() if column.type is Type.TEXT}
        table = _inferred(piece, names, pins, without)
    found = {one.name: _found(table, at, one.type, known.get(one.name)) for at, one in enumerate(table.schema)}
    # Most pieces tell nothing new, and then nobody has to go through their columns again.
    if all(known.get(name) is column for name, column in found.items()):
        return table, known
    return table, join(found, known) if known else found


def _found(table: pa.Table, at: int, kind: Any, known: Column | None) -> Column:
    """A column's type here; what is ``known`` itself where it is the same."""
    if known is not None and _arrow(known.type) == kind and (known.gaps or not table.column(at).null_count):
        return known
    return Column(type=_type(kind), gaps=bool(table.column(at).null_count))


def _inferred(piece: Piece, names: tuple[str, ...], pins: dict[str, Any], without: str) -> pa.Table:
    import pyarrow as pa

    try:
        table = _read(piece, names, pins, without)
        # Dates and times stay texts, as in pandas: the suite sees what stands in the file.
        texts = [one.name for one in table.schema if _type(one.type) is Type.TEXT]
        if all(table.schema.field(name).type == pa.string() for name in texts):
            return table
        return _read(piece, names, pins | dict.fromkeys(texts, pa.string()), without)
    except pa.ArrowInvalid:
        raise BadFileError("no CSV: pyarrow cannot read it") from None


def _read(piece: Piece, names: tuple[str, ...], pins: dict[str, Any], without: str) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    table = csv.read_csv(
        pa.py_buffer(piece.data),
        # One block: threads would infer each of theirs for itself, and there are others to share the cores with.
        read_options=csv.ReadOptions(column_names=names, use_threads=False, block_size=len(piece.data) + 1),
        # Told that there are no quotes, Arrow does not look for them: an eighth of the time.
        parse_options=csv.ParseOptions(quote_char='"' if piece.quoted else False, newlines_in_values=piece.quoted),
        convert_options=csv.ConvertOptions(
            column_types=pins,
            include_columns=[name for name in names if name != without],
            null_values=list(NULLS if N_LOWER in piece.data or N_UPPER in piece.data else BLANK),
            true_values=list(TRUE),
            false_values=list(FALSE),
            strings_can_be_null=True,
        ),
    )
    if len(table) != len(piece):
        raise BadFileError(f"no CSV: it has {len(piece)} lines of data, read as {len(table)} rows")
    return table


@cache
def _arrow(kind: Type) -> Any:
    import pyarrow as pa

    return {
        Type.EMPTY: pa.null(),
        Type.WHOLE: pa.int64(),
        Type.NUMBER: pa.float64(),
        Type.TRUTH: pa.bool_(),
        Type.TEXT: pa.string(),
    }[kind]


@cache
def _type(kind: Any) -> Type:
    import pyarrow as pa

    known = {pa.null(): Type.EMPTY, pa.int64(): Type.WHOLE, pa.float64(): Type.NUMBER, pa.bool_(): Type.TRUTH}
    return known.get(kind, Type.TEXT)


def widened(table: pa.Table, columns: Columns) -> pa.Table:
    """The table with every column in its file's type; raises nothing for tables that :func:`parse` made."""
    import pyarrow as pa

    if all(one.type == _stored(columns[one.name].type) for one in table.schema):
        return table
    fields = [pa.field(one.name, _stored(columns[one.name].type)) for one in table.schema]
    return table.cast(pa.schema(fields), safe=False)


def _stored(kind: Type) -> Any:
    # Without values a column counts as numbers, as in pandas.
    return _arrow(Type.NUMBER if kind is Type.EMPTY else kind)


def frame(table: pa.Table, columns: Columns) -> pd.DataFrame:
    """The table as pandas would have read the whole file's; its memory goes over to the frame where it can."""
    import pyarrow as pa

    types = {name: columns[name].dtype for name in table.column_names}
    made: pd.DataFrame = widened(table, columns).to_pandas()
    pa.default_memory_pool().release_unused()
    return made.astype({name: dtype for name, dtype in types.items() if made[name].dtype != dtype})
