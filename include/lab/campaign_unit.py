"""A piece of work under way, how it ended, and waiting for it while parts of the site are down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from edgeloop.errors import EdgeloopError
from lab.airflow_api import DeadlineError, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lab.airflow_records import Run
    from lab.campaign_site import Ground

T = TypeVar("T")
START_SECONDS = 120.0


class NotHeldError(EdgeloopError):
    """Something that must hold after a fault does not."""


class MissedError(EdgeloopError):
    """The work was over before the fault could strike it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One piece of work under way.

    ``run_id`` is empty while nobody can know it; ``subject`` is what the checks start from: the batch's id, the
    training's parameters, the model's or the image's id.
    """

    work: str
    dag_id: str
    key: str
    subject: str
    since: float
    run_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a unit ended: ``by itself``, ``after clear`` (of what failed), ``restored``, or ``broken`` with a reason."""

    how: str
    reason: str = ""


def patiently(look: Callable[[], T | None], *, seconds: float, what: str, every: float = 0.3) -> T:
    """Wait for an answer; parts that are down meanwhile are no answer, not an error."""
    trouble: list[str] = []

    def probe() -> T | None:
        try:
            return look()
        except EdgeloopError as error:
            trouble[:] = [error.what]
            return None

    try:
        return wait_for(probe, seconds=seconds, what=what, every=every)
    except DeadlineError as error:
        raise DeadlineError(f"{error.what} {' '.join(trouble)}".strip(), left=error.left, next=error.next) from error


def run_of(ground: Ground, unit: Unit) -> Run | None:
    """The unit's run, None before it exists."""
    if unit.run_id:
        return ground.loop.admin.run(unit.dag_id, unit.run_id)
    runs = ground.loop.admin.runs(unit.dag_id, partition_key=unit.key)
    return runs[-1] if runs else None


def started(ground: Ground, unit: Unit) -> Run:
    """The unit's run once it has started."""

    def look() -> Run | None:
        run = run_of(ground, unit)
        return run if run is not None and run.state != "queued" else None

    return patiently(look, seconds=START_SECONDS, what=f"{unit.work} {unit.key} to start")


def hold(condition: object, what: str) -> None:
    """Raise ``NotHeldError`` unless ``condition``."""
    if not condition:
        raise NotHeldError(what, left="everything as the fault left it", next="look at the runs and the part itself")


def broken(checks: Iterable[Callable[[], object]]) -> list[str]:
    """What the checks complain about, each in a sentence."""
    said = []
    for check in checks:
        try:
            check()
        except EdgeloopError as error:
            said.append(error.what)
    return said
