"""Event times as instants, and how often each site has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

WITH_OFFSET = r"[T ]\d.*(?:[Zz]|[+-]\d{2}(?::?\d{2})?)$"
"""A time followed by Z or an offset; a bare date ends in what looks like one, hence the hour before it."""


def to_utc(times: pd.Series, zone: str) -> pd.Series:
    """ISO 8601 texts as ``datetime64[us, UTC]``; what is no instant becomes ``NaT``.

    Times without an offset are read in ``zone``. In the hour that a clock set back shows twice, they are told apart by
    their order where the column allows it, and are no instants otherwise; nor are those of an hour that was skipped.
    """
    import pandas as pd

    texts = times.astype("string")
    offset = texts.str.contains(WITH_OFFSET, regex=True, na=False)
    utc = pd.to_datetime(texts.where(offset), format="ISO8601", utc=True, errors="coerce")
    if not offset.all():
        naive = pd.to_datetime(texts.where(~offset), format="ISO8601", errors="coerce")
        try:
            local = naive.dt.tz_localize(zone, ambiguous="infer", nonexistent="NaT")
        except ValueError:
            local = naive.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
        utc = utc.where(offset, local.dt.tz_convert("UTC"))
    return utc.dt.as_unit("us")


def coverage(times: pd.Series, sites: pd.Series) -> dict[tuple[str, str], int]:
    """Rows for every (UTC day ``2014-01-05``, site)."""
    days = times.dt.strftime("%Y-%m-%d")
    counted = days.to_frame("day").assign(site=sites.astype(str)).value_counts()
    return {(str(day), str(site)): int(rows) for (day, site), rows in counted.items()}
