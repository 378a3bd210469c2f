from __future__ import annotations

import pytest

from edgeloop.errors import TrainingFailedError
from edgeloop.origin import Origin
from edgeloop.records import ModelVersion
from edgeloop.registry import compare, may_go_out


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
