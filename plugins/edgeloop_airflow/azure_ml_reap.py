"""Jobs of Azure ML that run for nobody: their tasks were marked, or their runs deleted, before a trigger followed them.

Each task signs in the pipeline's container before it is parked on a job; what is asked of Airflow, and when a job
counts as given up, is as for the VM's.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from edgeloop.azure_ml.jobs import LEAVING, Jobs
from edgeloop.errors import EdgeloopError, UnreachableError
from edgeloop.training import parked
from edgeloop_airflow.azure_ml_order import workspace_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.training.parked import Parked
    from edgeloop_airflow.hooks import Desk

PARKED = "azure_ml_parked/"


def sign(desk: Desk, job: str, one: Parked) -> None:
    """Leave word that this task is about to be parked on a job."""
    desk.blobs.put(f"{PARKED}{job}/{one.name}", one.text.encode())


def reap(desk: Desk, given_up: Callable[[tuple[Parked, ...]], str], say: Callable[..., object]) -> int:
    """Cancel what runs and nobody waits for any more; returns how many jobs that were.

    A job that could not be dealt with keeps no other from it; what it raised first is raised when all were tried.
    """
    waiting = _waiting(desk)
    if not waiting:
        return 0
    place = workspace_for(desk)
    done, failed = 0, []
    with place.connect() as arm:
        jobs = Jobs(arm, place.id)
        for job, names in waiting.items():
            try:
                why = _looked_after(desk, jobs, job, names, given_up)
            except UnreachableError:
                raise
            except EdgeloopError as error:
                say("job %s goes on: %s", job, error.what)
                failed.append(error)
                continue
            if why:
                say("cancelled %s: %s", job, why)
                done += 1
    if failed:
        raise failed[0]
    return done


def _looked_after(
    desk: Desk, jobs: Jobs, job: str, names: list[str], given_up: Callable[[tuple[Parked, ...]], str]
) -> str:
    """Why a job was cancelled; "" if it was not."""
    found = jobs.look(job)
    if found.ended:
        for name in names:
            # Emptied, not removed: not every account lets its blobs be deleted.
            desk.blobs.put(name, b"")
        return ""
    why = "" if found.status == LEAVING else _unwanted(desk, job, names, given_up)
    if why:
        jobs.cancel(job)
    return why


def _waiting(desk: Desk, job: str = "") -> dict[str, list[str]]:
    names = sorted(one.name for one in desk.blobs.list(f"{PARKED}{job}") if one.size)
    return {of: list(several) for of, several in groupby(names, key=lambda name: name.split("/")[1])}


def _unwanted(desk: Desk, job: str, names: list[str], given_up: Callable[[tuple[Parked, ...]], str]) -> str:
    """Why nobody waits for a job; "" if a task signed while Airflow was asked: it attached."""

    def signed() -> str:
        return "\n".join(desk.blobs.get(name).decode() for name in names)

    was = signed()
    who = parked.read(was)
    why = given_up(who) if who else ""
    return why if why and _waiting(desk, f"{job}/") == {job: names} and signed() == was else ""
