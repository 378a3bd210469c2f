"""Train the expected power of a wind turbine and write it as ONNX.

Runs in the trainer image on the VM, without a network: reads `dataset.json` and Parquet files in $EDGELOOP_DATA,
writes `model.onnx` and `metrics.json` to $EDGELOOP_OUTPUTS. Standard output is the log. Exit codes: 0 done,
2 the data cannot be trained on, 3 no ONNX model answers as the trained one does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from features import FEATURES, SIGNALS, derive, in_domain

from edgeloop_trainer import export, parity
from edgeloop_trainer.errors import ExportError, ParityError

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = 10  # the fit reports its progress this many times


class UnfitDataError(Exception):
    """The data cannot be trained on; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What dataset.json asks for; `tolerance` in the target's unit (kW), `block_hours` for the paired counts."""

    target: str
    time: str
    site: str
    tolerance: float
    holdout_start: str
    parameters: dict[str, Any]
    files: tuple[str, ...]
    block_hours: float = 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of the model's domain: features [n, 8], target [n] in kW, site [n], event time [n] in us since 1970."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    site: NDArray[np.str_]
    when: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.y)


def say(line: str) -> None:
    """One line of the log, at once: the task's log follows it."""
    print(line, flush=True)


def read_spec(data: Path) -> Spec:
    """Read dataset.json; UnfitDataError names a missing field."""
    raw = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    try:
        return Spec(
            target=raw["target"],
            time=raw["time"],
            site=raw["site"],
            tolerance=float(raw["tolerance"]),
            holdout_start=raw["holdout_start"],
            parameters=dict(raw.get("parameters") or {}),
            files=tuple(item["name"] for item in raw["files"]),
            block_hours=float(raw.get("block_hours", 24)),
        )
    except KeyError as error:
        raise UnfitDataError(f"dataset.json has no field {error}") from error


