"""Rows to Parquet files of which the same rows make the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


def write(frame: pd.DataFrame, path: Path, *, time: str, site: str) -> None:
    """Write the rows, sorted by time and then site; columns keep their order.

    The time column must be ``datetime64[us, UTC]``. Whole numbers become floats: a month without fractions would
    otherwise have another schema than the next. Bytes depend on rows, their order among equals, and pyarrow's version.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = frame.sort_values([time, site], kind="stable", ignore_index=True)
    whole = [name for name in rows.columns if pd.api.types.is_integer_dtype(rows[name]) and name not in (time, site)]
    rows = rows.astype(dict.fromkeys(whole, "float64"))
    table = pa.Table.from_pandas(rows, preserve_index=False)
    fields = [
        pa.field(one.name, pa.string() if pa.types.is_large_string(one.type) else one.type) for one in table.schema
    ]
    # A bare schema drops the pandas metadata, which holds the library's versions and differs between machines.
    table = table.cast(pa.schema(fields))
    pq.write_table(table, path, compression="zstd", compression_level=3, version="2.6", coerce_timestamps="us")
