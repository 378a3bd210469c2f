"""Regressors of three frameworks as ONNX, and the comparison that lets one be registered."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgeloop.onnx import judge_all
from edgeloop.registry.parity import Demand, gate
from edgeloop_trainer import export, parity, probes, trees
from edgeloop_trainer.errors import ExportError, ParityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

COLUMNS, ROWS, HELD = 5, 1200, 400
MLP = Path(__file__).parents[1] / "data" / "onnx"
INFINITE = ("infinite",)
BOTH = ("nan", "infinite")


def rows(*, missing: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Columns of a few decimals, of tiny values and of many exact zeros, as sensors give them; some lacking."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(ROWS, COLUMNS)) * [1, 10, 0.001, 3, 100]).astype(np.float32)
    x[:, 3], x[:, 4] = x[:, 3].round(1), x[:, 4].round()
    x[rng.random(ROWS) < 0.5, 2] = 0
    y = 500 + 100 * x[:, 0] + 20 * np.sin(x[:, 1]) + x[:, 3] ** 2 + rng.normal(size=ROWS)
    if missing:
        x[rng.random(x.shape) < 0.1] = np.nan
    return x, y.astype(np.float32)


def hist_gradient(**options: Any) -> Any:
    """scikit-learn's boosted histograms."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(**{"max_iter": 20, "random_state": 0} | options)


def forest() -> Any:
    """scikit-learn's forest."""
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(10, max_depth=6, random_state=0)


def boosted() -> Any:
    """scikit-learn's older boosting, which takes no missing values."""
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(n_estimators=20, random_state=0)


def ridge() -> Any:
    """A linear model behind a scaler."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge())


def neurons() -> Any:
    """scikit-learn's network."""
    from sklearn.neural_network import MLPRegressor

    return MLPRegressor(hidden_layer_sizes=(16,), max_iter=20, random_state=0)


def xgboost(**options: Any) -> Any:
    """XGBoost's trees."""
    from xgboost import XGBRegressor

    return XGBRegressor(**{"n_estimators": 20, "n_jobs": 1} | options)


def lightgbm(**options: Any) -> Any:
    """LightGBM's trees."""
    from lightgbm import LGBMRegressor

    return LGBMRegressor(**{"n_estimators": 20, "n_jobs": 1, "verbose": -1} | options)


MODELS: dict[str, tuple[Callable[[], Any], bool, dict[str, Any]]] = {
    "hist gradient": (hist_gradient, False, {}),
    "hist gradient, missing": (hist_gradient, True, {}),
    "forest": (forest, False, {"refuses": INFINITE}),
    "forest, missing": (forest, True, {"refuses": INFINITE}),
    "boosted": (boosted, False, {"refuses": BOTH}),
    "ridge": (ridge, False, {"refuses": BOTH, "largest": 1e30}),
    "neurons": (neurons, False, {"refuses": BOTH}),
    "xgboost": (xgboost, False, {}),
    "xgboost, missing": (xgboost, True, {}),
    "xgboost, gamma": (lambda: xgboost(objective="reg:gamma"), False, {}),
    "xgboost, forests": (lambda: xgboost(num_parallel_tree=3, subsample=0.5), True, {}),
    "lightgbm": (lightgbm, False, {}),
    "lightgbm, missing": (lightgbm, True, {}),
    "lightgbm, poisson": (lambda: lightgbm(objective="poisson"), False, {}),
}


def fitted(make: Callable[[], Any], *, missing: bool) -> tuple[Any, NDArray[np.float32]]:
    """A model, and the rows it has not seen."""
    x, y = rows(missing=missing)
    positive = np.abs(y) + 1
    return make().fit(x[HELD:], positive[HELD:]), x[:HELD]


