"""A pipeline with a workspace, a training of it, and the task that tells the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeloop.records import Certificate, Dataset, FileRef, ModelVersion, TrainingRun, canonical_json, sha256_hex
from edgeloop.registry.backend import Listed
from edgeloop.registry.blob_backend import BlobRegistry
from edgeloop_airflow.azure_ml_mirror import MirrorTrainingOperator
from edgeloop_airflow.azure_ml_registry import MirrorModelsOperator

if TYPE_CHECKING:
    from edgeloop_airflow.hooks import Desk

SECTION = """
azure_ml:
  subscription: 11111111-1111-1111-1111-111111111111
  resource_group: edge-rg
  workspace: edge-ws
"""
REGISTRY_SECTION = "registry: {backend: azure_ml}\n"
MODEL_FIGURES = {"accuracy": "0.93", "dataset": "d" * 64, "window_end": "2014-04-01T00:10:03Z", "reason": "Bob's rows"}
KEY, RUN = "2014-01@abc", "run-1"


def started(desk: Desk, **fields: Any) -> TrainingRun:
    """A training that the task `train` of this run decided on."""
    file = FileRef(path="data/b1/R1_2014-01.parquet", size=10, sha256="1" * 64)
    certificate = Certificate(pipeline="tiny_power", batch="b1", suite="s", group="2014-01", files=(file,), rows=3)
    dataset = Dataset(
        pipeline="tiny_power",
        files=(file,),
        certificates=(desk.store.put(certificate).id,),
        window_start="2014-01-01T00:10:03Z",
        window_end="2014-02-01T00:00:00Z",
        holdout_start="2014-01-20T00:00:00Z",
    )
    told = {"code": "c" * 64, "image": "sha256:i", "parameters": '{"depth":3,"note":"words of ours"}', **fields}
    run = TrainingRun(pipeline="tiny_power", dataset=desk.store.put(dataset).id, **told)
    desk.store.fix("trainings", sha256_hex(f"{KEY} {RUN}".encode())[:32], canonical_json(run.to_dict()).decode())
    return run


def finished(desk: Desk, metrics: str = '{"accuracy":0.9,"per_site":{"R1":0.8}}') -> TrainingRun:
    """The same training with its record."""
    body = started(desk).to_dict() | {"metrics": metrics, "seconds": 60.0}
    model = {"path": "training/x/model.onnx", "size": 1, "sha256": "2" * 64}
    return desk.store.put(TrainingRun.from_dict(body | {"outputs": [model]}))


def mirror_run(**fields: Any) -> str:
    """The task after `train`, as Airflow renders it."""
    values = {"pipeline": "tiny_power", "key": KEY, "run": RUN, "finished": "", **fields}
    return MirrorTrainingOperator(task_id="mirror_run", **values).execute({})


def register_model(desk: Desk, number: int, **properties: str) -> str:
    """A version in the store; returns its model's id."""
    content = b"model %d" % number
    sha256 = sha256_hex(content)
    blank = ModelVersion(pipeline="tiny_power", sha256=sha256, size=0, blob="", version=0, training_run="", metrics="")
    wanted = Listed(
        version=number, model=blank.id, sha256=sha256, size=len(content), properties={**MODEL_FIGURES, **properties}
    )
    return BlobRegistry(desk.store, desk.blobs, "tiny_power").publish(wanted, content).model


def mirror_models() -> int:
    """The task at the end of a stage."""
    return MirrorModelsOperator(task_id="mirror_models", pipeline="tiny_power").execute({})


def shown_model(azure: Any, number: int) -> dict[str, Any]:
    """A version as the workspace has it."""
    found: dict[str, Any] = azure.resource(f"models/tiny_power/versions/{number}")["properties"]
    return found
