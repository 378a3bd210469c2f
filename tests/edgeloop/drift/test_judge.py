from __future__ import annotations

import math

import numpy as np
import pytest

from edgeloop.drift.join import Matched
from edgeloop.drift.judge import Policy, Tally, Verdict, choose, judge, tally

POLICY = Policy(fall=0.1, minimum_rows=100)


def _tally(site: str, rows: int, right: int, *, sha256: str = "a", unanswered: int = 0) -> Tally:
    return Tally(sha256=sha256, site=site, rows=rows, right=right, unanswered=unanswered, error=rows * 2.0)


def _judge(*tallies: Tally, reference: float | None = 0.9) -> Verdict:
    return judge(tallies, reference, POLICY)


def test_right_is_strictly_within_the_tolerance() -> None:
    """An error of exactly the tolerance is wrong, as in training; errors add up without their sign."""
    matched = Matched(
        sha256="a", site="A", predicted=np.array([10.0, 60.9, 61.0, -41.0, math.nan]), label=np.full(5, 10.0)
    )
    (found,) = tally([matched], 51.0)

    assert (found.rows, found.right, found.unanswered) == (5, 2, 1)
    assert found.error == pytest.approx(0 + 50.9 + 51 + 51)


@pytest.mark.parametrize(
    ("right", "outcome"), [(1000, "good"), (900, "good"), (801, "good"), (800, "good"), (799, "fallen"), (0, "fallen")]
)
def test_fallen_is_more_than_the_fall_below_the_hold_out(right: int, outcome: str) -> None:
    """Exactly the limit still holds."""
    verdict = _judge(_tally("A", 1000, right))

    assert verdict.outcome == outcome
    assert verdict.accuracy == right / 1000
    assert "0.9000 on its hold-out" in verdict.reason


def test_the_limit_is_decimal() -> None:
    """0.8 - 0.7 - 0.1 is 8.3e-17 in binary; the limit counts as met all the same."""
    assert _judge(_tally("A", 1000, 700), reference=0.8).outcome == "good"


def test_too_few_rows_decide_nothing() -> None:
    """However bad they are; one row more decides."""
    assert _judge(_tally("A", 99, 0)).outcome == "inconclusive"
    assert _judge(_tally("A", 50, 0), _tally("B", 50, 0)).outcome == "fallen"
    assert _judge().reason == "0 predictions found their label, 100 are needed"


def test_a_model_that_was_never_registered_decides_nothing() -> None:
    """There is nothing to compare with."""
    assert _judge(_tally("A", 1000, 0), reference=None).outcome == "inconclusive"


def test_sites_are_told_apart() -> None:
    """One broken sensor can be seen in the reason; the verdict is over all rows."""
    verdict = _judge(_tally("A", 1000, 950), _tally("B", 1000, 200))

    assert verdict.outcome == "fallen"
    assert verdict.per_site == (("A", 0.95), ("B", 0.2))
    assert verdict.reason.endswith("below the limit at B")


def test_rows_without_a_number_are_wrong_and_have_no_error() -> None:
    """A model that answers NaN falls, and its mean error stays a number."""
    verdict = _judge(_tally("A", 1000, 0, unanswered=1000))

    assert verdict.outcome == "fallen"
    assert verdict.mae == 0.0
    assert "1000 rows were answered without a number" in verdict.reason


def test_the_champion_is_judged_if_it_has_enough_rows() -> None:
    """Otherwise the model with the most rows; the champion where they are equal or nothing was predicted."""
    old, new = _tally("A", 5000, 1, sha256="old"), _tally("A", 100, 1, sha256="new")
    assert choose([old, new], "new", 100) == "new"
    assert choose([old, new], "new", 101) == "old"
    assert choose([old], "new", 100) == "old"
    assert choose([], "new", 100) == "new"
    same = [_tally("A", 10, 1, sha256="z"), _tally("A", 5, 1, sha256="a"), _tally("B", 5, 1, sha256="a")]
    assert choose(same, "a", 100) == "a"
