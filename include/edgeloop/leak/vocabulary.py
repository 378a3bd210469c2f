"""The different marks, how common each is in the data and in its stream, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import LeakError
from edgeloop.leak import layer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgeloop.leak.marks import Marks
    from edgeloop.leak.rows import Batch, Rows

WORK_PAIRS = 2_000_000_000
"""How many pairs of a field and a place are compared: some minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The different marks, by id: ``keys`` of each layer in order, ``base`` the id of its first.

    ``start`` [ids + 1] and ``order`` [marks] are the places of each id, as indexes of the marks.
    """

    layers: tuple[int, ...]
    keys: tuple[NDArray[Any], ...]
    base: tuple[int, ...]
    ids: NDArray[Any]
    start: NDArray[Any]
    order: NDArray[Any]

    @property
    def size(self) -> int:
        """How many different marks there are."""
        return len(self.start) - 1

    def matches(self, batch: Batch) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
        """For every field and layer: the field's number, rows [k] of the batch and the ids [k] of their marks."""
        import numpy as np

        for number, field in enumerate(batch.fields):
            for code, known, base in zip(self.layers, self.keys, self.base, strict=True):
                if not layer.suits(code, field.kind):
                    continue
                keys = layer.keys(code, field.values)
                at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
                rows = np.flatnonzero(known[at] == keys)
                yield number, rows, at[rows] + base


def vocabulary(marks: Marks) -> Vocabulary:
    """Number the different marks."""
    import numpy as np

    layers, all_keys, bases, base = [], [], [], 0
    ids = np.zeros(len(marks.values), dtype=np.int64)
    for code in np.unique(marks.layers).tolist():
        here = marks.layers == code
        keys, inverse = np.unique(layer.keys(code, marks.values[here]), return_inverse=True)
        ids[here] = inverse + base
        layers.append(code)
        all_keys.append(keys)
        bases.append(base)
        base += len(keys)
    order = np.argsort(ids, kind="stable")
    start = np.searchsorted(ids[order], np.arange(base + 1))
    return Vocabulary(layers=tuple(layers), keys=tuple(all_keys), base=tuple(bases), ids=ids, start=start, order=order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """log2 of q of every mark [marks], NaN where it is in no row; ``count`` of marks by stream."""

    log_q: NDArray[Any]
    count: NDArray[Any]


def weigh(marks: Marks, words: Vocabulary, rows: Rows, total: int) -> Weights:
    """Read the data once and say how common every mark is.

    Raises ``LeakError`` when data and marks have more in common than can be compared.
    """
    import numpy as np

    found = np.zeros(words.size, dtype=np.int64)
    for batch in rows.batches():
        for _, _, ids in words.matches(batch):
            found += np.bincount(ids, minlength=words.size)
    in_data = (found > 0)[words.ids]
    pairs = int((found * np.diff(words.start)).sum())
    if pairs > WORK_PAIRS:
        raise LeakError(
            f"The outputs hold numbers that stand in the training data {pairs} times, more than the {WORK_PAIRS} that "
            "are compared with its rows.",
            left="the outputs on the VM; nothing was stored",
            next="Let train.py make a smaller model, or print fewer numbers. Changed code trains anew.",
        )
    count = np.bincount(marks.streams[in_data], minlength=len(marks.wheres))
    repeated = _surroundings(marks, words, in_data)
    share = found[words.ids] / max(total, 1) + repeated / np.maximum(count[marks.streams], 1)
    log_q = np.where(in_data, np.log2(np.clip(share, 1e-300, 1.0)), np.nan)
    return Weights(log_q=log_q, count=count)


def _surroundings(marks: Marks, words: Vocabulary, in_data: NDArray[Any]) -> NDArray[Any]:
    """In how many further, different surroundings each mark stands in its stream [marks]."""
    import numpy as np

    far = np.int64(words.size)
    before = np.concatenate([[far], words.ids[:-1]])
    after = np.concatenate([words.ids[1:], [far]])
    mine = marks.streams.astype(np.int64) * (far + 1) + words.ids
    beside = before * (far + 1) + after
    order = np.lexsort((beside, mine))
    order = order[in_data[order]]
    mine, beside = mine[order], beside[order]
    first = np.concatenate([[True], mine[1:] != mine[:-1]])
    other = np.concatenate([[True], beside[1:] != beside[:-1]]) | first
    group = np.cumsum(first) - 1
    result = np.zeros(len(marks.values))
    result[order] = np.bincount(group, other)[group] - 1 if len(order) else 0
    return result
