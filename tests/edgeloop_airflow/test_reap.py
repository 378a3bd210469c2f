"""Whether a job that runs is still wanted, asked of Airflow: only a clear answer about everybody stops it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.edgeloop_airflow.airflow_answers import answering

from edgeloop.training.parked import Parked
from edgeloop_airflow.reap import ReapOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.edgeloop_airflow.airflow_answers import Airflow

ONE = Parked(dag="wind_train", run="one", task="train", version="v1", host="worker", pid=7)
TWO = Parked(dag="wind_train", run="two", task="train", map_index=3, version="v1", host="worker", pid=8)
MARKED = {"state": "failed", "hostname": "worker", "pid": 7}


def place(one: Parked) -> str:
    """Where Airflow has a task instance."""
    return f"/dags/{one.dag}/dagRuns/{one.run}/taskInstances/{one.task}" + (
        f"/{one.map_index}" if one.map_index >= 0 else ""
    )


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    """An Airflow that made the DAG's version, and has the first task marked failed."""
    with answering() as one:
        one.known["/dags/wind_train/dagVersions"] = {"dag_versions": [{"id": "v0"}, {"id": "v1"}]}
        one.known[place(ONE)] = dict(MARKED)
        monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_AIRFLOW", one.connection())
        yield one


def given_up(*waiting: Parked) -> str:
    """What the reaper finds."""
    return ReapOperator(task_id="reap", pipeline="wind")._given_up(waiting)


def test_a_job_whose_only_task_was_marked_or_deleted_is_given_up(airflow: Airflow) -> None:
    """The reason names the run; where several waited it names each."""
    assert given_up(ONE) == "train of run one was marked failed while it was parked"
    assert given_up(ONE, TWO).endswith("; run two of wind_train was deleted")


@pytest.mark.parametrize(
    "seen",
    [
        {**MARKED, "state": "deferred", "pid": 8},
        {**MARKED, "state": None, "hostname": "", "pid": None},
        {**MARKED, "pid": 99},
    ],
)
def test_one_that_waits_keeps_the_job_for_all(airflow: Airflow, seen: dict[str, object]) -> None:
    """Deferred, cleared, or failed by itself: that one's next try comes for it."""
    airflow.known[place(TWO)] = seen
    assert given_up(ONE, TWO) == ""


def test_a_run_of_another_airflow_is_left_alone(airflow: Airflow) -> None:
    """Two Airflows may train on one VM under one name; only who made the DAG's version knows of its runs."""
    airflow.known["/dags/wind_train/dagVersions"] = {"dag_versions": [{"id": "v0"}]}
    assert given_up(TWO) == given_up(ONE) == ""


def test_an_airflow_without_the_dag_says_nothing_about_its_runs(
    airflow: Airflow, capsys: pytest.CaptureFixture[str]
) -> None:
    """A DAG that was renamed, or an address that leads elsewhere: the job goes on, and the log says so."""
    airflow.known.clear()
    assert given_up(ONE) == ""
    assert "could not be asked; it goes on" in capsys.readouterr().out


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_airflow_that_does_not_answer_stops_nothing(
    airflow: Airflow, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    """Neither does a missing right, nor a missing connection."""
    airflow.refuses = status
    assert given_up(ONE) == ""
    assert "could not be asked; it goes on" in capsys.readouterr().out


def test_without_a_connection_nothing_is_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a line in the log."""
    monkeypatch.delenv("AIRFLOW_CONN_EDGELOOP_AIRFLOW", raising=False)
    assert given_up(ONE) == ""
    assert "edgeloop_airflow" in capsys.readouterr().out
