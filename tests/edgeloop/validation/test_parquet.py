"""Parquet files of which the same rows make the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from edgeloop.validation import parquet
from edgeloop.validation.times import to_utc

if TYPE_CHECKING:
    from pathlib import Path


def rows(*order: int) -> pd.DataFrame:
    """Rows of two sites, in the order given."""
    frame = pd.DataFrame(
        {
            "site": ["south", "north", "north"],
            "at": to_utc(pd.Series(["2014-01-01T00:10:00Z", "2014-01-01T00:10:00Z", "2014-01-01T00:00:00Z"]), "UTC"),
            "wind": [3, 4, 5],
            "power": [1.5, None, 2.5],
        }
    )
    return frame.iloc[list(order or range(3))]


def write(path: Path, frame: pd.DataFrame) -> bytes:
    """The bytes of the file written."""
    parquet.write(frame, path, time="at", site="site")
    return path.read_bytes()


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    """Whatever their order and the file's name; other rows make others."""
    first = write(tmp_path / "a.parquet", rows())
    assert write(tmp_path / "b.parquet", rows(2, 0, 1)) == first
    assert write(tmp_path / "c.parquet", rows(0, 1)) != first


def test_rows_are_sorted_by_time_and_columns_keep_their_order_and_types(tmp_path: Path) -> None:
    """Times are UTC microseconds, whole numbers floats so that every month has one schema."""
    write(tmp_path / "a.parquet", rows())
    table = pq.read_table(tmp_path / "a.parquet")
    assert [(one.name, str(one.type)) for one in table.schema] == [
        ("site", "string"),
        ("at", "timestamp[us, tz=UTC]"),
        ("wind", "double"),
        ("power", "double"),
    ]
    assert table["wind"].to_pylist() == [5.0, 4.0, 3.0]
    assert table["power"].to_pylist() == [2.5, None, 1.5]
    assert table.schema.metadata is None


def test_no_clock_and_no_machine_is_in_the_file(tmp_path: Path) -> None:
    """Only the writer's version is; the pandas metadata that changes with libraries is gone."""
    write(tmp_path / "a.parquet", rows())
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    assert metadata.created_by == f"parquet-cpp-arrow version {pa.__version__}"
    assert b"pandas" not in (metadata.metadata or {})
