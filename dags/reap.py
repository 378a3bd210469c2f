"""Reap: one Airflow DAG per pipeline that finishes what a crash left of its trainings on the VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG, CronTriggerTimetable

from edgeloop_airflow.dagkit import FORCE, each, settings
from edgeloop_airflow.reap import ReapOperator
from edgeloop_airflow.tags import Tag

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline

RUNBOOK = """
### Purpose
Looks at the training VM of **{pipeline}** for what a crash left: stops what is past its deadline, was to be stopped, or
runs although its task was marked or its run deleted, removes containers that never started, and after
`training.keep_days` what nobody came for. Only containers with the label of this pipeline are touched. The log says
what was done and what was left.

### When it fails
One job could not be dealt with; the error names it and what to type. The others were. Skipped: the VM did not answer.

### Rerun
Safe at any time: `airflow dags trigger {dag}`. With `{{"force": "why"}}` what is kept for a retry goes at once; a job
that runs is never removed.
"""


def build(spec: Pipeline) -> DAG:
    """The reaping DAG of one pipeline."""
    with DAG(
        schedule=CronTriggerTimetable(spec.schedules.reap, timezone="UTC"),
        max_active_runs=1,
        **settings(spec, "reap", Tag.TRAIN, runbook=RUNBOOK),
    ) as dag:
        ReapOperator(task_id="reap", pipeline=spec.name, force=FORCE)
    return dag


globals().update(each("reap", build))
