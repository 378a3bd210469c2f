"""Values of identifier columns: none may be in an output, not even one.

In texts a value is found as whole words, in whatever case and with whatever between its letters and digits: ``SN-0042``
is also ``sn 0042`` and ``SN0042``. Among numbers it is found as a whole number of six digits or more. Shorter ones are
everywhere and are not searched: texts of fewer than ``LEAST_LETTERS`` characters, and fewer than ``LEAST_DIGITS``
digits alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import LeakError
from edgeloop.leak.piece import Numbers
from edgeloop.leak.rows import digest, words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeloop.leak.piece import Piece, Text
    from edgeloop.leak.rows import Rows

LEAST_LETTERS, LEAST_DIGITS, LEAST_NUMBER = 3, 5, 100_000
LONGEST_WORDS = 8
MOST_VALUES = 1 << 24
PIECE_VALUES = 1 << 16
ALPHABET = 36
NOISE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifiers:
    """The values of one column: digests, sorted, of their letters and digits by length; whole numbers, sorted.

    ``skipped`` are the different values that are too short to be searched for.
    """

    column: str
    by_length: dict[int, NDArray[Any]]
    numbers: NDArray[Any]
    longest: int
    skipped: int

    def found(self, piece: Piece) -> bool:
        """Whether a piece holds one of the values."""
        return self._in_numbers(piece.values) if isinstance(piece, Numbers) else self._in_text(piece)

    def _in_numbers(self, values: NDArray[Any]) -> bool:
        import numpy as np

        if not len(self.numbers):
            return False
        with np.errstate(all="ignore"):
            fit = (np.abs(values) >= LEAST_NUMBER) & (np.abs(values) < 2.0**63) & (values == np.trunc(values))
            whole = np.unique(values[fit].astype(np.int64))
        return bool(np.isin(whole, self.numbers).any())

    def _in_text(self, piece: Text) -> bool:
        spoken = words(piece.text)
        at_once = self._enough(len(spoken), loose=piece.loose)
        return any(
            _among(digest(joined), self.by_length[len(joined)])
            for start in range(len(spoken))
            for joined in _joined(spoken, start, self.longest, max(at_once, default=0))
            if len(joined) in at_once
        )

    def _enough(self, count: int, *, loose: bool) -> frozenset[int]:
        """Lengths that mean something among so many words; noise holds every short word some time."""
        return frozenset(
            length
            for length, known in self.by_length.items()
            if not loose or count * self.longest * len(known) < NOISE * float(ALPHABET) ** length
        )


def _joined(spoken: list[str], start: int, most: int, length: int) -> list[str]:
    found, joined = [], ""
    for word in spoken[start : start + most]:
        joined += word
        if len(joined) > length:
            break
        found.append(joined)
    return found


def _among(key: int, known: NDArray[Any]) -> bool:
    import numpy as np

    at = int(np.searchsorted(known, np.uint64(key)))
    return at < len(known) and int(known[at]) == key


def identifiers(rows: Rows, columns: tuple[str, ...]) -> tuple[Identifiers, ...]:
    """Read the values of the identifier columns.

    Raises ``LeakError`` when they are more than can be held.
    """
    gathered = {column: _Gathered(column) for column in columns}
    for column, value in rows.texts(columns):
        gathered[column].take(value)
    return tuple(one.done() for one in gathered.values())


class _Gathered:
    def __init__(self, column: str) -> None:
        self.column, self.longest, self.count = column, 1, 0
        self.short = set[str]()
        self._fresh: dict[int, set[int]] = {}
        self._kept: dict[int, NDArray[Any]] = {}
        self._waiting = 0

    def take(self, value: str) -> None:
        spoken = words(value)
        joined = "".join(spoken)
        least = LEAST_DIGITS if joined.isdigit() else LEAST_LETTERS
        if len(joined) < least or len(spoken) > LONGEST_WORDS:
            self.short.add(joined)
            return
        self.longest = max(self.longest, len(spoken))
        self._fresh.setdefault(len(joined), set()).add(digest(joined))
        if joined.isdigit() and LEAST_NUMBER <= int(joined) < 2**63:
            self._fresh.setdefault(-1, set()).add(int(joined))
        self._waiting += 1
        if self._waiting >= PIECE_VALUES:
            self._fold()

    def _fold(self) -> None:
        import numpy as np

        for length, keys in self._fresh.items():
            fresh = np.fromiter(keys, dtype=np.uint64, count=len(keys))
            self._kept[length] = np.union1d(self._kept.get(length, np.empty(0, dtype=np.uint64)), fresh)
        self._fresh, self._waiting = {}, 0
        if sum(map(len, self._kept.values())) > MOST_VALUES:
            raise LeakError(
                f"Column {self.column} has more than {MOST_VALUES} different values, more than are searched for.",
                left="the outputs on the VM; nothing was stored",
                next="Take the column out of columns.identifiers, or train on fewer months, then clear the task.",
            )

    def done(self) -> Identifiers:
        import numpy as np

        self._fold()
        whole = self._kept.pop(-1, np.empty(0, dtype=np.uint64)).astype(np.int64)
        return Identifiers(
            column=self.column, by_length=self._kept, numbers=whole, longest=self.longest, skipped=len(self.short)
        )
