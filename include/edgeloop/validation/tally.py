"""One verdict over a file that is read in chunks: the same, with the same failing rows, as over the file in one piece.

Expectations about rows are asked of every chunk and their counts added up; extremes are those of the chunk that holds
them; what must see a column whole is kept on disk, column by column, and judged at the end, one expectation at a time.
"""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeloop.validation.expect import Answer, Outcome, outcome, shown
from edgeloop.validation.kinds import Kind, kind_of
from edgeloop.validation.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from edgeloop.validation.expect import Expectations
    from edgeloop.validation.suite import Rule
    from edgeloop.validation.table import Chunk


@dataclass(slots=True, kw_only=True)
class Sum:
    """What the chunks' answers to one rule about rows add up to."""

    success: bool = True
    evaluated: bool = True
    considered: int | None = None
    failing: array[int] = field(default_factory=lambda: array("q"))
    observed: Any = None

    def add(self, answer: Answer, start: int) -> None:
        """One more chunk, whose first row has position ``start``."""
        self.success &= answer.success
        self.evaluated &= answer.evaluated
        self.failing.extend(start + position for position in sorted(answer.failing))
        if answer.considered is not None:
            self.considered = (self.considered or 0) + answer.considered
        self.observed = answer.observed

    def holds(self, mostly: float) -> bool:
        """The rule's verdict on all chunks, by the library's own arithmetic."""
        if self.considered is None or not self.evaluated:
            return self.success and self.evaluated
        return not self.considered or (float(self.considered) - len(self.failing)) / float(self.considered) >= mostly


class Tally:
    """A file's verdict in the making.

    Args:
        expectations: The suite, started.
        folder: Where columns that must be seen whole are kept meanwhile; on disk.
        memory_bytes: What the columns of one such expectation may take in memory.
    """

    def __init__(self, expectations: Expectations, folder: Path, memory_bytes: int) -> None:
        self.expectations = expectations
        self.rules = expectations.suite.rules
        self._kwargs = [json.loads(one).get("kwargs") or {} for one in expectations.suite.expectations]
        self._kinds = [_kind(rule, kwargs) for rule, kwargs in zip(self.rules, self._kwargs, strict=True)]
        self._sums = {number: Sum() for number in self._of(Kind.ROWS)}
        self._extremes: dict[int, Answer] = {}
        self._chunked = tuple(sorted([*self._sums, *self._of(Kind.LEAST), *self._of(Kind.GREATEST)]))
        # A row condition may name any column.
        whole = {n: () if self._kwargs[n].get("row_condition") else self.rules[n].columns for n in self._of(Kind.WHOLE)}
        self._spool = Spool(folder, whole, memory_bytes)
        self._rows = 0

    def _of(self, kind: Kind) -> list[int]:
        return [number for number, one in enumerate(self._kinds) if one is kind]

    def keep(self, chunk: Chunk) -> None:
        """Keep of the next rows what must be seen whole."""
        self._rows += len(chunk)
        self._spool.add(chunk)

    def ask(self, frame: pd.DataFrame, start: int) -> None:
        """Judge rows of which the first has position ``start``."""
        if not self._chunked:
            return
        for number, answer in self.expectations.ask(self._chunked, frame).items():
            if number in self._sums:
                self._sums[number].add(answer, start)
            else:
                self._extremes[number] = _further(self._kinds[number], self._extremes.get(number), answer)

    def outcomes(self) -> tuple[Outcome, ...]:
        """The suite's outcomes on the whole file, in the order of its rules.

        Raises:
            ConfigurationError: The columns of an expectation take more memory than they may.
        """
        found = {number: self._summed(number) for number in self._sums}
        found |= {number: outcome(self.rules[number], one, self._rows) for number, one in self._extremes.items()}
        found |= {number: self._alone(number, _rows(self._rows)) for number in self._of(Kind.COUNT)}
        for number in self._of(Kind.WHOLE):
            self._spool.check(number, self.rules[number])
            found[number] = self._alone(number, self._spool.frame(number))
        return tuple(found[number] for number in range(len(self.rules)))

    def _summed(self, number: int) -> Outcome:
        one = self._sums[number]
        return Outcome(
            rule=self.rules[number],
            success=one.holds(float(self._kwargs[number].get("mostly", 1.0))),
            total=self._rows,
            failing=one.failing,
            evaluated=one.evaluated,
            observed=shown(one.observed),
        )

    def _alone(self, number: int, frame: pd.DataFrame) -> Outcome:
        return outcome(self.rules[number], self.expectations.ask((number,), frame)[number], self._rows)


def _kind(rule: Rule, kwargs: dict[str, Any]) -> Kind:
    kind = kind_of(rule.expectation) or Kind.REFUSED
    # Which rows it counts is decided row by row, from whatever columns the condition names.
    return Kind.WHOLE if kind is Kind.COUNT and kwargs.get("row_condition") else kind


def _further(kind: Kind, known: Answer | None, new: Answer) -> Answer:
    """Of two chunks' answers the one that holds the file's extreme; one that could not be judged wins."""
    if known is None or not new.evaluated:
        return new
    if not known.evaluated or new.observed is None:
        return known
    if known.observed is None:
        return new
    # bool(): two numpy values compare to a numpy truth, which is neither True nor False.
    lower = bool(new.observed < known.observed)
    return new if lower is (kind is Kind.LEAST) else known


def _rows(count: int) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(index=pd.RangeIndex(count))
