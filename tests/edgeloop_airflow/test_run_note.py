"""A run says in Airflow's lists why it trains; a note that a person wrote stays, and no training fails over one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.edgeloop_airflow.airflow_answers import answering

from edgeloop_airflow import run_note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.edgeloop_airflow.airflow_answers import Airflow

CONTEXT: Any = {"ti": SimpleNamespace(dag_id="wind_train", run_id="asset/1")}
RUN = "/dags/wind_train/dagRuns/asset%2F1"
WHY = f"{run_note.TRAINED}code changed: train.py 1f2e -> 90ab"


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    """An Airflow with that run, and the connection to it."""
    with answering() as one:
        one.known[RUN] = {"note": None}
        monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_AIRFLOW", one.connection())
        yield one


def left(text: str = WHY) -> list[str]:
    """Leave the note; what was said about it."""
    said: list[str] = []
    run_note.leave(CONTEXT, text, said.append)
    return said


def test_a_run_says_why_and_says_it_once(airflow: Airflow) -> None:
    """A retry finds it there; another decision of ours takes its place."""
    assert left() == left() == []
    assert airflow.patched == [(RUN, {"note": WHY})]
    assert left(f"{run_note.LEFT}too few months") == []
    assert airflow.known[RUN]["note"] == "Not trained: too few months"


def test_what_a_person_wrote_stays(airflow: Airflow) -> None:
    """Whoever looks after the run has the last word."""
    airflow.known[RUN]["note"] = "waiting for Anna"
    assert "stays" in left()[0]
    assert airflow.patched == []


def test_a_note_is_no_longer_than_airflow_takes(airflow: Airflow) -> None:
    """Fifty keys that waited make a long reason."""
    assert left(run_note.TRAINED + "x" * 2000) == []
    assert len(airflow.known[RUN]["note"]) == 1000


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_an_airflow_that_refuses_is_a_line_in_the_log(airflow: Airflow, status: int) -> None:
    """Whatever it answers."""
    airflow.refuses = status
    (said,) = left()
    assert "carries no note" in said
    assert str(status) in said


@pytest.mark.parametrize("connection", ['{"conn_type": "edgeloop_airflow"}', ""])
def test_without_a_connection_that_will_do_it_is_a_line_in_the_log(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, or without a host."""
    monkeypatch.delenv("AIRFLOW_CONN_EDGELOOP_AIRFLOW", raising=False)
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_AIRFLOW", connection)
    (said,) = left()
    assert "carries no note" in said
    assert len(said.splitlines()) == 1
