"""Ingest: one Airflow DAG per pipeline that turns a batch into certified, verified Parquet in blob storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG, PartitionedAssetTimetable

from edgeloop_airflow.assets import Assets
from edgeloop_airflow.dagkit import FORCE, each, settings
from edgeloop_airflow.tags import Tag
from edgeloop_airflow.validation import AnnounceLabelsOperator, CertifyBatchOperator, VerifyTransferOperator

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline

RUNBOOK = """
### Purpose
Validates a batch of **{pipeline}** with its expectation suite, sets bad files aside and quarantines bad rows with
their reason, writes the rest as Parquet, uploads it with checksums, and reads it back.

### When it fails
`certify`: the batch broke a blocking expectation or its budget; the log says which, how many rows, and where the
quarantine lies; the task's *Data Docs* link leads to what every expectation found. The source files are untouched.
`verify`: a stored blob is not what was certified.

### Rerun
`airflow dags clear {dag} --partition-key KEY --only-failed -y`. A batch that was certified is found, not done again.
"""


def build(spec: Pipeline) -> DAG:
    """The ingest DAG of one pipeline."""
    assets = Assets(spec.name)
    with DAG(
        schedule=PartitionedAssetTimetable(assets=assets.batch),
        max_active_runs=2,
        **settings(spec, "ingest", Tag.INGEST, runbook=RUNBOOK),
    ) as dag:
        certify = CertifyBatchOperator(task_id="certify", pipeline=spec.name, force=FORCE)
        verify = VerifyTransferOperator(task_id="verify", pipeline=spec.name, force=FORCE, outlets=[assets.dataset])
        announce = AnnounceLabelsOperator(
            task_id="announce_labels", pipeline=spec.name, force=FORCE, outlets=[assets.labels]
        )
        certify >> verify >> announce
    return dag


globals().update(each("ingest", build))
