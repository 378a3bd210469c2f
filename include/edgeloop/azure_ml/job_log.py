"""The last words of a job of Azure ML, as far as the workspace's run history gives them.

Run history has no published OpenAPI file; what is asked is what azure-ai-ml 1.35.2 asks for ``jobs.stream``: the
workspace's discovery document, a run's details, and its log files behind short-lived SAS addresses.
"""

from __future__ import annotations

import dataclasses
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from edgeloop.errors import EdgeloopError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeloop.azure_ml.arm import ArmClient, ArmEndpoint
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

SCOPE = "https://ml.azure.com/.default"
TAIL_BYTES = 16 * 1024
TAIL_LINES = 40
FETCH_SECONDS = 30.0
SCRIPT_LOGS = "user_logs/"
PREFERRED = ("user_logs/std_log.txt", "logs/user/error.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWords:
    """How a job ended in Azure ML's own words, and the last lines of its log."""

    error: str = ""
    lines: tuple[str, ...] = ()
    missing: str = ""
    """Why there are no lines."""


def last_words(endpoint: WorkspaceEndpoint, name: str) -> LastWords:
    """Ask run history for a job's error and the end of its log; raises nothing: a failed job is told in any case.

    Of a pipeline job it is the log of the step that failed: the job itself writes none.
    """
    try:
        details = details_of(endpoint, name)
        said, files = _message(details.get("error")), details.get("logFiles") or {}
        address = files.get(log_name(files), "")
    except Exception as error:  # noqa: BLE001 - an answer of any other form hides no failure
        what = error.what if isinstance(error, EdgeloopError) else f"{type(error).__name__}: {error}"
        return LastWords(missing=f"run history does not say: {what}")
    if not address:
        return LastWords(error=said, missing="the job has written no log")
    try:
        return LastWords(error=said, lines=_tail(address))
    except Exception as error:  # noqa: BLE001 - as above; http.client's own errors are no OSError
        # The address holds a SAS and is in no message.
        return LastWords(error=said, missing=f"its log cannot be read: {type(error).__name__}")


def details_of(endpoint: WorkspaceEndpoint, name: str) -> dict[str, Any]:
    """What run history says of a job; of one that writes no log itself, of its step that failed, else of the last.

    Raises ``EdgeloopError`` or ``ValueError`` when it does not say.
    """
    with endpoint.connect() as arm:
        discovery = (endpoint.describe(arm).get("properties") or {}).get("discoveryUrl") or ""
    return _details(dataclasses.replace(endpoint.arm, scope=SCOPE), endpoint.id, str(discovery), name)


def _details(endpoint: ArmEndpoint, workspace: str, discovery: str, name: str) -> dict[str, Any]:
    from edgeloop.azure_ml.arm import ArmClient

    with ArmClient(endpoint) as data_plane:
        _require_ours(endpoint, discovery, "discovery")
        api = str(data_plane.send("GET", discovery).json().get("api") or "")
        _require_ours(endpoint, api, "API")
        runs = f"{api}/history/v1.0{workspace}/runs"
        found = dict(data_plane.send("GET", f"{runs}/{quote(name)}/details").json())
        if any(one.startswith(SCRIPT_LOGS) for one in found.get("logFiles") or {}):
            return found
        step = _failed_step(data_plane, runs, name)
        return dict(data_plane.send("GET", f"{runs}/{quote(step)}/details").json()) if step else found


def _require_ours(endpoint: ArmEndpoint, address: str, what: str) -> None:
    """The address comes from an answer, and the token goes where it leads: to the cloud's own data plane only."""
    hosts, parts = endpoint.identity.where.ml_hosts, urlsplit(address)
    if parts.scheme != "https" or not (parts.hostname or "").endswith(hosts):
        raise ValueError(f"the workspace's {what} is at {parts.hostname or 'no address'}, not below {hosts[1:]}")


def _failed_step(data_plane: ArmClient, runs: str, name: str) -> str:
    """The id of a pipeline job's step that failed, else of its last one; "" for a job without steps."""
    try:
        found = data_plane.send("GET", f"{runs}/{quote(name)}/children").json().get("value") or []
    except NotFoundError:
        return ""
    ids = [str(one.get("runId") or "") for one in sorted(found, key=lambda one: one.get("status") == "Failed")]
    return ids[-1] if ids else ""


def _message(error: Any) -> str:
    inner = (error or {}).get("error") or error or {}
    words = [str(inner.get(one) or "") for one in ("code", "message")]
    return ": ".join(one for one in words if one)


def log_name(files: Mapping[str, str]) -> str:
    """The name of the log to show: the script's own, else the last of the others by name; "" without any."""
    for name in PREFERRED:
        if name in files:
            return name
    ours = sorted(one for one in files if one.startswith(SCRIPT_LOGS)) or sorted(files)
    return ours[-1] if ours else ""


def _tail(address: str) -> tuple[str, ...]:
    if not address.startswith("https://"):
        raise urllib.error.URLError("no https address")
    # Storage answers a suffix range with the whole blob (Range: bytes=-n is no form it knows): ask for the size first.
    head = urllib.request.Request(address, method="HEAD")  # noqa: S310 - checked above
    with urllib.request.urlopen(head, timeout=FETCH_SECONDS) as reply:  # noqa: S310
        size = int(reply.headers.get("Content-Length") or 0)
    start = max(size - TAIL_BYTES, 0)
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"})  # noqa: S310 - checked above
    with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as reply:  # noqa: S310
        text = reply.read(TAIL_BYTES).decode(errors="replace")
    lines = text.splitlines()
    return tuple(lines[1 if start and len(lines) > 1 else 0 :][-TAIL_LINES:])
