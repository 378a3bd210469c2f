"""Whether a challenger is better than the champion: pure, from the metrics of one hold-out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import TrainingFailedError

if TYPE_CHECKING:
    from edgeloop.origin import Origin
    from edgeloop.records import ModelVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``better``: whether the challenger may take the champion's place; ``reason``: one sentence with the numbers."""

    better: bool
    reason: str


def compare(
    challenger_metrics: Mapping[str, Any], champion_metrics: Mapping[str, Any] | None, minimum_gain: float
) -> Decision:
    """Judge by ``accuracy``, a share of right rows of the same hold-out; at equal accuracy nothing is replaced.

    ``champion_metrics`` is None while there is no champion: then any model is better than none. The gain must be above
    zero and at least ``minimum_gain``. Raises ``TrainingFailedError`` if an accuracy is missing or is no finite number.
    """
    ours = accuracy_of(challenger_metrics, "The challenger")
    if champion_metrics is None:
        return Decision(better=True, reason=f"there is no champion yet; accuracy {ours:.4f}")
    theirs = accuracy_of(champion_metrics, "The champion")
    # 0.80 - 0.75 is 0.05000000000000004 and 0.85 - 0.80 is 0.04999999999999993: both are the gain that was asked for.
    gain = round(ours - theirs, 9)
    better = gain > 0 and gain >= minimum_gain
    verb = "beats" if better else "does not beat"
    return Decision(
        better=better,
        reason=f"accuracy {ours:.4f} {verb} the champion's {theirs:.4f} on the same hold-out "
        f"(gain {gain:+.4f}, asked for at least {minimum_gain:.4f} and more than nothing)",
    )


def may_go_out(model: ModelVersion, champion: ModelVersion | None, origin: Origin) -> Decision:
    """Whether a run of this ``origin`` may send ``model`` on to the devices, whatever its accuracy.

    A rerun or backfill never does by itself, and older data never replaces newer; a reason under ``promote`` in the
    run's conf overrules both.
    """
    if origin.promote:
        return Decision(better=True, reason=f"a {origin.kind} run promotes it: {origin.promote}")
    if not origin.live:
        return Decision(
            better=False,
            reason=f"a {origin.kind} sends no model to the devices by itself; to do so trigger the DAG with the same "
            "partition key and a reason as 'promote'",
        )
    if champion is not None and model.window_end < champion.window_end:
        return Decision(
            better=False,
            reason=f"it saw data up to {model.window_end or '(unknown)'} and never replaces version "
            f"{champion.version}, which saw data up to {champion.window_end}, by itself",
        )
    return Decision(better=True, reason=f"a live model on data up to {model.window_end} may replace")


def accuracy_of(metrics: Mapping[str, Any], who: str) -> float:
    """The ``accuracy`` of some metrics; raises ``TrainingFailedError`` if it is missing or no share."""
    value = metrics.get("accuracy")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise TrainingFailedError(
            f"{who}'s metrics hold accuracy {value!r}; it must be a share between 0 and 1.",
            left="the champion as it is",
            next="Let train.py write 'accuracy' to metrics.json, then clear the train task.",
        )
    return float(value)


def not_finite(metrics: Mapping[str, Any], path: str = "") -> list[str]:
    """Names of values, however deep, that are NaN or infinite: canonical JSON has no way to write them."""
    found: list[str] = []
    for name, value in metrics.items():
        where = f"{path}{name}"
        if isinstance(value, Mapping):
            found += not_finite(value, f"{where}.")
        elif isinstance(value, list | tuple):
            found += not_finite({str(at): one for at, one in enumerate(value)}, f"{where}.")
        elif isinstance(value, float) and not math.isfinite(value):
            found.append(where)
    return found
