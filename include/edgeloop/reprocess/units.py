"""A partition of a stage, and what Airflow's runs of it say; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from edgeloop.reprocess.event_time import Span


class State(StrEnum):
    """What the newest run of a partition says; ``NEVER`` where this Airflow has no run of it."""

    FAILED = "failed"
    DONE = "done"
    ACTIVE = "running"
    NEVER = "never ran"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run of a stage's DAG; ``at`` is when it ended, or began if it runs."""

    key: str
    run_id: str
    state: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One partition key of a stage.

    ``finished`` is whether the store holds the stage's result, whatever became of the runs. ``barred`` says why it is
    left alone, and ``lifted_by`` which switch overrules that.
    """

    key: str
    span: Span
    state: State = State.NEVER
    attempt: Attempt | None = None
    finished: bool = False
    barred: str = ""
    lifted_by: str = "force"


STATES = {"failed": State.FAILED, "success": State.DONE}


def newest(attempts: Iterable[Attempt]) -> dict[str, Attempt]:
    """Of each key the run that says how it stands: the one given last; Airflow lists runs as they were made."""
    return {one.key: one for one in attempts if one.key}


def state_of(attempt: Attempt | None) -> State:
    """The state that a run gives its partition."""
    return State.NEVER if attempt is None else STATES.get(attempt.state, State.ACTIVE)
