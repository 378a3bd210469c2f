"""The faults of a training on the VM: what on-call, two runs at once and a bad night do to a job that takes hours."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import faults
from lab.campaign_moments import OVER, RUNNING, while_training
from lab.campaign_strikes import Outage, WorkerKilled
from lab.campaign_unit import START_SECONDS, MissedError, patiently, started
from lab.errors import LabError

if TYPE_CHECKING:
    from random import Random

    from lab.airflow_records import Run, Task
    from lab.campaign_site import Ground
    from lab.campaign_strikes import Kind
    from lab.campaign_unit import Unit

COLLECT_SECONDS = 2.0
"""About how long it takes from the job's end to its record."""
FAILS_SECONDS = 300.0
"""Until a VM that stays silent has failed its task."""


def in_collection(ground: Ground, unit: Unit, rng: Random) -> tuple[Run, str]:
    """A random moment while the worker brings the outputs of an ended job home."""
    while_training(ground, unit, rng)
    run, delay = started(ground, unit), rng.uniform(0, COLLECT_SECONDS)

    def look() -> str | None:
        state = _train(ground, run).state
        return state if state in RUNNING | OVER else None

    patiently(look, seconds=START_SECONDS, what=f"the outputs of {unit.key} to be collected", every=0.1)
    time.sleep(delay)
    return run, f"{delay:.1f} s after collecting began"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """On-call clears the deferred task, or marks it failed: the job is stopped, and the next try goes on from it."""

    name: str
    mark: str = ""
    """The state it is marked as; "" clears it."""
    work: str = "train"
    retrains: bool = True

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Wait for a random moment of the training, and give the task up.

        Raises:
            MissedError: The training was over before.
        """
        point = while_training(ground, unit, rng)
        run = started(ground, unit)
        task = _train(ground, run)
        if task.state != "deferred":
            raise MissedError(f"{unit.key} was over before on-call gave it up")
        if self.mark:
            ground.loop.admin.mark_task(task, self.mark)
            return f"{point}, marked {self.mark}"
        ground.loop.admin.clear_tasks(run.dag_id, run.run_id, ["train"])
        return f"{point}, cleared"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTwice:
    """A second run of the same key is started while the first trains."""

    name: str = "trained_twice_at_once"
    work: str = "train"
    retrains: bool = False

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Start it at a random moment, and wait for its end."""
        point = while_training(ground, unit, rng)
        second = ground.loop.admin.trigger(unit.dag_id, partition_key=unit.key, run_id=f"{unit.run_id}-again")

        def look() -> Run | None:
            run = ground.loop.admin.run(second.dag_id, second.run_id)
            return run if run.done else None

        ended = patiently(look, seconds=FAILS_SECONDS, what=f"the second run of {unit.key}")
        if ended.state != "success":
            raise LabError(f"the second run of {unit.key} ended {ended.state}, not with the first one's result")
        return f"{point}, the second run ended {ended.state}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCutForGood:
    """The VM's cable is pulled until Airflow has given up, and plugged in after that."""

    name: str = "vm_link_cut_for_good"
    work: str = "train"
    retrains: bool = False

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Cut the link while the job runs, wait until its try has failed, plug it in again."""
        point = while_training(ground, unit, rng)
        run, began = started(ground, unit), time.monotonic()
        with faults.cut(ground.site, "vm"):

            def look() -> str | None:
                task = _train(ground, run)
                return task.state if task.state in OVER | {"up_for_retry"} or task.try_number > 1 else None

            state = patiently(look, seconds=FAILS_SECONDS, what=f"the try of {unit.key} to fail")
        return f"{point}, dark for {time.monotonic() - began:.0f} s, the task was {state} then"


def _train(ground: Ground, run: Run) -> Task:
    return ground.loop.admin.task(run.dag_id, run.run_id, "train")


TRAINING_KINDS: tuple[Kind, ...] = (
    WorkerKilled(name="worker_killed_in_collection", work="train", moment=in_collection),
    GivenUp(name="train_cleared"),
    GivenUp(name="train_marked_failed", mark="failed"),
    AskedTwice(),
    LinkCutForGood(),
    Outage(
        name="vm_link_cut_for_a_minute",
        work="train",
        moment=while_training,
        outage=lambda ground: faults.cut(ground.site, "vm"),
        gone=(60.0, 60.0),
        word="dark",
    ),
    Outage(
        name="engine_restarted",
        work="train",
        moment=while_training,
        outage=lambda ground: faults.without_engine(ground.site, "vm", keep_containers=False),
        gone=(0.0, 4.0),
        word="without its engine and containers",
        retrains=True,
    ),
    Outage(
        name="engine_restarted_live",
        work="train",
        moment=while_training,
        outage=lambda ground: faults.without_engine(ground.site, "vm", keep_containers=True),
        gone=(0.0, 4.0),
        word="without its engine, containers running",
    ),
)
