"""The rollout DAG as it is built from a pipeline: how long its gate may watch."""

from __future__ import annotations

import runpy
from pathlib import Path

from edgeloop import catalog

DAGS = Path(__file__).resolve().parents[2] / "dags"


def test_a_gate_has_time_for_the_longest_soak() -> None:
    """An hour of soak is no time-out of the task, which would leave an unproven image to serve."""
    spec = catalog.load().pipelines[0].spec
    long = spec.model_copy(update={"rollout": spec.rollout.model_copy(update={"soak_seconds": 7200.0})})
    dag = runpy.run_path(str(DAGS / "rollout.py"))["build"](long)
    assert dag.get_task("gate").execution_timeout.total_seconds() > 7200 + 600
