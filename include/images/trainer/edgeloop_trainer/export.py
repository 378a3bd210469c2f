"""Regressors of scikit-learn, XGBoost and LightGBM as ONNX: input ``X`` float32 [n, features], output ``Y`` [n, 1].

Only the standard domains ai.onnx and ai.onnx.ml; the same model gives the same bytes.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeloop_trainer import trees
from edgeloop_trainer.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

OPSET, ML_OPSET = 15, 3
"""The newest that every converter writes; they stamp the file with the lowest that it needs."""
INPUT, OUTPUT = "X", "Y"
XGBOOST_OBJECTIVES = frozenset(
    {
        *("reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror", "reg:quantileerror"),
        *("count:poisson", "reg:gamma", "reg:tweedie"),
    }
)
LIGHTGBM_OBJECTIVES = ("regression", "quantile", "huber", "poisson", "gamma", "tweedie")
"""What the converters know the link of; others they would convert without it."""


def to_onnx(model: Any, features: int) -> bytes:
    """The fitted regressor as ONNX bytes.

    Args:
        model: Of scikit-learn (an estimator or a Pipeline), ``xgboost.XGBRegressor`` or ``lightgbm.LGBMRegressor``.
            Fit it on float32: what it learns of digits beyond, no device can ask.
        features: How many columns ``X`` has.

    Raises:
        ExportError: The model is no such regressor, or one that the converters would change.
    """
    convert = {"sklearn": _sklearn, "xgboost": _xgboost, "lightgbm": _lightgbm}.get(_framework(model))
    if convert is None:
        raise ExportError(
            f"{type(model).__name__} is no regressor of scikit-learn, XGBoost or LightGBM; export it with its own "
            "framework, and compare it with edgeloop_trainer.parity as well"
        )
    try:
        proto = convert(model, features)
    except (NotImplementedError, RuntimeError) as error:  # what both converters raise where they know no way
        raise ExportError(f"{type(model).__name__} cannot be converted: {str(error).splitlines()[0]}") from error
    _tidy(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def _framework(model: Any) -> str:
    """Of the first class in the model's line that is of one of the three: LGBMRegressor is scikit-learn's as well."""
    found = (one.__module__.partition(".")[0] for one in type(model).__mro__)
    return next((one for one in found if one in {"sklearn", "xgboost", "lightgbm"}), "")


def _sklearn(model: Any, features: int) -> Any:
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.base import is_regressor
    from sklearn.pipeline import Pipeline

    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    if not is_regressor(last):
        raise ExportError(f"{type(last).__name__} is no regressor; the scorer answers one number for a row")
    found = _sklearn_trees(last)
    with integers():
        proto = skl2onnx.to_onnx(
            model,
            initial_types=[(INPUT, FloatTensorType([None, features]))],
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        )
    if found is not None:
        trees.correct(_ensemble(proto), found)
    return proto


def _sklearn_trees(model: Any) -> list[trees.Split | None] | None:
    """The trees of those regressors that have some; None for all others."""
    from sklearn import ensemble, tree

    if isinstance(model, ensemble.HistGradientBoostingRegressor):
        if model.loss in {"poisson", "gamma"}:
            raise ExportError(f"skl2onnx leaves out the exponential of loss={model.loss!r}; fit with another loss")
        return trees.of_hist_gradient(model)
    if isinstance(model, ensemble.GradientBoostingRegressor):
        return trees.of_forest(stage[0] for stage in model.estimators_)
    if isinstance(model, ensemble.RandomForestRegressor | ensemble.ExtraTreesRegressor):
        return trees.of_forest(model.estimators_)
    if isinstance(model, tree.DecisionTreeRegressor):
        return trees.of_forest([model])
    return None


def _xgboost(model: Any, features: int) -> Any:
    import onnxmltools
    import xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    if not isinstance(model, xgboost.XGBRegressor):
        raise ExportError(
            f"{type(model).__name__} is no xgboost.XGBRegressor, and the scorer answers one number for a row"
        )
    if (model.booster or "gbtree") != "gbtree":
        raise ExportError(
            f"booster={model.booster!r} weighs its trees, which the converter leaves out; fit with 'gbtree'"
        )
    if model.objective not in XGBOOST_OBJECTIVES:
        raise ExportError(f"the converter does not know the link of objective={model.objective!r}")
    if not np.isnan(model.missing):
        raise ExportError(f"missing={model.missing}: ONNX knows NaN alone as missing")
    booster = model.get_booster()
    names, booster.feature_names = booster.feature_names, None  # the converter reads f0, f1, ... only
    try:
        proto = onnxmltools.convert_xgboost(
            model, initial_types=[(INPUT, FloatTensorType([None, features]))], target_opset=OPSET
        )
        found = trees.of_xgboost(booster)
    finally:
        booster.feature_names = names
    ensemble = _ensemble(proto)
    best = getattr(model, "best_iteration", None)
    trees.correct(ensemble, found if best is None else found[: (best + 1) * (model.num_parallel_tree or 1)])
    return proto


def _lightgbm(model: Any, features: int) -> Any:
    import lightgbm
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    if not isinstance(model, lightgbm.LGBMRegressor):
        raise ExportError(
            f"{type(model).__name__} is no lightgbm.LGBMRegressor, and the scorer answers one number for a row"
        )
    dump = model.booster_.dump_model()
    if dump["average_output"]:
        raise ExportError("boosting_type='rf' averages its trees, which the converter leaves out; fit with 'gbdt'")
    if not str(dump.get("objective", "")).startswith(LIGHTGBM_OBJECTIVES) or "sqrt" in str(dump.get("objective")):
        raise ExportError(f"the converter does not know the link of objective={dump.get('objective')!r}")
    found = trees.of_lightgbm(dump)
    proto = onnxmltools.convert_lightgbm(
        model, initial_types=[(INPUT, FloatTensorType([None, features]))], target_opset=OPSET, zipmap=False
    )
    trees.correct(_ensemble(proto), found)
    return proto


def _ensemble(proto: Any) -> Any:
    """The one TreeEnsembleRegressor of the graph."""
    found = [node for node in proto.graph.node if node.op_type == "TreeEnsembleRegressor"]
    if len(found) != 1:
        raise ExportError(f"the conversion has {len(found)} tree ensembles, and one was converted")
    return found[0]


@contextmanager
def integers() -> Iterator[None]:
    """Let skl2onnx write truth values as the integers that ONNX has for them.

    protobuf 7 refuses a bool in an integer attribute; skl2onnx 1.20 puts some into HistGradientBoosting's trees.
    """
    from skl2onnx.common import _container

    original = _container.make_node

    def make_node(*args: Any, **attributes: Any) -> Any:
        plain = {
            key: [int(one) if isinstance(one, (bool, np.bool_)) else one for one in value]
            if isinstance(value, (list, tuple, np.ndarray))
            else value
            for key, value in attributes.items()
        }
        return original(*args, **plain)

    _container.make_node = make_node
    try:
        yield
    finally:
        _container.make_node = original


def _tidy(proto: Any) -> None:
    """The names of the contract, and each domain once.

    The graph's name is random otherwise, and the model's digest must depend on the model.
    """
    graph = proto.graph
    graph.name = "model"
    old = graph.output[0].name
    for node in graph.node:
        node.output[:] = [OUTPUT if one == old else one for one in node.output]
        node.input[:] = [OUTPUT if one == old else one for one in node.input]
    graph.output[0].name = OUTPUT
    opsets = {
        one.domain: max(each.version for each in proto.opset_import if each.domain == one.domain)
        for one in proto.opset_import
    }
    del proto.opset_import[:]
    for domain, version in sorted(opsets.items()):
        proto.opset_import.add(domain=domain, version=version)
