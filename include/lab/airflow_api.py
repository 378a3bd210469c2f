"""A small typed client of a site's Airflow, for the demo, the tests and whoever drives the loop from outside."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from edgeloop.errors import EdgeloopError, NotFoundError
from lab import airflow_records as records
from lab.airflow_http import AirflowApiError, AirflowHttp, Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lab.airflow_records import AssetEvent, Dag, Gate, Health, ImportProblem, Run, Task

T = TypeVar("T")

SETTLE = 3.0
"""Seconds between a gate's question and its answer: an answer given at once can overtake the end of the asking
process, and Airflow 3.3.2 then fails the gate (1 of 3 lost at once, 0 of 3 after 3 s)."""


class DeadlineError(EdgeloopError):
    """What was waited for did not happen in time."""


class AirflowApi:
    """Airflow's REST API as one user.

    Args:
        url: Address of the API server.
        user: `admin` or `oncall`.
        password: That user's.
        timeouts: Of every call.
    """

    def __init__(self, url: str, user: str, password: str, timeouts: Timeouts | None = None) -> None:
        self.http = AirflowHttp(url, user, password, timeouts or Timeouts())

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the connections."""
        self.http.close()

    def health(self) -> Health:
        """Health of the four parts; needs no login. Raises httpx.TransportError while nothing listens."""
        return records.health(self.http.public("/monitor/health"))

    def import_errors(self) -> tuple[ImportProblem, ...]:
        """DAG files that do not load."""
        return tuple(records.import_problem(raw) for raw in self.http.items("/importErrors", "import_errors"))

    def dags(self) -> tuple[Dag, ...]:
        """Every DAG that is not stale."""
        return tuple(records.dag(raw) for raw in self.http.items("/dags", "dags"))

    def set_paused(self, dag_id: str, *, paused: bool) -> Dag:
        """Pause or unpause a DAG; already so is fine."""
        return records.dag(self.http.call("PATCH", f"/dags/{_q(dag_id)}", body={"is_paused": paused}))

    def set_pool(self, name: str, slots: int, description: str = "") -> None:
        """Make or change a pool whose deferred tasks keep their slot (a remote job holds its machine all the time)."""
        body = {"slots": slots, "description": description, "include_deferred": True}
        try:
            self.http.call("POST", "/pools", body={"name": name, **body})
        except AirflowApiError as error:
            if error.status != CONFLICT:
                raise
            self.http.call("PATCH", f"/pools/{_q(name)}", body={"pool": name, **body})

    def trigger(
        self,
        dag_id: str,
        *,
        partition_key: str | None = None,
        conf: dict[str, Any] | None = None,
        run_id: str | None = None,
    ) -> Run:
        """Start a run; with a `run_id` that exists already, that run."""
        body = {"logical_date": None, "partition_key": partition_key, "conf": conf or {}, "dag_run_id": run_id}
        try:
            return records.run(self.http.call("POST", f"/dags/{_q(dag_id)}/dagRuns", body=body))
        except AirflowApiError as error:
            if error.status != CONFLICT or run_id is None:
                raise
            return self.run(dag_id, run_id)

    def runs(
        self, dag_id: str, *, partition_key: str | None = None, state: str | None = None, prefix: str | None = None
    ) -> tuple[Run, ...]:
        """Runs of a DAG, oldest first; `partition_key`, a `prefix` of it, and `state` narrow."""
        params: dict[str, Any] = {"order_by": "id"}
        if state:
            params["state"] = state
        if start := partition_key or prefix:
            # The server matches a prefix, splitting at "|"; the exact comparison is ours.
            params["partition_key_prefix_pattern"] = start
        found = (records.run(raw) for raw in self.http.items(f"/dags/{_q(dag_id)}/dagRuns", "dag_runs", params))
        return tuple(run for run in found if partition_key is None or run.partition_key == partition_key)

    def run(self, dag_id: str, run_id: str) -> Run:
        """One run."""
        return records.run(self.http.call("GET", _run(dag_id, run_id)))

    def tasks(self, dag_id: str, run_id: str) -> tuple[Task, ...]:
        """The task instances of a run."""
        items = self.http.items(f"{_run(dag_id, run_id)}/taskInstances", "task_instances")
        return tuple(records.task(raw) for raw in items)

    def task(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1) -> Task:
        """One task instance."""
        path = f"{_task(dag_id, run_id, task_id)}{f'/{map_index}' if map_index >= 0 else ''}"
        return records.task(self.http.call("GET", path))

    def log(self, task: Task, *, try_number: int | None = None) -> str:
        """Log of a try (the latest by default), one line per event: "<time> <event>"."""
        number = task.try_number if try_number is None else try_number
        path = f"{_task(task.dag_id, task.run_id, task.task_id)}/logs/{number}"
        answer = self.http.call("GET", path, params={"full_content": True, "map_index": task.map_index})
        return "\n".join(_log_line(entry) for entry in answer["content"])

    def gates(self, dag_id: str = "~", run_id: str = "~", *, pending: bool = True) -> tuple[Gate, ...]:
        """Gates that wait for an answer, or (`pending=False`) those that got one."""
        items = self.http.items(
            f"{_run(dag_id, run_id)}/hitlDetails", "hitl_details", {"response_received": not pending}
        )
        return tuple(records.gate(raw) for raw in items)

    def answer(self, gate: Gate, option: str) -> None:
        """Answer a gate, not before its question is `SETTLE` seconds old.

        Raises:
            AirflowApiError: 403 when this user may not, 409 when it has been answered already.
        """
        time.sleep(max(0.0, SETTLE - (datetime.now(UTC) - gate.asked).total_seconds()))
        path = f"{_task(gate.dag_id, gate.run_id, gate.task_id)}/{gate.map_index}/hitlDetails"
        self.http.call("PATCH", path, body={"chosen_options": [option], "params_input": {}})

    def clear_run(self, dag_id: str, run_id: str, *, only_failed: bool = False) -> None:
        """Run a run again, or only its failed tasks and what follows them."""
        self.http.call("POST", f"{_run(dag_id, run_id)}/clear", body={"dry_run": False, "only_failed": only_failed})

    def clear_partition(self, dag_id: str, partition_key: str, *, only_failed: bool = False) -> None:
        """Run every run of a partition again, or only the failed tasks of it."""
        body = {"partition_key": partition_key, "dry_run": False, "only_failed": only_failed}
        self.http.call("POST", f"/dags/{_q(dag_id)}/clearDagRuns", body=body)

    def clear_tasks(self, dag_id: str, run_id: str, task_ids: Iterable[str]) -> None:
        """Run the named tasks of a run again, and what follows them."""
        body = {
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "dry_run": False,
            "only_failed": False,
            "include_downstream": True,
        }
        self.http.call("POST", f"/dags/{_q(dag_id)}/clearTaskInstances", body=body)

    def mark_task(self, task: Task, state: str) -> None:
        """Set a task's state by hand ("failed" or "success"); a deferred one's trigger gets its `on_kill`."""
        path = _task(task.dag_id, task.run_id, task.task_id)
        self.http.call("PATCH", path, params={"map_index": task.map_index}, body={"new_state": state})

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Set a run's state by hand ("failed", "success" or "queued")."""
        self.http.call("PATCH", _run(dag_id, run_id), body={"state": state})

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1) -> Any:
        """Value that a task left; raises AirflowApiError with status 404 when there is none."""
        path = f"{_task(dag_id, run_id, task_id)}/xcomEntries/{_q(key)}"
        return self.http.call("GET", path, params={"map_index": map_index, "deserialize": True})["value"]

    def emit(self, asset: str, *, partition_key: str | None = None, extra: dict[str, Any] | None = None) -> AssetEvent:
        """Record an update of the asset of that name, as a task that has it as outlet would."""
        body = {"asset_id": self._asset_id(asset), "partition_key": partition_key, "extra": extra or {}}
        return records.asset_event(self.http.call("POST", "/assets/events", body=body))

    def asset_events(self, asset: str) -> tuple[AssetEvent, ...]:
        """Updates of the asset of that name, oldest first."""
        params = {"asset_id": self._asset_id(asset), "order_by": "timestamp"}
        return tuple(records.asset_event(raw) for raw in self.http.items("/assets/events", "asset_events", params))

    def _asset_id(self, name: str) -> int:
        for raw in self.http.items("/assets", "assets", {"name_pattern": name}):
            if raw["name"] == name:
                return int(raw["id"])
        raise NotFoundError(
            f"Airflow knows no asset {name}.",
            left="Everything.",
            next="see which DAG declares it, and whether that DAG's file loads (import errors in the UI)",
        )


