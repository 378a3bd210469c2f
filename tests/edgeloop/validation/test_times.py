"""Event times as instants."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from edgeloop.validation.times import Clock, coverage, lines


def utc(*texts: Any, zone: str = "UTC") -> list[str | None]:
    """The instants that texts mean, or None."""
    clock = Clock(zone)
    clock.add(pa.array([None if one is None else str(one) for one in texts], pa.string()))
    found = clock.instants().view("M8[us]")
    return [None if pd.isna(one) else pd.Timestamp(one, tz="UTC").isoformat() for one in found]


def test_offsets_are_applied_row_by_row() -> None:
    """The historian's winter and summer offsets stand in one column."""
    texts = ("2014-01-01T01:00:00+01:00", "2014-07-01T01:00:00+02:00", "2014-01-01T00:00:00Z")
    assert utc(*texts, zone="Asia/Tokyo") == [
        "2014-01-01T00:00:00+00:00",
        "2014-06-30T23:00:00+00:00",
        "2014-01-01T00:00:00+00:00",
    ]


def test_times_without_an_offset_are_read_in_the_columns_zone() -> None:
    """A bare date is midnight there; its last two digits are no offset."""
    assert utc("2014-01-01 01:00", "2014-07-01", zone="Europe/Paris") == [
        "2014-01-01T00:00:00+00:00",
        "2014-06-30T22:00:00+00:00",
    ]


def test_both_kinds_may_stand_in_one_column() -> None:
    """Each row is read by what it says itself."""
    assert (
        utc("2014-01-01T01:00:00+01:00", "2014-01-01T01:00:00", zone="Europe/Paris")
        == ["2014-01-01T00:00:00+00:00"] * 2
    )


def test_a_bare_date_beside_an_offset_is_midnight_in_the_columns_zone() -> None:
    """Its last two digits look like one."""
    found = ["2014-01-04T23:00:00+00:00", "2014-01-05T00:00:00+00:00"]
    assert utc("2014-01-05", "2014-01-05T00:00:00Z", zone="Europe/Paris") == found


def test_rows_that_leave_nothing_open_have_no_part_in_the_order_of_the_others() -> None:
    """The hour that stands twice is told apart although one of its rows has an offset and another is no time."""
    local = [f"2014-10-26T02:{minute}:00" for minute in ("00", "30")] * 2
    found = utc(local[0], "2014-10-26T02:45:00Z", local[1], "soon", *local[2:], zone="Europe/Paris")
    assert [one and one[11:16] for one in found] == ["00:00", "02:45", "00:30", None, "01:00", "01:30"]


def test_what_is_no_time_is_no_instant() -> None:
    """Text, nothing, numbers, impossible days: none of them raises."""
    assert utc("soon", None, "2014-02-30T00:00:00Z", "2014-13-01", "") == [None] * 5
    assert utc(1, 2) == [None, None]


def test_the_hour_that_stands_twice_is_told_apart_by_order() -> None:
    """In October the clock shows 02:00 to 02:50 twice; in order, the first is summer time."""
    texts = [f"2014-10-26T0{hour}:{minute}0:00" for hour in (1, 2, 2, 3) for minute in range(6)]
    found = utc(*texts, zone="Europe/Paris")
    assert len(set(found)) == 24
    assert found == sorted(found)


def test_a_lone_time_of_that_hour_is_no_instant() -> None:
    """Nothing says which of the two it is; nor does the hour exist that the clock skips in March."""
    assert utc("2014-10-26T02:10:00", zone="Europe/Paris") == [None]
    assert utc("2014-03-30T02:10:00", "2014-03-30T03:10:00", zone="Europe/Paris") == [None, "2014-03-30T01:10:00+00:00"]
    both = utc("2014-03-30T02:10:00", "2014-10-26T02:10:00", "2014-12-01", zone="Europe/Paris")
    assert both == [None, None, "2014-11-30T23:00:00+00:00"]


def test_chunks_change_no_instant() -> None:
    """Both hours of a clock set back, some with offsets, some no times: wherever chunks begin, the same instants."""
    texts = [f"2014-10-26T0{hour}:{minute}0:00" for hour in (1, 2, 2, 3) for minute in range(6)]
    texts[3], texts[20] = "2014-10-26T01:30:00+02:00", "soon"
    chance = random.Random(7)
    whole = Clock("Europe/Paris")
    whole.add(pa.array(texts))
    expected = whole.instants().tolist()
    assert len(set(expected)) == 24
    for _ in range(20):
        clock, at = Clock("Europe/Paris"), 0
        while at < len(texts):
            size = chance.randint(1, 9)
            clock.add(pa.array(texts[at : at + size]))
            at += size
        assert clock.instants().tolist() == expected


def test_rows_are_counted_by_utc_day_and_site() -> None:
    """A row at 00:30+01:00 belongs to the day before."""
    times = ["2014-01-02T00:30:00+01:00", "2014-01-02T01:30:00+01:00", "2014-01-02T02:30:00+01:00"]
    clock = Clock("UTC")
    clock.add(pa.array(times))
    assert coverage(clock.instants(), np.array([0, 0, 1], dtype=np.int16)) == {
        ("2014-01-01", 0): 1,
        ("2014-01-02", 0): 1,
        ("2014-01-02", 1): 1,
    }
    assert coverage(np.array([-1], dtype=np.int64), np.array([0], dtype=np.int16)) == {("1969-12-31", 0): 1}


def test_the_rows_of_several_files_are_added_up() -> None:
    """A certificate lists each day and site once, in order."""
    one, two = {("2014-01-02", "b"): 3, ("2014-01-02", "a"): 1}, {("2014-01-01", "b"): 2, ("2014-01-02", "b"): 4}
    assert lines([one, two]) == ["2014-01-01 b 2", "2014-01-02 a 1", "2014-01-02 b 7"]
