"""What the REST client of a site's Airflow hands out: one frozen record per thing, only the fields we act on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

PARTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
RUN_ENDED = frozenset({"success", "failed"})
TASK_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Answer of the monitor endpoint.

    `unhealthy` names the parts that are not healthy (or never were); `oldest_beat` is the least recent of the three
    jobs' last heartbeats, None when one has never beaten.
    """

    unhealthy: tuple[str, ...]
    oldest_beat: datetime | None

    def ok(self, since: datetime | None = None) -> bool:
        """Whether all four are healthy and have beaten since then.

        A part that was killed stays "healthy" until its last heartbeat is old: whoever restarts it must ask for
        one that is younger than the restart.
        """
        fresh = since is None or (self.oldest_beat is not None and self.oldest_beat >= since)
        return not self.unhealthy and fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportProblem:
    """A DAG file that does not load."""

    filename: str
    stack_trace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dag:
    """A DAG as the scheduler sees it."""

    dag_id: str
    paused: bool
    stale: bool
    import_errors: bool
    partitioned: bool
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of a DAG; times are UTC, None until they happened."""

    dag_id: str
    run_id: str
    state: str
    run_type: str
    partition_key: str | None
    queued: datetime | None
    started: datetime | None
    ended: datetime | None
    conf: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in RUN_ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task instance at its latest try; `state` is "none" before it is scheduled."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str
    try_number: int
    max_tries: int
    started: datetime | None
    ended: datetime | None
    pool: str
    pid: int | None

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in TASK_ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A question that waits for a person (`awaiting_input`), or the answer it got."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    subject: str
    options: tuple[str, ...]
    asked: datetime
    chosen: tuple[str, ...]
    responded_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetEvent:
    """An update of an asset, and the runs it made so far."""

    event_id: int
    asset: str
    partition_key: str | None
    at: datetime
    extra: dict[str, Any]
    run_ids: tuple[str, ...]


def health(raw: dict[str, Any]) -> Health:
    """From `GET /monitor/health`."""
    beats = [_time((raw.get(part) or {}).get(f"latest_{part}_heartbeat")) for part in PARTS[1:]]
    known = [beat for beat in beats if beat]
    return Health(
        unhealthy=tuple(part for part in PARTS if (raw.get(part) or {}).get("status") != "healthy"),
        oldest_beat=min(known) if len(known) == len(beats) else None,
    )


def import_problem(raw: dict[str, Any]) -> ImportProblem:
    """From an item of `GET /importErrors`."""
    return ImportProblem(filename=raw["filename"], stack_trace=raw["stack_trace"])


def dag(raw: dict[str, Any]) -> Dag:
    """From an item of `GET /dags`."""
    return Dag(
        dag_id=raw["dag_id"],
        paused=raw["is_paused"],
        stale=raw["is_stale"],
        import_errors=raw["has_import_errors"],
        partitioned=raw["timetable_partitioned"],
        tags=tuple(sorted(tag["name"] for tag in raw["tags"])),
    )


def run(raw: dict[str, Any]) -> Run:
    """From an item of `GET /dags/{dag}/dagRuns`."""
    return Run(
        dag_id=raw["dag_id"],
        run_id=raw["dag_run_id"],
        state=raw["state"],
        run_type=raw["run_type"],
        partition_key=raw["partition_key"],
        queued=_time(raw["queued_at"]),
        started=_time(raw["start_date"]),
        ended=_time(raw["end_date"]),
        conf=raw["conf"] or {},
    )


def task(raw: dict[str, Any]) -> Task:
    """From an item of `GET /dags/{dag}/dagRuns/{run}/taskInstances`."""
    return Task(
        dag_id=raw["dag_id"],
        run_id=raw["dag_run_id"],
        task_id=raw["task_id"],
        map_index=raw["map_index"],
        state=raw["state"] or "none",
        try_number=raw["try_number"],
        max_tries=raw["max_tries"],
        started=_time(raw["start_date"]),
        ended=_time(raw["end_date"]),
        pool=raw["pool"],
        pid=raw["pid"],
    )


def gate(raw: dict[str, Any]) -> Gate:
    """From an item of `GET /dags/{dag}/dagRuns/{run}/hitlDetails`."""
    instance = raw["task_instance"]
    return Gate(
        dag_id=instance["dag_id"],
        run_id=instance["dag_run_id"],
        task_id=instance["task_id"],
        map_index=instance["map_index"],
        subject=raw["subject"],
        options=tuple(raw["options"]),
        asked=datetime.fromisoformat(raw["created_at"]),
        chosen=tuple(raw["chosen_options"] or ()),
        responded_by=(raw["responded_by_user"] or {}).get("name"),
    )


def asset_event(raw: dict[str, Any]) -> AssetEvent:
    """From an item of `GET /assets/events`."""
    return AssetEvent(
        event_id=raw["id"],
        asset=raw["name"],
        partition_key=raw["partition_key"],
        at=datetime.fromisoformat(raw["timestamp"]),
        extra=raw["extra"] or {},
        run_ids=tuple(made["run_id"] for made in raw["created_dagruns"]),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
