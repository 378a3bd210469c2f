"""The faults of the campaign: each strikes one unit of work at a random moment and repairs what it broke."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lab import faults, proc, processes
from lab.campaign_unit import START_SECONDS, MissedError, patiently, started
from lab.campaign_work import WORKS, approve, runs_of

if TYPE_CHECKING:
    from random import Random

    from lab.airflow_records import Run, Task
    from lab.campaign_site import Ground
    from lab.campaign_unit import Unit

TRAINING_SECONDS = 6.0
"""About how long a training of the extracts takes on the VM."""
INTAKE_SECONDS = 8.0
"""About how long it takes from an export to the start of its ingest."""
AT_WORK = frozenset({"running", "deferred"})
OVER = frozenset({"success", "failed", "skipped", "upstream_failed"})


class Kind(Protocol):
    """A kind of fault; ``work`` is what it strikes, ``retrains`` whether a job on the VM may be lost with its power."""

    work: str
    retrains: bool

    @property
    def name(self) -> str:
        """Unique among the kinds."""
        ...

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Break, wait, repair; returns what was struck when. Raises ``MissedError`` if the work was over before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerKilled:
    """SIGKILL of a running task and of the executor's process that supervises it, at once."""

    work: str
    retrains: bool = False

    @property
    def name(self) -> str:
        """After the work."""
        return f"worker_killed_in_{self.work}"

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Choose a task, wait until it runs, wait on a random while, and kill whatever of the run is running then."""
        tasks = WORKS[self.work].tasks
        (name, typical), *_ = rng.choices(tasks, weights=[seconds for _, seconds in tasks])
        delay = rng.uniform(0, typical)
        run = started(ground, unit)
        reach(ground, unit, run, name, frozenset({"running"}))
        time.sleep(delay)
        task = self._kill(ground, unit, run)
        return f"{task.task_id} (try {task.try_number}), {delay:.1f} s after {name} began"

    def _kill(self, ground: Ground, unit: Unit, run: Run) -> Task:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowPart:
    """A part of Airflow is killed and started again, all its children with it."""

    part: str
    work: str
    retrains: bool = False
    gone: tuple[float, float] = (0.0, 3.0)

    @property
    def name(self) -> str:
        """After the part."""
        return f"{self.part}_killed"

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Kill it at a random moment of the work; the triggerer while it follows a training."""
        point = _deferred(ground, unit, rng) if self.part == "triggerer" else _anywhere(ground, unit, rng)
        gone = rng.uniform(*self.gone)
        ground.airflow.kill(self.part)
        time.sleep(gone)
        ground.airflow.restart(self.part)
        return f"{point}, gone for {gone:.1f} s and its start"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabPart:
    """A server of the site is stopped in order and started again."""

    part: str
    work: str
    retrains: bool = False
    gone: tuple[float, float] = (2.0, 8.0)

    @property
    def name(self) -> str:
        """After the part."""
        return f"{self.part}_stopped"

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Stop it somewhere in the work."""
        if unit.run_id:
            point = _at_task(ground, unit, rng, tuple(name for name, _ in WORKS[self.work].tasks))
        else:
            # Settling and claiming are struck too, so the moment counts from the export.
            delay = rng.uniform(0, INTAKE_SECONDS + sum(seconds for _, seconds in WORKS[self.work].tasks))
            time.sleep(delay)
            point = f"{delay:.1f} s after the export"
        gone = rng.uniform(*self.gone)
        with faults.stopped(ground.site, self.part):
            time.sleep(gone)
        return f"{point}, gone for {gone:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class VmLinkCut:
    """The VM's cable is pulled for some seconds: connections hang, they are not refused."""

    name: str = "vm_link_cut"
    work: str = "train"
    retrains: bool = False
    gone: tuple[float, float] = (3.0, 15.0)

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Cut while the VM is looked at, sent to, followed or collected from."""
        point = _at_task(ground, unit, rng, ("attach_compute", "train", "train", "train"))
        gone = rng.uniform(*self.gone)
        with faults.cut(ground.site, "vm"):
            time.sleep(gone)
        return f"{point}, dark for {gone:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class VmPowerCut:
    """The VM loses power in the middle of a training and boots again."""

    name: str = "vm_power_cut"
    work: str = "train"
    retrains: bool = True
    gone: tuple[float, float] = (0.5, 4.0)

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Cut while the job runs."""
        point = _deferred(ground, unit, rng)
        gone = rng.uniform(*self.gone)
        with faults.powered_off(ground.site, "vm"):
            time.sleep(gone)
        return f"{point}, off for {gone:.1f} s and its boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class SshdRestarted:
    """The VM's sshd ends with every session on it and comes back; the job is nobody's child and lives."""

    name: str = "sshd_restarted"
    work: str = "train"
    retrains: bool = False
    gone: tuple[float, float] = (0.0, 3.0)

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Restart it while the job is sent, followed or collected."""
        point = _at_task(ground, unit, rng, ("train",))
        gone = rng.uniform(*self.gone)
        processes.stop(ground.site, "vm-sshd", deadline=0.0)
        time.sleep(gone)
        faults.start(ground.site, "vm")
        return f"{point}, away for {gone:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLinkCut:
    """A device's cable is pulled for some seconds while its ring is pulled, switched or watched."""

    name: str = "device_link_cut"
    work: str = "rollout"
    retrains: bool = False
    gone: tuple[float, float] = (3.0, 12.0)

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Cut one device of a random ring during a random step of that ring."""
        rings = ground.loop.spec.rollout.rings
        at = rng.randrange(len(rings))
        site = rng.choice(rings[at].sites)
        step, delay = rng.choice(("prefetch", "switch", "switch", "gate")), rng.uniform(0, 1.5)
        reach(ground, unit, self._ring(ground, unit, at), step, AT_WORK)
        time.sleep(delay)
        gone = rng.uniform(*self.gone)
        with faults.cut(ground.site, site):
            time.sleep(gone)
        return f"{site} in ring {at}, {delay:.1f} s into {step}, dark for {gone:.1f} s"

    def _ring(self, ground: Ground, unit: Unit, at: int) -> Run:
        def look() -> Run | None:
            approve(ground, unit)
            runs = runs_of(ground, unit)
            return runs[at] if len(runs) > at else None

        return patiently(look, seconds=START_SECONDS, what=f"ring {at} of {unit.key}")


KINDS: tuple[Kind, ...] = (
    *(WorkerKilled(work=one) for one in WORKS),
    AirflowPart(part="triggerer", work="train"),
    AirflowPart(part="scheduler", work=""),
    AirflowPart(part="api-server", work=""),
    LabPart(part="blob", work="ingest"),
    LabPart(part="registry", work="package"),
    VmLinkCut(),
    VmPowerCut(),
    SshdRestarted(),
    DeviceLinkCut(),
)
"""Every kind; an empty ``work`` strikes any. PostgreSQL is Airflow's own affair and stays up."""


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


def _at_task(ground: Ground, unit: Unit, rng: Random, names: tuple[str, ...]) -> str:
    """A random moment of one of the tasks."""
    name = rng.choice(names)
    typical = dict(WORKS[unit.work].tasks)[name] + (TRAINING_SECONDS if name == "train" else 0.0)
    delay = rng.uniform(0, typical)
    state = reach(ground, unit, started(ground, unit), name, AT_WORK)
    time.sleep(delay)
    return f"{delay:.1f} s after {name} was {state}"


def _deferred(ground: Ground, unit: Unit, rng: Random) -> str:
    """A random moment while the training runs on the VM."""
    delay = rng.uniform(0, TRAINING_SECONDS)
    state = reach(ground, unit, started(ground, unit), "train", frozenset({"deferred"}))
    time.sleep(delay)
    return f"{delay:.1f} s after train was {state}"


def _anywhere(ground: Ground, unit: Unit, rng: Random) -> str:
    """A random moment of the whole run."""
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
