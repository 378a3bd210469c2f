"""From outcomes to what happens: which rows are set aside, what stops the batch, what is only noted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.validation.suite import Severity

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from edgeloop.validation.expect import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why some rows are set aside: ``rows`` are their positions (from 0, ascending); ``columns`` may be none."""

    rows: array[int] | npt.NDArray[np.int64]
    expectation: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        """``expectation(column)``."""
        return f"{self.expectation}({', '.join(self.columns)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the outcomes of one file amount to. The sentences hold counts and column names, never values."""

    faults: tuple[Fault, ...] = ()
    breaches: tuple[str, ...] = ()
    """Why the batch must stop; none if it may go on."""
    warnings: tuple[str, ...] = ()


def judge(file: str, outcomes: Iterable[Outcome]) -> Verdict:
    """Weigh every outcome by its rule's severity and budget."""
    faults: list[Fault] = []
    breaches: list[str] = []
    warnings: list[str] = []
    for one in outcomes:
        rule = one.rule
        if rule.severity is Severity.WARN:
            if broken(one):
                warnings.append(_sentence(file, one))
            continue
        if broken(one):
            breaches.append(_sentence(file, one))
        if one.failing:
            faults.append(Fault(rows=one.failing, expectation=rule.expectation, columns=rule.columns))
    return Verdict(faults=tuple(faults), breaches=tuple(breaches), warnings=tuple(warnings))


def broken(one: Outcome) -> bool:
    """Whether an outcome is beyond what its rule allows."""
    if not one.evaluated:
        return True
    if one.success:
        return False
    # A failed expectation without failing rows is about the table as a whole: no budget applies.
    return not one.failing or len(one.failing) > one.rule.budget * one.total


def _sentence(file: str, one: Outcome) -> str:
    if not one.evaluated:
        what = "could not be evaluated"
    elif one.failing:
        what = f"{len(one.failing)} of {one.total} rows, budget {one.rule.budget:.2%}"
    else:
        what = "not met"
    return f"{file}: {one.rule}: {what}" + (f" ({one.rule.reason})" if one.rule.reason else "")
