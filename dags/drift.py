"""Drift: two Airflow DAGs per pipeline, one that judges intervals whose labels are complete, one that sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG, CronDataIntervalTimetable, PartitionedAssetTimetable

from edgeloop_airflow.assets import Assets
from edgeloop_airflow.dagkit import FORCE, each, settings
from edgeloop_airflow.drift import JudgeIntervalOperator, RequestRetrainOperator, SweepIntervalsOperator
from edgeloop_airflow.tags import Tag

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline

RUNBOOK = """
### Purpose
Joins what the devices of **{pipeline}** really predicted with the labels that arrived, by event time and never by
the wall clock, and asks for a retraining when accuracy has fallen.

### When it fails
Labels or prediction logs could not be read; the log names the connection. A verdict is written once per interval,
model and label watermark, so nothing is judged twice.

### Rerun
`airflow dags clear {dag} --partition-key 2014-11 -y`, or trigger with that partition key in the UI.
"""

SWEEP_RUNBOOK = """
### Purpose
Finds intervals of **{pipeline}** whose labels are complete but that were never judged, and announces them again.

### When it fails
The store did not answer. Nothing is lost: the next sweep looks at everything again.

### Rerun
Safe at any time: `airflow dags trigger {dag}`. What failed on some days: `airflow backfill create --dag-id {dag}
--from-date 2014-12-01 --to-date 2014-12-02 --reprocess-behavior failed`. A backfilled run looks at the intervals that
ended within its data interval; it judges and asks for no retraining, which the next night's run does.
"""


def build(spec: Pipeline) -> DAG:
    """The judging DAG of one pipeline."""
    assets = Assets(spec.name)
    with DAG(
        schedule=PartitionedAssetTimetable(assets=assets.labels),
        max_active_runs=1,
        **settings(spec, "drift", Tag.DRIFT, runbook=RUNBOOK),
    ) as dag:
        judge = JudgeIntervalOperator(task_id="judge", pipeline=spec.name, force=FORCE)
        judge >> RequestRetrainOperator(
            task_id="request_retrain", pipeline=spec.name, force=FORCE, outlets=[assets.retrain]
        )
    return dag


def build_sweep(spec: Pipeline) -> DAG:
    """The sweeping DAG of one pipeline."""
    with DAG(
        schedule=CronDataIntervalTimetable(spec.schedules.drift, timezone="UTC"),
        max_active_runs=1,
        **settings(spec, "drift_sweep", Tag.DRIFT, runbook=SWEEP_RUNBOOK),
    ) as dag:
        SweepIntervalsOperator(
            task_id="find_unjudged", pipeline=spec.name, force=FORCE, outlets=[Assets(spec.name).labels]
        )
    return dag


globals().update(each("drift", build) | each("drift_sweep", build_sweep))
