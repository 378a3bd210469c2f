"""Rollout: one Airflow DAG per pipeline; each run brings one image to one ring of edge devices."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG, PartitionedAssetTimetable, TriggerRule

from edgeloop_airflow.assets import Assets
from edgeloop_airflow.azure_ml_registry import mirror_models
from edgeloop_airflow.dagkit import FORCE, each, settings
from edgeloop_airflow.rollout import (
    AdvanceOperator,
    ApproveOperator,
    GateOperator,
    PrefetchOperator,
    ReportOperator,
    RestoreOperator,
    SwitchOperator,
)
from edgeloop_airflow.tags import Tag

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline

WATCHING = timedelta(minutes=30)
"""Beyond the soak time, which is the pipeline's own; the devices are restored when a gate takes longer."""
RUNBOOK = """
### Purpose
Brings a proven image of **{pipeline}** to the devices of one ring (partition key `<image>@ring<n>`): pull, switch,
watch health and golden answers on the device itself, ask a person where the ring says so, then mint the next ring's
key. After the last ring the model becomes champion.

### When it fails
`report` failed: the ring did not pass, its gate broke down, or approval was refused. Nothing is urgent: every device
the image had reached serves what it served before, proven, and the model is out of the running. Read `restore`'s log
for the reason.
`restore` failed: it names the devices that still run the bad image. Bring them back on the network and clear it.
`prefetch` or `switch` failed: a device does not answer; the log names its connection.
`mirror_models` failed: only Azure Machine Learning was not told; nothing waits for it, and clearing the task tells it.

### Rerun
`airflow dags clear {dag} --partition-key KEY --only-failed -y`; every step finds what is already so. To try a model
again that was taken out of the running, trigger with the key and `{{"force": "why"}}`.
"""


def build(spec: Pipeline) -> DAG:
    """The rollout DAG of one pipeline."""
    ring = Assets(spec.name).ring
    with DAG(
        schedule=PartitionedAssetTimetable(assets=ring),
        max_active_runs=8,
        **settings(spec, "rollout", Tag.ROLLOUT, runbook=RUNBOOK, more_tags=(Tag.ASKS_A_PERSON,)),
    ) as dag:
        prefetch = PrefetchOperator(task_id="prefetch", pipeline=spec.name, force=FORCE)
        switch = SwitchOperator(task_id="switch", pipeline=spec.name, force=FORCE)
        # A switch that failed may have exposed devices: the gate looks at them whatever became of it.
        gate = GateOperator(
            task_id="gate",
            pipeline=spec.name,
            trigger_rule=TriggerRule.NONE_SKIPPED,
            execution_timeout=WATCHING + timedelta(seconds=spec.rollout.soak_seconds),
        )
        approve = ApproveOperator(
            task_id="approve",
            subject="Roll " + spec.name + " {{ dag_run.partition_key }} out to the next ring?",
            body="The devices of this ring serve the new model and answer as it does. Rejecting, or not answering "
            f"within {spec.rollout.approval_hours:g} h, restores them.",
            response_timeout=timedelta(hours=spec.rollout.approval_hours),
        )
        advance = AdvanceOperator(
            task_id="advance",
            pipeline=spec.name,
            outlets=[ring],
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        )
        # A gate or an approval that broke down passed nothing; ALL_DONE_MIN_ONE_SUCCESS would skip where approve was.
        restore = RestoreOperator(task_id="restore", pipeline=spec.name, trigger_rule=TriggerRule.ALL_DONE)
        report = ReportOperator(task_id="report", pipeline=spec.name)
        prefetch >> switch >> gate >> [approve, advance, restore]
        approve >> [advance, restore]
        restore >> report
        [advance, restore] >> mirror_models(spec.name)
    return dag


globals().update(each("rollout", build))
