"""Whether the ONNX file was shown to answer as the trained model does: the figures that train.py leaves. Pure.

They are made where the framework is, in the training's container (``edgeloop_trainer.parity``), and bound to the file
by its digest. What is judged here is that they are there, whole, passed, and about this file and no fewer rows than it
was measured on; nothing is registered otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgeloop.errors import TrainingFailedError

NAME, DIGEST = "parity", "sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How many rows both were asked, and how far apart the answers were, in the target's unit.

    ``rows`` are the hold-out's, ``threshold_rows`` lie at and beside the thresholds of the model's trees, ``nan_rows``
    lack values, ``extreme_rows`` hold zeros, denormals, the largest float32 or infinity. ``refused_rows`` are those
    that the framework would not predict, so that nobody can say what the ONNX file should answer to them.
    """

    rows: int
    threshold_rows: int
    nan_rows: int
    extreme_rows: int
    refused_rows: int
    mismatched_rows: int
    largest_difference: float
    tolerance: float

    def figures(self) -> dict[str, float | bool]:
        """What travels with the model: figures only, and a fixed number of them."""
        return {**asdict(self), "passed": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What figures must be about: the file's ``sha256`` and how many ``branches`` its trees have.

    ``most_apart`` is how far apart answers may be in any case, in the target's unit; None where no pipeline says what
    counts as right.
    """

    sha256: str
    branches: int = 0
    most_apart: float | None = None


def without_digest(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics without the text that binds the figures to the file: the model's record holds it anyway."""
    found = metrics.get(NAME)
    if not isinstance(found, Mapping):
        return dict(metrics)
    return {**metrics, NAME: {name: value for name, value in found.items() if name != DIGEST}}


def gate(metrics: Mapping[str, Any], training_run: str, demand: Demand) -> dict[str, Any]:
    """The metrics as they go with the model, with the figures of a passed comparison.

    Raises:
        TrainingFailedError: There are none, they did not pass, or they are about something else.
    """
    found = metrics.get(NAME)
    if not isinstance(found, Mapping):
        raise _refused(training_run, f"metrics.json holds no {NAME!r}, so nothing shows that it answers as trained")
    if problem := _problem(found, metrics, demand):
        raise _refused(training_run, problem)
    return {**metrics, NAME: _read(found).figures()}


def _problem(found: Mapping[str, Any], metrics: Mapping[str, Any], demand: Demand) -> str:
    if wrong := _no_figures(found):
        return f"{NAME}.{wrong[0]} in metrics.json is no number of 0 or more"
    parity, held = _read(found), _held_out(metrics)
    if not held:
        return "metrics.json says no rows_holdout, so nobody can tell whether the whole hold-out was compared"
    apart = parity.tolerance if demand.most_apart is None else min(parity.tolerance, demand.most_apart)
    problems = {
        f"{parity.mismatched_rows} rows were answered differently": found.get("passed") is not True
        or parity.mismatched_rows > 0,
        "it was compared as another file than the model.onnx that came (sha256)": found.get(DIGEST) != demand.sha256,
        f"only {parity.rows} rows of a hold-out of {held} were compared": parity.rows < held,
        f"its answers were up to {parity.largest_difference:.4g} apart and may be {apart:.4g}": not (
            parity.largest_difference <= apart
        ),
        "no row at a threshold of its trees was compared": demand.branches > 0 and not parity.threshold_rows,
        "no row with a missing value was compared, or refused": not parity.nan_rows + parity.refused_rows,
        "no row with an extreme value was compared": not parity.extreme_rows,
    }
    return "; ".join(what for what, so in problems.items() if so)


def _held_out(metrics: Mapping[str, Any]) -> int:
    """How many rows the model was measured on: by its own word, and by the paired counts where there are some."""
    said, compared = metrics.get("rows_holdout"), metrics.get("comparison")
    counted = compared.get("rows") if isinstance(compared, Mapping) else 0
    if not _whole(said):
        return 0
    return max(said, counted) if _whole(counted) else said  # type: ignore[type-var, return-value]


def _no_figures(found: Mapping[str, Any]) -> list[str]:
    fields = Parity.__dataclass_fields__
    return [name for name, field in fields.items() if not (_whole if field.type == "int" else _figure)(found.get(name))]


def _read(found: Mapping[str, Any]) -> Parity:
    return Parity(**{name: found[name] for name in Parity.__dataclass_fields__})


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _refused(training_run: str, problem: str) -> TrainingFailedError:
    return TrainingFailedError(
        f"The model.onnx of training run {training_run[:16]} is not shown to answer as the model that was trained: "
        f"{problem}.",
        left="nothing was registered; the champion serves on",
        next="Let train.py write what edgeloop_trainer.parity.compare gives as 'parity' to metrics.json "
        "(docs/pipeline.md, train.py); the changed script is trained by itself at the next sweep.",
    )
