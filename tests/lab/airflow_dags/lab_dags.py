"""Small Airflow DAGs on which the lab's own Airflow is tried: a partition, a gate, a deferral, a task that waits."""

from __future__ import annotations

import logging
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.hitl import HITLBranchOperator
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import DAG, Asset, PartitionedAssetTimetable, task

LOG = logging.getLogger(__name__)
BATCH = Asset("lab_batch", uri="x-lab://batch")
DEFAULTS = {"retries": 2, "retry_delay": timedelta(seconds=1)}


def _dag(dag_id: str, schedule: PartitionedAssetTimetable | None = None) -> DAG:
    return DAG(
        dag_id, schedule=schedule, start_date=datetime(2024, 1, 1, tzinfo=UTC), catchup=False, default_args=DEFAULTS
    )


with _dag("lab_partitioned", PartitionedAssetTimetable(assets=BATCH)):

    @task
    def claim(*, dag_run: object) -> str:
        """Return the run's partition key; a folder named for it makes the run fail, to be cleared later."""
        key = str(dag_run.partition_key)
        if (Path(os.environ["LAB_SIGNALS"]) / f"fail-{key}").exists():
            message = f"told to fail on {key}"
            raise RuntimeError(message)
        LOG.info("claimed %s", key)
        return key

    claim.override(retries=0)()


with _dag("lab_gate"):

    @task
    def deploy() -> str:
        """Run after an approval."""
        return "deployed"

    @task
    def rollback() -> str:
        """Run after a rejection."""
        return "rolled back"

    gate = HITLBranchOperator(
        task_id="gate",
        subject="Release {{ dag_run.conf.get('what', 'nothing') }}?",
        options=["Approve", "Reject"],
        options_mapping={"Approve": "deploy", "Reject": "rollback"},
        defaults="Reject",
        response_timeout=timedelta(hours=1),
    )
    gate >> [deploy(), rollback()]


with _dag("lab_deferred"):
    FileSensor(
        task_id="wait",
        fs_conn_id="lab_fs",
        filepath="{{ dag_run.conf['file'] }}",
        poke_interval=0.5,
        deferrable=True,
        pool="vm_edgeloop_vm",
        pool_slots=100,
    )


with _dag("lab_running"):

    @task
    def hold(*, dag_run: object) -> str:
        """Hold a worker until the file that the run's conf names exists."""
        signal = Path(os.environ["LAB_SIGNALS"]) / dag_run.conf["file"]
        LOG.info("holding for %s", signal.name)
        while not signal.exists():
            time.sleep(0.2)
        return "released"

    hold()