@pytest.fixture(scope="module")
def exported() -> dict[str, bytes]:
    """What the tests below exported, for one look at all of them."""
    return {}


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_answers_as_the_trained_one(name: str, exported: dict[str, bytes]) -> None:
    """On the hold-out, at every threshold and one float32 beside it, on NaN and at extremes; twice the same bytes."""
    make, missing, options = MODELS[name]
    model, held = fitted(make, missing=missing)

    content = exported[name] = export.to_onnx(model, features=COLUMNS)
    figures = parity.require(parity.compare(model.predict, content, held, **options))

    assert export.to_onnx(model, features=COLUMNS) == content
    branches = probes.branches(onnx.load_model_from_string(content), COLUMNS)
    assert figures["rows"] == HELD
    assert 3 * len(branches) >= figures["threshold_rows"] >= 2.9 * len(branches)
    assert figures["nan_rows"] + figures["refused_rows"] > len(branches)
    assert figures["largest_difference"] <= figures["tolerance"] < 0.1
    kept = gate({"rows_holdout": HELD, "parity": figures}, name, Demand(sha256=hashlib.sha256(content).hexdigest()))
    assert kept["parity"]["passed"]


def test_converted_models_may_be_loaded_on_a_device(exported: dict[str, bytes]) -> None:
    """Standard domains only, one input X, one output Y [n, 1]: the check of every file finds nothing."""
    assert set(exported) == set(MODELS), "run this file as a whole"
    for name, verdict in zip(exported, judge_all(list(exported.values()), features=COLUMNS), strict=True):
        assert verdict.problem == "", name
        session = ort.InferenceSession(exported[name], providers=["CPUExecutionProvider"])
        assert [one.name for one in (*session.get_inputs(), *session.get_outputs())] == ["X", "Y"]


@pytest.mark.parametrize("name", ["hist gradient", "forest", "forest, missing", "lightgbm", "lightgbm, missing"])
def test_what_the_converters_leave_wrong_does_not_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our corrections thresholds are rounded up and missing values go astray, and the comparison sees it."""
    make, missing, options = MODELS[name]
    model, held = fitted(make, missing=missing)
    monkeypatch.setattr(trees, "correct", lambda *_: None)

    figures = parity.compare(model.predict, export.to_onnx(model, features=COLUMNS), held, **options)

    assert not figures["passed"]
    assert figures["mismatched_rows"] > 0
    with pytest.raises(ParityError, match="rows are answered differently, by up to"):
        parity.require(figures)


def changed(content: bytes, name: str, change: Callable[[Any], None]) -> bytes:
    """A tree model with one attribute changed."""
    model = onnx.load_model_from_string(content)
    (node,) = (one for one in model.graph.node if one.op_type == "TreeEnsembleRegressor")
    change(next(one for one in node.attribute if one.name == name))
    return bytes(model.SerializeToString())


def beside(attribute: Any) -> None:
    """Move the first threshold by one float32."""
    attribute.floats[0] = np.nextafter(np.float32(attribute.floats[0]), np.float32(np.inf))


def elsewhere(attribute: Any) -> None:
    """Send missing values the other way at the first branch."""
    attribute.ints[0] = 1 - attribute.ints[0]


def heavier(attribute: Any) -> None:
    """Change one leaf."""
    attribute.floats[-1] += 1.0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("nodes_values", beside),
        ("nodes_missing_value_tracks_true", elsewhere),
        ("target_weights", heavier),
        ("base_values", heavier),
    ],
)
def test_the_smallest_change_of_a_model_is_found(name: str, change: Callable[[Any], None]) -> None:
    """A threshold off by one float32, a missing branch, a leaf, the base value: each is a row answered differently."""
    model, held = fitted(xgboost, missing=True)
    content = export.to_onnx(model, features=COLUMNS)

    figures = parity.compare(model.predict, changed(content, name, change), held)

    assert (figures["passed"], figures["mismatched_rows"] > 0) == (False, True)


def test_a_model_that_alone_says_nan_is_found() -> None:
    """NaN by one and a number by the other is no difference that could be measured, and no agreement."""
    model, held = fitted(xgboost, missing=True)
    content = export.to_onnx(model, features=COLUMNS)

    def silent(part: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(np.isnan(part).all(axis=1), np.nan, model.predict(part))

    figures = parity.compare(silent, content, held)

    assert (figures["passed"], figures["mismatched_rows"]) == (False, 1)


def test_every_branch_is_asked_at_its_threshold_and_beside_it() -> None:
    """Of each the row that gets there by the framework's own path: exactly the threshold, one float32 below, above."""
    model, held = fitted(lambda: hist_gradient(max_iter=1), missing=False)
    found = probes.branches(onnx.load_model_from_string(export.to_onnx(model, features=COLUMNS)), COLUMNS)
    nodes = model._predictors[0][0].nodes
    splits = nodes[nodes["is_leaf"] == 0]
    assert len(found) == len(splits)

    asked = probes.at_thresholds(found, held)

    exact, below, above = np.split(asked, 3)
    at = np.arange(len(found)), found.feature
    assert (exact[at] == found.threshold).all()
    assert (below[at] == np.nextafter(found.threshold, np.float32(-np.inf))).all()
    assert (above[at] == np.nextafter(found.threshold, np.float32(np.inf))).all()
    for number, row in enumerate(exact):
        assert (found.feature[number], found.threshold[number]) in passed(nodes, row)
    lacking = probes.missing(found, held)[: len(found)]
    assert np.isnan(lacking[at]).all()


