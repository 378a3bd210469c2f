"""Whether an ONNX model answers as the model it was made of: on the whole hold-out, at thresholds, on NaN, at extremes.

    figures = parity.compare(model.predict, onnx, holdout)   # goes into metrics.json as "parity"
    parity.require(figures)                                  # raises where they do not agree

A model is registered only with figures that passed, for exactly its bytes, over at least its hold-out.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeloop_trainer import probes
from edgeloop_trainer.errors import ParityError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    Rows = NDArray[np.float32]
    Answers = NDArray[np.float64]
    Predict = Callable[[Rows], Any]

AT_ONCE = 65_536
RELATIVE = 1e-5
"""What other models than trees may differ by, of the largest answer on the hold-out: their float32 products are summed
in another order (a network of 64 neurons was 1.4e-7 apart)."""
REFUSABLE = frozenset({"nan", "infinite"})


def compare(
    predict: Predict,
    onnx: bytes,
    holdout: Rows,
    *,
    refuses: Collection[str] = (),
    tolerance: float | None = None,
    largest: float = float(probes.FLOAT.max),
) -> dict[str, Any]:
    """Ask both models the same rows and count where they differ.

    Args:
        predict: The trained model: float32 [n, features] -> [n] or [n, 1]. Where no framework made the ONNX file,
            :func:`reference` is a second implementation of it.
        onnx: The file that would be written as model.onnx.
        holdout: Every row of the hold-out, float32 [n, features].
        refuses: ``"nan"``, ``"infinite"``: rows that the framework itself refuses with a ``ValueError``. Devices then
            must not be asked such rows; how many there were is among the figures.
        tolerance: By how much answers may differ, in the target's unit. By default what rounding can do: for summed
            trees the proven bound, for others 1e-5 of the largest answer.
        largest: The largest magnitude of an input that is tried, where float64 arithmetic of a framework outlasts
            float32's; ten times the hold-out's at least.

    Returns:
        The figures for metrics.json; ``passed`` only if no row differs.

    Raises:
        ParityError: A model does not answer, or refuses rows that it was not said to refuse.
    """
    rows = _checked(holdout, refuses, largest)
    model, served = _load(onnx)
    branches = probes.branches(model, rows.shape[1])
    trained = _answering(predict)
    scale, allowed = _tolerance(model, trained(rows))
    tally = _Tally(trained, served, max(scale, 0.0), allowed if tolerance is None else tolerance)
    tally.ask("rows", rows)
    tally.ask("threshold_rows", probes.at_thresholds(branches, rows))
    tally.ask("nan_rows", probes.missing(branches, rows), refused="nan" in refuses)
    tally.ask("extreme_rows", probes.extreme(rows, largest))
    tally.ask("extreme_rows", probes.infinite(rows), refused="infinite" in refuses)
    return {**tally.figures(), "sha256": hashlib.sha256(onnx).hexdigest()}


def require(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures again; raises ``ParityError`` unless they passed."""
    if figures.get("passed") is not True:
        raise ParityError(
            f"{figures['mismatched_rows']} of {_asked(figures)} rows are answered differently, by up to "
            f"{figures['largest_difference']:.6g}; rounding explains {figures['tolerance']:.6g}"
        )
    return figures


def reference(onnx: bytes) -> Predict:
    """The ONNX file as package ``onnx``'s reference implementation answers it: slow, and nothing of onnxruntime."""
    from onnx.reference import ReferenceEvaluator

    evaluator: Any = ReferenceEvaluator(_parse(onnx))
    return lambda rows: evaluator.run(None, {evaluator.input_names[0]: rows})[0]


def _asked(figures: dict[str, Any]) -> int:
    return sum(figures[name] for name in ("rows", "threshold_rows", "nan_rows", "extreme_rows"))


