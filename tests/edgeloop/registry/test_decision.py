from __future__ import annotations

import pytest

from edgeloop.errors import TrainingFailedError
from edgeloop.records import ModelVersion
from edgeloop.registry import compare, may_replace


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
    decision = compare({"accuracy": ours}, {"accuracy": theirs}, minimum_gain)

    assert decision.better is better
    assert f"{ours:.4f}" in decision.reason
    assert f"{theirs:.4f}" in decision.reason


def test_any_model_is_better_than_none() -> None:
    """The first model needs no gain, but it does need an accuracy."""
    assert compare({"accuracy": 0.1}, None, 0.5).better
    with pytest.raises(TrainingFailedError, match="The challenger's metrics hold accuracy None"):
        compare({}, None, 0.5)


def test_a_champion_that_was_not_measured_cannot_be_beaten() -> None:
    """Without its accuracy on the same hold-out there is no comparison, and the error says whose is missing."""
    with pytest.raises(TrainingFailedError, match="The champion's metrics hold accuracy None"):
        compare({"accuracy": 0.9}, {}, 0.0)


def _model(origin: str, window_end: str) -> ModelVersion:
    return ModelVersion(
        pipeline="p", origin=origin, sha256=window_end, size=1, blob="b", version=7, training_run="r", metrics="{}",
        window_end=window_end,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("origin", "window_end", "may"),
    [("live", "2013", True), ("rerun", "2013", False), ("backfill", "2013", False), ("backfill", "2014", True)],
)
def test_a_replay_never_replaces_a_model_of_newer_data(origin: str, window_end: str, *, may: bool) -> None:
    """Reruns and backfills of older windows are told so; of the same window or newer they may."""
    decision = may_replace(_model(origin, window_end), _model("live", "2014"))

    assert decision.better is may
    assert may or "version 7" in decision.reason


def test_a_replay_may_be_the_first_model() -> None:
    """Where there is no champion there is nothing newer to protect."""
    assert may_replace(_model("backfill", "2013"), None).better
