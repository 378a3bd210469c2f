"""The loop as it is driven from outside, while Airflow is not ready for every question."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lab.airflow_http import AirflowApiError
from lab.loop import Loop

NOWHERE = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;BlobEndpoint=http://127.0.0.1:1/a;"


def loop_on(status: int) -> Loop:
    """A loop on an Airflow that answers every question about runs with ``status``."""

    def runs(dag_id: str, **_: Any) -> tuple[Any, ...]:
        raise AirflowApiError(f"Airflow answered {status} about {dag_id}.", status=status)

    storage = SimpleNamespace(connection="edgeloop_private", container="wind", predictions="edge")
    site: Any = SimpleNamespace(blob=SimpleNamespace(private=SimpleNamespace(connection_string=NOWHERE)))
    spec: Any = SimpleNamespace(name="wind", storage=storage)
    airflow: Any = SimpleNamespace(runs=runs)
    return Loop(site, spec, airflow, airflow)


def test_an_airflow_that_has_not_read_its_dags_yet_has_no_failed_runs() -> None:
    """Healthy comes before the first DAG is known; whoever looked in between gave the whole site up."""
    loop = loop_on(404)
    assert (loop.failed(), loop.heal()) == ([], 0)


def test_any_other_refusal_is_told() -> None:
    """An Airflow that does not let us look is not one without failures."""
    with pytest.raises(AirflowApiError, match="403"):
        loop_on(403).failed()
