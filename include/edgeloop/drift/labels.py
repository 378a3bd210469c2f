"""Which intervals of event time have their labels, pure: from what was certified, never from the clock on the wall."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from edgeloop.records import canonical_json, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Length = Literal["month", "day"]
FORMATS = {"month": "%Y-%m", "day": "%Y-%m-%d"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Certified rows of one site: event times from ``start`` to ``end`` (exclusive), ISO 8601; no offset means UTC."""

    certificate_id: str
    site: str
    start: str
    end: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An interval of event time whose labels are there: ``2014-11`` or ``2014-11-03``.

    ``watermark`` is the sha256 of the certificates its labels come from: a late or corrected file gives another.
    """

    key: str
    watermark: str


def complete_intervals(parts: Iterable[Part], sites: Iterable[str], interval: Length) -> list[Interval]:
    """The intervals in which every one of ``sites`` has certified rows, oldest first.

    Rows of other sites count for nothing. Without sites nothing is complete. When more rows of an interval are
    certified later, its watermark changes and it counts as new.
    """
    needed = frozenset(sites)
    seen: dict[str, set[str]] = defaultdict(set)
    certificates: dict[str, set[str]] = defaultdict(set)
    for part in parts:
        if part.site in needed:
            for key in intervals_between(part.start, part.end, interval):
                seen[key].add(part.site)
                certificates[key].add(part.certificate_id)
    return [
        Interval(key=key, watermark=watermark(certificates[key]))
        for key in sorted(seen)
        if needed and seen[key] == needed
    ]


def missing_sites(parts: Iterable[Part], sites: Iterable[str], key: str) -> list[str]:
    """The sites that have no certified rows in the interval ``key``, sorted."""
    length = length_of(key)
    there = {part.site for part in parts if key in set(intervals_between(part.start, part.end, length))}
    return sorted(set(sites) - there)


def watermark(certificates: Iterable[str]) -> str:
    """The sha256 over certificate ids in any order."""
    return sha256_hex(canonical_json(sorted(set(certificates))))


def intervals_between(start: str, end: str, interval: Length) -> Iterator[str]:
    """Keys of the intervals that hold an instant of ``start`` to ``end`` (exclusive); none if it is empty."""
    if not start or not end:
        return
    at, stop = instant(start), instant(end)
    while at < stop:
        key = at.strftime(FORMATS[interval])
        yield key
        at = bounds(key)[1]


def bounds(key: str) -> tuple[datetime, datetime]:
    """First instant of an interval and first instant after it, UTC. Raises ``ValueError`` for what is no interval."""
    start = datetime.strptime(key, FORMATS[length_of(key)]).replace(tzinfo=UTC)
    if length_of(key) == "day":
        return start, start + timedelta(days=1)
    return start, (start + timedelta(days=31)).replace(day=1)


def ended_within(keys: Iterable[str], start: datetime, end: datetime) -> list[str]:
    """Those of the intervals ``keys`` that end after ``start`` and not after ``end``, so each in one of many runs."""
    return [key for key in keys if start < bounds(key)[1] <= end]


def length_of(key: str) -> Length:
    """``month`` for ``2014-11``, ``day`` for ``2014-11-03``."""
    return "month" if key.count("-") == 1 else "day"


def months_of(key: str) -> Sequence[str]:
    """The months (``YYYY-MM``) whose folders of prediction logs hold an interval's rows."""
    return (key[:7],)


def instant(text: str) -> datetime:
    """An ISO 8601 time as UTC; one without an offset is UTC already. Raises ``ValueError``."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
