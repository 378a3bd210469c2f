from __future__ import annotations

from typing import Any

import pytest

from edgeloop.errors import TrainingFailedError
from edgeloop.origin import Origin
from edgeloop.records import ModelVersion
from edgeloop.registry import Rules, compare, may_go_out

ROWS, DAYS = 10_000, 10


def metrics(ours: float, theirs: float, days: int = DAYS) -> dict[str, Any]:
    """metrics.json of 1,000 rows a day; each day the better one has alone what it is better by."""
    rows = 1000 * days
    alone = round((ours - theirs) * 1000)
    both = round(min(ours, theirs) * rows)
    blocks = [[max(alone, 0), max(-alone, 0)]] * days
    counts = {"both": both, "challenger": max(alone, 0) * days, "champion": max(-alone, 0) * days}
    paired = counts | {"neither": rows - sum(counts.values()), "block_hours": 24, "blocks": blocks}
    return {"accuracy": ours, "champion": {"accuracy": theirs}, "paired": paired}


@pytest.mark.parametrize(
    ("ours", "theirs", "minimum_gain", "better"),
    [
        (0.90, 0.80, 0.0, True),
        (0.80, 0.80, 0.0, False),
        (0.70, 0.80, 0.0, False),
        (0.85, 0.80, 0.05, True),
        (0.80, 0.75, 0.05, True),
        (0.849, 0.80, 0.05, False),
        (1.0, 0.0, 1.0, True),
    ],
)
def test_a_challenger_must_be_strictly_better_by_the_minimum_gain(
    ours: float, theirs: float, minimum_gain: float, *, better: bool
) -> None:
    """Equal is not better, and a gain that is the minimum in decimal counts whatever its binary rounding."""
    decision = compare(metrics(ours, theirs), Rules(minimum_gain=minimum_gain), champion=True)

    assert decision.better is better
    assert decision.verdict == ("better" if better else "no better")
    assert f"{ours:.4f}" in decision.reason
    assert f"{theirs:.4f}" in decision.reason


@pytest.mark.parametrize(
    ("rules", "days", "words"),
    [
        (Rules(minimum_rows=10_001), 10, "needs 10001 rows"),
        (Rules(), 4, "takes 5 blocks"),
        (Rules(confidence=0.99), 6, "takes 7 blocks"),
        (Rules(minimum_rows=10_000), 10, ""),
        (Rules(), 5, ""),
        (Rules(confidence=0.99), 7, ""),
    ],
)
def test_a_hold_out_below_the_minimum_is_inconclusive(rules: Rules, days: int, words: str) -> None:
    """Too few rows, or too few blocks for the confidence asked for, tell nothing, and the reason says what it takes."""
    decision = compare(metrics(0.9, 0.8, days), rules, champion=True)

    assert (decision.better, decision.verdict) == ((False, "inconclusive") if words else (True, "better"))
    assert words in decision.reason


def test_a_gain_of_one_lucky_day_is_inconclusive() -> None:
    """A thousand rows more of one day, against thirteen days that say nothing: rows would be sure, days are not."""
    body = metrics(0.8, 0.8, 14)
    body["paired"] |= {"both": 10_000, "challenger": 1200, "champion": 1140, "neither": 1660}
    body["paired"]["blocks"] = [[1140, 0], *([[0, 90], [10, 90]] * 6), [0, 60]]
    body["accuracy"], body["champion"]["accuracy"] = 0.8, 11_140 / 14_000

    decision = compare(body, Rules(), champion=True)

    assert (decision.better, decision.verdict) == (False, "inconclusive")
    assert "likelier than the 0.05" in decision.reason


def test_any_model_is_better_than_none() -> None:
    """The first model needs no gain, but it does need an accuracy."""
    assert compare({"accuracy": 0.1}, Rules(minimum_gain=0.5), champion=False).better
    with pytest.raises(TrainingFailedError, match="The challenger's metrics hold accuracy None"):
        compare({}, Rules(), champion=False)


@pytest.mark.parametrize("beside", [{}, None, 0.8])
def test_a_champion_that_was_not_measured_cannot_be_beaten(beside: Any) -> None:
    """Without its accuracy on the same hold-out there is no comparison, and the error says whose is missing."""
    with pytest.raises(TrainingFailedError, match="The champion's metrics hold accuracy None"):
        compare({"accuracy": 0.9, "champion": beside}, Rules(), champion=True)


def _model(origin: str, window_end: str) -> ModelVersion:
    return ModelVersion(
        pipeline="p", origin=origin, sha256=window_end, size=1, blob="b", version=7, training_run="r", metrics="{}",
        window_end=window_end,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["rerun", "backfill"])
def test_a_rerun_or_backfill_sends_no_model_out_by_itself(kind: str) -> None:
    """Not even one of newer data, nor the first; the reason says how to do it all the same."""
    for champion in (None, _model("live", "2014")):
        decision = may_go_out(_model(kind, "2015"), champion, Origin(kind=kind))

        assert not decision.better
        assert kind in decision.reason
        assert "'promote'" in decision.reason


@pytest.mark.parametrize(("window_end", "may"), [("2013", False), ("", False), ("2014", True), ("2015", True)])
def test_older_data_never_replaces_newer(window_end: str, *, may: bool) -> None:
    """A live model of an older window stays where it is and is told which version is newer; the first may always."""
    decision = may_go_out(_model("live", window_end), _model("live", "2014"), Origin())

    assert decision.better is may
    assert may or "version 7" in decision.reason
    assert may_go_out(_model("live", window_end), None, Origin()).better


@pytest.mark.parametrize("kind", ["live", "rerun", "backfill"])
def test_a_reason_to_promote_overrules_both(kind: str) -> None:
    """What somebody answers for may go out, and the reason is kept."""
    decision = may_go_out(_model("live", "2013"), _model("live", "2014"), Origin(kind=kind, promote="the winter model"))

    assert decision.better
    assert "the winter model" in decision.reason
