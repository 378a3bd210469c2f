"""Parquet files of which the same rows make the same bytes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgeloop.validation import lines, parquet
from edgeloop.validation.judge import write
from edgeloop.validation.rows import Meaning, Sites, Taken, select
from edgeloop.validation.table import CsvFile, Shape, WiderError
from edgeloop.validation.times import Clock

if TYPE_CHECKING:
    from pathlib import Path

MEANING = Meaning(time="at", site="site", zone="UTC", sites=("south", "north"))
ROWS = [
    ("south", "2014-01-01T00:10:00Z", "3", "1.5"),
    ("north", "2014-01-01T00:10:00Z", "4", ""),
    ("north", "2014-01-01T00:00:00Z", "5", "2.5"),
]


def convert(path: Path, rows: list[tuple[str, ...]]) -> bytes:
    """The bytes of the Parquet file that a CSV file of these rows becomes."""
    source = path.with_suffix(".csv")
    source.write_text("site,at,wind,power\n" + "".join(",".join(row) + "\n" for row in rows))
    file = CsvFile(source, Shape(columns=("site", "at"), exact=False))
    for _ in range(2):
        clock, sites = Clock("UTC"), Sites(MEANING.sites)
        try:
            for chunk in file.chunks(5):
                clock.add(chunk.table["at"])
                sites.add(chunk.table["site"])
            break
        except WiderError:
            continue
    write(file, select((), clock.instants(), sites.numbers(), MEANING, Taken()), MEANING, path)
    return path.read_bytes()


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    """Whatever their order and the file's name; other rows make others."""
    first = convert(tmp_path / "a.parquet", ROWS)
    assert convert(tmp_path / "b.parquet", [ROWS[2], ROWS[0], ROWS[1]]) == first
    assert convert(tmp_path / "c.parquet", ROWS[:2]) != first


