"""Random moments of a unit of work, to break something at: reached, or found to be over."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from lab import proc, processes
from lab.campaign_unit import START_SECONDS, MissedError, patiently, started
from lab.campaign_work import WORKS, approve

if TYPE_CHECKING:
    from random import Random

    from lab.airflow_records import Run, Task
    from lab.campaign_site import Ground
    from lab.campaign_unit import Unit

TRAINING_SECONDS = 6.0
"""About how long a training of the extracts takes on the VM."""
INTAKE_SECONDS = 8.0
"""About how long it takes from an export to the start of its ingest."""
RUNNING = frozenset({"running"})
AT_WORK = frozenset({"running", "deferred"})
OVER = frozenset({"success", "failed", "skipped", "upstream_failed"})


class _Over(Exception):  # noqa: N818 - a message to the loop around it, no error
    """The run ended."""


def reach(ground: Ground, unit: Unit, run: Run, task_id: str, wanted: frozenset[str]) -> str:
    """Wait until a task is in a state, or is past it, or its run is over; returns the state."""

    def look() -> str | None:
        approve(ground, unit)
        state = ground.loop.admin.task(run.dag_id, run.run_id, task_id).state
        if state in wanted | OVER:
            return state
        return "over" if ground.loop.admin.run(run.dag_id, run.run_id).done else None

    return patiently(look, seconds=START_SECONDS, what=f"{task_id} of {unit.key}")


def kill_running(ground: Ground, unit: Unit, run: Run) -> Task:
    """SIGKILL whatever task of the run is running, with the executor's process that supervises it; returns the task.

    Raises:
        MissedError: The run was over before.
    """

    def look() -> Task | None:
        approve(ground, unit)
        for task in ground.loop.admin.tasks(run.dag_id, run.run_id):
            if task.state == "running" and task.pid and (pids := _with_supervisor(ground, task.pid)):
                proc.signal_all(pids, signal.SIGKILL)
                return task
        if ground.loop.admin.run(run.dag_id, run.run_id).done:
            raise _Over
        return None

    try:
        return patiently(look, seconds=START_SECONDS, what=f"a task of {unit.key} to run")
    except _Over:
        raise MissedError(f"{unit.work} {unit.key} was over before a worker could be killed") from None


def in_any_task(ground: Ground, unit: Unit, rng: Random) -> tuple[Run, str]:
    """A random moment of a task that is chosen by how long the tasks take."""
    tasks = WORKS[unit.work].tasks
    (name, typical), *_ = rng.choices(tasks, weights=[seconds for _, seconds in tasks])
    delay = rng.uniform(0, typical)
    run = started(ground, unit)
    reach(ground, unit, run, name, RUNNING)
    time.sleep(delay)
    return run, f"{delay:.1f} s after {name} began"


def at_task(ground: Ground, unit: Unit, rng: Random, *names: str) -> str:
    """A random moment of one of the tasks; of any task of the work where none is named."""
    name = rng.choice(names or tuple(name for name, _ in WORKS[unit.work].tasks))
    typical = dict(WORKS[unit.work].tasks)[name] + (TRAINING_SECONDS if name == "train" else 0.0)
    delay = rng.uniform(0, typical)
    state = reach(ground, unit, started(ground, unit), name, AT_WORK)
    time.sleep(delay)
    return f"{delay:.1f} s after {name} was {state}"


def while_training(ground: Ground, unit: Unit, rng: Random) -> str:
    """A random moment while the training runs on the VM."""
    delay = rng.uniform(0, TRAINING_SECONDS)
    state = reach(ground, unit, started(ground, unit), "train", frozenset({"deferred"}))
    time.sleep(delay)
    return f"{delay:.1f} s after train was {state}"


def after_export(ground: Ground, unit: Unit, rng: Random) -> str:
    """A random moment from the export on: settling and claiming are struck too."""
    del ground
    delay = rng.uniform(0, INTAKE_SECONDS + sum(seconds for _, seconds in WORKS[unit.work].tasks))
    time.sleep(delay)
    return f"{delay:.1f} s after the export"


def anywhere(ground: Ground, unit: Unit, rng: Random) -> str:
    """A random moment of the whole run, or from the export on where nobody knows the run."""
    whole = sum(seconds for _, seconds in WORKS[unit.work].tasks) + (TRAINING_SECONDS if unit.work == "train" else 0.0)
    delay = rng.uniform(0, 1.5 * whole)
    if unit.run_id:
        started(ground, unit)
    else:
        delay += rng.uniform(0, INTAKE_SECONDS)
    time.sleep(delay)
    return f"{unit.work}, {delay:.1f} s in"


def _with_supervisor(ground: Ground, pid: int) -> list[int]:
    """The task's process and the executor's process above it, if both are still this site's."""
    scheduler = processes.find(ground.airflow.plan, "airflow-scheduler")
    task = proc.stat(pid)
    if scheduler is None or task is None or task.dead or task.session != scheduler.pid:
        return []
    above = proc.stat(task.parent)
    supervised = above is not None and above.session == scheduler.pid and above.pid != scheduler.pid
    return [task.parent, pid] if supervised else [pid]
