"""The training data, a batch of rows at a time: every field as a number that can be compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BATCH_ROWS = 1 << 16
WORDS = re.compile(r"[^\W_]+")
RUNS = re.compile(r"[^\W\d_]+|\d+")
WORD_BITS = 52
"""As many bits of a word's digest as a 64-bit float holds exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A column of a batch, float64 [n]: numbers, seconds since 1970 (``time``) or digests of texts (``text``)."""

    name: str
    kind: str
    values: NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of one file; ``first`` is the number of the first one there, from 1."""

    file: str
    first: int
    fields: tuple[Field, ...]
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Parquet files with the data of one training."""

    files: tuple[Path, ...]

    def batches(self) -> Iterator[Batch]:
        """Every row once, in order, at bounded memory."""
        import pyarrow.parquet as pq

        for path in self.files:
            first = 1
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=BATCH_ROWS):
                    pairs = zip(batch.schema.names, batch.columns, strict=True)
                    fields = tuple(field for name, column in pairs if (field := _field(name, column)) is not None)
                    yield Batch(file=path.name, first=first, fields=fields, rows=batch.num_rows)
                    first += batch.num_rows

    def texts(self, columns: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """The columns' different values as text, some more than once; whole numbers without a point."""
        import pyarrow.parquet as pq

        for path in self.files:
            with pq.ParquetFile(path) as file:
                here = [one for one in columns if one in file.schema_arrow.names]
                for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=here):
                    for name in here:
                        for value in batch.column(name).unique().to_pylist():
                            if value is not None:
                                whole = isinstance(value, float) and value.is_integer()
                                yield name, str(int(value) if whole else value)


def words(text: str) -> list[str]:
    """Letters and digits between whatever else, in lower case."""
    return [one.lower() for one in WORDS.findall(text)]


def runs(text: str) -> list[str]:
    """Letters alone and digits alone, in lower case: R80711 is two of them."""
    return [one.lower() for one in RUNS.findall(text)]


def digest(word: str) -> int:
    """64 bits of a word."""
    return int.from_bytes(blake2b(word.encode(errors="replace"), digest_size=8).digest(), "big")


def text_key(text: str) -> float:
    """What a text is compared by: its letters and digits, whatever stands between them."""
    return float(digest("".join(words(text))) >> (64 - WORD_BITS))


def _field(name: str, column: Any) -> Field | None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_timestamp(kind):
        micros = pc.cast(pc.cast(column, pa.timestamp("us", tz=kind.tz), safe=False), pa.int64())
        values = pc.cast(micros, pa.float64(), safe=False).to_numpy(zero_copy_only=False) / 1e6
        return Field(name=name, kind="time", values=values)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return Field(name=name, kind="number", values=np.asarray(values, dtype=np.float64))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        coded = column.dictionary_encode()
        keys = np.asarray([text_key(one) for one in coded.dictionary.to_pylist()] or [np.nan])
        index = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
        return Field(name=name, kind="text", values=np.where(index < 0, np.nan, keys[index]))
    return None
