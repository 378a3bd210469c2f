"""One look at the data beforehand: which numbers can be in it at all, and every text of it.

A model has millions of weights of which hardly one is a field; what the sketch does not know is dropped at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.leak import layer
from edgeloop.leak.rows import runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeloop.leak.rows import Rows

BITS = 26
SPREAD = 0x9E3779B1
"""2**32 divided by the golden ratio: spreads neighbouring bit patterns (Knuth, multiplicative hashing)."""
LONGEST_TEXT = 12
"""Runs of letters or digits; longer texts are not looked for."""
FOLD = 16


@dataclass(slots=True)
class Sketch:
    """``table`` bool [2**26] over hashes of 32-bit numbers, ``texts`` sorted keys; how many rows there are."""

    table: NDArray[Any]
    texts: NDArray[Any]
    longest_text: int
    rows: int

    def holds(self, kind: int, values: NDArray[Any]) -> NDArray[Any]:
        """Which values may be in the data; printed ones always may."""
        import numpy as np

        if kind != layer.FLOAT32:
            return np.ones(len(values), dtype=bool)
        return np.asarray(self.table[slots(values)])

    def is_text(self, key: float) -> bool:
        """Whether a text of the data has that key."""
        at = int(self.texts.searchsorted(key))
        return at < len(self.texts) and bool(self.texts[at] == key)


def slots(values: NDArray[Any]) -> NDArray[Any]:
    """Where numbers, float64 [n], stand in the table."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        bits = values.astype(np.float32).view(np.uint32)
    return (bits * np.uint32(SPREAD)) >> np.uint32(32 - BITS)


def sketch(rows: Rows) -> Sketch:
    """Read the data once."""
    import numpy as np

    table, texts, count, names = np.zeros(1 << BITS, dtype=bool), [np.empty(0)], 0, set[str]()
    for batch in rows.batches():
        count += batch.rows
        for field in batch.fields:
            if field.kind == "text":
                names.add(field.name)
                texts.append(np.unique(field.values[~np.isnan(field.values)]))
            else:
                table[slots(field.values[~np.isnan(field.values)])] = True
        if len(texts) > FOLD:
            texts = [np.unique(np.concatenate(texts))]
    longest = max((len(runs(text)) for _, text in rows.texts(tuple(sorted(names)))), default=0) if names else 0
    return Sketch(
        table=table, texts=np.unique(np.concatenate(texts)), longest_text=min(longest, LONGEST_TEXT), rows=count
    )
