"""When the data of a partition happened, which is not when it arrived or was worked on; pure.

Of a batch, in this order: its certificate, the date in the name of its group (a blocked batch has no certificate), the
day of its claim. Of a model the newest data it saw, of an interval the interval.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from edgeloop.drift.labels import bounds, instant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.records import Batch, Certificate

DATED = re.compile(r"(?<!\d)(\d{4})[-_]?(\d{2})(?:[-_]?(\d{2}))?(?!\d)")
MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Event time from ``start`` to ``end`` (UTC, exclusive), and what says so."""

    start: datetime
    end: datetime
    source: str

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Whether any of it lies in ``start`` to ``end`` (exclusive)."""
        return self.start < end and start < self.end

    def __str__(self) -> str:
        """The days: ``2014-01-01 to 2014-01-31``."""
        first, last = f"{self.start:%Y-%m-%d}", f"{self.end - MOMENT:%Y-%m-%d}"
        return first if first == last else f"{first} to {last}"


def of_batch(batch: Batch, certificates: Iterable[Certificate]) -> Span:
    """The event time of a batch; ``certificates`` are its own."""
    dated = [one for one in certificates if one.event_start and one.event_end]
    if dated:
        newest = max(dated, key=lambda one: (one.certified_at, one.id))
        return Span(start=instant(newest.event_start), end=instant(newest.event_end), source="certificate")
    return of_name(batch.group) or day_of(instant(batch.claimed_at), "claim")


def of_name(name: str) -> Span | None:
    """The month or day that a name holds (``2014-11``, ``20141103``, ``R1_2014_11``); None if it holds none."""
    for year, month, day in DATED.findall(name):
        try:
            start, end = bounds("-".join(part for part in (year, month, day) if part))
        except ValueError:
            continue
        return Span(start=start, end=end, source="name")
    return None


def of_interval(key: str) -> Span | None:
    """An interval of labels; None for what is none."""
    try:
        start, end = bounds(key)
    except ValueError:
        return None
    return Span(start=start, end=end, source="interval")


def until(window_end: str) -> Span | None:
    """The newest data of a training's window; None where the window is not known."""
    if not window_end:
        return None
    end = instant(window_end)
    return Span(start=end - MOMENT, end=end, source="newest data of the window")


def day_of(moment: datetime, source: str) -> Span:
    """The UTC day that a moment lies in."""
    start = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Span(start=start, end=start + timedelta(days=1), source=source)
