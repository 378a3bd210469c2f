"""A hundred honest trainings: models of many kinds on rows of the wind farm, with metrics and a report each."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

FEATURES = ["Ws_avg", "Ot_avg", "Va_avg", "Wa_avg", "Ya_avg", "Ba_avg"]
TARGET = "P_avg"
HONEST = 100


def kinds() -> list[Any]:
    """Estimators that keep no rows, small enough to fit in a blink."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import (
        AdaBoostRegressor,
        BaggingRegressor,
        ExtraTreesRegressor,
        GradientBoostingRegressor,
        HistGradientBoostingRegressor,
        RandomForestRegressor,
    )
    from sklearn.linear_model import ElasticNet, HuberRegressor, LinearRegression, Ridge
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler
    from sklearn.tree import DecisionTreeRegressor

    return [
        lambda n: HistGradientBoostingRegressor(max_iter=20 + n, random_state=n),
        lambda n: HistGradientBoostingRegressor(max_iter=20, loss="absolute_error", random_state=n),
        lambda n: GradientBoostingRegressor(n_estimators=20, max_depth=4, random_state=n),
        lambda n: RandomForestRegressor(n_estimators=6, random_state=n),
        lambda n: RandomForestRegressor(n_estimators=8, min_samples_leaf=5, random_state=n),
        lambda n: ExtraTreesRegressor(n_estimators=6, random_state=n),
        lambda n: DecisionTreeRegressor(random_state=n),
        lambda n: DecisionTreeRegressor(max_depth=6, random_state=n),
        lambda n: BaggingRegressor(n_estimators=4, random_state=n),
        lambda n: AdaBoostRegressor(n_estimators=8, random_state=n),
        lambda _: LinearRegression(),
        lambda n: make_pipeline(StandardScaler(), Ridge(alpha=1 + n)),
        lambda n: make_pipeline(MinMaxScaler(), ElasticNet(alpha=0.1 + n / 100)),
        lambda _: make_pipeline(StandardScaler(), PCA(3), LinearRegression()),
        lambda _: make_pipeline(StandardScaler(), HuberRegressor(max_iter=500)),
        lambda n: make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(16,), max_iter=20, random_state=n)),
    ]


def converted(model: Any) -> bytes:
    """The model as ONNX."""
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    from edgeloop_trainer.export import integers

    with integers():
        types = [("X", FloatTensorType([None, len(FEATURES)]))]
        return skl2onnx.to_onnx(model, initial_types=types, target_opset=17).SerializeToString()


def fitted(estimator: Any, frame: pd.DataFrame, seed: int, rows: int = 500) -> tuple[Any, pd.DataFrame]:
    """The estimator, fitted on some of the rows as 32-bit numbers, and those rows."""
    sample = frame.dropna().sample(rows, random_state=seed)
    # Threads that wait for each other on a busy machine make this ten times as long.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        estimator.fit(sample[FEATURES].to_numpy(np.float32), sample[TARGET].to_numpy(np.float32))
    return estimator, sample


def trainings(frame: pd.DataFrame, count: int = HONEST) -> Iterator[dict[str, bytes]]:
    """The outputs of honest trainings, of every kind in turn."""
    makers = kinds()
    for seed in range(count):
        estimator, sample = fitted(makers[seed % len(makers)](seed), frame, seed)
        error = np.abs(estimator.predict(sample[FEATURES].to_numpy(np.float32)) - sample[TARGET])
        metrics = {
            "accuracy": float((error < 51).mean()),
            "mae": round(float(error.mean()), 6),
            "worst": round(float(error.max()), 3),
            "rows_train": len(sample),
            "tolerance": 51.0,
            "quantiles": [round(float(one), 4) for one in error.quantile([0.1, 0.25, 0.5, 0.75, 0.9])],
            "features": FEATURES,
            "sites": {site: {"rows": len(part)} for site, part in sample.groupby("Wind_turbine_name")},
        }
        # Quartiles are values of rows. Extremes are left out: an outlier is extreme in several columns at once, so that
        # a table of them does hold three fields of its row, and is refused.
        table = sample[[*FEATURES, TARGET]].describe().drop(["min", "max"]).round(2)
        page = f"<h1>Seed {seed}</h1><p>{type(estimator).__name__}, {len(sample)} rows</p>{table.to_html()}"
        yield {
            "model.onnx": converted(estimator),
            "metrics.json": json.dumps(metrics, indent=1).encode(),
            "report.html": page.encode(),
            "importance.csv": ("feature,share\n" + "".join(f"{name},{error.std() / (n + 7):.4f}\n"
                               for n, name in enumerate(FEATURES))).encode(),
        }  # fmt: skip
