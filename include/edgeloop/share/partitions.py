"""Date-named folders: which of them a sweep looks into, and which day a file lies under."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from edgeloop.share.source import EVERYTHING, Scope

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELD = re.compile(r"%([YmdH])")
DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2}
AHEAD = timedelta(days=1)
"""A clock ahead of ours, or east of UTC, writes into tomorrow's folder."""


def day_of(path: str, pattern: str) -> str:
    """The day (ISO 8601) whose folder ``path`` lies in, "" if it lies in none."""
    found = _folder(pattern).match(path) if pattern else None
    if found is None:
        return ""
    try:
        return date(int(found["Y"]), int(found["m"]), int(found["d"])).isoformat()
    except ValueError:
        return ""


def scope_of(pattern: str, newest_day: str, look_back_days: int, now: datetime) -> Scope:
    """The folders from ``look_back_days`` before ``newest_day`` until tomorrow; everything while there is no newest.

    Whole months and years are one folder where the pattern has one for them, so a cursor that stayed behind for years
    still gives a short list.
    """
    if not pattern or not newest_day:
        return EVERYTHING
    last = now.astimezone(UTC).date() + AHEAD
    # One file in the folder of a year that is still to come must not hide all that arrive until then.
    newest = min(date.fromisoformat(newest_day), last)
    first = newest - timedelta(days=min(look_back_days, (newest - date.min).days))
    return Scope(folders=tuple(sorted(set(_folders(pattern, first, last)))))


def _folders(pattern: str, first: date, last: date) -> Iterator[str]:
    year, month, day = (_level(pattern, fields) for fields in ("Y", "Ym", "Ymd"))
    at = first
    while at <= last:
        end_of_year, end_of_month = date(at.year, 12, 31), _end_of_month(at)
        if year and (at.month, at.day) == (1, 1) and end_of_year <= last:
            yield _named(year, at)
            at = end_of_year
        elif month and at.day == 1 and end_of_month <= last:
            yield _named(month, at)
            at = end_of_month
        else:
            hours = range(24) if "%H" in day else range(1)
            yield from (_named(day, at, hour) for hour in hours)
        at += timedelta(days=1)


def _level(pattern: str, fields: str) -> str:
    """The shortest leading folders of ``pattern`` that name all ``fields``, and no finer ones above days; or ""."""
    parts = pattern.split("/")
    for count in range(1, len(parts) + 1):
        lead = "/".join(parts[:count])
        named = set(FIELD.findall(lead))
        if named >= set(fields):
            return lead if named == set(fields) or fields == "Ymd" else ""
    return ""


def _named(pattern: str, day: date, hour: int = 0) -> str:
    values = {"Y": f"{day.year:04d}", "m": f"{day.month:02d}", "d": f"{day.day:02d}", "H": f"{hour:02d}"}
    return FIELD.sub(lambda found: values[found[1]], pattern)


def _end_of_month(day: date) -> date:
    return day.replace(day=monthrange(day.year, day.month)[1])


@lru_cache(maxsize=64)
def _folder(pattern: str) -> re.Pattern[str]:
    known: set[str] = set()

    def field(name: str) -> str:
        if name in known:
            return f"(?P={name})"
        known.add(name)
        return rf"(?P<{name}>[0-9]{{{DIGITS[name]}}})"

    pieces = FIELD.split(_level(pattern, "Ymd"))
    return re.compile("".join(field(one) if at % 2 else re.escape(one) for at, one in enumerate(pieces)) + "/")
