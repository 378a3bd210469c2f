"""The train task with Azure ML as its backend: Azure played by the contract server, storage a real Azurite."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from tests.azure_contract.test_jobs import PLACE
from tests.edgeloop_airflow.conftest import floor  # noqa: F401 - a fixture

from edgeloop.azure_ml import in_job, job_body
from edgeloop.azure_ml.jobs import Jobs, job_name
from edgeloop.errors import (
    ConfigurationError,
    IntegrityError,
    TrainingFailedError,
    TrainingInterruptedError,
    UnreachableError,
)
from edgeloop.records import Certificate, Dataset, FileRef, TrainingRun, sha256_hex
from edgeloop_airflow.azure_ml_training import PrepareComputeOperator, TrainOperator
from edgeloop_airflow.azure_ml_trigger import AzureMLTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.edgeloop_airflow.conftest import Floor

SECTION = """
training:
  backend: azure_ml
  timeout_minutes: 30
azure_ml:
  subscription: 11111111-1111-1111-1111-111111111111
  resource_group: edge-rg
  workspace: edge-ws
  datastore: edge_data
"""
OUTPUTS = {"model.onnx": b"onnx", "metrics.json": b'{"accuracy": 0.75}'}
KEY = "2014-03@key"


def ti(try_number: int = 1) -> Any:
    """A try of the task."""
    states: Any = lambda **_: {"run-1": {"train": "running"}}  # noqa: E731
    return SimpleNamespace(
        dag_id="tiny_power_train", task_id="train", run_id="run-1", try_number=try_number, map_index=-1,
        get_task_states=states, hostname="worker", dag_version_id="v",
    )  # fmt: skip


@dataclass
class Cloud:
    """A pipeline that Azure ML trains, its workspace, and a dataset."""

    floor: Any
    azure: Any
    dataset: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def desk(self) -> Any:
        """The pipeline's desk."""
        return self.floor.desk()

    def operator(self, **options: Any) -> TrainOperator:
        """The train task as it is rendered."""
        return TrainOperator(
            task_id="train", pipeline="tiny_power", key=KEY, dataset=self.dataset, run="run-1",
            job_poll_seconds=0.01, **options,
        )  # fmt: skip

    def parked(self, operator: TrainOperator | None = None, try_number: int = 1) -> TaskDeferred:
        """Execute until it defers."""
        with pytest.raises(TaskDeferred) as caught:
            (operator or self.operator()).execute({"ti": ti(try_number), "dag_run": None})
        return caught.value

    def job(self, attempt: int = 1) -> dict[str, Any]:
        """The job as it was asked for."""
        put = [one for one in self.azure.log("PUT", "/jobs/") if one["status"] < 300][attempt - 1]
        found = put["request_body"]["properties"]
        assert isinstance(found, dict)
        return found

    def write(self, files: dict[str, bytes] | None = None, attempt: int = 1, **changes: str) -> None:
        """What the job's driver does at its end: the outputs, then the manifest, where the job was told to."""
        files = OUTPUTS if files is None else files
        folder = self.job(attempt)["outputs"]["outputs"]["uri"].partition("/paths/")[2]
        for name, data in files.items():
            self.desk.blobs.put(f"{folder}{name}", data)
        manifest = [
            {"path": name, "kind": "f", "size": len(data), "sha256": changes.get(name, sha256_hex(data))}
            for name, data in files.items()
        ]
        self.desk.blobs.put(f"{folder}{in_job.MANIFEST}", json.dumps(manifest).encode())

    def complete(self, parked: TaskDeferred, operator: TrainOperator | None = None) -> str:
        """Follow by the trigger, as a triggerer would make it, then go on as the worker would."""
        event = asyncio.run(fired(trigger_of(parked)))
        return self.resume(parked, event, operator)

    def resume(self, parked: TaskDeferred, event: Any, operator: TrainOperator | None = None) -> str:
        """Go on with an event."""
        going_on: Any = getattr(operator or self.operator(), parked.method_name)
        done: str = going_on({"ti": ti(), "dag_run": None}, event=event, **(parked.kwargs or {}))
        return done


