"""Event times as instants: read chunk by chunk, settled over the whole file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

WITH_OFFSET = r"[T ]\d.*(?:[Zz]|[+-]\d{2}(?::?\d{2})?)$"
"""A time followed by Z or an offset; a bare date ends in what looks like one, hence the hour before it."""
NONE = -(2**63)
"""No instant, among instants in microseconds: what numpy and pandas call NaT."""


class Clock:
    """The times of one file, 9 bytes a row.

    Times without an offset are read in ``zone``. In the hour that a clock set back shows twice, they are told apart by
    their order where the column allows it, and are no instants otherwise; nor are those of an hour that was skipped.
    Order is a matter of the whole column, so nothing is an instant before :meth:`instants`.
    """

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self._values: list[npt.NDArray[np.int64]] = []
        self._local: list[npt.NDArray[np.bool_]] = []

    def add(self, column: Any) -> None:
        """Read the next rows: an Arrow array of any type; texts are read as ISO 8601."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = column if column.type == pa.string() else pc.cast(column, pa.string())
        for zone in ("UTC", None):
            try:
                stamps = pc.cast(texts, pa.timestamp("us", tz=zone))
            except pa.ArrowInvalid:
                # Some are no times, or are of the other kind, or have more digits than microseconds.
                continue
            self._values.append(_numbers(stamps))
            self._local.append(np.full(len(texts), zone is None))
            return
        self._mixed(texts)

    def _mixed(self, column: Any) -> None:
        import pandas as pd

        texts = column.to_pandas().astype("string")
        offset = texts.str.contains(WITH_OFFSET, regex=True, na=False).to_numpy(dtype=bool)
        utc = pd.to_datetime(texts.where(offset), format="ISO8601", utc=True, errors="coerce")
        naive = pd.to_datetime(texts.where(~offset), format="ISO8601", errors="coerce")
        values = utc.dt.as_unit("us").astype("int64").to_numpy(copy=True)
        local = ~offset
        values[local] = naive.dt.as_unit("us").astype("int64").to_numpy()[local]
        self._values.append(values)
        self._local.append(local)

    def instants(self) -> npt.NDArray[np.int64]:
        """Microseconds since 1970 in UTC, or ``NONE``; one for each row."""
        import numpy as np
        import pandas as pd

        values = np.concatenate([np.zeros(0, dtype=np.int64), *self._values])
        local = np.concatenate([np.zeros(0, dtype=bool), *self._local])
        self._values, self._local = [], []
        # Those alone: pandas infers nothing of an hour in which a row is no time, and every row of it would be lost.
        open_ones = local & (values != NONE)
        if open_ones.any():
            naive = pd.DatetimeIndex(values[open_ones].view("M8[us]"))
            try:
                zoned = naive.tz_localize(self.zone, ambiguous="infer", nonexistent="NaT")
            except ValueError:
                zoned = naive.tz_localize(self.zone, ambiguous="NaT", nonexistent="NaT")
            values[open_ones] = zoned.asi8
        return values


def _numbers(stamps: Any) -> npt.NDArray[np.int64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers: npt.NDArray[np.int64] = pc.fill_null(pc.cast(stamps, pa.int64()), NONE).to_numpy()
    return numbers


def coverage(instants: npt.NDArray[np.int64], sites: npt.NDArray[np.int16]) -> dict[tuple[str, int], int]:
    """Rows for every (UTC day ``2014-01-05``, number of the site)."""
    import numpy as np

    days = instants // 86_400_000_000
    pairs, counts = np.unique(np.stack([days, sites.astype(np.int64)]), axis=1, return_counts=True)
    names = pairs[0].astype("M8[D]").astype(str)
    return {(str(day), int(site)): int(rows) for day, site, rows in zip(names, pairs[1], counts, strict=True)}


def iso(instant: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)).isoformat()


def lines(parts: Iterable[dict[tuple[str, str], int]]) -> list[str]:
    """Rows for every (day, site) of several files as a certificate lists them: ``2014-01-05 R80711 144``, sorted."""
    total: dict[tuple[str, str], int] = {}
    for one in parts:
        for pair, rows in one.items():
            total[pair] = total.get(pair, 0) + rows
    return [f"{day} {site} {rows}" for (day, site), rows in sorted(total.items())]
