"""What figures of a comparison let a model be registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.proven import ROWS, proven

from edgeloop.errors import TrainingFailedError
from edgeloop.records import ModelVersion, sha256_hex
from edgeloop.registry import parity, register
from edgeloop.registry.parity import Demand, gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.store import Store

FILE = b"a model"
DEMAND = Demand(sha256=sha256_hex(FILE), branches=100, most_apart=0.5)


def test_figures_that_passed_travel_without_the_digest() -> None:
    """A fixed set of numbers goes with the model; whatever else the script put there does not."""
    metrics = proven(FILE, {"accuracy": 0.9}, remark="a text", rows=ROWS + 1)

    kept = gate(metrics, "abc", DEMAND)

    assert kept["accuracy"] == 0.9
    assert kept["parity"] == {
        "rows": ROWS + 1, "threshold_rows": 300, "nan_rows": 100, "extreme_rows": 200, "refused_rows": 0,
        "mismatched_rows": 0, "largest_difference": 0.001, "tolerance": 0.01, "passed": True,
    }  # fmt: skip
    assert "sha256" not in parity.without_digest(metrics)["parity"]
    assert parity.without_digest({"accuracy": 0.9}) == {"accuracy": 0.9}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"passed": False}, "0 rows were answered differently"),
        ({"passed": 1}, "0 rows were answered differently"),
        ({"passed": None}, "0 rows were answered differently"),
        ({"mismatched_rows": 3}, "3 rows were answered differently"),
        ({"sha256": sha256_hex(b"another")}, "compared as another file"),
        ({"sha256": ""}, "compared as another file"),
        ({"rows": ROWS - 1}, f"only {ROWS - 1} rows of a hold-out of {ROWS}"),
        ({"largest_difference": 0.02}, "up to 0.02 apart and may be 0.01"),
        ({"largest_difference": 0.6, "tolerance": 1e9}, "up to 0.6 apart and may be 0.5"),
        ({"threshold_rows": 0}, "no row at a threshold"),
        ({"nan_rows": 0}, "no row with a missing value"),
        ({"extreme_rows": 0}, "no row with an extreme value"),
        ({"largest_difference": float("nan")}, "largest_difference in metrics.json is no number"),
        ({"largest_difference": -1}, "largest_difference in metrics.json is no number"),
        ({"rows": 2000.5}, "rows in metrics.json is no number"),
        ({"rows": True}, "rows in metrics.json is no number"),
        ({"tolerance": "1"}, "tolerance in metrics.json is no number"),
        ({"extreme_rows": None}, "extreme_rows in metrics.json is no number"),
    ],
)
def test_figures_that_show_nothing_are_refused(changes: dict[str, Any], words: str) -> None:
    """Whatever is missing, wrong, or about something else keeps the model out, and the error says which."""
    with pytest.raises(TrainingFailedError, match=words) as caught:
        gate(proven(FILE, {"accuracy": 0.9}, **changes), "abc", DEMAND)
    assert "edgeloop_trainer.parity.compare" in caught.value.next


@pytest.mark.parametrize("metrics", [{}, {"parity": None}, {"parity": True}, {"parity": []}, {"parity_rows": 3}])
def test_without_figures_no_model(metrics: dict[str, Any]) -> None:
    """It fails closed: no comparison is no passed comparison."""
    with pytest.raises(TrainingFailedError, match="holds no 'parity'"):
        gate({"accuracy": 0.9, **metrics}, "abc", DEMAND)


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"rows_holdout": None}, "says no rows_holdout"),
        ({"rows_holdout": 0}, "says no rows_holdout"),
        ({"rows_holdout": ROWS + 1}, f"of a hold-out of {ROWS + 1}"),
        ({"rows_holdout": 5, "comparison": {"rows": ROWS + 9}}, f"of a hold-out of {ROWS + 9}"),
    ],
)
def test_fewer_rows_than_the_hold_out_are_refused(metrics: dict[str, Any], words: str) -> None:
    """The hold-out is as large as the script says, and at least what champion and challenger were compared on."""
    with pytest.raises(TrainingFailedError, match=words):
        gate(proven(FILE, {"accuracy": 0.9, **metrics}), "abc", DEMAND)


def test_a_model_without_trees_needs_no_thresholds_and_a_framework_may_refuse_missing_values() -> None:
    """A linear model has none; scikit-learn's refuses NaN, and how many rows it refused is told."""
    metrics = proven(FILE, {"accuracy": 0.9}, threshold_rows=0, nan_rows=0, refused_rows=9)

    kept = gate(metrics, "abc", Demand(sha256=sha256_hex(FILE)))

    assert kept["parity"]["refused_rows"] == 9


@pytest.mark.system
def test_a_model_of_before_stays_registered(
    store: Store, container: BlobContainer, onnx_bytes: Callable[[float], bytes], training_run: Callable[..., Any]
) -> None:
    """A record of 0.2.0 has no figures: registering its bytes again finds it, while new bytes need theirs."""
    sha256 = sha256_hex(onnx_bytes(1.0))
    old = store.put(
        ModelVersion(
            pipeline="wind_power",
            sha256=sha256,
            size=len(onnx_bytes(1.0)),
            blob=f"models/{sha256}.onnx",
            version=1,
            training_run=training_run(1).id,
            metrics='{"accuracy":0.9}',
        )
    )

    def again(weight: float) -> ModelVersion:
        return register(
            store,
            container,
            pipeline="wind_power",
            onnx=onnx_bytes(weight),
            training_run=training_run(1),
            metrics={"accuracy": 0.9},
        )

    assert again(1.0) == old
    with pytest.raises(TrainingFailedError, match="holds no 'parity'"):
        again(2.0)
    assert store.all(ModelVersion) == [old]
    assert [one.name for one in container.list("models/")] == [old.blob]
