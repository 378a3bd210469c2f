"""Whether a challenger is better than the champion: pure, from the metrics of one hold-out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import TrainingFailedError
from edgeloop.registry.paired import read

if TYPE_CHECKING:
    from edgeloop.origin import Origin
    from edgeloop.pipeline import Registry
    from edgeloop.records import ModelVersion
    from edgeloop.registry.paired import Paired


BETTER, NO_BETTER, INCONCLUSIVE = "better", "no better", "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``better``: whether the challenger may take the champion's place; ``reason``: one sentence with the numbers.

    ``verdict`` is ``better``, ``no better`` or, where the hold-out cannot tell, ``inconclusive``; "" if nothing was
    compared.
    """

    better: bool
    reason: str
    verdict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a challenger must show: see ``registry`` in docs/pipeline.md."""

    minimum_gain: float = 0.0
    minimum_rows: int = 200
    confidence: float = 0.95

    @classmethod
    def of(cls, section: Registry) -> Rules:
        """Those of a pipeline.yaml."""
        return cls(minimum_gain=section.minimum_gain, minimum_rows=section.minimum_rows, confidence=section.confidence)


def compare(metrics: Mapping[str, Any], rules: Rules, *, champion: bool) -> Decision:
    """Judge a challenger by its metrics.json: by a paired test on the hold-out rows it was measured on.

    While there is no ``champion`` any model is better than none. Else its gain in accuracy must be above zero and at
    least ``minimum_gain``, and a hold-out of ``minimum_rows`` must make it ``confidence`` sure that it is no chance; a
    hold-out that cannot say leaves the champion where it is. Raises ``TrainingFailedError`` if an accuracy or the
    paired counts are missing or wrong.
    """
    ours = accuracy_of(metrics, "The challenger")
    if not champion:
        return Decision(better=True, verdict=BETTER, reason=f"there is no champion yet; accuracy {ours:.4f}")
    beside = metrics.get("champion")
    theirs = accuracy_of(beside if isinstance(beside, Mapping) else {}, "The champion")
    paired = read(metrics)
    verdict, why = _judge(paired, rules)
    verb = {BETTER: "beats", NO_BETTER: "does not beat", INCONCLUSIVE: "cannot be told from"}[verdict]
    return Decision(
        better=verdict == BETTER,
        verdict=verdict,
        reason=f"accuracy {ours:.4f} {verb} the champion's {theirs:.4f} on the same {paired.rows} rows "
        f"(gain {paired.gain:+.4f}: {paired.challenger} rows only the challenger had right, {paired.champion} only the "
        f"champion; p {paired.p_value:.2g} over {len(paired.blocks)} blocks of {paired.block_hours:g} h): {why}",
    )


def _judge(paired: Paired, rules: Rules) -> tuple[str, str]:
    """A verdict and what decided it."""
    unsure = 1 - rules.confidence
    if paired.rows < rules.minimum_rows:
        return INCONCLUSIVE, f"the comparison needs {rules.minimum_rows} rows"
    # 0.80 - 0.75 is 0.05000000000000004 and 0.85 - 0.80 is 0.04999999999999993: both are the gain that was asked for.
    gain = round(paired.gain, 9)
    if gain <= 0 or gain < rules.minimum_gain:
        return NO_BETTER, f"asked for is a gain of at least {rules.minimum_gain:.4f} and more than nothing"
    if paired.smallest_p > unsure:
        needed = math.ceil(math.log2(1 / unsure))
        return INCONCLUSIVE, f"to be {rules.confidence:.0%} sure takes {needed} blocks; hold out more days"
    if paired.p_value > unsure:
        return INCONCLUSIVE, f"a gain by chance is likelier than the {unsure:.2g} that is allowed"
    return BETTER, f"sure beyond the {rules.confidence:.0%} that are asked for"


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