def wait_for(
    probe: Callable[[], T | None],
    *,
    seconds: float,
    what: str,
    every: float = 0.5,
    progress: Callable[[float], None] | None = None,
) -> T:
    """Ask until the answer is true, and return it.

    Args:
        probe: The question; a false answer means "not yet".
        seconds: Deadline.
        what: What is waited for, for the error.
        every: Seconds between two questions.
        progress: Called after each "not yet" with the seconds waited so far.

    Raises:
        DeadlineError: It did not happen in time.
    """
    began = time.monotonic()
    while True:
        if answer := probe():
            return answer
        waited = time.monotonic() - began
        if waited > seconds:
            raise DeadlineError(
                f"Waited {waited:.0f} s for {what}; the last answer was {answer!r}.",
                left="Everything as it is now.",
                next="look at the run in the UI, or at the parts' logs in the site's state folder",
            )
        if progress:
            progress(waited)
        time.sleep(every)


CONFLICT = 409


def _q(part: str) -> str:
    return quote(part, safe="~")


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{_q(dag_id)}/dagRuns/{_q(run_id)}"


def _task(dag_id: str, run_id: str, task_id: str) -> str:
    return f"{_run(dag_id, run_id)}/taskInstances/{_q(task_id)}"


def _log_line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    # Why a task was skipped stands in `reason`; the event says only that it was.
    text = " ".join(str(entry[part]) for part in ("timestamp", "event", "reason") if entry.get(part))
    detail = entry.get("error_detail")
    return f"{text} {detail}" if detail else text
