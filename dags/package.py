"""Package: one Airflow DAG per pipeline that builds, proves and pushes the image of a registered model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG, PartitionedAssetTimetable

from edgeloop_airflow.assets import Assets
from edgeloop_airflow.azure_ml_registry import mirror_models
from edgeloop_airflow.dagkit import FORCE, each, settings
from edgeloop_airflow.packaging import BuildImageOperator, ProveImageOperator, PushImageOperator
from edgeloop_airflow.tags import Tag

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline

RUNBOOK = """
### Purpose
Puts a candidate model of **{pipeline}** on the scorer's base image, runs the image as a device would, compares its
golden answers with the registered model's byte for byte, pushes exactly what was proven with its bill of materials, and
reads its digest back from the registry.

### When it fails
`prove` failed: the image ends at start or answers otherwise than the model; the container's last lines are in the log.
It was not pushed, and the devices serve what they served. `push` failed: the log names the registry's connection.
`mirror_models` failed: only Azure Machine Learning was not told; nothing waits for it, and clearing the task tells it.

### Rerun
`airflow dags clear {dag} --partition-key KEY --only-failed -y`. The same model on the same base is the same image: what
is built, proven or pushed already is found. To build and prove anew, with golden rows made anew, trigger with
`{{"force": "why"}}`; a run that was triggered by hand starts no rollout, unless with `{{"promote": "why"}}`.
"""


def build(spec: Pipeline) -> DAG:
    """The packaging DAG of one pipeline."""
    assets = Assets(spec.name)
    with DAG(
        schedule=PartitionedAssetTimetable(assets=assets.model),
        max_active_runs=1,
        **settings(spec, "package", Tag.PACKAGE, runbook=RUNBOOK, promote=True),
    ) as dag:
        image = BuildImageOperator(task_id="build", pipeline=spec.name, force=FORCE)
        prove = ProveImageOperator(task_id="prove", pipeline=spec.name, force=FORCE)
        push = PushImageOperator(task_id="push", pipeline=spec.name, force=FORCE, outlets=[assets.ring])
        image >> prove >> push >> mirror_models(spec.name)
    return dag


globals().update(each("package", build))
