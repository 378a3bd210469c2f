from __future__ import annotations

import random

import pytest

from edgeloop.drift.labels import (
    Interval,
    Part,
    bounds,
    complete_intervals,
    instant,
    intervals_between,
    missing_sites,
    watermark,
)

SITES = ("A", "B")


def _part(site: str, start: str, end: str, certificate: str = "c1") -> Part:
    return Part(certificate_id=certificate, site=site, start=start, end=end)


def _keys(*parts: Part, interval: str = "month", sites: tuple[str, ...] = SITES) -> list[str]:
    return [one.key for one in complete_intervals(parts, sites, interval)]  # type: ignore[arg-type]


def test_an_interval_is_complete_when_every_site_has_rows_in_it() -> None:
    """One site alone completes nothing, and the intervals come oldest first."""
    a = _part("A", "2014-01-01", "2014-03-01")
    assert _keys(a) == []
    assert _keys(a, _part("B", "2014-02-03T10:00:00Z", "2014-02-03T10:10:00Z")) == ["2014-02"]
    assert _keys(a, _part("B", "2014-01-31", "2014-02-02")) == ["2014-01", "2014-02"]


def test_the_end_of_a_part_is_exclusive() -> None:
    """Rows up to midnight of the first leave the next month alone; one microsecond after does not."""
    b = _part("B", "2014-01-01", "2014-04-01")
    assert _keys(_part("A", "2014-01-05", "2014-02-01T00:00:00Z"), b) == ["2014-01"]
    assert _keys(_part("A", "2014-01-05", "2014-02-01T00:00:00.000001Z"), b) == ["2014-01", "2014-02"]


def test_months_are_those_of_utc() -> None:
    """00:30 on 1 February in France is January's row."""
    b = _part("B", "2014-01-01", "2014-04-01")
    assert _keys(_part("A", "2014-02-01T00:30:00+01:00", "2014-02-01T00:40:00+01:00"), b) == ["2014-01"]


def test_rows_of_unknown_sites_count_for_nothing() -> None:
    """A fourth turbine's file neither completes an interval nor moves its watermark."""
    both = [_part("A", "2014-01-01", "2014-02-01"), _part("B", "2014-01-01", "2014-02-01")]
    stranger = _part("X", "2014-01-01", "2014-02-01", "c9")

    assert _keys(both[0], stranger) == []
    assert complete_intervals([*both, stranger], SITES, "month") == complete_intervals(both, SITES, "month")


def test_without_sites_or_rows_nothing_is_complete() -> None:
    """Empty input in every position is an empty answer."""
    assert _keys(_part("A", "2014-01-01", "2014-02-01"), sites=()) == []
    assert _keys() == []
    assert _keys(_part("A", "", ""), sites=("A",)) == []
    assert _keys(_part("A", "2014-01-01", "2014-01-01"), sites=("A",)) == []


def test_the_watermark_is_the_set_of_certificates() -> None:
    """The order of parts changes nothing, another certificate changes it, each interval has its own."""
    parts = [
        _part("A", "2014-01-01", "2014-03-01", "c1"),
        _part("B", "2014-01-01", "2014-02-01", "c1"),
        _part("B", "2014-02-01", "2014-03-01", "c2"),
    ]
    found = complete_intervals(parts, SITES, "month")
    assert found == [
        Interval(key="2014-01", watermark=watermark(["c1"])),
        Interval(key="2014-02", watermark=watermark(["c2", "c1"])),
    ]
    random.Random(4).shuffle(parts)
    assert complete_intervals(parts, SITES, "month") == found
    late = _part("A", "2014-01-10", "2014-01-11", "c3")
    assert complete_intervals([*parts, late], SITES, "month")[0].watermark == watermark(["c1", "c3"])


def test_days_are_intervals_too() -> None:
    """A pipeline may judge by day; leap days exist."""
    parts = [_part(site, "2016-02-28T23:50:00Z", "2016-03-01T00:00:00Z") for site in SITES]
    assert _keys(*parts, interval="day") == ["2016-02-28", "2016-02-29"]


def test_the_missing_sites_are_named() -> None:
    """What an incomplete interval waits for, sorted."""
    parts = [_part("B", "2014-01-01", "2014-02-01")]
    assert missing_sites(parts, ("C", "A", "B"), "2014-01") == ["A", "C"]
    assert missing_sites(parts, ("B",), "2014-02") == ["B"]


@pytest.mark.parametrize(
    ("key", "start", "end"),
    [
        ("2014-12", "2014-12-01", "2015-01-01"),
        ("2014-02", "2014-02-01", "2014-03-01"),
        ("2016-02-28", "2016-02-28", "2016-02-29"),
        ("2014-12-31", "2014-12-31", "2015-01-01"),
    ],
)
def test_bounds(key: str, start: str, end: str) -> None:
    """An interval reaches to the first instant of the next."""
    assert bounds(key) == (instant(start), instant(end))
    assert list(intervals_between(start, end, "day" if key.count("-") == 2 else "month")) == [key]


@pytest.mark.parametrize("key", ["", "2014", "2014-13", "2014-1x", "v1@0123456789abcdef", "2014-02-30"])
def test_what_is_no_interval_is_refused(key: str) -> None:
    """A mistyped partition key is an error, not an empty month."""
    with pytest.raises(ValueError, match=r"does not match|unconverted|out of range"):
        bounds(key)