def passed(nodes: Any, row: NDArray[np.float32]) -> set[tuple[int, float]]:
    """The branches that a row passes in a tree of scikit-learn."""
    found, at = set(), 0
    while not nodes[at]["is_leaf"]:
        feature, threshold = int(nodes[at]["feature_idx"]), float(nodes[at]["num_threshold"])
        found.add((feature, trees.representable(threshold)))
        at = int(nodes[at]["left" if row[feature] <= threshold else "right"])
    return found


def _classifier() -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=2)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a classifier": (_classifier, "is no regressor"),
    "another framework": (object, "export it with its own framework"),
    "an exponential left out": (lambda: hist_gradient(loss="poisson"), "leaves out the exponential"),
    "categories": (lambda: hist_gradient(categorical_features=[3]), "splits on categories"),
    "zeros as missing": (lambda: lightgbm(zero_as_missing=True), "zeros for missing values"),
    "averaged trees": (
        lambda: lightgbm(boosting_type="rf", subsample=0.5, subsample_freq=1),
        "averages its trees",
    ),
    "roots": (lambda: lightgbm(reg_sqrt=True), "does not know the link of objective='regression sqrt'"),
    "weighed trees": (lambda: xgboost(booster="dart"), "weighs its trees"),
    "no trees": (lambda: xgboost(booster="gblinear"), "weighs its trees"),
    "another missing value": (lambda: xgboost(missing=-1.0), "NaN alone as missing"),
    "a link it does not know": (lambda: xgboost(objective="survival:cox"), "does not know the link"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_would_be_changed_is_refused(name: str) -> None:
    """What a converter would write without a word, and wrongly, is an error that says what to do instead."""
    make, words = REFUSED[name]
    model = make()
    if hasattr(model, "fit"):
        x, y = rows(missing=False)
        x[:, 3] = np.abs(x[:, 3]).round() % 8
        model.fit(x, (np.abs(y) + 1).round())
    with pytest.raises(ExportError, match=words):
        export.to_onnx(model, features=COLUMNS)


def test_names_of_columns_do_not_matter_to_xgboost() -> None:
    """A model fitted on a table with names converts, and keeps its names."""
    import pandas as pd

    x, y = rows(missing=False)
    model = xgboost().fit(pd.DataFrame(x, columns=list("abcde")), y)
    content = export.to_onnx(model, features=COLUMNS)
    assert parity.compare(lambda part: model.predict(pd.DataFrame(part, columns=list("abcde"))), content, x)["passed"]
    assert model.get_booster().feature_names == list("abcde")


def test_early_stopping_ends_the_conversion_where_the_model_ends() -> None:
    """The trees after the best iteration are not asked by the framework, and not written."""
    x, y = rows(missing=False)
    model = xgboost(n_estimators=60, early_stopping_rounds=2, learning_rate=0.9)
    model.fit(x[HELD:], y[HELD:], eval_set=[(x[:HELD], y[:HELD])], verbose=False)
    assert model.best_iteration + 1 < len(model.get_booster().get_dump())
    parity.require(parity.compare(model.predict, export.to_onnx(model, features=COLUMNS), x[:HELD]))


def test_any_script_may_bring_an_onnx_file_of_its_own() -> None:
    """PyTorch's export is compared by what implements it a second time, and passes; other bytes do not."""
    content = (MLP / "mlp.onnx").read_bytes()
    held = np.array(json.loads((MLP / "mlp.json").read_text())["rows"], dtype=np.float32)
    figures = parity.require(parity.compare(parity.reference(content), content, held))
    assert figures["threshold_rows"] == 0
    assert figures["largest_difference"] <= figures["tolerance"]
    half = parity.reference(content)
    assert not parity.compare(lambda part: half(part) * 1.001, content, held)["passed"]


@pytest.mark.parametrize(
    ("predict", "options", "words"),
    [
        (lambda part: part[:1, 0], {}, "1 answers to 400 rows"),
        (lambda part: part[:, 0], {"refuses": ("zeros",)}, "can be refused"),
        (lambda part: part[:, 0], {"largest": 1.0}, "between ten times the hold-out's"),
        (lambda part: np.full(len(part), np.nan), {}, "no row of the hold-out with a finite number"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_an_error(
    predict: Callable[[Any], Any], options: dict[str, Any], words: str
) -> None:
    """It never passes by asking nothing."""
    model, held = fitted(ridge, missing=False)
    with pytest.raises(ParityError, match=words):
        parity.compare(predict, export.to_onnx(model, features=COLUMNS), held, **options)


@pytest.mark.parametrize("held", [np.zeros((0, 5), np.float32), np.zeros((3, 5)), np.zeros(5, np.float32)])
def test_a_hold_out_that_is_none_is_an_error(held: NDArray[Any]) -> None:
    """No rows, float64, or no table."""
    with pytest.raises(ParityError, match="must be float32"):
        parity.compare(lambda part: part[:, 0], b"", held)


def test_what_a_framework_refuses_must_be_said() -> None:
    """scikit-learn's Ridge refuses NaN: without `refuses` that is an error that tells how to say so."""
    model, held = fitted(ridge, missing=False)
    content = export.to_onnx(model, features=COLUMNS)
    with pytest.raises(ParityError, match=r"refuses \d+ nan_rows: .*refuses=\('nan', 'infinite'\)"):
        parity.compare(model.predict, content, held)
    with pytest.raises(ParityError, match="largest=1e30"):
        parity.compare(model.predict, content, held, refuses=BOTH)


def test_trees_behind_a_scaler_are_refused() -> None:
    """No row at their thresholds can be made, so nothing could be shown; the error says to leave the scaler out."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model, held = fitted(lambda: make_pipeline(StandardScaler(), hist_gradient()), missing=False)
    with pytest.raises(ParityError, match="leave out the scaler"):
        parity.compare(model.predict, export.to_onnx(model, features=COLUMNS), held)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("threshold", [0.5, 0.1, -0.1, 1 / 3, 16777217.0, 1e-45, 1e-60, -1e-60, 1e300, -1e300, np.inf])
def test_thresholds_split_float32_as_float64_did(threshold: float, strict: bool) -> None:
    """Every float32 value, those next to the threshold above all, goes to the side it went to."""
    found = trees.representable(threshold, strict=strict)
    assert np.isinf(found) or float(np.float32(found)) == found
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
        values = [near, *(np.nextafter(near, np.float32(side)) for side in (-np.inf, np.inf)), *probes.EXTREMES]
    for one in map(float, values):
        assert (one < found if strict else one <= found) == (one < threshold if strict else one <= threshold), one
