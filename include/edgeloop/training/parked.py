"""Who waits for a job: what a task signs on the VM before it is parked, so that Airflow can be asked about it later.

Airflow 3.3.2 tells nobody when a task is marked, or its run deleted, between the moment it was parked and the moment a
triggerer takes its trigger up: it has left its worker, and there is no trigger yet. The job would go on to its end. A
task that failed by itself, for want of a link, looks the same afterwards, but for one thing: a worker had it since.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from edgeloop.records import sha256_hex

ENDED = frozenset({"failed", "success", "skipped"})
"""States that a person, or a run's time-out, gives to a task that waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """One task that was parked on a job.

    Args:
        dag: Its DAG; ``run``, ``task`` and ``map_index`` name the task instance.
        version: Id of the DAG's version; only the Airflow that made it knows it.
        host: The worker that parked it; ``pid`` is the process there.
    """

    dag: str
    run: str
    task: str
    map_index: int = -1
    version: str = ""
    host: str = ""
    pid: int = 0

    @property
    def name(self) -> str:
        """The same for every try of the task instance."""
        return sha256_hex(f"{self.dag} {self.run} {self.task} {self.map_index}".encode())[:16]

    @property
    def text(self) -> str:
        """One line, as it stands on the VM."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What Airflow says of a task instance: its state, and the worker's process that had it last."""

    state: str
    host: str = ""
    pid: int = 0


def read(text: str) -> tuple[Parked, ...]:
    """Who signed, a line each; nobody where one line is none that this version wrote."""
    try:
        return tuple(Parked(**json.loads(line)) for line in text.splitlines())
    except (ValueError, TypeError):
        return ()


def given_up(one: Parked, seen: Seen | None) -> str:
    """Why this task waits no more; "" while it may, or when it failed by itself. ``None``: Airflow has it no more."""
    if seen is None:
        return f"run {one.run} of {one.dag} was deleted"
    if seen.state in ENDED and (seen.host, seen.pid) == (one.host, one.pid):
        return f"{one.task} of run {one.run} was marked {seen.state} while it was parked"
    return ""
