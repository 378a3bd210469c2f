"""What to do with each partition that was asked for, and why the others are left alone; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError
from edgeloop.origin import RERUN
from edgeloop.records import sha256_hex
from edgeloop.reprocess.event_time import MOMENT
from edgeloop.reprocess.units import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.reprocess.request import Request
    from edgeloop.reprocess.units import Unit

ROLLOUT = "rollout"
RUN_ID_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A partition that is not touched, and why."""

    unit: Unit
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``clear``: failed tasks of these runs go on. ``start``: these get a run of their own. ``outside`` is a count."""

    clear: tuple[Unit, ...] = ()
    start: tuple[Unit, ...] = ()
    left: tuple[Left, ...] = ()
    outside: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.clear and not self.start


def plan(request: Request, units: Iterable[Unit]) -> Plan:
    """Sort the partitions; raises ``ConfigurationError`` if none at all lies in what was asked for."""
    everything = sorted(units, key=lambda one: (one.span.start, one.key))
    asked = [one for one in everything if selected(request, one)]
    if not asked:
        raise _nothing(request, everything)
    clear: list[Unit] = []
    start: list[Unit] = []
    left: list[Left] = []
    for unit in asked:
        if why := why_left(request, unit):
            left.append(Left(unit=unit, why=why))
        elif unit.state is State.FAILED and not request.force and not request.promote:
            clear.append(unit)
        else:
            start.append(unit)
    return Plan(clear=tuple(clear), start=tuple(start), left=tuple(left), outside=len(everything) - len(asked))


def selected(request: Request, unit: Unit) -> bool:
    """Whether a partition lies in the range of event time, and failed on the day, that were asked for."""
    inside = request.start is None or request.end is None or unit.span.overlaps(request.start, request.end)
    if request.failed_on is None:
        return inside
    failed = unit.state is State.FAILED and unit.attempt is not None
    return inside and failed and unit.attempt is not None and unit.attempt.at.date() == request.failed_on


def why_left(request: Request, unit: Unit) -> str:
    """Why a partition is not run again, with the switch that would change it; empty if it is."""
    lifted = request.promote if unit.lifted_by == "promote" else request.force
    if unit.state is State.ACTIVE:
        return "it is running"
    if unit.barred and not lifted:
        return f"{unit.barred}; {unit.lifted_by} with a reason overrules that"
    if unit.state is State.FAILED:
        return ""
    done = unit.state is State.DONE or unit.finished
    return _why_done_left(request) if done else _why_never_left(request)


def _why_done_left(request: Request) -> str:
    if request.force and not request.only_failed:
        return ""
    return "it is done; force with a reason, and only_failed false, does it again"


def _why_never_left(request: Request) -> str:
    if request.only_failed:
        return "it never ran in this Airflow; only_failed false starts it"
    if request.stage == ROLLOUT and not request.promote:
        return "it never ran; promote with a reason starts the rollout"
    return ""


def conf_of(request: Request) -> dict[str, str]:
    """What a run that is started is given; a run that is cleared stays what it was."""
    given = {"origin": RERUN, "force": request.force, "promote": request.promote}
    return {name: value for name, value in given.items() if value}


def run_id_of(key: str, asked_by: str) -> str:
    """The id of the run that a request starts for a key: the same for a retry, so that none is started twice."""
    # Airflow's [core] allowed_run_id_pattern has no "@".
    readable = re.sub(r"[^A-Za-z0-9_.~:+-]+", "_", key)[:RUN_ID_LENGTH]
    return f"rerun__{readable}__{sha256_hex(f'{asked_by} {key}'.encode())[:12]}"


def _nothing(request: Request, everything: list[Unit]) -> ConfigurationError:
    known = "it has none at all"
    if everything:
        first, last = everything[0].span.start, max(one.span.end for one in everything) - MOMENT
        failed = sum(one.state is State.FAILED for one in everything)
        known = f"its {len(everything)} lie between {first:%Y-%m-%d} and {last:%Y-%m-%d}, {failed} of them failed"
    return ConfigurationError(
        f"No partition of {request.pipeline}'s stage {request.stage} is in what was asked for ({request.range}): "
        f"{known}.",
        left="everything; nothing was cleared or started",
        next="Trigger the DAG again with 'from' and 'to' as event time (when the data happened, not when it arrived), "
        "or with failed_on as the day the runs failed.",
    )
