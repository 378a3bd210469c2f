"""Airflow's own REST API, for tasks that look at runs and clear or start them.

A task's own token does not reach that far: the execution API clears whole runs only, and the task SDK starts none with
a partition key (3.3.2). So it logs in like a person, through the connection ``edgeloop_airflow``, and does what that
user may.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from airflow.sdk import BaseHook

from edgeloop.errors import ConfigurationError, EdgeloopError, UnreachableError
from edgeloop.reprocess.units import Attempt
from edgeloop.training.parked import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from edgeloop.training.parked import Parked
    from edgeloop.training.pools import Pool

PAGE = 100
"""Airflow answers at most this many items a request, whatever is asked."""
CONNECT_SECONDS, IDLE_SECONDS, WHOLE_SECONDS = 5.0, 30.0, 60.0
PAUSE = 1.0
TRY_AGAIN = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
SHOWN = 400
NOTE = 1000
"""Airflow takes no longer ones."""


class AirflowRefusedError(EdgeloopError):
    """Airflow's REST API refused a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiEndpoint:
    """Where Airflow's REST API answers, and as whom; without a user the password is a bearer token."""

    connection: str
    url: str
    user: str = ""
    password: str = field(default="", repr=False)


def endpoint(conn_id: str) -> ApiEndpoint:
    """What an ``edgeloop_airflow`` connection says; raises ``ConfigurationError`` naming what it lacks."""
    connection = BaseHook.get_connection(conn_id)
    if not connection.host or not connection.password:
        raise ConfigurationError(
            f"Connection {conn_id!r} lacks {'the password of a user with role op' if connection.host else 'its host'}.",
            left="nothing was started",
            next="Under Admin > Connections give it the address of Airflow's API server, for example "
            "http://api-server:8080, and the login of a user with the role op.",
        )
    url = connection.host if "://" in connection.host else f"http://{connection.host}"
    if "://" not in connection.host and ":" not in connection.host:
        url += f":{connection.port or 8080}"
    return ApiEndpoint(
        connection=conn_id, url=url.rstrip("/"), user=connection.login or "", password=connection.password
    )


