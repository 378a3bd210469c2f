"""Honest outputs pass, models that keep rows do not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVR
from tests.edgeloop.leak.honest import FEATURES, HONEST, converted, fitted, trainings

from edgeloop.leak import search
from edgeloop.leak.chance import LOG_ALONE

if TYPE_CHECKING:
    from tests.edgeloop.leak.conftest import Ground


def test_a_hundred_honest_outputs_pass(farm: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of sixteen kinds, their metrics and reports with a table of quartiles: no false alarm."""
    nearest: list[float] = []
    judge = search.judge

    def recorded(hits: list[search.Hit]) -> tuple[search.Hit, ...]:
        nearest.append(min((hit.log_e for hit in hits), default=math.inf))
        return judge(hits)

    monkeypatch.setattr(search, "judge", recorded)
    marks = [farm.checked(outputs).marks for outputs in trainings(farm.frame)]
    assert len(marks) == HONEST
    # Not because nothing was compared.
    assert sorted(marks)[HONEST // 2] > 30
    assert min(nearest) > LOG_ALONE


KEEPERS = {
    "nearest neighbours": KNeighborsRegressor,
    "support vectors": lambda: SVR(C=100),
    "nearest neighbours behind a scaler": lambda: make_pipeline(StandardScaler(), KNeighborsRegressor()),
    "support vectors behind a scaler": lambda: make_pipeline(StandardScaler(), SVR(C=10)),
    "nearest neighbours behind another scaler": lambda: make_pipeline(MinMaxScaler(), KNeighborsRegressor()),
    "nearest neighbours behind two": lambda: make_pipeline(MinMaxScaler(), StandardScaler(), KNeighborsRegressor()),
}


@pytest.mark.parametrize("kind", KEEPERS)
def test_a_model_that_keeps_its_rows_is_refused(farm: Ground, kind: str) -> None:
    """Neighbours and support vectors are rows, and they are found in the model as skl2onnx writes it."""
    model: Any = converted(fitted(KEEPERS[kind](), farm.frame, 0, rows=200)[0])
    said = farm.refused({"model.onnx": model})
    assert "model.onnx, graph[0]" in said
    assert any(name in said for name in FEATURES)
