"""Intake: one Airflow DAG per pipeline that claims what settled on the share and mints a partition per batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable

from edgeloop_airflow.assets import Assets
from edgeloop_airflow.dagkit import FORCE, each, settings
from edgeloop_airflow.share import ArrivalTrigger, ClaimBatchesOperator
from edgeloop_airflow.tags import Tag

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline

RUNBOOK = """
### Purpose
Looks at the share of **{pipeline}**, waits until files stop changing, and claims all of them as batches. Woken by
arrivals, and by a cron sweep so that a lost event costs minutes, not data.

### When it fails
The share or the store did not answer; the log names the connection. Nothing was claimed halfway: claims are
conditional writes, and a batch whose run died before it was announced is announced again by the next run.

### Rerun
Safe at any time: `airflow dags trigger {dag}`. Files that are already in a batch are not claimed twice.
"""


def build(spec: Pipeline) -> DAG:
    """The intake DAG of one pipeline."""
    arrivals = Asset(
        name=f"{spec.name}_arrivals",
        uri=f"x-edgeloop://{spec.name}/arrivals",
        group="edgeloop",
        watchers=[AssetWatcher(name=f"{spec.name}_arrivals", trigger=ArrivalTrigger(pipeline=spec.name))],
    )
    sweep = CronTriggerTimetable(spec.schedules.sweep, timezone="UTC")
    with DAG(
        schedule=AssetOrTimeSchedule(timetable=sweep, assets=[arrivals]),
        max_active_runs=1,
        **settings(spec, "intake", Tag.INTAKE, runbook=RUNBOOK),
    ) as dag:
        ClaimBatchesOperator(task_id="claim", pipeline=spec.name, force=FORCE, outlets=[Assets(spec.name).batch])
    return dag


globals().update(each("intake", build))
