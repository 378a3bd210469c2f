"""The sample pipeline on real days: its features, its training, its expectations."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest

from edgeloop.registry import paired

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "include" / "pipelines" / "wind_power"
HELPER = ROOT / "include" / "images" / "trainer"
DATA = ROOT / "tests" / "data" / "wind_power"
TURBINES = ("R80711", "R80721", "R80736")


def load(name: str) -> ModuleType:
    """A module of the pipeline's folder, by its path."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"wind_power_{name}", PIPELINE / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up there
    spec.loader.exec_module(module)
    return module


def frame(month: str) -> pd.DataFrame:
    """The committed rows of the three turbines in a month."""
    return pd.concat([pd.read_csv(DATA / f"{turbine}_{month}.csv") for turbine in TURBINES])


def stage(folder: Path, month: str = "2014-01", **changes: Any) -> Path:
    """A dataset as the VM gets it: one Parquet file per turbine and dataset.json."""
    folder.mkdir(exist_ok=True)
    files = []
    for turbine in TURBINES:
        rows = pd.read_csv(DATA / f"{turbine}_{month}.csv")
        rows["Date_time"] = pd.to_datetime(rows["Date_time"], utc=True)
        rows.to_parquet(folder / f"{turbine}.parquet", index=False)
        files.append({"name": f"{turbine}.parquet", "site": turbine})
    spec = {"pipeline": "wind_power", "target": "P_avg", "time": "Date_time", "site": "Wind_turbine_name"}
    spec |= {
        "tolerance": 51.0,
        "holdout_start": f"{month}-11T12:00:00Z",
        "parameters": {"max_iter": 20},
        "files": files,
    }
    (folder / "dataset.json").write_text(json.dumps(spec | changes))
    return folder


def train(data: Path, outputs: Path) -> subprocess.CompletedProcess[str]:
    """Run train.py as the trainer image does."""
    outputs.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "EDGELOOP_DATA": str(data),
        "EDGELOOP_OUTPUTS": str(outputs),
        "PYTHONPATH": str(HELPER),
    }
    command = [sys.executable, str(PIPELINE / "train.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_angles_become_neighbours_across_north() -> None:
    """359 and 1 degrees give nearly the same features; the matrix is float32 [n, 8]."""
    features = load("features")
    signals = {name: [5.0, 5.0] for name in features.SIGNALS} | {"Wa_avg": [359.0, 1.0]}
    x = features.derive(signals)
    assert (x.shape, x.dtype, len(features.FEATURES)) == ((2, 8), np.float32, 8)
    assert np.abs(x[0] - x[1]).max() < 0.04


def test_the_domain_leaves_out_calm_silence_and_broken_thermometers() -> None:
    """The real faults are outside: null sensors, -273.2 degrees, wind too weak to turn the blades."""
    features = load("features")
    cold = pd.read_csv(DATA / "R80721_2014-06.csv")
    silent = pd.read_csv(DATA / "R80721_2015-03.csv")
    assert not features.in_domain(cold)[cold["Ot_avg"] < -50].any()
    assert not features.in_domain(silent)[silent["Ws_avg"].isna()].any()
    calm = frame("2014-01")
    assert (features.in_domain(calm) == (calm["Ws_avg"] > 2.5)).all()


def test_training_writes_a_model_that_answers_what_the_metrics_say(tmp_path: Path) -> None:
    """The hold-out's accuracy and error, computed again from the files with onnxruntime, are those of metrics.json."""
    done = train(stage(tmp_path / "data"), tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    features, rows = load("features"), frame("2014-01")
    rows = rows[features.in_domain(rows) & (pd.to_datetime(rows["Date_time"], utc=True) >= "2014-01-11T12:00:00Z")]
    session = ort.InferenceSession((tmp_path / "out" / "model.onnx").read_bytes())
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("X", [None, 8])]
    assert [(o.name, o.type) for o in session.get_outputs()] == [("Y", "tensor(float)")]
    error = np.abs(session.run(["Y"], {"X": features.derive(rows)})[0].ravel() - rows["P_avg"].to_numpy())
    assert metrics["rows_holdout"] == len(rows)
    assert metrics["accuracy"] == pytest.approx((error < 51).mean(), abs=1e-6)
    assert metrics["mae"] == pytest.approx(error.mean(), abs=1e-3)
    assert sum(site["rows"] for site in metrics["sites"].values()) == len(rows)
    assert "champion" not in metrics
    same = metrics["parity"]
    assert (same["passed"], same["mismatched_rows"], same["rows"]) == (True, 0, len(rows))
    assert min(same[f"{kind}_rows"] for kind in ("threshold", "nan", "extreme")) > 0
    assert same["sha256"] == hashlib.sha256((tmp_path / "out" / "model.onnx").read_bytes()).hexdigest()
    assert 0 < same["largest_difference"] <= same["tolerance"] < 0.1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["progress"] * len(done.stdout.splitlines())


def test_the_same_data_gives_the_same_bytes_whatever_the_order_of_its_files(tmp_path: Path) -> None:
    """The model's digest depends on the rows and the script alone; early stopping draws rows by their place."""
    data = stage(tmp_path / "data", parameters={"max_iter": 20, "early_stopping": True})
    train(data, tmp_path / "one")
    spec = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(spec | {"files": spec["files"][::-1]}))
    train(data, tmp_path / "two")
    one, two = ((tmp_path / name / "model.onnx").read_bytes() for name in ("one", "two"))
    assert hashlib.sha256(one).hexdigest() == hashlib.sha256(two).hexdigest()


def test_the_champion_is_judged_on_the_same_rows(tmp_path: Path) -> None:
    """A champion that is the new model itself gets the new model's metrics; the one of January is worse in December."""
    train(stage(tmp_path / "january"), tmp_path / "old")
    december = stage(tmp_path / "december", "2014-12", block_hours=3)
    (december / "champion.onnx").write_bytes((tmp_path / "old" / "model.onnx").read_bytes())
    train(december, tmp_path / "new")
    metrics = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert metrics["champion"]["mae"] > metrics["mae"]
    pairs = paired.read(metrics)
    assert (pairs.rows, pairs.block_hours, len(pairs.blocks)) == (metrics["rows_holdout"], 3, 4)
    assert pairs.challenger > pairs.champion
    assert pairs.gain == pytest.approx(metrics["accuracy"] - metrics["champion"]["accuracy"], abs=1e-5)
    (december / "champion.onnx").write_bytes((tmp_path / "new" / "model.onnx").read_bytes())
    train(december, tmp_path / "again")
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert again["champion"] == {"accuracy": again["accuracy"], "mae": again["mae"]}
    assert paired.read(again).blocks == ((0, 0),) * 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"holdout_start": "2015-01-01T00:00:00Z"}, "0 rows after"), ({"files": []}, "lists no files")],
)
def test_data_that_cannot_be_trained_on_ends_it_in_words(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Exit code 2, one line that says why, and no output that could be taken for a model."""
    done = train(stage(tmp_path / "data", **changes), tmp_path / "out")
    assert done.returncode == 2
    assert words in done.stdout
    assert list((tmp_path / "out").iterdir()) == []


def test_a_model_that_onnxruntime_answers_differently_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the conversion sends rows at a threshold another way, the script ends with 3 and writes nothing."""
    from edgeloop_trainer import trees

    monkeypatch.syspath_prepend(str(PIPELINE))
    module = load("train")
    monkeypatch.setattr(trees, "representable", lambda threshold, **_: float(np.float32(threshold)))  # skl2onnx's way
    monkeypatch.setenv("EDGELOOP_DATA", str(stage(tmp_path / "data")))
    monkeypatch.setenv("EDGELOOP_OUTPUTS", str(tmp_path / "out"))
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    (tmp_path / "out").mkdir()
    assert module.main() == 3
    assert "answered differently" in capsys.readouterr().out
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture(scope="module")
def judge() -> Any:
    """Great Expectations on the committed suite: rows -> failures {(type, column): (severity, share, budget)}."""
    import great_expectations as gx

    raw = json.loads((PIPELINE / "expectations.json").read_text())
    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("rows")
    suite = context.suites.add(gx.ExpectationSuite(name=raw["name"], expectations=raw["expectations"]))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="rows", data=batch, suite=suite))

    def _judge(rows: pd.DataFrame) -> dict[tuple[str, str | None], tuple[str, float, float]]:
        failures = {}
        for result in definition.run(batch_parameters={"dataframe": rows}, result_format="SUMMARY").results:
            config, outcome = result.expectation_config, result.result
            if not result.success:
                # What counts no rows (a schema, a row count) has failed as a whole.
                count = outcome.get("element_count")
                share = outcome["unexpected_count"] / count if count and "unexpected_count" in outcome else 1.0
                key = (config.type.removeprefix("expect_"), config.kwargs.get("column"))
                failures[key] = (config.meta["severity"], share, config.meta["budget"])
        return failures

    return _judge


