"""What a job of Azure ML prints is in the log of the task that waits for it, while it runs: each line once."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from tests.azure_contract.test_job_training import Cloud, cloud, fired, trigger_of
from tests.azure_contract.test_jobs import PLACE
from tests.edgeloop_airflow.conftest import floor

from edgeloop.azure_ml.job_log import last_words
from edgeloop.azure_ml.jobs import FoundJob
from edgeloop_airflow import azure_ml_log, task_log
from edgeloop_airflow.azure_ml_log import JobLines

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

__all__ = ["cloud", "floor"]
TI = SimpleNamespace(dag_id="tiny_power_train", run_id="run-1", task_id="train", map_index=-1, try_number=1)
LOG = "edgemlstore/azureml/ExperimentRun/dcid.{}/user_logs/std_log.txt"


class Watch:
    """A job that prints, and a triggerer that passes it on."""

    def __init__(self, cloud: Cloud, workspace: WorkspaceEndpoint, folder: Path) -> None:
        self.cloud, self.workspace, self.folder = cloud, workspace, folder
        cloud.azure.config(job_states=["Running"] * 999, job_logs="")
        self.job = cloud.parked().trigger.job
        self.said: list[str] = []
        self.lines = self.triggerer()

    def triggerer(self) -> JobLines:
        """Another one, with nothing but what is on the disk and in the store."""
        return JobLines("tiny_power", self.job, TI, lambda text, *values: self.said.append(text % values))

    def prints(self, text: str) -> None:
        """The job's log is this now."""
        self.cloud.azure.seed(blobs={LOG.format(self.job): text})

    def look(self, status: str = "Running", *, log: str = "attempt=1.log.trigger.7.log") -> list[str]:
        """One look; what it wrote into the task's log, which is on the disk then."""
        with structlog.testing.capture_logs() as caught:
            asyncio.run(self.lines.pass_on(self.workspace, FoundJob(name=self.job, status=status)))
        records = [{"timestamp": "2026-01-01T00:00:00.000001Z", **one} for one in caught if "place" in one]
        with (self.folder / log).open("a") as file:
            file.writelines(json.dumps(one, separators=(",", ":")) + "\n" for one in records)
        return [one["event"] for one in records]


@pytest.fixture
def watch(
    cloud: Cloud,
    workspace: WorkspaceEndpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Watch:
    """The job of the tiny pipeline, and the task's logs in a folder of this test's own."""
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    monkeypatch.setattr(task_log, "UNSEEN_SECONDS", 0.0)
    monkeypatch.setattr(task_log, "SETTLE_SECONDS", 0.0)
    folder = tmp_path / "dag_id=tiny_power_train" / "run_id=run-1" / "task_id=train"
    folder.mkdir(parents=True)
    return Watch(cloud, workspace, folder)


def test_lines_come_as_they_are_printed_each_once(watch: Watch) -> None:
    """An unfinished one is waited for, until the job has ended."""
    watch.prints("one\ntwo\nthr")
    assert watch.look() == ["one", "two"]
    assert watch.look() == []
    watch.prints("one\ntwo\nthree\nfo")
    assert watch.look() == ["three"]
    assert watch.look("Completed") == ["fo"]


def test_a_job_that_waits_is_not_asked_for_its_log(watch: Watch) -> None:
    """It has none, and each look would be four requests."""
    before = len(watch.cloud.azure.log())
    assert watch.look("Queued") == watch.look("Preparing") == []
    assert len(watch.cloud.azure.log()) == before


def test_a_triggerer_that_restarts_goes_on_after_the_last_line_on_its_disk(watch: Watch) -> None:
    """What it wrote and kept nowhere else is not told again, whatever the job printed meanwhile."""
    watch.prints("one\ntwo\n")
    assert watch.look() == ["one", "two"]
    watch.prints("one\ntwo\nthree\n")
    watch.lines = watch.triggerer()
    assert watch.look(log="attempt=1.log.trigger.8.log") == ["three"]
    watch.lines = watch.triggerer()
    assert watch.look("Completed") == []


def test_a_triggerer_on_another_machine_goes_on_where_the_store_says(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is kept one look late: the last look's lines come again, none is lost."""
    watch.prints("one\n")
    watch.look()
    watch.prints("one\ntwo\n")
    watch.look()
    for path in watch.folder.iterdir():
        path.unlink()
    monkeypatch.setattr(azure_ml_log.socket, "gethostname", lambda: "another")
    watch.prints("one\ntwo\nthree\n")
    watch.lines = watch.triggerer()
    assert watch.look() == ["two", "three"]


def test_a_log_that_cannot_be_had_is_one_line_and_read_later(watch: Watch) -> None:
    """A storage that refuses keeps nobody from the job; an address whose SAS has ended is asked for anew."""
    watch.prints("one\n")
    watch.cloud.azure.faults(PLACE, {"match": "GET .*std_log", "status": 500, "times": 2, "body": {}})
    assert watch.look() == watch.look() == []
    assert watch.said == [f"The log of job {watch.job} cannot be read now: HTTPError"]
    assert watch.look() == ["one"]
    watch.prints("one\ntwo\n")
    watch.cloud.azure.faults(PLACE, {"match": "GET .*std_log", "status": 403, "times": 1, "body": {}})
    assert watch.look() == ["two"]
    assert len(watch.said) == 1


def test_what_hides_the_log_ends_nobodys_following(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A discovery of another form, a storage connection that nobody reads for a moment: told once, and read later."""
    watch.prints("one\n")
    watch.cloud.azure.faults(PLACE, {"match": "GET .*/discovery", "status": 200, "times": 2, "body": ["x"]})
    assert watch.look() == []
    assert watch.said == [f"The log of job {watch.job} cannot be read now: AttributeError"]
    assert "run history does not say" in last_words(watch.workspace, watch.job).missing
    with monkeypatch.context() as away:
        away.delenv("AIRFLOW_CONN_EDGELOOP_PRIVATE")
        watch.lines = watch.triggerer()
        assert watch.look() == []
    assert watch.look() == ["one"]


def test_the_trigger_passes_the_whole_log_on_before_it_fires(cloud: Cloud) -> None:
    """What came between the last look and the end is not lost; nothing of the SAS is in any line."""
    text = "".join(f"epoch {n}\n" for n in range(50))
    cloud.azure.config(job_states=["Running"] * 4 + ["Completed"] * 9, job_logs=f"{text}the end")
    parked = cloud.parked()
    with structlog.testing.capture_logs() as caught:
        event: Any = asyncio.run(fired(trigger_of(parked)))
    assert event["ending"] == "ended"
    assert [one["event"] for one in caught if "place" in one] == [*text.splitlines(), "the end"]
    assert "sig=" not in str(caught)
