"""Which rows of a judged file are kept, and in which order they are stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeloop.validation.times import NONE
from edgeloop.validation.verdict import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

IS_INSTANT, IS_SITE = "time_is_an_instant", "site_is_known"
IS_FIRST, IS_WHOLE = "site_and_time_are_unique", "line_is_whole"
"""What every row must be whatever the suite says; the names stand in the quarantine beside those of expectations."""
UNKNOWN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Which columns hold time and site, the zone of times without an offset, and the sites there are."""

    time: str
    site: str
    zone: str
    sites: tuple[str, ...]


class Taken:
    """The instants that a batch's earlier files hold, by site: 8 bytes for each of their rows."""

    def __init__(self) -> None:
        self._by_site: dict[int, npt.NDArray[np.int64]] = {}

    def repeated(self, instants: npt.NDArray[np.int64], sites: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Positions of rows whose site and instant an earlier row or file has; the others are taken from now on."""
        import numpy as np

        again = [np.zeros(0, dtype=np.int64)]
        for site in np.unique(sites).tolist():
            rows = np.flatnonzero(sites == site)
            times, first = np.unique(instants[rows], return_index=True)
            known = self._by_site.get(site, np.zeros(0, dtype=np.int64))
            at = np.searchsorted(known, times)
            old = np.zeros(len(times), dtype=bool)
            inside = at < len(known)
            old[inside] = known[at[inside]] == times[inside]
            new = np.zeros(len(rows), dtype=bool)
            new[first[~old]] = True
            again.append(rows[~new])
            self._by_site[site] = np.sort(np.concatenate([known, times[~old]]))
        return np.sort(np.concatenate(again))


class Sites:
    """The sites of a file's rows as numbers, 2 bytes a row."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._numbers: list[npt.NDArray[np.int16]] = []

    def add(self, column: Any) -> None:
        """Read the next rows: an Arrow array of any type."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = column if column.type == pa.string() else pc.cast(column, pa.string())
        found = pc.fill_null(pc.index_in(texts, value_set=pa.array(self._names, pa.string())), UNKNOWN)
        self._numbers.append(found.to_numpy().astype(np.int16))

    def numbers(self) -> npt.NDArray[np.int16]:
        """The position of each row's site among the names, or ``UNKNOWN``."""
        import numpy as np

        return np.concatenate([np.zeros(0, dtype=np.int16), *self._numbers])


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A file's rows after judgement.

    Args:
        kept: Whether each row is.
        faults: Why the others are not.
        instants: Event time of each kept row, microseconds since 1970 in UTC.
        sites: The number of each kept row's site.
        order: Positions among the kept rows, by time and then site; None if they stand so.
    """

    kept: npt.NDArray[np.bool_]
    faults: tuple[Fault, ...]
    instants: npt.NDArray[np.int64]
    sites: npt.NDArray[np.int16]
    order: npt.NDArray[np.int64] | None = field(default=None)


def select(
    faults: Iterable[Fault],
    instants: npt.NDArray[np.int64],
    sites: npt.NDArray[np.int16],
    meaning: Meaning,
    taken: Taken,
) -> Selection:
    """Set rows aside that broke an expectation, have no instant or no site, or repeat one that is kept."""
    import numpy as np

    every = [
        *faults,
        Fault(rows=np.flatnonzero(instants == NONE), expectation=IS_INSTANT, columns=(meaning.time,)),
        Fault(rows=np.flatnonzero(sites == UNKNOWN), expectation=IS_SITE, columns=(meaning.site,)),
    ]
    kept = np.ones(len(instants), dtype=bool)
    for one in every:
        kept[np.asarray(one.rows, dtype=np.int64)] = False
    # Only among rows that are kept: a first row that is quarantined must not take its good double with it.
    candidates = np.flatnonzero(kept)
    doubles = candidates[taken.repeated(instants[candidates], sites[candidates])]
    kept[doubles] = False
    every.append(Fault(rows=doubles, expectation=IS_FIRST, columns=(meaning.site, meaning.time)))
    times, places = instants[kept], sites[kept]
    return Selection(
        kept=kept,
        faults=tuple(one for one in every if len(one.rows)),
        instants=times,
        sites=places,
        order=_order(times, places, meaning.sites),
    )


def _order(
    instants: npt.NDArray[np.int64], sites: npt.NDArray[np.int16], names: tuple[str, ...]
) -> npt.NDArray[np.int64] | None:
    import numpy as np

    ranks = np.argsort(np.argsort(np.array(names)))[sites]
    step = np.diff(instants)
    if ((step > 0) | ((step == 0) & (np.diff(ranks) > 0))).all():
        return None
    return np.lexsort((ranks, instants)).astype(np.int64)
