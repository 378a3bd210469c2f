"""Rows to Parquet files of which the same rows make the same bytes, however they come and in whatever order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    import pyarrow.parquet as pq

    from edgeloop.validation.columns import Columns

CODEC, LEVEL = "zstd", 1
TRIED, WIDTH = 4096, 8
"""Numbers of a column that are tried both ways, and the bytes of one."""
STUBBORN, WORTH = 0.75, 1.05
"""What zstd must leave of whole numbers before another way is tried, and how much larger that may be: it is quicker."""
GROUP_ROWS = 131_072
"""Rows of a row group: fixed, since a file's bytes must not depend on the chunks it was read in."""
GROUPS_WAITING = 1
"""Row groups that wait while one is encoded: without any, who parses stood still as often as who encodes was late."""


def schema(columns: Columns, time: str) -> pa.Schema:
    """What a file's columns become.

    The time is UTC microseconds; whole numbers are floats: a month without fractions would otherwise have another
    schema than the next.
    """
    import pyarrow as pa

    from edgeloop.validation.columns import Type

    kinds = {Type.TEXT: pa.string(), Type.TRUTH: pa.bool_()}
    return pa.schema(
        [
            pa.field(name, pa.timestamp("us", tz="UTC") if name == time else kinds.get(column.type, pa.float64()))
            for name, column in columns.items()
        ]
    )


def splits(column: pa.ChunkedArray) -> bool:
    """Whether numbers are stored with their first bytes together, then their second bytes, and so on.

    Numbers of few digits repeat: zstd finds whole ones again and makes half of what it makes of their bytes. In numbers
    that use every digit it finds nothing but signs and exponents, and those in half the time when they lie together.
    Tried on the first of them, for which of the two a column holds cannot be told by its name.
    """
    import numpy as np
    import pyarrow as pa

    if column.type != pa.float64():
        return False
    numbers = column.slice(0, TRIED).drop_null().to_numpy()
    codec = pa.Codec(CODEC, LEVEL)
    whole = len(codec.compress(numbers.tobytes()))
    if not len(numbers) or whole < numbers.nbytes * STUBBORN:
        return False
    split = len(codec.compress(np.ascontiguousarray(numbers.view(np.uint8).reshape(-1, WIDTH).T).tobytes()))
    return bool(split <= whole * WORTH)


class Writer:
    """A Parquet file in the making, row group by row group: one is gathered while a thread encodes those before.

    Rows that come in another order than they are stored in are first written as they come beside ``path``, and then
    gathered from there: the disk needs room for them once more.

    Args:
        path: The file.
        schema: Its columns.
        order: Positions of the rows in the order they are stored in; None if they come so.
    """

    def __init__(self, path: Path, schema: pa.Schema, order: npt.NDArray[np.int64] | None = None) -> None:
        import pyarrow as pa

        self._schema, self._order = schema, order
        self._path = path
        self._file: pq.ParquetWriter | None = None
        self._held: list[pa.Table] = []
        self._rows = 0
        self._encoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edgeloop-parquet")
        self._encoded: deque[Future[None]] = deque()
        self._spill = path.with_suffix(".unsorted")
        self._stream = None if order is None else pa.ipc.new_file(str(self._spill), schema)
        self._starts = [0]

    def add(self, table: pa.Table) -> None:
        """Write the next rows; their columns are those of the schema."""
        if table.schema != self._schema:
            table = table.cast(self._schema, safe=False)
        if self._stream is None:
            self._store(table)
            return
        for batch in table.to_batches(max_chunksize=GROUP_ROWS):
            self._stream.write_batch(batch)
            self._starts.append(self._starts[-1] + len(batch))

    def _store(self, table: pa.Table) -> None:
        while self._rows + len(table) >= GROUP_ROWS:
            part = table.slice(0, GROUP_ROWS - self._rows)
            table = table.slice(len(part))
            self._held.append(part)
            self._encode()
        if len(table):
            self._held.append(table)
            self._rows += len(table)

    def _encode(self) -> None:
        """Hand the held rows over as a row group, once there are not too many before it."""
        held, self._held, self._rows = self._held, [], 0
        self._wait(GROUPS_WAITING)
        self._encoded.append(self._encoder.submit(self._group, held))

    def _wait(self, most: int) -> None:
        """Until no more than ``most`` row groups are still to be written; raises what went wrong with one."""
        while len(self._encoded) > most:
            self._encoded.popleft().result()

    def _group(self, held: list[pa.Table]) -> None:
        import pyarrow as pa

        # One chunk: pages would otherwise end where chunks do, and the bytes with them.
        whole = pa.concat_tables(held).combine_chunks()
        held.clear()
        if self._file is None:
            self._file = self._opened(whole)
        self._file.write_table(whole, row_group_size=GROUP_ROWS)

    def _opened(self, first: pa.Table) -> pq.ParquetWriter:
        """The file; the encodings of its columns are decided by its first row group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        return pq.ParquetWriter(
            self._path,
            self._schema,
            compression=CODEC,
            compression_level=LEVEL,
            version="2.6",
            use_dictionary=[one.name for one in self._schema if one.type in (pa.string(), pa.bool_())],
            use_byte_stream_split=[name for name in self._schema.names if splits(first[name])],
            # A bare schema: the metadata of pandas or Arrow holds libraries' versions and differs between machines.
            store_schema=False,
        )

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._stream.close()
            for table in self._gathered():
                self._store(table)
            self._spill.unlink()
        if self._rows:
            self._encode()
        self._wait(0)
        self._encoder.shutdown()
        (self._file or self._opened(self._schema.empty_table())).close()

    def _gathered(self) -> Iterator[pa.Table]:
        """The rows in order, a row group at a time, each taken from the batches that hold some of it."""
        import numpy as np
        import pyarrow as pa

        order = self._order
        assert order is not None
        starts = np.array(self._starts)
        with pa.memory_map(str(self._spill)) as source:
            reader = pa.ipc.open_file(source)
            for begin in range(0, len(order), GROUP_ROWS):
                wanted = order[begin : begin + GROUP_ROWS]
                homes = np.searchsorted(starts, wanted, side="right") - 1
                parts: list[Any] = []
                places = []
                for home in np.unique(homes).tolist():
                    rows = np.flatnonzero(homes == home)
                    places.append(rows)
                    batch = reader.get_batch(home).take(pa.array(wanted[rows] - starts[home]))
                    parts.append(pa.Table.from_batches([batch]))
                back = np.argsort(np.concatenate(places), kind="stable")
                yield pa.concat_tables(parts).combine_chunks().take(pa.array(back))
