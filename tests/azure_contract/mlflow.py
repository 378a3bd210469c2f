"""MLflow's REST interface with a memory, put over the contract server's answers, which are always an empty object.

Every request still goes to the contract server under its real host name, with its token, and is logged there; only
what comes back is made here, from MLflow's REST reference. Faults that the server was told to inject come through.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import requests

from edgeloop.errors import CloudError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

MARK = "/api/2.0/mlflow/"
Answer = tuple[int, dict[str, Any]]


@dataclass(slots=True)
class Mlflow:
    """Experiments and runs of one workspace; ``before`` is called with each request's name, and may raise."""

    experiments: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    before: Callable[[str], None] | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Answer instead of the contract server, for every client in this process that uses requests."""
        real = requests.adapters.HTTPAdapter.send

        def send(adapter: Any, request: Any, **options: Any) -> requests.Response:
            parts = urlsplit(request.url)
            if MARK not in parts.path:
                return real(adapter, request, **options)
            what = parts.path.partition(MARK)[2]
            if self.before:
                self.before(what)
            reply = real(adapter, request, **options)
            assert reply.content is not None
            if reply.status_code == HTTPStatus.OK:
                asked = json.loads(request.body) if request.body else dict(parse_qsl(parts.query))
                self.asked.append(what)
                reply.status_code, body = self.answer(what, asked)
                reply._content = json.dumps(body).encode()
                reply.headers["Content-Length"] = str(len(reply._content))
            return reply

        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)

    def answer(self, what: str, asked: dict[str, Any]) -> Answer:
        """What MLflow answers to one request."""
        method = getattr(self, "_" + what.replace("/", "_").replace("-", "_"))
        result: Answer = method(asked)
        return result

    def _experiments_get_by_name(self, asked: dict[str, Any]) -> Answer:
        name = asked["experiment_name"]
        if name not in self.experiments:
            return _missing(f"experiment {name}")
        return 200, {"experiment": {"experiment_id": self.experiments[name], "name": name}}

    def _experiments_create(self, asked: dict[str, Any]) -> Answer:
        if asked["name"] in self.experiments:
            return 400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "taken"}
        self.experiments[asked["name"]] = f"e{len(self.experiments)}"
        return 200, {"experiment_id": self.experiments[asked["name"]]}

    def _runs_create(self, asked: dict[str, Any]) -> Answer:
        if asked["experiment_id"] not in self.experiments.values():
            return _missing("experiment")
        run_id = f"run-{len(self.runs)}"
        self.runs[run_id] = {
            "experiment": asked["experiment_id"],
            "status": "RUNNING",
            "start_time": asked["start_time"],
            "end_time": None,
            "stage": "active",
            "tags": {one["key"]: one["value"] for one in asked["tags"]},
            "params": {},
            "metrics": set(),
        }
        return 200, {"run": self._told(run_id)}

    def _runs_get(self, asked: dict[str, Any]) -> Answer:
        run_id = asked["run_id"]
        return (200, {"run": self._told(run_id)}) if run_id in self.runs else _missing(f"run {run_id}")

    def _runs_search(self, asked: dict[str, Any]) -> Answer:
        tag, _, value = asked["filter"].removeprefix("tags.").partition(" = ")
        found = [
            name
            for name, one in self.runs.items()
            if one["experiment"] in asked["experiment_ids"]
            and one["stage"] == "active"
            and one["tags"].get(tag) == value.strip("'")
        ]
        start = int(asked.get("page_token") or 0)
        # One a page: nobody may take the first page for all.
        body: dict[str, Any] = {"runs": [self._told(one) for one in found[start : start + 1]]}
        return 200, body | ({"next_page_token": str(start + 1)} if len(found) > start + 1 else {})

    def _runs_log_batch(self, asked: dict[str, Any]) -> Answer:
        run = self.runs[asked["run_id"]]
        for one in asked.get("params", ()):
            if run["params"].setdefault(one["key"], one["value"]) != one["value"]:
                return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "params do not change"}
        run["tags"] |= {one["key"]: one["value"] for one in asked.get("tags", ())}
        run["metrics"] |= {
            (one["key"], one["value"], one["timestamp"], one["step"]) for one in asked.get("metrics", ())
        }
        return 200, {}

    def _runs_update(self, asked: dict[str, Any]) -> Answer:
        run = self.runs[asked["run_id"]]
        run["status"] = asked["status"]
        run["end_time"] = asked.get("end_time", run["end_time"])
        return 200, {"run_info": self._told(asked["run_id"])["info"]}

    def _runs_delete(self, asked: dict[str, Any]) -> Answer:
        if asked["run_id"] not in self.runs:
            return _missing("run")
        self.runs[asked["run_id"]]["stage"] = "deleted"
        return 200, {}

    def _told(self, run_id: str) -> dict[str, Any]:
        run = self.runs[run_id]
        return {
            "info": {
                "run_id": run_id,
                "experiment_id": run["experiment"],
                "status": run["status"],
                "start_time": run["start_time"],
                "end_time": run["end_time"],
                "lifecycle_stage": run["stage"],
            },
            "data": {"tags": [{"key": key, "value": value} for key, value in run["tags"].items()]},
        }

    @property
    def active(self) -> list[str]:
        """The runs that nobody deleted."""
        return [name for name, one in self.runs.items() if one["stage"] == "active"]


def _missing(what: str) -> Answer:
    return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"no {what}"}


@dataclass(slots=True)
class Direct:
    """The requests of a client for ARM, answered in this process: for tests of hundreds of them."""

    mlflow: Mlflow

    def get(self, path: str, version: str, *, query: dict[str, str] | None = None) -> dict[str, Any]:
        """GET: the workspace, or something of its tracking."""
        if MARK not in path:
            return {"properties": {"mlFlowTrackingUri": "azureml://westeurope.api.azureml.ms/mlflow/v1.0"}}
        return self._ask(path, query or {})

    def post(self, path: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST to its tracking."""
        return self._ask(path, body)

    def _ask(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        what = path.partition(MARK)[2]
        if self.mlflow.before:
            self.mlflow.before(what)
        self.mlflow.asked.append(what)
        status, body = self.mlflow.answer(what, json.loads(json.dumps(asked)))
        if status == HTTPStatus.NOT_FOUND:
            raise NotFoundError(body["message"])
        if status != HTTPStatus.OK:
            raise CloudError(body["message"])
        return body
