"""What Airflow says of a task, asked by the task itself while it is told to end, and how a task signs."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk.exceptions import AirflowException

from edgeloop.training.parked import Parked

STATE_SECONDS = 5.0


def state_of(ti: Any) -> str | None:
    """The task's state by Airflow's word; None when it says nothing in time.

    In a thread: the signal may have interrupted this very thread while it was talking to the supervisor.
    """
    from concurrent.futures import ThreadPoolExecutor
    from concurrent.futures import TimeoutError as Late

    pool = ThreadPoolExecutor(1)
    try:
        asked = pool.submit(
            ti.get_task_states, dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
        known: dict[str, str | None] = asked.result(STATE_SECONDS).get(ti.run_id) or {}
    except (Late, AttributeError, AirflowException, OSError):
        return None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return next(iter(known.values()), None)


def signature(ti: Any) -> Parked:
    """Which task instance of which Airflow this process is; its host and pid are those that Airflow was told."""
    return Parked(
        dag=ti.dag_id,
        run=ti.run_id,
        task=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        version=str(ti.dag_version_id),
        host=ti.hostname or "",
        pid=os.getpid(),
    )
