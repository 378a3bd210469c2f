"""The page of a batch: what it says, and that nothing of a file becomes part of its markup."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from edgeloop.validation.docs import Page, page
from edgeloop.validation.expect import Outcome
from edgeloop.validation.judge import Judged, Sample
from edgeloop.validation.suite import Rule, Severity
from edgeloop.validation.verdict import Verdict

EVIL = "<script>alert('1')&\"</script>"
ESCAPED = "&lt;script&gt;alert(&#x27;1&#x27;)&amp;&quot;&lt;/script&gt;"


def made(
    *, text: str = "x", severity: Severity = Severity.BLOCK, failing: int = 0, budget: float = 0.0, **more: Any
) -> str:
    """A page of one file and one expectation; ``text`` stands wherever a value, a name or a reason does."""
    rule = Rule(expectation=text, columns=(text,), severity=severity, budget=budget, reason=text)
    outcome = Outcome(
        rule=rule, total=10, failing=array("q", range(failing)), observed=text, **{"success": True, **more}
    )
    judged = Judged(
        path=text,
        rows=10,
        kept=7,
        quarantined=3,
        outcomes=(outcome,),
        verdict=Verdict(),
        samples=(Sample(fault=text, count=3, rows=((4, text), (9, text))),),
        data=None,
        quarantine=None,
        span=(0, 0),
        coverage={},
    )
    about = Page(pipeline=text, batch=text, suite=text, library=text, ended=text)
    return page(about, [judged], [text], (text,))


def test_nothing_of_a_file_becomes_markup() -> None:
    """A value, a column, a path, a reason that is HTML is shown as it stands, wherever it stands."""
    plain, evil = made(text="MARK"), made(text=EVIL)
    assert "<script" not in evil
    assert evil.count(ESCAPED) == plain.count("MARK") == 16
    assert evil.replace(ESCAPED, "MARK") == plain


@pytest.mark.parametrize(
    ("more", "look", "result"),
    [
        ({}, "held", "held"),
        ({"success": False, "failing": 1, "budget": 0.1}, "held", "within its budget"),
        ({"success": False, "failing": 2, "budget": 0.1}, "broken", "broken"),
        ({"success": False, "severity": Severity.WARN}, "noted", "noted"),
        ({"success": False, "evaluated": False}, "broken", "broken: could not be evaluated"),
    ],
)
def test_every_end_of_an_expectation_has_its_word(more: dict[str, Any], look: str, result: str) -> None:
    """And its counts and its budget where rows failed."""
    shown = made(**more)
    assert f"<td class={look}>{result}</td>" in shown
    failing = more.get("failing", 0)
    counts = f"{failing} of 10, budget 10.00%" if failing else ""
    assert f"<td class=n>{counts}</td>" in shown
    assert "10 rows: 7 kept, 3 quarantined." in shown
    assert "row 4: <code>x</code>, row 9: <code>x</code>" in shown