class AirflowRest:
    """What reprocessing needs of Airflow's REST API. Every call may be repeated."""

    def __init__(self, endpoint: ApiEndpoint, *, whole_seconds: float = WHOLE_SECONDS) -> None:
        import httpx

        self.endpoint, self.whole_seconds = endpoint, whole_seconds
        timeout = httpx.Timeout(IDLE_SECONDS, connect=CONNECT_SECONDS)
        self._client = httpx.Client(base_url=endpoint.url, timeout=timeout)
        self._token = "" if endpoint.user else endpoint.password

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the connections."""
        self._client.close()

    def attempts(self, dag_id: str) -> list[Attempt]:
        """Every run of a DAG that has a partition key, oldest first."""
        return [
            Attempt(
                key=raw["partition_key"],
                run_id=raw["dag_run_id"],
                state=raw["state"],
                at=datetime.fromisoformat(raw["end_date"] or raw["start_date"] or raw["run_after"]),
            )
            for raw in self._items(f"/dags/{_q(dag_id)}/dagRuns", "dag_runs", {"order_by": "id"})
            if raw["partition_key"]
        ]

    def paused(self, dag_id: str) -> bool:
        """Whether a DAG is paused: what is cleared or started of it would wait for ever."""
        return bool(self._call("GET", f"/dags/{_q(dag_id)}")["is_paused"])

    def error(self, dag_id: str, run_id: str) -> str:
        """The last error of a failed run, in one line: the task, and what its log says last."""
        for task in self._items(f"{_run(dag_id, run_id)}/taskInstances", "task_instances"):
            if task["state"] == "failed":
                path = f"{_run(dag_id, run_id)}/taskInstances/{_q(task['task_id'])}/logs/{task['try_number']}"
                try:
                    said = self._call("GET", path, params={"full_content": True, "map_index": task["map_index"]})
                except AirflowRefusedError as error:
                    # A log that was swept away keeps nobody from running its partition again.
                    return f"{task['task_id']}: its log cannot be read: {error.what}"
                return f"{task['task_id']}: {last_error(said['content'])}"
        return ""

    def clear_failed(self, dag_id: str, run_id: str, note: str) -> int:
        """Let the failed tasks of a run, and what waits for them, run again; returns how many. None failed is fine."""
        body = {"dry_run": True, "only_failed": True}
        path = f"{_run(dag_id, run_id)}/clear"
        failed = int(self._call("POST", path, body=body)["total_entries"])
        if failed:
            self._call("POST", path, body={"dry_run": False, "only_failed": True, "note": note})
        return failed

    def start(self, dag_id: str, run_id: str, key: str, conf: dict[str, str], note: str) -> bool:
        """Start a run of a partition; False if that run is there already."""
        body = {"logical_date": None, "partition_key": key, "dag_run_id": run_id, "conf": conf, "note": note}
        answer = self._request("POST", f"/dags/{_q(dag_id)}/dagRuns", body=body)
        if answer.status_code == HTTPStatus.CONFLICT:
            return False
        self._decoded("POST", f"/dags/{_q(dag_id)}/dagRuns", answer)
        return True

    def seen(self, one: Parked) -> Seen | None:
        """What Airflow says of a task instance now; None if it has none of that name."""
        path = f"{_run(one.dag, one.run)}/taskInstances/{_q(one.task)}"
        path += f"/{one.map_index}" if one.map_index >= 0 else ""
        answer = self._request("GET", path)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        raw = self._decoded("GET", path, answer)
        return Seen(state=raw["state"] or "", host=raw["hostname"] or "", pid=raw["pid"] or 0)

    def knows(self, dag_id: str, version: str) -> bool:
        """Whether this Airflow made that version of a DAG; raises ``AirflowRefusedError`` for a DAG that it has not."""
        return any(raw["id"] == version for raw in self._items(f"/dags/{_q(dag_id)}/dagVersions", "dag_versions"))

    def note(self, dag_id: str, run_id: str) -> str:
        """The note on a run; "" if there is none."""
        return str(self._call("GET", _run(dag_id, run_id))["note"] or "")

    def put_note(self, dag_id: str, run_id: str, note: str) -> None:
        """Put a note on a run, in place of the one that is there."""
        self._call("PATCH", _run(dag_id, run_id), params={"update_mask": "note"}, body={"note": note[:NOTE]})

    def make_pool(self, pool: Pool) -> bool:
        """Make a pool whose deferred tasks keep their slots; False if one of that name is there."""
        body = {"name": pool.name, "slots": pool.slots, "description": pool.description, "include_deferred": True}
        answer = self._request("POST", "/pools", body=body)
        if answer.status_code == HTTPStatus.CONFLICT:
            return False
        self._decoded("POST", "/pools", answer)
        return True

    def check(self) -> None:
        """Raise unless the login is good and may look at DAGs."""
        self._call("GET", "/dags", params={"limit": 1})

    def _items(self, path: str, name: str, params: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self._call("GET", path, params={**(params or {}), "limit": PAGE, "offset": offset})[name]
            yield from page
            if len(page) < PAGE:
                return
            offset += PAGE

    def _call(self, method: str, path: str, *, params: dict[str, Any] | None = None, body: Any = None) -> Any:
        return self._decoded(method, path, self._request(method, path, params=params, body=body))

    def _request(
        self, method: str, path: str, *, params: dict[str, Any] | None = None, body: Any = None
    ) -> httpx.Response:
        used = self._token
        answer = self._as_user(method, path, params, body)
        if answer.status_code != HTTPStatus.UNAUTHORIZED or not used or not self.endpoint.user:
            return answer
        # The token ended, or the API server was started anew and signs with another key.
        self._token = ""
        return self._as_user(method, path, params, body)

    def _as_user(self, method: str, path: str, params: dict[str, Any] | None, body: Any) -> httpx.Response:
        if not self._token:
            login = {"username": self.endpoint.user, "password": self.endpoint.password}
            answer = self._patiently(lambda: self._client.post("/auth/token", json=login))
            self._token = self._decoded("POST", "/auth/token", answer)["access_token"]
        headers = {"Authorization": f"Bearer {self._token}"}
        return self._patiently(
            lambda: self._client.request(method, f"/api/v2{path}", params=params, json=body, headers=headers)
        )

    def _patiently(self, once: Callable[[], httpx.Response]) -> httpx.Response:
        """Ask until an answer comes that is more than 'later', for at most ``whole_seconds``."""
        import httpx

        deadline = time.monotonic() + self.whole_seconds
        while True:
            try:
                answer = once()
                if answer.status_code not in TRY_AGAIN or time.monotonic() > deadline:
                    return answer
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise UnreachableError(
                        f"Airflow's API at {self.endpoint.url} (connection {self.endpoint.connection!r}) did not "
                        f"answer: {type(error).__name__}.",
                        left="whatever was cleared or started before; this task finds it",
                        next="Check that the api-server runs and that the connection's host reaches it from a worker.",
                    ) from error
            time.sleep(PAUSE)

    def _decoded(self, method: str, path: str, answer: httpx.Response) -> Any:
        if answer.is_success and not answer.content:
            return None
        if answer.is_success and answer.headers.get("content-type", "").startswith("application/json"):
            return answer.json()
        if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise ConfigurationError(
                f"The user {self.endpoint.user or '(token)'!r} of connection {self.endpoint.connection!r} may not "
                f"{method} {path}: Airflow answered {answer.status_code}.",
                left="whatever was cleared or started before; this task finds it",
                next="Give that connection a login with the role 'op', then clear this task.",
            )
        raise AirflowRefusedError(
            f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:SHOWN]}",
            left="whatever was cleared or started before; this task finds it",
            next="Look at the DAG in the UI: is its file loaded without errors? Then clear this task.",
        )


def last_error(content: list[Any]) -> str:
    """The last error that a task's log holds, in one line; empty if it holds none."""
    for entry in reversed(content):
        if isinstance(entry, dict) and (details := entry.get("error_detail")):
            first = str(details[-1].get("exc_value", "")).splitlines()
            return f"{details[-1].get('exc_type', 'error')}: {first[0] if first else ''}"[:SHOWN]
    return ""


def _q(part: str) -> str:
    return quote(part, safe="~")


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{_q(dag_id)}/dagRuns/{_q(run_id)}"