def trigger_of(parked: TaskDeferred, **changes: Any) -> AzureMLTrigger:
    """The trigger from its class and arguments alone."""
    path, arguments = parked.trigger.serialize()
    assert path == "edgeloop_airflow.azure_ml_trigger.AzureMLTrigger"
    assert "a secret" not in json.dumps(arguments)
    return AzureMLTrigger(**{**json.loads(json.dumps(arguments)), **changes})


async def fired(trigger: AzureMLTrigger) -> Any:
    """What the trigger fires."""
    async for event in trigger.run():
        return event.payload
    return None


@pytest.fixture
def cloud(floor: Floor, azure: Any) -> Cloud:  # noqa: F811 - the fixture
    """The tiny pipeline for the cloud, a workspace with compute and datastore, and a dataset of one file."""
    floor.edit("pipeline.yaml", "residency: on_premises", "residency: cloud")
    spec = floor.home / "pipeline.yaml"
    spec.write_text(spec.read_text() + SECTION)
    one = Cloud(floor=floor, azure=azure)
    desk = one.desk
    account = desk.blobs.url.rstrip("/").split("/")[-2]
    store = {"datastoreType": "AzureBlob", "accountName": account, "containerName": desk.blobs.name}
    azure.seed(
        arm={
            f"{azure.workspace_id}/computes/edge-vm": {"properties": {"computeType": "VirtualMachine"}},
            f"{azure.workspace_id}/datastores/edge_data": {
                "properties": {
                    **store,
                    "credentials": {"credentialsType": "AccountKey"},
                    "endpoint": "core.windows.net",
                }
            },
        },
        blobs={"edgemlstore/code1/.keep": ""},
    )
    azure.faults(PLACE)
    file = FileRef(path="data/b1/north_2014-03.parquet", size=4, sha256=sha256_hex(b"rows"))
    desk.blobs.put(file.path, b"rows")
    proof = desk.store.put(
        Certificate(
            pipeline="tiny_power",
            batch="b1",
            suite="s",
            group="2014-03",
            files=(file,),
            rows=1,
            config=desk.snapshot.save(desk.blobs),
        )
    )
    data = Dataset(
        pipeline="tiny_power", files=(file,), certificates=(proof.id,), window_start="2014-01-01T00:00:00Z",
        window_end="2014-04-01T00:00:00Z", holdout_start="2014-03-14T00:00:00Z", config=desk.snapshot.digest,
    )  # fmt: skip
    one.dataset = desk.store.put(data).id
    return one


def test_a_training_in_azure_ml_from_its_order_to_its_record(cloud: Cloud) -> None:
    """One job; its outputs collected by the VM's rules, its copies removed; a second task returns the record."""
    parked = cloud.parked()
    cloud.write()
    done = cloud.complete(parked)
    desk = cloud.desk
    run = desk.store.get(TrainingRun, done)
    assert (run.dataset, json.loads(run.metrics)) == (cloud.dataset, {"accuracy": 0.75})
    assert sorted(one.path for one in run.outputs) == [f"training/{done}/metrics.json", f"training/{done}/model.onnx"]
    assert sorted(one.name for one in desk.blobs.list(f"training/{done}/")) == sorted(one.path for one in run.outputs)
    job = cloud.job()
    assert job["tags"]["edgeloop.training"] == done
    assert job["tags"]["edgeloop.data_asset"].startswith("azureml:tiny_power:")
    before = len(cloud.azure.log("PUT"))
    assert cloud.operator().execute({"ti": ti(), "dag_run": None}) == done
    assert len(cloud.azure.log("PUT")) == before


