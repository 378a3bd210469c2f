"""The pools that queue jobs for a VM: `python -m edgeloop_airflow.pools` makes what the pipelines need.

A task whose pool does not exist never runs, and says nothing. So the pools are made wherever a pipeline can come from:
by docker-compose's init and the lab's start, and for a pipeline that came later by its first ``attach_compute``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from edgeloop import catalog
from edgeloop.training.pools import Pool, pool_name, pool_slots, pools

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline

log = logging.getLogger(__name__)
CONNECTION = "edgeloop_airflow"


def seat(spec: Pipeline) -> dict[str, Any]:
    """What a task that trains on the VM is told: its pool, and how many of its slots one job takes."""
    if spec.training.backend != "vm":
        return {}
    return {"pool": pool_name(spec.training.connection), "pool_slots": pool_slots(spec)}


def ensure(spec: Pipeline) -> str:
    """Make the pool of a pipeline's VM if it is missing; returns a line about it.

    A task has no access to Airflow's database, so it asks the REST API through ``edgeloop_airflow``. Where it cannot,
    the line says what to type: the pool may be there all the same.
    """
    from airflow.sdk.exceptions import AirflowException

    from edgeloop.errors import EdgeloopError
    from edgeloop_airflow.rest import AirflowRest, endpoint

    (wanted,) = pools([spec])
    try:
        with AirflowRest(endpoint(CONNECTION), whole_seconds=10.0) as rest:
            made = rest.make_pool(wanted)
    except (EdgeloopError, AirflowException) as error:
        return (
            f"Whether pool {wanted.name!r} exists could not be asked ({error}). If `train` stays in scheduled, type "
            "`python -m edgeloop_airflow.pools` where Airflow's database can be reached."
        )
    return f"Pool {wanted.name} was {'made' if made else 'there'}; this pipeline's jobs take {pool_slots(spec)} slots"


def main() -> int:
    """Make or mend the pools of every pipeline, in Airflow's database; repeating it changes nothing."""
    from airflow.models.pool import Pool as Row

    found = catalog.load()
    for one in pools(each.spec for each in found.pipelines):
        Row.create_or_update_pool(one.name, one.slots, one.description, include_deferred=True)
        print(f"pool {one.name}: {one.slots} slots, deferred tasks included")  # noqa: T201 - a command
    for problem in found.problems:
        print(f"left out: {problem}")  # noqa: T201 - as above
    return 0


__all__ = ["Pool", "ensure", "main", "seat"]

if __name__ == "__main__":
    raise SystemExit(main())
