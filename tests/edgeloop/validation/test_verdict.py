"""What outcomes amount to, and what on-call staff read."""

from __future__ import annotations

from array import array

import pytest

from edgeloop.validation.blocked import blocked
from edgeloop.validation.expect import Outcome
from edgeloop.validation.suite import Rule, Severity
from edgeloop.validation.verdict import Fault, judge


def outcome(
    severity: Severity, failing: int = 0, *, budget: float = 0.0, success: bool = False, **more: bool
) -> Outcome:
    """The outcome of a rule on 100 rows, of which the first `failing` fail."""
    rule = Rule(expectation="expect_x", columns=("a",), severity=severity, budget=budget, reason="why")
    return Outcome(rule=rule, success=success, failing=array("q", range(failing)), total=100, **more)


@pytest.mark.parametrize(
    ("one", "faults", "breaches", "warnings"),
    [
        (outcome(Severity.BLOCK, success=True), 0, 0, 0),
        (outcome(Severity.BLOCK, 1), 1, 1, 0),
        (outcome(Severity.BLOCK, 5, budget=0.05), 5, 0, 0),
        (outcome(Severity.BLOCK), 0, 1, 0),
        (outcome(Severity.QUARANTINE, 15, budget=0.15), 15, 0, 0),
        (outcome(Severity.QUARANTINE, 16, budget=0.15), 16, 1, 0),
        (outcome(Severity.QUARANTINE, 3, budget=0.01, success=True), 3, 0, 0),
        (outcome(Severity.WARN, 3), 0, 0, 1),
        (outcome(Severity.WARN, 3, budget=0.5), 0, 0, 0),
        (outcome(Severity.WARN), 0, 0, 1),
        (outcome(Severity.QUARANTINE, budget=1.0, success=True, evaluated=False), 0, 1, 0),
    ],
)
def test_severity_and_budget_decide(one: Outcome, faults: int, breaches: int, warnings: int) -> None:
    """Rows within the budget are set aside; above it, or for a whole table, the batch stops; warn never does."""
    verdict = judge("a.csv", [one])
    assert (sum(len(fault.rows) for fault in verdict.faults), len(verdict.breaches), len(verdict.warnings)) == (
        faults,
        breaches,
        warnings,
    )


def test_sentences_name_file_expectation_counts_budget_and_reason() -> None:
    """Everything needed at night, and no value of a row."""
    verdict = judge("a.csv", [outcome(Severity.QUARANTINE, 16, budget=0.15), outcome(Severity.BLOCK)])
    assert verdict.breaches == (
        "a.csv: expect_x(a): 16 of 100 rows, budget 15.00% (why)",
        "a.csv: expect_x(a): not met (why)",
    )
    assert verdict.faults[0] == Fault(rows=array("q", range(16)), expectation="expect_x", columns=("a",))


def test_a_blocked_batch_says_counts_reasons_place_and_command() -> None:
    """The first ten reasons, how many more, where the rows lie, and what to type."""
    error = blocked(
        batch="2014-01@abc",
        files=3,
        breaches=tuple(f"reason {number}" for number in range(9)),
        set_aside=("x.csv: empty", "y.csv: no CSV", "z.csv: half-written"),
        quarantined=17,
        quarantine="wind-power/quarantine/abc/ (connection edgeloop_private)",
        docs="wind-power/docs/abc/0123.html (connection edgeloop_private)",
        rerun="airflow dags clear wind_power_ingest --partition-key '2014-01@abc' --only-failed -y",
    )
    lines = str(error).splitlines()
    assert lines[0] == (
        "Batch 2014-01@abc is blocked: 9 expectations broken; 3 files, 3 of them set aside, 17 rows quarantined."
    )
    assert lines[1:12] == [
        *(f"  {number + 1}. reason {number}" for number in range(9)),
        "  10. x.csv: empty",
        "  and 2 more",
    ]
    assert "wind-power/quarantine/abc/ (connection edgeloop_private)" in lines[12]
    assert "wind-power/docs/abc/0123.html (connection edgeloop_private)" in lines[12]
    assert lines[13].endswith("airflow dags clear wind_power_ingest --partition-key '2014-01@abc' --only-failed -y")


def test_a_batch_with_nothing_left_says_so() -> None:
    """No expectation was broken when no file could be read."""
    error = blocked(
        batch="k", files=1, breaches=(), set_aside=("x.csv: empty",), quarantined=0, quarantine="", docs="", rerun=""
    )
    assert str(error).startswith("Batch k is blocked: nothing left to certify; 1 files")


@pytest.mark.parametrize(("reasons", "more"), [(10, ""), (11, "  and 1 more")])
def test_more_reasons_than_are_shown_are_counted(reasons: int, more: str) -> None:
    """Ten are all of ten."""
    aside = tuple(f"{number}.csv: empty" for number in range(reasons))
    error = blocked(batch="k", files=11, breaches=(), set_aside=aside, quarantined=0, quarantine="", docs="", rerun="")
    assert (" more" in error.what) is bool(more)
    assert error.what.endswith(more or "  10. 9.csv: empty")