@pytest.mark.parametrize("group", [16, 1000])
def test_order_and_pieces_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    """Sorted, shuffled, or one site behind the other, in pieces of any size, over several row groups or one."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", group)
    chance = random.Random(3)
    rows = [
        (site, f"2014-01-01T00:{n:02d}:00Z", str(n), str(chance.random())) for n in range(60) for site in MEANING.sites
    ]
    first = convert(tmp_path / "a.parquet", rows)
    for number in range(6):
        monkeypatch.setattr(lines, "PIECE_BYTES", chance.randint(100, 3000))
        chance.shuffle(rows)
        assert convert(tmp_path / f"{number}.parquet", sorted(rows) if number == 5 else rows) == first
    table = pq.read_table(tmp_path / "5.parquet")
    assert table["at"].to_pylist() == sorted(table["at"].to_pylist())
    assert table["site"].to_pylist() == ["north", "south"] * 60
    assert pq.read_metadata(tmp_path / "5.parquet").num_row_groups == -(-120 // group)
    assert not list(tmp_path.glob("*.unsorted"))


def test_bytes_do_not_depend_on_the_tables_that_rows_come_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One table of several row groups, many small ones, and an end on a group's very last row."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 3000)
    schema = pa.schema([("value", pa.float64()), ("site", pa.string())])
    values = np.random.default_rng(3).random(9000)
    rows = pa.table({"value": values, "site": [f"s{number % 7}" for number in range(9000)]}, schema=schema)
    found = set()
    for size in (9000, 8999, 3000, 700, 61):
        writer = parquet.Writer(tmp_path / "a.parquet", schema)
        for start in range(0, len(rows), size):
            writer.add(rows.slice(start, size))
        writer.close()
        found.add((tmp_path / "a.parquet").read_bytes())
    (content,) = found
    metadata = pq.read_metadata(pa.BufferReader(content))
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [3000] * 3


def test_what_makes_the_bytes_is_fixed(tmp_path: Path) -> None:
    """Another choice of any would give the same rows other bytes, and a batch certified before would clash."""
    assert parquet.GROUP_ROWS == 131_072
    convert(tmp_path / "a.parquet", ROWS)
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    assert {one.compression for one in columns.values()} == {"ZSTD"}
    assert {name for name, one in columns.items() if one.has_dictionary_page} == {"site"}


def test_numbers_that_use_every_digit_are_stored_byte_by_byte(tmp_path: Path) -> None:
    """Numbers of few digits repeat and are stored whole, in half the room; so is a column of gaps."""
    chance = np.random.default_rng(3)
    noise, few = chance.normal(size=5000), chance.normal(size=5000).round(1)
    noise[::7] = np.nan
    table = pa.table(
        {
            "noise": pa.array(noise, mask=np.isnan(noise)),
            "few": few,
            "none": pa.nulls(5000, pa.float64()),
            "site": ["a"] * 5000,
        }
    )
    writer = parquet.Writer(tmp_path / "a.parquet", table.schema)
    writer.add(table)
    writer.close()
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    split = {group.column(at).path_in_schema: group.column(at).encodings for at in range(group.num_columns)}
    assert {name for name, encodings in split.items() if "BYTE_STREAM_SPLIT" in encodings} == {"noise"}
    assert pq.read_table(tmp_path / "a.parquet").equals(table)


def test_the_first_numbers_decide_how_all_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In stored order and whatever pieces they come in: the bytes would differ otherwise."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 6000)
    chance = np.random.default_rng(3)
    numbers = np.concatenate([np.zeros(5000), chance.normal(size=5000)])
    schema = pa.schema([("x", pa.float64())])
    found = {}
    for name, order in (("as they come", None), ("turned", np.arange(9999, -1, -1))):
        for size in (10_000, 999):
            writer = parquet.Writer(tmp_path / "a.parquet", schema, order)
            for start in range(0, 10_000, size):
                writer.add(pa.table({"x": numbers[start : start + size]}, schema=schema))
            writer.close()
            found.setdefault(name, set()).add((tmp_path / "a.parquet").read_bytes())
            metadata = pq.read_metadata(tmp_path / "a.parquet")
            encodings = {metadata.row_group(at).column(0).encodings for at in range(metadata.num_row_groups)}
            assert {"BYTE_STREAM_SPLIT" in one for one in encodings} == {name == "turned"}
    assert [len(one) for one in found.values()] == [1, 1]


def test_what_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the thread that encodes reaches who adds rows or closes; no later group hides it."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 10)
    table = pa.table({"x": np.arange(95.0)})
    writer = parquet.Writer(tmp_path / "not there" / "a.parquet", table.schema)
    with pytest.raises(FileNotFoundError):
        writer.add(table)
    one = parquet.Writer(tmp_path / "not there" / "b.parquet", table.schema)
    one.add(table.slice(0, 5))
    with pytest.raises(FileNotFoundError):
        one.close()


def test_columns_keep_their_order_and_types(tmp_path: Path) -> None:
    """Times are UTC microseconds, whole numbers floats so that every month has one schema."""
    convert(tmp_path / "a.parquet", ROWS)
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
    """Only the writer's version is; the metadata of pandas and Arrow that changes with libraries is gone."""
    convert(tmp_path / "a.parquet", ROWS)
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    assert metadata.created_by == f"parquet-cpp-arrow version {pa.__version__}"
    assert not metadata.metadata


def test_an_instant_is_taken_once_over_all_files() -> None:
    """As a dictionary of pairs would have it, over random files: the first row of a site and instant stays."""
    chance = np.random.default_rng(5)
    taken, seen = Taken(), set()
    for _ in range(30):
        instants = chance.integers(0, 40, size=chance.integers(1, 60))
        sites = chance.integers(0, 2, size=len(instants)).astype(np.int16)
        again = []
        for row, pair in enumerate(zip(sites.tolist(), instants.tolist(), strict=True)):
            if pair in seen:
                again.append(row)
            seen.add(pair)
        assert taken.repeated(instants, sites).tolist() == again
