"""Whether an earlier task delivered the partition keys it had the right to emit, asked of Airflow itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeloop.share import Fate

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

SEPARATOR = "/"
OVER = frozenset({"failed", "upstream_failed", "removed", "skipped"})


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