def over(failures: dict[Any, tuple[str, float, float]]) -> set[Any]:
    """Those that stop a batch."""
    return {key for key, (severity, share, budget) in failures.items() if severity != "warn" and share > budget}


@pytest.mark.parametrize("name", sorted(p.name for p in DATA.glob("*.csv") if "2015-03" not in p.name))
def test_real_days_stay_within_the_budgets(judge: Any, name: str) -> None:
    """What really happens at the plant is set aside row by row and stops nothing."""
    assert over(judge(pd.read_csv(DATA / name))) == set()


def test_the_real_faults_are_found(judge: Any) -> None:
    """The thermometer, the blade pitch, the silence and the doubled hour each break their expectation."""
    cold, pitch, march = (
        judge(pd.read_csv(DATA / f"{n}.csv")) for n in ("R80721_2014-06", "R80736_2014-05", "R80711_2014-03")
    )
    assert ("column_values_to_be_between", "Ot_avg") in cold
    assert ("column_values_to_be_between", "Ba_avg") in pitch
    assert ("column_values_to_not_be_null", "P_avg") in pitch
    assert march[("compound_columns_to_be_unique", None)][0] == "warn"


@pytest.mark.parametrize(
    ("change", "stopped_by"),
    [
        (lambda d: d.head(0), ("table_row_count_to_be_between", None)),
        (lambda d: d.drop(columns="Ws_avg"), ("table_columns_to_match_set", None)),
        (lambda d: d.assign(extra=1), ("table_columns_to_match_set", None)),
        (lambda d: d.assign(Ws_avg="strong"), ("column_values_to_be_in_type_list", "Ws_avg")),
        (lambda d: d.assign(P_avg=d["P_avg"] * 1000), ("column_values_to_be_between", "P_avg")),
        (lambda d: d.assign(P_avg=d["P_avg"].where(d.index % 2 == 0)), ("column_values_to_not_be_null", "P_avg")),
        (lambda d: d.assign(Date_time=d["Date_time"].str[:-6]), ("column_values_to_match_regex", "Date_time")),
        (lambda d: d.assign(Wind_turbine_name="R80790"), ("column_values_to_be_in_set", "Wind_turbine_name")),
    ],
)
def test_nonsense_is_stopped(judge: Any, change: Any, stopped_by: tuple[str, str | None]) -> None:
    """Another schema, another unit, local times, half a file of nulls: each is over its budget."""
    assert stopped_by in over(judge(change(pd.read_csv(DATA / "R80711_2014-01.csv"))))