def test_a_retry_and_a_second_run_attach_to_the_job(cloud: Cloud) -> None:
    """Whoever asks while it goes on waits for the same job; who comes late collects it, once."""
    cloud.azure.config(job_states=["Queued"] * 9)
    first, second = cloud.parked(), cloud.parked(try_number=2)
    assert first.trigger.job == second.trigger.job
    assert len(cloud.azure.log("PUT", "/jobs/")) == 1
    cloud.azure.config(job_states=["Completed"] * 9)
    cloud.write()
    assert cloud.operator().execute({"ti": ti(3), "dag_run": None}) == cloud.resume(first, {"ending": "ended"})


def test_a_job_that_failed_is_told_by_its_last_lines_and_asked_for_anew(cloud: Cloud) -> None:
    """The lines come first; a plain clear asks for attempt 2, which has the same checkpoint."""
    cloud.azure.config(job_states=["Running", "Failed", "Failed"], job_logs="epoch 1\nepoch 2\nboom\n")
    with pytest.raises(TrainingFailedError) as caught:
        cloud.complete(cloud.parked())
    assert not isinstance(caught.value, TrainingInterruptedError)
    assert str(caught.value).startswith("The training's last lines:\n  epoch 1\n  epoch 2\n  boom\n")
    parked = cloud.parked(try_number=2)
    assert parked.trigger.job.endswith("-a2")
    assert cloud.job(1)["outputs"]["checkpoint"] == cloud.job(2)["outputs"]["checkpoint"]


def test_a_job_that_somebody_cancelled_is_one_to_go_on_from(cloud: Cloud) -> None:
    """Airflow's retry asks for the next attempt by itself."""
    cloud.azure.config(job_states=["Running", "Canceled"])
    with pytest.raises(TrainingInterruptedError, match="is Canceled"):
        cloud.complete(cloud.parked())


def test_outputs_that_will_not_do_make_another_attempt(cloud: Cloud) -> None:
    """A model that is missing fails the task; the job completed, but the next try does not collect it for ever."""
    parked = cloud.parked()
    cloud.write({"metrics.json": b"{}"})
    with pytest.raises(TrainingFailedError, match=r"model\.onnx is missing"):
        cloud.complete(parked)
    cloud.azure.config(job_states=["Running"] + ["Completed"] * 9)
    assert cloud.parked(try_number=2).trigger.job.endswith("-a2")


def test_what_is_no_output_stays_and_what_is_not_as_written_is_refused(cloud: Cloud) -> None:
    """A file beside the allow-list is named and kept; a file that differs from its manifest is not stored."""
    parked = cloud.parked()
    cloud.write({**OUTPUTS, "rows.csv": b"1,2,3"}, **{"model.onnx": "f" * 64})
    with pytest.raises(IntegrityError, match=r"model\.onnx reads as 4 bytes"):
        cloud.complete(parked)
    cloud.write({**OUTPUTS, "rows.csv": b"1,2,3"})
    done = cloud.resume(parked, {"ending": "ended"})
    names = [one.name for one in cloud.desk.blobs.list(f"training/{done}/azure_ml/")]
    assert any(one.endswith("rows.csv") for one in names)
    assert not any("rows" in one.path for one in cloud.desk.store.get(TrainingRun, done).outputs)


