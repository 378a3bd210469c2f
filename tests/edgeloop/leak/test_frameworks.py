"""Honest models of every framework that the trainer image converts, with their parity figures: no false alarm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.edgeloop.leak.honest import FEATURES, TARGET

from edgeloop_trainer import export, parity

if TYPE_CHECKING:
    from tests.edgeloop.leak.conftest import Ground


def xgboost(**options: Any) -> Any:
    """XGBoost cuts at values of the data themselves."""
    from xgboost import XGBRegressor

    return XGBRegressor(n_jobs=1, **options)


def lightgbm(**options: Any) -> Any:
    """LightGBM cuts between values."""
    from lightgbm import LGBMRegressor

    return LGBMRegressor(n_jobs=1, verbose=-1, **options)


MODELS = {
    "xgboost": lambda: xgboost(n_estimators=60),
    "xgboost, every value a cut": lambda: xgboost(n_estimators=30, tree_method="exact", max_depth=8),
    "lightgbm": lambda: lightgbm(n_estimators=60),
    "lightgbm, small leaves": lambda: lightgbm(n_estimators=60, min_child_samples=2, num_leaves=63),
}


@pytest.mark.parametrize("name", MODELS)
def test_an_honest_model_and_its_parity_figures_pass(farm: Ground, name: str) -> None:
    """Thresholds are values of single columns, which is what trees are; no row can be read from them."""
    sample = farm.frame.dropna().sample(600, random_state=1)
    x, y = (sample[columns].to_numpy(np.float32) for columns in (FEATURES, TARGET))
    model = MODELS[name]().fit(x[:400], y[:400])
    content = export.to_onnx(model, features=len(FEATURES))
    figures = parity.require(parity.compare(model.predict, content, x[400:]))
    metrics = {"accuracy": 0.9, "rows_holdout": 200, "parity": figures}

    found = farm.checked({"model.onnx": content, "metrics.json": json.dumps(metrics).encode()})

    assert found.marks > 30
