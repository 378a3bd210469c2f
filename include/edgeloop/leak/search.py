"""Fields of one row together: the places of every row's fields in the outputs, and what chance says about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.leak.chance import FIELDS, LOG_ALONE, MANY, WINDOW, log_expected
from edgeloop.leak.vocabulary import vocabulary, weigh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgeloop.leak.marks import Marks
    from edgeloop.leak.rows import Batch, Rows
    from edgeloop.leak.vocabulary import Vocabulary, Weights

PAIRS_AT_ONCE = 1 << 22
PLACE_BITS = 40
MOST_HITS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Fields of row ``row`` (from 1) of ``file`` together at ``where``; ``log_e`` is log2 of E of :mod:`.chance`."""

    where: str
    stream: int
    place: int
    file: str
    row: int
    columns: tuple[str, ...]
    log_e: float


def search(marks: Marks, rows: Rows, total: int) -> tuple[Hit, ...]:
    """The hits that chance does not explain, the surest first; ``total`` is the count of rows.

    Raises ``LeakError`` when outputs and data have more in common than can be compared.
    """
    import numpy as np

    if len(marks.values) < FIELDS:
        return ()
    words = vocabulary(marks)
    weights = weigh(marks, words, rows, total)
    if np.count_nonzero(~np.isnan(weights.log_q)) < FIELDS:
        return ()
    one = _Search(marks, words, weights, total)
    hits: list[Hit] = []
    for batch in rows.batches():
        hits += one.batch(batch)
        if len(hits) > 2 * MOST_HITS:
            hits = sorted(hits, key=lambda hit: hit.log_e)[:MOST_HITS]
    return judge(hits)


def judge(hits: list[Hit]) -> tuple[Hit, ...]:
    """Which hits are a leak: those that stand alone, and many in one stream."""
    hits = sorted(hits, key=lambda hit: hit.log_e)
    leaks = [hit for hit in hits if hit.log_e <= LOG_ALONE]
    for stream in {hit.stream for hit in hits}:
        apart: dict[int, Hit] = {}
        seen = set[tuple[str, int]]()
        for hit in hits:
            if hit.stream == stream and (hit.file, hit.row) not in seen and hit.place // WINDOW not in apart:
                apart[hit.place // WINDOW] = hit
                seen.add((hit.file, hit.row))
        if len(apart) >= MANY:
            leaks += [hit for hit in apart.values() if hit.log_e > LOG_ALONE]
    return tuple(leaks)


class _Search:
    def __init__(self, marks: Marks, words: Vocabulary, weights: Weights, total: int) -> None:
        self.marks, self.words, self.weights, self.total = marks, words, weights, total

    def batch(self, batch: Batch) -> Iterator[Hit]:
        """The hits among the rows of a batch."""
        import numpy as np

        found = list(self.words.matches(batch))
        load = np.zeros(batch.rows, dtype=np.int64)
        for _, rows, ids in found:
            load += np.bincount(rows, self.words.start[ids + 1] - self.words.start[ids], batch.rows).astype(np.int64)
        # Rows in groups whose pairs fit into memory together.
        group = np.cumsum(load) // PAIRS_AT_ONCE
        for number in np.unique(group).tolist():
            yield from self._group(batch, found, group == number)

    def _group(
        self, batch: Batch, found: list[tuple[int, NDArray[Any], NDArray[Any]]], wanted: NDArray[Any]
    ) -> Iterator[Hit]:
        """Each field of each wanted row at each of its places, in order; then those that are close."""
        import numpy as np

        keys, fields, indexes = [], [], []
        for number, all_rows, all_ids in found:
            chosen = wanted[all_rows]
            rows, ids = all_rows[chosen], all_ids[chosen]
            first = self.words.start[ids]
            counts = self.words.start[ids + 1] - first
            repeated = np.repeat(np.arange(len(rows)), counts)
            within = np.arange(len(repeated)) - np.repeat(np.cumsum(counts) - counts, counts)
            index = self.words.order[first[repeated] + within]
            keys.append((rows[repeated].astype(np.int64) << PLACE_BITS) | self.marks.places[index])
            fields.append(np.full(len(index), number, dtype=np.int16))
            indexes.append(index)
        if not keys:
            return
        order = np.argsort(np.concatenate(keys), kind="stable")
        key, field, index = (np.concatenate(one)[order] for one in (keys, fields, indexes))
        for start, end in self._close(key, index):
            hit = self._hit(batch, key[start:end], field[start:end], index[start:end])
            if hit is not None:
                yield hit

    def _close(self, key: NDArray[Any], index: NDArray[Any]) -> Iterator[tuple[int, int]]:
        """Runs of at least ``FIELDS`` pairs of one row within the window that may be a hit at best."""
        import numpy as np

        if len(key) < FIELDS:
            return
        # The row stands in the high bits, so places of two rows are never near.
        end = np.searchsorted(key, key + WINDOW)
        sums = np.concatenate([[0.0], np.cumsum(self.weights.log_q[index])])
        best = sums[end] - sums[:-1] + np.log2(self.total)
        best += np.log2(np.maximum(self.weights.count[self.marks.streams[index]], 1))
        for start in np.flatnonzero((end - np.arange(len(key)) >= FIELDS) & (best <= 0)).tolist():
            yield start, int(end[start])

    def _hit(self, batch: Batch, key: NDArray[Any], field: NDArray[Any], index: NDArray[Any]) -> Hit | None:
        """The least E of the fields from the first place on, each place and each column used once."""
        places = (key & ((1 << PLACE_BITS) - 1)).tolist()
        fields, log_q = field.tolist(), self.weights.log_q[index].tolist()
        stream = int(self.marks.streams[index[0]])
        best, columns = 1.0, tuple[str, ...]()
        taken: dict[int, tuple[float, int]] = {}
        used: dict[int, int] = {}
        for place, number, weight in zip(places, fields, log_q, strict=True):
            if place in used or (number in taken and taken[number][0] <= weight):
                continue
            if number in taken:
                del used[taken[number][1]]
            taken[number], used[place] = (weight, place), number
            if len(taken) >= FIELDS and places[0] in used:
                weights = [one for one, _ in taken.values()]
                count = int(self.weights.count[stream])
                log_e = log_expected(self.total, count, place - places[0] + 1, weights)
                if log_e < best:
                    best, columns = log_e, tuple(sorted(batch.fields[one].name for one in taken))
        if best > 0:
            return None
        row = int(key[0] >> PLACE_BITS) + batch.first
        where = self.marks.wheres[stream]
        return Hit(where=where, stream=stream, place=places[0], file=batch.file, row=row, columns=columns, log_e=best)
