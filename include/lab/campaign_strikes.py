"""What the campaign's faults are made of: a moment of a unit of work, and what is broken then."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lab import faults
from lab.campaign_moments import AT_WORK, in_any_task, kill_running, reach
from lab.campaign_unit import START_SECONDS, patiently
from lab.campaign_work import approve, runs_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from random import Random

    from lab.airflow_records import Run
    from lab.campaign_site import Ground
    from lab.campaign_unit import Unit


class Kind(Protocol):
    """A kind of fault."""

    @property
    def name(self) -> str:
        """Unique among the kinds."""
        ...

    @property
    def work(self) -> str:
        """The name of its work; empty for any of the loop's."""
        ...

    @property
    def retrains(self) -> bool:
        """Whether a job on the VM may be lost with its power."""
        ...

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Break, wait, repair; returns what was struck when. Raises ``MissedError`` if the work was over before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerKilled:
    """SIGKILL of a running task and of the executor's process that supervises it, at once."""

    name: str
    work: str
    moment: Callable[[Ground, Unit, Random], tuple[Run, str]] = in_any_task
    """Waits for the moment; returns the run whose task is struck, and when that is."""
    retrains: bool = False

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Wait for the moment, and kill whatever of the run is running then."""
        run, point = self.moment(ground, unit, rng)
        task = kill_running(ground, unit, run)
        return f"{task.task_id} (try {task.try_number}), {point}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A part is gone for some seconds from a random moment of the work on, and comes back."""

    name: str
    work: str
    moment: Callable[[Ground, Unit, Random], str]
    outage: Callable[[Ground], AbstractContextManager[None]]
    gone: tuple[float, float]
    word: str = "gone"
    retrains: bool = False

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Wait for the moment, and take the part away."""
        point = self.moment(ground, unit, rng)
        gone = rng.uniform(*self.gone)
        with self.outage(ground):
            time.sleep(gone)
        return f"{point}, {self.word} for {gone:.1f} s"


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
