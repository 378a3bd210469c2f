"""The mirror's tasks and the operators for a DAG of one's own, on a real store and the contract server."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from tests.azure_contract.bench import KEY, RUN, SECTION, finished, mirror_run, started

from edgeloop.azure_ml.report import begun
from edgeloop.errors import ConfigurationError, ConflictError, UnreachableError
from edgeloop_airflow.azure_ml_compute import (
    AttachToWorkspaceOperator,
    DetachFromWorkspaceOperator,
    RegisterDataAssetOperator,
)
from edgeloop_airflow.azure_ml_mirror import MirrorStartSensor, MirrorTrainingOperator

if TYPE_CHECKING:
    from tests.edgeloop_airflow.conftest import Floor

    from edgeloop_airflow.hooks import Desk

AZURE_ML = "training: {backend: azure_ml}\nresidency_permits: [azure_ml_outputs]\n"
HERE = {"resource_group": "edge-rg", "workspace": "edge-ws"}


def mirror_start(state: str | None = "running") -> bool:
    """One look of the task beside `train`, which is in ``state``."""
    ti = SimpleNamespace(dag_id="d", run_id=RUN, get_task_states=lambda **_: {RUN: {"train": state}})
    return MirrorStartSensor(task_id="mirror_start", pipeline="tiny_power", key=KEY, run=RUN).poke({"ti": ti})


def test_a_training_that_ended_is_never_said_to_run(azure: Any, mlflow: Any, bench: Desk) -> None:
    """The task beside it, cleared when all is over, leaves what was told: nobody would take "running" back."""
    started(bench)
    run_id = mirror_run()
    assert mlflow.runs[run_id]["status"] == "FAILED"
    assert mirror_start("failed")
    assert mlflow.runs[run_id]["status"] == "FAILED"


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
    # Refused at load: what was valid before runs on, without the key.
    assert attach.execute({}) == "edge-vm"
    assert "privateKeyData" not in json.dumps(azure.log("PUT")[0]["request_body"])
    floor.edit("pipeline.yaml", "azure_ml:", "residency_permits: [azure_ml_outputs]\nazure_ml:")
    assert attach.execute({}) == "edge-vm"
    body = azure.log("PUT")[1]["request_body"]
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
