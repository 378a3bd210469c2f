"""Small real ONNX models, and the trainings they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.proven import proven

from edgeloop.records import TrainingRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.records import ModelVersion
    from edgeloop.store import Store


def onnx_bytes(weight: float) -> bytes:
    """A loadable model Y = X * weight; other weights are other bytes."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Mul", ["X", "W"], ["Y"])],
        "scaled",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("W", TensorProto.FLOAT, [1], [weight])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def training_run(number: int = 1, origin: str = "live") -> TrainingRun:
    """A finished training; each number is another one."""
    return TrainingRun(
        pipeline="wind_power", origin=origin, dataset=f"{number:064x}", code="c" * 64, image="i" * 64, parameters="{}"
    )


@pytest.fixture(name="onnx_bytes")
def _onnx_bytes() -> Callable[[float], bytes]:
    """Makes the model of a weight."""
    return onnx_bytes


@pytest.fixture(name="training_run")
def _training_run() -> Callable[..., TrainingRun]:
    """Makes the training of a number."""
    return training_run


@pytest.fixture
def registered(store: Store, container: BlobContainer) -> Callable[..., ModelVersion]:
    """Registers the model of a weight in this test's store."""
    from edgeloop import registry

    def register(weight: float = 1.0, *, accuracy: float = 0.9, run: int = 1, origin: str = "live") -> ModelVersion:
        onnx = onnx_bytes(weight)
        return registry.register(
            store,
            container,
            pipeline="wind_power",
            onnx=onnx,
            training_run=training_run(run, origin),
            metrics=proven(onnx, {"accuracy": accuracy, "mae": 20.0}),
            window_end="2014-04-01T00:00:00Z",
        )

    return register