class _Tally:
    """What was asked, and where the answers differ."""

    def __init__(self, trained: Predict, served: Predict, scale: float, tolerance: float) -> None:
        self.trained, self.served, self.scale, self.tolerance = trained, served, scale, tolerance
        self.counts = dict.fromkeys(("rows", "threshold_rows", "nan_rows", "extreme_rows", "refused_rows"), 0)
        self.mismatched, self.largest = 0, 0.0

    def ask(self, kind: str, rows: Rows, *, refused: bool = False) -> None:
        """Ask both models these rows; ``refused`` if the trained one may refuse them."""
        for at in range(0, len(rows), AT_ONCE):
            part = rows[at : at + AT_ONCE]
            try:
                ours = self.trained(part)
            except ValueError as error:
                if not refused:
                    raise ParityError(
                        f"the model refuses {len(part)} {kind}: {str(error).splitlines()[0]}. If no device may ask "
                        "such rows, say so: refuses=('nan', 'infinite') or one of them; largest=1e30 for too large ones"
                    ) from error
                self.counts["refused_rows"] += len(part)
                continue
            self.counts[kind] += len(part)
            self._judge(ours, self.served(part))

    def _judge(self, ours: Answers, theirs: Answers) -> None:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            difference = np.abs(ours - theirs)
            # Beyond what the hold-out's answers reach, float32 keeps no more digits than these have.
            difference *= np.minimum(1.0, self.scale / np.abs(ours))
            same = (np.isnan(ours) & np.isnan(theirs)) | (ours.astype(np.float32) == theirs.astype(np.float32))
        difference[same] = 0.0
        if (counted := difference[np.isfinite(difference)]).size:
            self.largest = max(self.largest, float(counted.max()))
        self.mismatched += int((~(difference <= self.tolerance)).sum())

    def figures(self) -> dict[str, Any]:
        """As they go into metrics.json."""
        return {
            **self.counts,
            "mismatched_rows": self.mismatched,
            "largest_difference": self.largest,
            "tolerance": self.tolerance,
            "passed": self.mismatched == 0,
        }


def _checked(holdout: Rows, refuses: Collection[str], largest: float) -> Rows:
    rows = np.asarray(holdout)
    if rows.dtype != np.float32 or rows.ndim != 2 or not rows.size:  # noqa: PLR2004 - a table
        raise ParityError(
            f"the hold-out must be float32 [n, features] with at least a row; it is {rows.dtype} {rows.shape}"
        )
    if unknown := set(refuses) - REFUSABLE:
        raise ParityError(f"refuses={sorted(unknown)}: only {sorted(REFUSABLE)} can be refused")
    reach = float(np.abs(rows[np.isfinite(rows)]).max(initial=1.0))
    if not 10 * reach <= largest <= float(probes.FLOAT.max):
        raise ParityError(
            f"largest={largest:g}: it must be between ten times the hold-out's {reach:g} and float32's end"
        )
    return rows


def _tolerance(model: Any, answers: Answers) -> tuple[float, float]:
    """The largest answer that counts, and what rounding may do to it."""
    if bound := probes.rounding_bound(model):
        return bound
    finite = np.abs(answers[np.isfinite(answers)])
    if not finite.size:
        raise ParityError("the model answers no row of the hold-out with a finite number")
    return float(finite.max()), RELATIVE * float(finite.max())


def _answering(predict: Predict) -> Callable[[Rows], Answers]:
    def ask(rows: Rows) -> Answers:
        answers = np.asarray(predict(rows), dtype=np.float64).reshape(-1)
        if len(answers) != len(rows):
            raise ParityError(f"the model gives {len(answers)} answers to {len(rows)} rows")
        return answers

    return ask


def _parse(onnx: bytes) -> Any:
    import onnx as library

    try:
        return library.load_model_from_string(onnx)
    except Exception as error:  # protobuf's errors share no base class but Exception
        raise ParityError(f"the bytes are no ONNX model: {error}") from error


def _load(onnx: bytes) -> tuple[Any, Callable[[Rows], Answers]]:
    import onnxruntime as ort

    ort.disable_telemetry_events()
    model, options = _parse(onnx), ort.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class but Exception
        raise ParityError(f"onnxruntime does not load the model: {error}") from error
    name = session.get_inputs()[0].name
    return model, _answering(lambda rows: session.run(None, {name: rows})[0])