def test_a_deadline_cancels_the_job(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trigger keeps it; the task cancels, waits for the end, fails with the last lines, and is not retried."""
    cloud.azure.config(job_states=["Running"] * 99)
    monkeypatch.setattr("edgeloop.azure_ml.jobs.LOOK_SECONDS", 0.01)
    parked = cloud.parked()
    left = parked.trigger.deadline - time.time()
    assert 85 * 60 < left <= 90 * 60, "its own half an hour, and an hour for the queue"
    event = asyncio.run(fired(trigger_of(parked, deadline=1)))
    assert event["ending"] == "deadline"
    with pytest.raises(AirflowFailException, match=r"(?s)last lines.*timeout_minutes is 30"):
        cloud.resume(parked, event)
    assert len(cloud.azure.log("POST", "/cancel")) == 1


def test_a_job_that_is_slow_to_end_is_not_asked_for_anew(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure takes minutes to cancel: what ran past its deadline fails for good all the same."""
    cloud.azure.config(job_states=["Running"] * 99)
    monkeypatch.setitem(Jobs.wait_gone.__kwdefaults__, "timeout", 0.0)  # type: ignore[arg-type]
    monkeypatch.setattr("edgeloop.azure_ml.jobs.LOOK_SECONDS", 0.01)
    parked = cloud.parked()
    cloud.azure.faults({"match": "POST .*/cancel", "status": 202})
    with pytest.raises(AirflowFailException, match=r"(?s)is CancelRequested.*timeout_minutes is 30"):
        cloud.resume(parked, {"ending": "deadline"})
    assert len(cloud.azure.log("POST", "/cancel")) == 1


def test_an_azure_that_is_away_is_borne_and_then_told(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short one is invisible to the run; one that lasts fails the task, and the job lives on."""
    monkeypatch.setattr("edgeloop.azure_ml.arm.RETRIES", 0)
    cloud.azure.config(job_states=["Running"] * 9 + ["Completed"])
    parked = cloud.parked()
    trouble = {"match": "GET .*/jobs/", "status": 503}
    cloud.azure.faults({**trouble, "times": 3})
    event = asyncio.run(fired(trigger_of(parked)))
    assert event["ending"] == "ended"
    cloud.azure.faults({**trouble, "times": 99})
    event = asyncio.run(fired(trigger_of(parked, link_seconds=0.01)))
    with pytest.raises(UnreachableError, match="which goes on"):
        cloud.resume(parked, event)
    assert cloud.azure.log("POST", "/cancel") == []


async def disturbed(trigger: AzureMLTrigger, azure: Any, disturb: Callable[[], None]) -> Any:
    """What the trigger fires when something happens after its first look at the job."""
    before = len(azure.log("GET", "/jobs/"))
    following = asyncio.create_task(fired(trigger))
    while len(await asyncio.to_thread(azure.log, "GET", "/jobs/")) == before and not following.done():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    disturb()
    return await following


def test_a_connection_that_cannot_be_read_for_a_while_is_what_it_was(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow calls it undefined then, to a trigger; the job is followed, and cancelled, with what it said last."""
    cloud.azure.config(job_states=["Running"] * 99)
    trigger = trigger_of(cloud.parked())

    def away() -> None:
        monkeypatch.delenv("AIRFLOW_CONN_AZURE_DEFAULT")
        cloud.azure.config(job_states=["Running"] * 9 + ["Completed"] * 9)

    assert asyncio.run(disturbed(trigger, cloud.azure, away))["ending"] == "ended"
    cloud.azure.config(job_states=["Running"] * 99)
    asyncio.run(trigger.stop("it was given up"))
    assert len(cloud.azure.log("POST", "/cancel")) == 1


def test_a_secret_that_was_renewed_meanwhile_is_used(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept client has the old one, which Azure refuses some hours later; where nothing was renewed that is told."""
    cloud.azure.config(job_states=["Running"] * 999)
    trigger = trigger_of(cloud.parked())
    refused = {"match": "GET .*/jobs/", "status": 401, "times": 1}

    def renewed() -> None:
        told = json.loads(os.environ["AIRFLOW_CONN_AZURE_DEFAULT"]) | {"password": "another secret"}
        monkeypatch.setenv("AIRFLOW_CONN_AZURE_DEFAULT", json.dumps(told))
        cloud.azure.config(job_states=["Completed"] * 9)
        cloud.azure.faults(refused)

    tokens = len(cloud.azure.log(part="/token"))
    assert asyncio.run(disturbed(trigger, cloud.azure, renewed))["ending"] == "ended"
    assert len(cloud.azure.log(part="/token")) > tokens
    cloud.azure.faults(refused)
    with pytest.raises(ConfigurationError, match="did not accept the token"):
        asyncio.run(fired(trigger))


def killed(trigger: AzureMLTrigger, state: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Airflow does to the trigger of a task in that state."""
    trigger.task_instance = ti()  # type: ignore[assignment]
    monkeypatch.setattr(
        "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states",
        lambda *_, **__: {"run-1": {"train": state}},
    )
    asyncio.run(trigger.on_kill())


def test_a_task_that_was_given_up_cancels_its_job(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cleared or marked failed: the job is cancelled; a trigger that moves to another triggerer cancels nothing."""
    cloud.azure.config(job_states=["Running"] * 9)
    trigger = trigger_of(cloud.parked())
    killed(trigger, "deferred", monkeypatch)
    assert cloud.azure.log("POST", "/cancel") == []
    killed(trigger, "failed", monkeypatch)
    assert len(cloud.azure.log("POST", "/cancel")) == 1
    assert cloud.azure.resource(f"jobs/{trigger.job}")["properties"]["status"] == "Canceled"


def test_a_clear_that_was_quicker_than_the_triggerer_still_cancels(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next try follows the job already, and is deferred: what was cleared is cancelled all the same."""
    cloud.azure.config(job_states=["Running"] * 9)
    first = trigger_of(cloud.parked())
    cloud.parked(try_number=2)
    killed(first, "deferred", monkeypatch)
    assert len(cloud.azure.log("POST", "/cancel")) == 1


def test_an_airflow_that_does_not_answer_cancels_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unconfirmed kill ends nothing; an Azure that cannot be told is a line in the log."""
    cloud.azure.config(job_states=["Running"] * 9)
    trigger = trigger_of(cloud.parked())
    trigger.task_instance = ti()  # type: ignore[assignment]

    def silent(*_: Any, **__: Any) -> Any:
        raise OSError("no API server")

    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states", silent)
    asyncio.run(trigger.on_kill())
    assert cloud.azure.log("POST", "/cancel") == []


def test_a_kill_on_the_worker_cancels_unless_the_task_still_runs(cloud: Cloud) -> None:
    """A worker that is shut down leaves the job; a task that was given up takes it along."""
    cloud.azure.config(job_states=["Running"] * 9)
    operator = cloud.operator()
    cloud.parked(operator)
    operator.on_kill()
    assert cloud.azure.log("POST", "/cancel") == []
    operator._ti.get_task_states = lambda **_: {"run-1": {"train": "failed"}}
    operator.on_kill()
    assert len(cloud.azure.log("POST", "/cancel")) == 1


def test_a_compute_that_is_missing_is_named_with_what_to_do(cloud: Cloud) -> None:
    """Nobody hands Azure a key unasked; with compute and datastore in place the task returns the compute's name."""
    task = PrepareComputeOperator(task_id="attach_compute", pipeline="tiny_power", key=KEY)
    assert task.execute({"ti": ti()}) == "edge-vm"
    cloud.floor.edit("pipeline.yaml", "  datastore: edge_data", "  datastore: edge_data\n  compute: nobody")
    with pytest.raises(ConfigurationError, match=r"no compute 'nobody'.*\n.*\n.*send_key: true"):
        task.execute({"ti": ti()})


def test_the_pipeline_backend_goes_the_same_way(cloud: Cloud) -> None:
    """With an evaluate.py there are two steps; its outputs are collected from the same place."""
    cloud.floor.edit("pipeline.yaml", "backend: azure_ml\n", "backend: azure_ml_pipeline\n")
    (cloud.floor.home / "evaluate.py").write_text("print('fine')\n")
    parked = cloud.parked()
    job = cloud.job()
    assert (job["jobType"], sorted(job["jobs"])) == ("Pipeline", ["evaluate", "train"])
    cloud.write()
    done = cloud.complete(parked)
    assert cloud.desk.store.get(TrainingRun, done).metrics == '{"accuracy":0.75}'
    assert parked.trigger.job == job_name(done)
    assert job_body.image_of(cloud.desk.snapshot.spec) == "edgeloop/trainer"
