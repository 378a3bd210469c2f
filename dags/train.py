"""Train: one Airflow DAG per pipeline that trains on the VM, compares with the champion and registers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG, PartitionedAssetTimetable, TriggerRule

from edgeloop_airflow.assets import Assets
from edgeloop_airflow.azure_ml_mirror import MirrorStartSensor, MirrorTrainingOperator
from edgeloop_airflow.azure_ml_registry import mirror_models
from edgeloop_airflow.azure_ml_training import PrepareComputeOperator, TrainOperator
from edgeloop_airflow.dagkit import FORCE, each, settings
from edgeloop_airflow.pools import seat
from edgeloop_airflow.registry import RegisterModelOperator
from edgeloop_airflow.tags import Tag
from edgeloop_airflow.training import FixDatasetOperator

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline

STAGING = timedelta(hours=4)
"""The worker's phases only: the time of the job itself is `training.timeout_minutes`, kept on the VM."""
RUNBOOK = """
### Purpose
Fixes the dataset of **{pipeline}** (the certified batches of the trailing window), trains once on the VM behind SSH
with no network, and registers the model. It becomes a candidate only if a paired test on the same hold-out says that it
beats the champion. Started by new data, drift, a changed script, image or parameter, or the clock; of many keys that
wait the last trains for all. The run's note, and the log of `fix_dataset`, say why it trains, or why not.

### When it fails
`train` failed: the last lines of the job's log come first. A cut link fails the task while the job lives on; the next
try attaches to it. A job that lost its VM or was stopped goes on from its checkpoint; a script's own error, memory and
the deadline are not retried. The same data, code, image and parameters are never trained twice. `mirror_start`,
`mirror_run` or `mirror_models` failed: only Azure Machine Learning was not told; nothing waits for it, and clearing the
task tells it.

### Rerun
`airflow dags clear {dag} --partition-key KEY --only-failed -y`. To choose the data and train anew, trigger
with `{{"force": "why"}}`. A model of a run that was triggered by hand is registered and goes no further, unless
triggered with `{{"promote": "why"}}`. Marking the task failed, or clearing it, stops the container on the VM.
"""


def build(spec: Pipeline) -> DAG:
    """The training DAG of one pipeline."""
    assets = Assets(spec.name)
    with DAG(
        schedule=PartitionedAssetTimetable(assets=assets.dataset | assets.retrain),
        max_active_runs=1,
        **settings(spec, "train", Tag.TRAIN, runbook=RUNBOOK, promote=True),
    ) as dag:
        dataset = FixDatasetOperator(task_id="fix_dataset", pipeline=spec.name, force=FORCE)
        compute = PrepareComputeOperator(task_id="attach_compute", pipeline=spec.name, force=FORCE)
        train = TrainOperator(task_id="train", pipeline=spec.name, force=FORCE, execution_timeout=STAGING, **seat(spec))
        register = RegisterModelOperator(task_id="register", pipeline=spec.name, outlets=[assets.model])
        # Nothing waits for the mirror: a dead cloud stops no training.
        told = {"pipeline": spec.name, "force": FORCE, "retries": 1, "execution_timeout": timedelta(minutes=10)}
        start = MirrorStartSensor(task_id="mirror_start", **told)
        mirror = MirrorTrainingOperator(task_id="mirror_run", trigger_rule=TriggerRule.NONE_SKIPPED, **told)
        dataset >> compute >> train >> register
        compute >> start >> mirror
        train >> mirror
        register >> mirror_models(spec.name)
    return dag


globals().update(each("train", build))
