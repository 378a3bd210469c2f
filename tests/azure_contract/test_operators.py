"""The mirror's tasks and the operators for a DAG of one's own, on a real store and the contract server."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop.azure_ml.report import begun
from edgeloop.errors import ConfigurationError, ConflictError, EdgeloopError, ResidencyError, UnreachableError
from edgeloop.records import Certificate, Dataset, FileRef, TrainingRun, canonical_json, sha256_hex
from edgeloop_airflow.azure_ml_compute import (
    AttachToWorkspaceOperator,
    DetachFromWorkspaceOperator,
    RegisterDataAssetOperator,
)
from edgeloop_airflow.azure_ml_mirror import MirrorStartSensor, MirrorTrainingOperator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.edgeloop_airflow.conftest import Floor

    from edgeloop_airflow.hooks import Desk

SECTION = """
azure_ml:
  subscription: 11111111-1111-1111-1111-111111111111
  resource_group: edge-rg
  workspace: edge-ws
"""
AZURE_ML = "training: {backend: azure_ml}\nresidency_permits: [azure_ml_outputs]\n"
HERE = {"resource_group": "edge-rg", "workspace": "edge-ws"}
KEY, RUN = "2014-01@abc", "run-1"


@pytest.fixture
def bench(floor: Floor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The tiny pipeline with a workspace, a VM's connection and a dataset; the desk that its tasks work with."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    (tmp_path / "key").write_bytes(key)
    extra = {"key_file": str(tmp_path / "key"), "host_key": "ssh-ed25519 AAAA"}
    vm = {"conn_type": "edgeloop_ssh", "host": "10.0.0.7", "port": 2222, "login": "trainer", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_VM", json.dumps(vm))
    path = floor.home / "pipeline.yaml"
    path.write_text(path.read_text() + SECTION)
    return floor.desk()


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


def mirror_start(state: str | None = "running") -> bool:
    """One look of the task beside `train`, which is in ``state``."""
    ti = SimpleNamespace(dag_id="d", run_id=RUN, get_task_states=lambda **_: {RUN: {"train": state}})
    return MirrorStartSensor(task_id="mirror_start", pipeline="tiny_power", key=KEY, run=RUN).poke({"ti": ti})


def test_a_finished_training_is_shown_with_its_vm_its_data_and_its_figures(
    azure: Any, mlflow: Any, bench: Desk
) -> None:
    """Compute, data asset and run are there, and once more changes nothing."""
    run = finished(bench)
    run_id = mirror_run(finished=run.id)
    assert mlflow.active == [run_id]
    kept = mlflow.runs[run_id]
    assert (kept["status"], sorted((one[0], one[1]) for one in kept["metrics"])) == (
        "FINISHED", [("accuracy", 0.9), ("per_site/R1", 0.8)],
    )  # fmt: skip
    tags = kept["tags"]
    assert (tags["edgeloop_training"], tags["edgeloop_dataset"], tags["edgeloop_code"]) == (
        run.id, run.dataset, "c" * 64,
    )  # fmt: skip
    assert tags["edgeloop_data_asset"] == f"azureml:tiny_power:{run.dataset[:16]}"
    assert (tags["edgeloop_compute"], tags["edgeloop_model_sha256"]) == ("edge-vm", "2" * 64)
    vm = azure.resource("computes/edge-vm")["properties"]["properties"]
    assert (vm["address"], vm["sshPort"]) == ("10.0.0.7", 2222)
    uri = azure.resource(f"data/tiny_power/versions/{run.dataset[:16]}")["properties"]["dataUri"]
    assert bench.blobs.exists(f"azure_ml/{run.dataset}/MLTable")
    assert uri.endswith(f"/{bench.blobs.name}/azure_ml/{run.dataset}/")
    before = len([one for one in azure.log() if one["method"] != "GET"])
    assert mirror_run(finished=run.id) == run_id
    written = [one for one in azure.log() if one["method"] != "GET"][before:]
    assert {one["host"] for one in written} <= {"login.microsoftonline.com"}


def test_a_training_is_shown_while_it_runs_and_when_it_failed(azure: Any, mlflow: Any, bench: Desk) -> None:
    """One run: running by the task beside it, failed by the one after it, finished by a later try."""
    assert mirror_start() is False
    run = started(bench)
    assert mirror_start() is True
    (run_id,) = mlflow.active
    assert mlflow.runs[run_id]["status"] == "RUNNING"
    assert mirror_run() == run_id
    assert (mlflow.runs[run_id]["status"], mlflow.runs[run_id]["metrics"]) == ("FAILED", set())
    assert finished(bench).id == run.id
    assert mirror_run() == run_id
    assert mlflow.runs[run_id]["status"] == "FINISHED"
    assert mlflow.active == [run_id]


@pytest.mark.parametrize("state", ["failed", "skipped", "upstream_failed"])
def test_a_training_that_never_began_is_not_waited_for(azure: Any, bench: Desk, state: str) -> None:
    """The task beside it skips with the reason, and so does the one after it."""
    with pytest.raises(AirflowSkipException, match="ended before it had decided"):
        mirror_start(state)
    with pytest.raises(AirflowSkipException, match="No training began"):
        mirror_run()
    assert azure.log() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "has no azure_ml section"), (f"{SECTION}{AZURE_ML}", "Azure ML runs this training itself")],
)
def test_where_there_is_nothing_to_tell_the_task_says_so(
    azure: Any,
    floor: Floor,
    text: str,
    words: str,
) -> None:
    """Without a workspace, and where Azure ML keeps the record itself, nothing is asked."""
    path = floor.home / "pipeline.yaml"
    path.write_text(path.read_text() + text)
    with pytest.raises(AirflowSkipException, match=words):
        mirror_run()
    with pytest.raises(AirflowSkipException, match=words):
        mirror_start()
    assert azure.log() == []


def test_metrics_that_hold_rows_are_told_to_nobody(azure: Any, mlflow: Any, bench: Desk) -> None:
    """What may not become a label of an image may not become a figure in the cloud."""
    run = finished(bench, '{"accuracy":0.9,"worst":[[1.5,2.5,3.5]]}')
    with pytest.raises(ResidencyError, match="worst is a list"):
        mirror_run(finished=run.id)
    assert mlflow.runs == {}


def test_all_that_an_on_premises_pipeline_tells_its_workspace(azure: Any, mlflow: Any, bench: Desk) -> None:
    """Every word that goes to Azure: no file name, no time of a row, no text parameter, no key."""
    run = finished(bench)
    assert bench.snapshot.spec.residency == "on_premises"
    mirror_run(finished=run.id)
    sent = json.dumps([one["request_body"] for one in azure.log() if one["request_body"]])
    assert run.id in sent
    for word in ("R1_2014-01", "parquet", "00:10:03", "words of ours", "PRIVATE KEY", "AccountKey", "sig="):
        assert word not in sent, word


def test_a_name_that_is_taken_hides_neither_data_nor_run(azure: Any, mlflow: Any, bench: Desk) -> None:
    """The parts do not wait for each other; what failed is raised when all were tried."""
    compute = {"location": "x", "properties": {"computeType": "AmlCompute", "properties": {}}}
    azure.seed(arm={f"{azure.workspace_id}/computes/edge-vm": compute})
    run = finished(bench)
    with pytest.raises(ConflictError, match="AmlCompute"):
        mirror_run(finished=run.id)
    assert [one["status"] for one in mlflow.runs.values()] == ["FINISHED"]


def test_a_dead_cloud_fails_the_mirror_after_one_part(azure: Any, bench: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not asked for the rest, and the next try tells everything."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    run = finished(bench)
    with pytest.raises(UnreachableError, match="did not answer connection 'azure_default'"):
        mirror_run(finished=run.id)
    assert not bench.blobs.exists(f"azure_ml/{run.dataset}/MLTable")


def test_the_key_stays_here_unless_the_pipeline_may_hand_it_over(
    azure: Any,
    mlflow: Any,
    bench: Desk,
    floor: Floor,
) -> None:
    """`send_key` of an on_premises pipeline needs the permit; with it Azure gets the key and its fingerprint."""
    attach = AttachToWorkspaceOperator(task_id="a", pipeline="tiny_power")
    floor.edit("pipeline.yaml", "  workspace: edge-ws", "  workspace: edge-ws\n  send_key: true")
    with pytest.raises(EdgeloopError, match=r"send_key"):
        attach.execute({})
    assert azure.log("PUT") == []
    floor.edit("pipeline.yaml", "azure_ml:", "residency_permits: [azure_ml_outputs]\nazure_ml:")
    assert attach.execute({}) == "edge-vm"
    body = azure.log("PUT")[0]["request_body"]
    assert "BEGIN OPENSSH" in body["properties"]["properties"]["administratorAccount"]["privateKeyData"]
    assert body["tags"]["edgeloop-key"].startswith("SHA256:")


def test_the_operators_work_alone(azure: Any, mlflow: Any, bench: Desk) -> None:
    """Attach, register data, mirror and detach with plain arguments, each twice, without a pipeline.yaml."""
    attach = AttachToWorkspaceOperator(task_id="a", connection="edgeloop_vm", compute="my-vm", **HERE)
    asset = RegisterDataAssetOperator(
        task_id="b", name="sales", version="abc", uri="https://acct.blob.core.windows.net/c/folder/", **HERE
    )
    track = MirrorTrainingOperator(
        task_id="c", training="mine-2026-01", experiment="sales", metrics={"auc": 0.9, "per": {"a": 1}}, **HERE
    )
    for _ in range(2):
        assert attach.execute({}) == "my-vm"
        assert asset.execute({}) == "azureml:sales:abc"
        assert track.execute({}) == mlflow.active[0]
    assert len(azure.log("PUT", "/computes/")) == len(azure.log("PUT", "/data/")) == len(mlflow.runs) == 1
    detach = DetachFromWorkspaceOperator(task_id="d", compute="my-vm", **HERE)
    assert [detach.execute({}), detach.execute({})] == [True, False]


def test_arguments_that_name_no_workspace_are_refused(azure: Any) -> None:
    """A name that the service refuses is told before anything is asked, and half of two ways is no way."""
    with pytest.raises(ValueError, match="either the name of a pipeline"):
        AttachToWorkspaceOperator(task_id="a", workspace="edge-ws")
    with pytest.raises(ValueError, match="either the name of a pipeline"):
        MirrorTrainingOperator(task_id="a", pipeline="p", training="t", **HERE)
    wrong = DetachFromWorkspaceOperator(task_id="a", resource_group="g", workspace="_", subscription="none")
    with pytest.raises(ConfigurationError, match=r"subscription: .*; workspace: "):
        wrong.execute({})
    assert azure.log() == []


def test_what_train_decided_is_found_where_train_keeps_it(bench: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror reads the key that the task `train` writes."""
    from edgeloop_airflow.training import TrainOnVMOperator
    from edgeloop_airflow.training_order import PipelineOrder

    run = started(bench)
    monkeypatch.setattr(PipelineOrder, "_plan", lambda _order, _vm: run)
    task = TrainOnVMOperator(task_id="train", pipeline="tiny_power", key="other", run=RUN, dataset=run.dataset)
    assert begun(bench.store, "other", RUN) is None
    task._order({"dag_run": SimpleNamespace(run_type="scheduled", conf={}), "ti": None}).fix(None)
    assert begun(bench.store, "other", RUN) == run
