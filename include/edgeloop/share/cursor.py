"""Where a sweep looks: at the recent date folders, or at everything when a full sweep is due. Pure decisions.

The cursor is the newest day with claimed files; it and the time of the last full sweep are kept in the journal of
claims, so a tick of cron that nobody heard delays a full sweep, and loses none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from edgeloop.share.partitions import day_of, scope_of
from edgeloop.share.source import EVERYTHING, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.pipeline import Source

AHEAD = timedelta(days=1)


def newest_claimed_day(partitions: str, paths: Iterable[str], now: datetime) -> str:
    """The newest day (ISO 8601) whose folder one of ``paths`` lies in, "" for none.

    A folder of a year that is still to come must not carry the cursor past everything that arrives until then.
    """
    last = (now.astimezone(UTC) + AHEAD).date().isoformat()
    return max((day for path in paths if (day := day_of(path, partitions)) <= last), default="") if partitions else ""


def recent(source: Source, newest_day: str, now: datetime) -> Scope:
    """The folders that a sweep looks into when no full one is due."""
    return scope_of(source.partitions, newest_day, source.look_back_days, now)


def full_sweep_is_due(source: Source, cron: str, swept_at: str, now: datetime) -> bool:
    """Whether a tick of ``cron`` (UTC) has passed since the last full sweep began; never without partitions."""
    if not source.partitions:
        return False
    if not swept_at:
        return True
    from croniter import croniter

    tick: datetime = croniter(cron, now.astimezone(UTC) + timedelta(microseconds=1)).get_prev(datetime)
    return datetime.fromisoformat(swept_at) < tick


def scope_of_sweep(source: Source, newest_day: str, now: datetime, *, full: bool) -> Scope:
    """What a run looks at."""
    return EVERYTHING if full else recent(source, newest_day, now)
