"""Date-named folders."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from edgeloop.share.partitions import day_of, scope_of
from edgeloop.share.source import EVERYTHING

NOON = datetime(2014, 3, 6, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pattern", "path", "day"),
    [
        ("%Y/%m/%d", "2014/03/05/a.csv", "2014-03-05"),
        ("%Y/%m/%d", "2014/03/05/deep/a.csv", "2014-03-05"),
        ("%Y-%m-%d", "2014-03-05/a.csv", "2014-03-05"),
        ("day=%Y%m%d", "day=20140305/a.csv", "2014-03-05"),
        ("%Y/%Y-%m-%d", "2014/2014-03-05/a.csv", "2014-03-05"),
        ("%Y/%Y-%m-%d", "2013/2014-03-05/a.csv", ""),
        ("%Y/%m/%d/%H", "2014/03/05/23/a.csv", "2014-03-05"),
        ("%Y-%m-%d_%H", "2014-03-05_07/a.csv", "2014-03-05"),
        ("%d.%m.%Y", "05.03.2014/a.csv", "2014-03-05"),
        ("%d.%m.%Y", "05x03x2014/a.csv", ""),
        ("%Y/%m/%d", "2014/02/31/a.csv", ""),
        ("%Y/%m/%d", "2014/03/051/a.csv", ""),
        ("%Y/%m/%d", "x/2014/03/05/a.csv", ""),
        ("%Y/%m/%d", "2014/03/05", ""),
        ("%Y/%m/%d", "\u0662\u0660\u0661\u0664/03/05/a.csv", ""),
        ("", "2014/03/05/a.csv", ""),
    ],
)
def test_the_day_of_a_file_is_its_folders(pattern: str, path: str, day: str) -> None:
    """Read from the leading folders only, and only if it is a day."""
    assert day_of(path, pattern) == day


def test_without_a_pattern_or_a_newest_day_everything_is_looked_at() -> None:
    """The first sweep, and sources that are not sorted by date."""
    assert scope_of("", "2014-03-05", 7, NOON) is EVERYTHING
    assert scope_of("%Y/%m/%d", "", 7, NOON) is EVERYTHING


def test_a_scope_reaches_from_the_look_back_to_tomorrow() -> None:
    """Late files within the look-back are found, and those of a clock that is ahead of ours."""
    found = scope_of("%Y/%m/%d", "2014-03-05", 2, NOON).folders
    assert found == ("2014/03/03", "2014/03/04", "2014/03/05", "2014/03/06", "2014/03/07")
    east = datetime(2014, 3, 7, 1, tzinfo=timezone(timedelta(hours=14)))
    assert scope_of("%Y/%m/%d", "2014-03-06", 0, east).folders == ("2014/03/06", "2014/03/07")


def test_hours_are_all_of_their_day() -> None:
    """A folder below the day's is inside it; where day and hour share a name, each hour is named."""
    assert scope_of("%Y/%m/%d/%H", "2014-03-06", 0, NOON).folders == ("2014/03/06", "2014/03/07")
    found = scope_of("%Y-%m-%d_%H", "2014-03-06", 0, NOON).folders
    assert found is not None
    assert len(found) == 48
    assert (found[0], found[-1]) == ("2014-03-06_00", "2014-03-07_23")


def test_a_cursor_that_stayed_behind_for_years_gives_a_short_list() -> None:
    """Whole years and months are one folder each; no day is left out and none is named twice."""
    found = scope_of("%Y/%m/%d", "2011-11-29", 0, NOON).folders
    assert found == (
        "2011/11/29", "2011/11/30", "2011/12", "2012", "2013", "2014/01", "2014/02",
        *(f"2014/03/{day:02d}" for day in range(1, 8)),
    )  # fmt: skip
    flat = scope_of("%Y%m%d", "2011-11-29", 0, NOON).folders
    assert flat is not None
    assert len(flat) == (date(2014, 3, 7) - date(2011, 11, 29)).days + 1
    assert scope_of("%Y-%m/%d", "2014-01-31", 0, NOON).folders is not None
    assert "2014-02" in (scope_of("%Y-%m/%d", "2014-01-31", 0, NOON).folders or ())


def test_a_folder_of_the_far_future_does_not_hide_the_present() -> None:
    """One file in 2099 must not carry the cursor past everything that arrives until then."""
    assert scope_of("%Y/%m/%d", "2099-01-01", 1, NOON).folders == ("2014/03/06", "2014/03/07")
    assert scope_of("%Y/%m/%d", "9999-12-31", 0, NOON).folders == ("2014/03/07",)


def test_a_look_back_before_time_began_is_everything_since() -> None:
    """A very long look-back is no error."""
    found = scope_of("%Y/%m/%d", "2014-03-05", 10**6, NOON).folders
    assert found is not None
    assert found[0] == "0001"
