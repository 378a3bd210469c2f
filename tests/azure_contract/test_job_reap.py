"""Jobs of Azure ML that nobody waits for any more are cancelled by the reaper, and no others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from tests.azure_contract.test_job_training import Cloud, cloud
from tests.edgeloop_airflow.airflow_answers import answering
from tests.edgeloop_airflow.conftest import floor

from edgeloop.errors import ConfigurationError
from edgeloop.training.parked import Parked
from edgeloop_airflow import azure_ml_reap
from edgeloop_airflow.reap import ReapOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.edgeloop_airflow.airflow_answers import Airflow

__all__ = ["cloud", "floor"]
TASK = "/dags/tiny_power_train/dagRuns/run-1/taskInstances/train"
DEFERRED = {"state": "deferred", "hostname": "worker", "pid": os.getpid()}


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    """An Airflow in which the train task is parked."""
    with answering() as one:
        one.known["/dags/tiny_power_train/dagVersions"] = {"dag_versions": [{"id": "v"}]}
        one.known[TASK] = dict(DEFERRED)
        monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_AIRFLOW", one.connection())
        yield one


def reap() -> int:
    """Let the reaper come by."""
    done: int = ReapOperator(task_id="reap", pipeline="tiny_power").execute({})
    return done


def cancelled(cloud: Cloud) -> list[Any]:
    """The requests to cancel a job."""
    return cloud.azure.log("POST", "/cancel")


def test_a_job_is_cancelled_when_its_task_was_marked_and_not_before(cloud: Cloud, airflow: Airflow) -> None:
    """Once; afterwards nothing of it is asked about any more."""
    cloud.azure.config(job_states=["Running"] * 99)
    cloud.parked()
    assert reap() == 0
    assert cancelled(cloud) == []
    airflow.known[TASK]["state"] = "failed"
    assert reap() == 1
    assert len(cancelled(cloud)) == 1
    cloud.azure.config(job_states=["Canceled"] * 99)
    assert reap() == 0
    before = len(cloud.azure.log())
    assert reap() == 0
    assert (len(cancelled(cloud)), len(cloud.azure.log())) == (1, before)


def test_a_job_whose_run_was_deleted_is_cancelled(cloud: Cloud, airflow: Airflow) -> None:
    """Airflow knows the version of the DAG, and no such run."""
    cloud.azure.config(job_states=["Running"] * 99)
    cloud.parked()
    del airflow.known[TASK]
    assert reap() == 1
    assert len(cancelled(cloud)) == 1


def test_a_task_that_failed_by_itself_and_one_that_attaches_keep_the_job(cloud: Cloud, airflow: Airflow) -> None:
    """The next try of the first comes for it; the second signs while Airflow is asked."""
    cloud.azure.config(job_states=["Running"] * 99)
    job = cloud.parked().trigger.job
    airflow.known[TASK] |= {"state": "failed", "pid": 1}
    assert reap() == 0
    later = Parked(dag="tiny_power_train", run="run-2", task="train")

    def given_up(waiting: tuple[Parked, ...]) -> str:
        assert len(waiting) == 1
        azure_ml_reap.sign(cloud.desk, job, later)
        return "it was marked"

    assert azure_ml_reap.reap(cloud.desk, given_up, print) == 0
    assert cancelled(cloud) == []


def test_a_job_that_cannot_be_cancelled_keeps_no_other_from_it(cloud: Cloud) -> None:
    """The first is refused every time; the second is cancelled, and then the refusal is told."""
    cloud.azure.config(job_states=["Running"] * 99)
    job = cloud.parked().trigger.job
    stuck = {"jobType": "Command", "status": "Running", "command": "x", "environmentId": "e"}
    cloud.azure.seed(arm={f"{cloud.azure.workspace_id}/jobs/edgeloop-0": {"properties": stuck}})
    azure_ml_reap.sign(cloud.desk, "edgeloop-0", Parked(dag="tiny_power_train", run="run-0", task="train"))
    cloud.azure.faults({"match": "POST .*/jobs/edgeloop-0/cancel", "status": 403, "times": 9})
    with pytest.raises(ConfigurationError, match="may not POST"):
        azure_ml_reap.reap(cloud.desk, lambda _: "it was marked", print)
    assert [one["path"].split("/")[-2] for one in cancelled(cloud)] == ["edgeloop-0", job]
