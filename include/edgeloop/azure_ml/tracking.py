"""Experiments and runs of a workspace, by the REST interface of MLflow that it offers beside its tracking URI.

Azure ML's own jobs cannot describe a training that somebody else carries out; a run of MLflow can, and the studio shows
it among the jobs. azureml-mlflow cannot be installed beside Airflow's Azure provider, and these are nine requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop.errors import CloudError, ConfigurationError, ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

API = "/api/2.0/mlflow"
MOST_METRICS, MOST_PARAMS, MOST_TAGS = 1000, 100, 100
"""How many a log-batch takes (MLflow's REST reference)."""
PAGE = 100
DELETED = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as the workspace tells of it; times in milliseconds since 1970."""

    run_id: str
    status: str
    start_time: int
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure with the time it is of, in milliseconds since 1970."""

    key: str
    value: float
    timestamp: int


class Tracking:
    """One workspace's experiments and runs."""

    def __init__(self, arm: ArmClient, workspace: WorkspaceEndpoint) -> None:
        self._arm = arm
        self._base = _address(workspace, workspace.describe(arm))

    def experiment(self, name: str) -> str:
        """The id of the experiment, made if it is not there."""
        found = self._experiment(name)
        if found is not None:
            return found
        try:
            return str(_of(self._post("experiments/create", {"name": name}), "experiment_id"))
        except (CloudError, ConflictError):
            # Somebody made it at the same moment, or it is something else: then it still is not there.
            found = self._experiment(name)
            if found is None:
                raise
            return found

    def _experiment(self, name: str) -> str | None:
        try:
            found = self._get("experiments/get-by-name", {"experiment_name": name})
        except NotFoundError:
            return None
        return str(_of(_of(found, "experiment"), "experiment_id"))

    def create(self, experiment: str, name: str, start_time: int, tags: Mapping[str, str]) -> str:
        """A new run, which is running; its id is the service's to choose."""
        asked = {
            "experiment_id": experiment,
            "run_name": name,
            "start_time": start_time,
            "tags": _pairs({"mlflow.runName": name, **tags}),
        }
        return str(_of(_of(_of(self._post("runs/create", asked), "run"), "info"), "run_id"))

    def find(self, run_id: str) -> Run | None:
        """The run, or None if there is none or somebody deleted it."""
        try:
            return _run(_of(self._get("runs/get", {"run_id": run_id}), "run"))
        except NotFoundError:
            return None

    def tagged(self, experiment: str, tag: str, value: str) -> list[Run]:
        """The runs of an experiment with that tag, the earliest first."""
        found: list[Run] = []
        asked: dict[str, Any] = {
            "experiment_ids": [experiment],
            "filter": f"tags.{tag} = '{value}'",
            "max_results": PAGE,
        }
        while True:
            reply = self._post("runs/search", asked)
            runs = (_run(one) for one in reply.get("runs") or ())
            found += [one for one in runs if one is not None and (tag, value) in one.tags]
            if not reply.get("next_page_token"):
                return sorted(found, key=lambda one: (one.start_time, one.run_id))
            asked["page_token"] = reply["next_page_token"]

    def log(self, run_id: str, metrics: tuple[Metric, ...], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Write figures, parameters and tags; the same once more changes nothing."""
        figures = [{"key": one.key, "value": one.value, "timestamp": one.timestamp, "step": 0} for one in metrics]
        for name, values, most in (
            ("params", _pairs(params), MOST_PARAMS),
            ("metrics", figures, MOST_METRICS),
            ("tags", _pairs(tags), MOST_TAGS),
        ):
            for some in _in_parts(values, most):
                self._post("runs/log-batch", {"run_id": run_id, name: some})

    def update(self, run_id: str, status: str, end_time: int | None = None) -> None:
        """Set the state, and when it ended."""
        asked: dict[str, Any] = {"run_id": run_id, "status": status}
        if end_time is not None:
            asked["end_time"] = end_time
        self._post("runs/update", asked)

    def delete(self, run_id: str) -> None:
        """Remove a run that was made once too often."""
        try:
            self._post("runs/delete", {"run_id": run_id})
        except NotFoundError:
            return

    def _get(self, what: str, query: Mapping[str, str]) -> dict[str, Any]:
        return self._arm.get(f"{self._base}/{what}", "", query=query)

    def _post(self, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._arm.post(f"{self._base}/{what}", "", body)


def _of(told: Any, name: str) -> Any:
    """A part of an answer; raises ``CloudError`` where something else than MLflow answered."""
    if isinstance(told, dict) and name in told:
        return told[name]
    raise CloudError(
        f"The workspace's tracking answered without {name!r}.",
        left="the training's record in the store; what the workspace shows may be unfinished",
        next="Look for a proxy that answers for Azure; the next try finishes what this one began.",
    )


def _run(told: Any) -> Run | None:
    info, data = _of(told, "info"), told.get("data") or {}
    if info.get("lifecycle_stage") == DELETED:
        return None
    return Run(
        run_id=str(info["run_id"]),
        status=str(info.get("status") or ""),
        start_time=int(info.get("start_time") or 0),
        tags=tuple((one["key"], one["value"]) for one in data.get("tags") or ()),
    )


def _in_parts(values: list[dict[str, Any]], most: int) -> list[list[dict[str, Any]]]:
    return [values[start : start + most] for start in range(0, len(values), most)]


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": name, "value": value} for name, value in sorted(values.items())]


def _address(workspace: WorkspaceEndpoint, described: Mapping[str, Any]) -> str:
    """Where MLflow answers; the token goes there, so it must be the cloud's own data plane."""
    told = str((described.get("properties") or {}).get("mlFlowTrackingUri") or "")
    parts = urlsplit(told)
    if parts.scheme not in {"azureml", "https"} or not (parts.hostname or "").endswith(
        workspace.identity.where.ml_hosts
    ):
        raise ConfigurationError(
            f"Workspace {workspace.workspace!r} says that its tracking is at {told or 'no address'!r}, which is not "
            f"below {workspace.identity.where.ml_hosts[1:]}.",
            left="nothing was sent there",
            next="Is extra.cloud_environment of the connection the workspace's cloud? Look at it with "
            f"`az ml workspace show -n {workspace.workspace} --query mlflow_tracking_uri`.",
        )
    return f"https://{parts.netloc}{parts.path}{API}"
