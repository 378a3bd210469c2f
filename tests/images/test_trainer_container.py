"""The trainer's image on the VM: what a train.py does there with each framework."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab.site import Site

SCRIPT = """
import json, sys
import numpy as np
from edgeloop_trainer import export, parity
from lightgbm import LGBMRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from xgboost import XGBRegressor

rng = np.random.default_rng(0)
x = rng.normal(size=(800, 3)).astype(np.float32).round(2)
y = (100 * x[:, 0] + x[:, 1] ** 2).astype(np.float32)
x[rng.random(x.shape) < 0.1] = np.nan
models = (
    HistGradientBoostingRegressor(max_iter=20),
    XGBRegressor(n_estimators=20, n_jobs=1),
    LGBMRegressor(n_estimators=20, n_jobs=1, verbose=-1),
)
told = {}
for model in models:
    model.fit(x[200:], y[200:])
    onnx = export.to_onnx(model, features=3)
    told[type(model).__name__] = parity.require(parity.compare(model.predict, onnx, x[:200]))
print(json.dumps(told))
"""


@pytest.mark.system
def test_each_framework_is_converted_and_proven_where_it_trains(site: Site) -> None:
    """Read-only, without a network, as user 10001: three models, three conversions, three passed comparisons."""
    import docker

    client = docker.DockerClient(base_url=site.vm.docker, timeout=120)
    try:
        output = client.containers.run(
            site.images.trainer,
            ["-c", SCRIPT],
            entrypoint="python3",
            network_mode="none",
            read_only=True,
            tmpfs={"/tmp": "size=64m"},
            remove=True,
            cap_drop=["ALL"],
        )
    finally:
        client.close()
    told = json.loads(output.splitlines()[-1])
    assert set(told) == {"HistGradientBoostingRegressor", "XGBRegressor", "LGBMRegressor"}
    for figures in told.values():
        assert (figures["passed"], figures["rows"]) == (True, 200)
        assert figures["threshold_rows"] > 1000
        assert figures["largest_difference"] <= figures["tolerance"]