def read_rows(data: Path, spec: Spec) -> tuple[Rows, Rows]:
    """Read every Parquet file; return the rows to train on and those held out (event time >= holdout_start)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [spec.site, spec.time, spec.target, *SIGNALS]
    tables = [pq.read_table(data / name, columns=columns) for name in spec.files]
    if not tables:
        raise UnfitDataError("dataset.json lists no files")
    table = pa.concat_tables(tables)
    signals = {name: table[name].to_numpy() for name in SIGNALS}
    target = np.asarray(table[spec.target].to_numpy(), dtype=np.float32)
    when = table[spec.time].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    site = np.asarray(table[spec.site].to_pylist(), dtype=np.str_)
    keep = in_domain(signals) & np.isfinite(target)
    held = when >= microseconds(spec.holdout_start)
    x = derive(signals)
    # The order of files and rows is not part of a dataset's identity, but the fit depends on it.
    order = np.lexsort((site, when))
    train, hold = (order[(keep & part)[order]] for part in (~held, held))
    return tuple(Rows(x=x[i], y=target[i], site=site[i], when=when[i]) for i in (train, hold))  # type: ignore[return-value]


def microseconds(when: str) -> int:
    """A time of dataset.json, in UTC, as microseconds since 1970."""
    return int(np.datetime64(when.removesuffix("Z"), "us").astype(np.int64))


def fit(rows: Rows, parameters: dict[str, Any]) -> Any:
    """Fit the regressor in STEPS warm starts, so that the log shows progress; the same rows give the same model."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    # Absolute error: ice on the blades gives months with a few rows hundreds of kW off, and squares follow only those.
    defaults = {"max_iter": 100, "loss": "absolute_error", "random_state": 0, "early_stopping": False}
    options = defaults | parameters
    total = int(options.pop("max_iter"))
    model = HistGradientBoostingRegressor(max_iter=1, warm_start=True, **options)
    for step in range(1, STEPS + 1):
        model.set_params(max_iter=max(1, total * step // STEPS))
        model.fit(rows.x, rows.y)
        say(f"progress {0.1 + 0.7 * step / STEPS:.2f} fitted {model.n_iter_} of {total} iterations")
    return model


def predict_onnx(model: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Answers [n] of an ONNX model whose first output is [n, 1] or [n]."""
    import onnxruntime as ort

    ort.disable_telemetry_events()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0], dtype=np.float32).reshape(-1)


def judge(y: NDArray[np.float32], predicted: NDArray[Any], tolerance: float) -> dict[str, float]:
    """Share of rows within the tolerance, and the mean absolute error in the target's unit."""
    error = np.abs(y.astype(np.float64) - predicted)
    return {"accuracy": round(float((error < tolerance).mean()), 6), "mae": round(float(error.mean()), 6)}


def judge_champion(data: Path, rows: Rows, served: NDArray[np.float32], spec: Spec) -> dict[str, Any]:
    """The champion's metrics on the same hold-out and who was right where; nothing where there is no champion."""
    path = data / "champion.onnx"
    if not path.exists():
        return {}
    before = predict_onnx(path.read_bytes(), rows.x)
    ours, theirs = (np.abs(rows.y.astype(np.float64) - one) < spec.tolerance for one in (served, before))
    block = (rows.when - microseconds(spec.holdout_start)) // round(spec.block_hours * 3_600_000_000)
    return {"champion": judge(rows.y, before, spec.tolerance), "paired": count_pairs(ours, theirs, block, spec)}


def count_pairs(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_], block: NDArray[np.int64], spec: Spec
) -> dict[str, Any]:
    """Rows [n] by who had them right, and of those that only one had right how many each block of time holds."""
    _, where = np.unique(block, return_inverse=True)
    alone = [np.bincount(where, weights=one).astype(int).tolist() for one in (ours & ~theirs, theirs & ~ours)]
    return {
        "both": int((ours & theirs).sum()),
        "challenger": sum(alone[0]),
        "champion": sum(alone[1]),
        "neither": int((~ours & ~theirs).sum()),
        "block_hours": spec.block_hours,
        "blocks": [list(one) for one in zip(*alone, strict=True)],
    }


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def run(data: Path, outputs: Path) -> None:
    """Read, fit, convert, compare, write; metrics.json comes last and means that all of it is there."""
    spec = read_spec(data)
    train, hold = read_rows(data, spec)
    say(f"progress 0.10 {len(train)} rows to train on, {len(hold)} held out from {spec.holdout_start}")
    if not len(train) or not len(hold):
        raise UnfitDataError(f"{len(train)} rows before and {len(hold)} rows after holdout_start {spec.holdout_start}")
    model = fit(train, spec.parameters)
    onnx = export.to_onnx(model, features=len(FEATURES))
    same = parity.require(parity.compare(model.predict, onnx, hold.x))
    say(f"progress 0.90 ONNX of {len(onnx)} bytes, at most {same['largest_difference']:.2g} from scikit-learn")
    served = predict_onnx(onnx, hold.x)
    sites = {}
    for name in sorted(set(hold.site.tolist())):
        here = hold.site == name
        sites[name] = {"rows": int(here.sum()), **judge(hold.y[here], served[here], spec.tolerance)}
    metrics = {
        "rows_train": len(train),
        "rows_holdout": len(hold),
        **judge(hold.y, served, spec.tolerance),
        "tolerance": spec.tolerance,
        "parity": same,
        "features": list(FEATURES),
        "sites": sites,
        **judge_champion(data, hold, served, spec),
    }
    write(outputs / "model.onnx", onnx)
    write(outputs / "metrics.json", json.dumps(metrics, indent=1, sort_keys=True).encode())
    champion = metrics.get("champion")
    beside = f", champion {champion['accuracy']:.4f}" if champion else ""  # type: ignore[index]
    say(f"progress 1.00 accuracy {metrics['accuracy']:.4f}{beside} on {len(hold)} rows")


def main() -> int:
    """Run, and turn what the data or the model does wrong into one line and an exit code."""
    # As PID 1 of a container Python ignores SIGTERM unless told.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(Path(os.environ.get("EDGELOOP_DATA", "/data")), Path(os.environ.get("EDGELOOP_OUTPUTS", "/outputs")))
    except UnfitDataError as error:
        say(f"error: {error}; nothing was written")
        return 2
    except (ExportError, ParityError) as error:
        say(f"error: {error}; the model was not written")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
