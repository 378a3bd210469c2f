"""Intake: one Airflow DAG per pipeline that claims what settled on the share, a partition per batch, and sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG, AssetOrTimeSchedule, MultipleCronTriggerTimetable, Param, TriggerRule

from edgeloop_airflow.assets import Assets
from edgeloop_airflow.dagkit import FORCE, each, settings
from edgeloop_airflow.nudge import arrivals
from edgeloop_airflow.retrain import MintRetrainOperator
from edgeloop_airflow.share import CheckDeliveriesOperator, ClaimBatchesOperator
from edgeloop_airflow.tags import Tag

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline

RUNBOOK = """
### Purpose
Looks at the source of **{pipeline}**, waits until files are complete, and claims all of them as batches. Woken by
arrivals, by Azure's events where `source.nudge` names a queue of them, and by a cron sweep so that a lost event costs
minutes, not data. Where files lie in date folders a sweep looks at the recent ones, and at every one of them when a
tick of `schedules.full_sweep` has passed since that was last done.

### When it fails
`claim`: the source or the store did not answer; the log names the connection. Nothing was claimed halfway: a claim is
one conditional write, and a batch whose run died before it was announced is announced again by the next run.
`check_deliveries`: files lie there that no batch can take, such as those a manifest promises other bytes of. It names
each with its reason; everything else was claimed.
`request_retrain`: asks for a training when train.py, its image or its parameters changed, or `schedules.retrain`
ticked; skipped while nothing does. The store did not answer: the next run asks again.

### Rerun
Safe at any time: `airflow dags trigger {dag}`; to look at every folder, `airflow dags trigger {dag} --conf
'{{"full": true}}'`. Files that are already in a batch are not claimed twice. Backfills are refused: what lies on the
source now says nothing about a day in the past. Old batches are rerun in the ingest DAG, by partition key.
"""

RUN_TYPES = ("scheduled", "asset_triggered", "asset_materialization", "manual", "operator_triggered")
"""Every type but backfill: it would claim today's files once for every tick of the past."""


def build(spec: Pipeline) -> DAG:
    """The intake DAG of one pipeline."""
    sweeps = MultipleCronTriggerTimetable(spec.schedules.sweep, spec.schedules.full_sweep, timezone="UTC")
    common = settings(spec, "intake", Tag.INTAKE, runbook=RUNBOOK)
    common["params"]["full"] = Param(
        default=False,
        type="boolean",
        title="Full sweep",
        description="Look at every date folder, whether a full sweep is due or not.",
    )
    with DAG(
        schedule=AssetOrTimeSchedule(timetable=sweeps, assets=[arrivals(spec)]),
        max_active_runs=1,
        allowed_run_types=RUN_TYPES,
        **common,
    ) as dag:
        claim = ClaimBatchesOperator(
            task_id="claim",
            pipeline=spec.name,
            force=FORCE,
            full="{{ params.full }}",
            outlets=[Assets(spec.name).batch],
        )
        # Skipped when nothing is due, and then what is broken must be told all the same.
        claim >> CheckDeliveriesOperator(
            task_id="check_deliveries", pipeline=spec.name, trigger_rule=TriggerRule.NONE_FAILED
        )
        # On its own: what is asked for has nothing to do with what lies on the share, or whether it answers.
        MintRetrainOperator(task_id="request_retrain", pipeline=spec.name, outlets=[Assets(spec.name).retrain])
    return dag


globals().update(each("intake", build))
