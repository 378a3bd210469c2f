"""Whether partition keys were delivered, and whether anybody would take them now, asked of Airflow itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError

from edgeloop.share import Fate

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

SEPARATOR = "/"
OVER = frozenset({"failed", "upstream_failed", "removed", "skipped"})
NOT_FOUND = 404


def holder(context: Context) -> str:
    """This task's name in the store: ``dag/task/run``; a retry has the same, so it goes on with its own rights."""
    ti: Any = context["ti"]
    return SEPARATOR.join((ti.dag_id, ti.task_id, ti.run_id))


def fate_of(context: Context) -> Callable[[str], Fate]:
    """What became of a :func:`holder`. Airflow stores a task's events and its success in one transaction."""
    ti: Any = context["ti"]

    def ask(name: str) -> Fate:
        dag, task, run = name.split(SEPARATOR, 2)
        states = ti.get_task_states(dag_id=dag, task_ids=[task], run_ids=[run])
        state = states.get(run, {}).get(task)
        if state == "success":
            return Fate.DELIVERED
        # No state: a run that this Airflow does not know (another database, or deleted) or that was cleared.
        return Fate.GONE if state is None or state in OVER else Fate.ALIVE

    return ask


def runs_behind(context: Context) -> int:
    """How many runs of this task's DAG wait for their turn, which with ``max_active_runs=1`` comes after this one."""
    ti: Any = context["ti"]
    return int(ti.get_dr_count(dag_id=ti.dag_id, states=["queued"]))


def runs_open(context: Context, dag: str) -> int:
    """How many runs of a DAG have not ended."""
    ti: Any = context["ti"]
    return int(ti.get_dr_count(dag_id=dag, states=["queued", "running"]))


def listens(context: Context, dag: str) -> bool:
    """Whether a DAG takes events now. Airflow drops those of a DAG that is paused or not there, and nothing tells."""
    ti: Any = context["ti"]
    try:
        return not ti.get_dag(dag).is_paused
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") == NOT_FOUND:
            return False
        raise
