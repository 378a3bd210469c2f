"""Task runs of a registry of Azure: started once, followed to their end, their log and digest read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.azure_ml.arm import ArmClient, ArmEndpoint
from edgeloop.errors import CloudError, ConfigurationError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    from edgeloop.azure_ml.identity import Identity
    from edgeloop.containers.endpoint import RegistryEndpoint

TASK_VERSION = "2025-03-01-preview"
"""Tasks have no stable api-version; this one's types are what the contract tests hold every body to."""
REGISTRY_VERSION = "2023-07-01"
CONNECT_SECONDS, IDLE_SECONDS, WHOLE_SECONDS = 10.0, 60.0, 2400.0
"""WHOLE_SECONDS is for following a run: more than the run itself may take in Azure."""
POLL_SECONDS = 5.0
ACTIVE = ("Queued", "Started", "Running", "")
GOOD = "Succeeded"
LOG_LINES = 40
MOST_LOG = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryResource:
    """A registry as Azure's control plane knows it, and who asks there."""

    identity: Identity
    subscription: str
    resource_group: str
    registry: str

    @property
    def id(self) -> str:
        """Its ARM id."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.ContainerRegistry/registries/{self.registry}"
        )

    def connect(self) -> ArmClient:
        """A client for pinned REST requests; use as a context manager."""
        return ArmClient(ArmEndpoint(identity=self.identity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A task run at one moment: ``id`` of the run behind it, ``digest`` of the image that it pushed."""

    name: str
    id: str
    status: str
    digest: str = ""
    why: str = ""

    @property
    def active(self) -> bool:
        """Whether it goes on."""
        return self.status in ACTIVE

    @property
    def good(self) -> bool:
        """Whether every step succeeded."""
        return self.status == GOOD


class Runs:
    """The task runs of one registry; ``arm`` is open."""

    def __init__(self, registry: RegistryResource, arm: ArmClient) -> None:
        self.registry, self.arm = registry, arm

    def require_host(self, endpoint: RegistryEndpoint) -> None:
        """Raise ``ConfigurationError`` if the connection leads to another registry than the one that builds."""
        server = self.login_server()
        if server.lower() != endpoint.host.lower():
            raise ConfigurationError(
                f"image.acr names registry {self.registry.registry!r}, which answers at {server}, but connection "
                f"{endpoint.connection!r} leads to {endpoint.host}.",
                left="nothing was built",
                next=f"Set host of {endpoint.connection!r} to {server}, or correct image.acr.registry.",
            )

    def login_server(self) -> str:
        """Where the registry answers; raises ``NotFoundError`` that names the fields."""
        try:
            found = self.arm.get(self.registry.id, REGISTRY_VERSION)
        except NotFoundError as error:
            raise NotFoundError(
                f"There is no registry {self.registry.registry!r} in resource group {self.registry.resource_group!r} "
                f"of subscription {self.registry.subscription}, or the identity of connection "
                f"{self.registry.identity.connection!r} may not see it.",
                left="nothing was changed in Azure",
                next="Correct image.acr in pipeline.yaml, or give the identity the role Contributor on the registry.",
            ) from error
        return str(found["properties"]["loginServer"])

    def find(self, name: str) -> Run | None:
        """The task run called ``name``, or None."""
        found = self.arm.find(self._path(name), TASK_VERSION)
        return None if found is None else _run(name, found)

    def upload(self, source: bytes) -> str:
        """Give the registry a run's source; returns the place that the run names."""
        from azure.core.exceptions import AzureError
        from azure.storage.blob import BlobClient

        told = self.arm.post(f"{self.registry.id}/listBuildSourceUploadUrl", TASK_VERSION)
        try:
            BlobClient.from_blob_url(
                told["uploadUrl"], connection_timeout=CONNECT_SECONDS, read_timeout=IDLE_SECONDS
            ).upload_blob(source, overwrite=True)
        except AzureError as error:
            raise self._no_blob("take the source of a run", error) from error
        return str(told["relativePath"])

    def start(self, name: str, body: dict[str, Any]) -> Run:
        """Begin the task run; the same body again begins nothing."""
        reply = self.arm.send("PUT", self._path(name), TASK_VERSION, body=body)
        return _run(name, dict(reply.json()))

    def delete(self, name: str) -> None:
        """Forget a task run, so that the next one of that name begins anew."""
        self.arm.delete(self._path(name), TASK_VERSION)

    def await_end(self, name: str, *, whole_seconds: float = WHOLE_SECONDS) -> Run:
        """Look at it every POLL_SECONDS until it has ended."""
        until = time.monotonic() + whole_seconds
        while True:
            found = self.find(name)
            if found is None:
                raise CloudError(
                    f"The task run {name} of registry {self.registry.registry!r} is gone.",
                    left="what it had pushed",
                    next="See who deleted it; then clear the task: it is begun anew.",
                )
            if not found.active:
                return found
            if time.monotonic() > until:
                raise UnreachableError(
                    f"The task run {name} of registry {self.registry.registry!r} is {found.status or 'beginning'} and "
                    f"has not ended in {whole_seconds:g} s.",
                    left="the run, which goes on in Azure",
                    next="Look at it with `az acr task logs --registry "
                    f"{self.registry.registry} --run-id {found.id}`; the task's next try follows the same run.",
                )
            time.sleep(POLL_SECONDS)

    def log(self, run: Run) -> str:
        """What the run wrote, at most MOST_LOG bytes of its end."""
        from azure.core.exceptions import AzureError
        from azure.storage.blob import BlobClient

        told = self.arm.post(f"{self.registry.id}/runs/{run.id}/listLogSasUrl", TASK_VERSION)
        try:
            data = (
                BlobClient.from_blob_url(told["logLink"], connection_timeout=CONNECT_SECONDS, read_timeout=IDLE_SECONDS)
                .download_blob()
                .readall()
            )
        except AzureError as error:
            raise self._no_blob(f"give the log of run {run.id}", error) from error
        return bytes(data)[-MOST_LOG:].decode(errors="replace")

    def _path(self, name: str) -> str:
        return f"{self.registry.id}/taskRuns/{name}"

    def _no_blob(self, doing: str, error: Exception) -> UnreachableError:
        words = " ".join(str(error).split())[:300]
        return UnreachableError(
            f"The storage behind registry {self.registry.registry!r} did not {doing}: {words}",
            left="the registry's images",
            next="Check the way from the worker to *.blob.core.windows.net, then clear the task.",
        )


def last_lines(log: str) -> str:
    """The end of a log, for an error."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    return "\n".join(lines[-LOG_LINES:]) or "(none)"


def _run(name: str, resource: dict[str, Any]) -> Run:
    properties = resource.get("properties") or {}
    result = (properties.get("runResult") or {}).get("properties") or {}
    images = result.get("outputImages") or []
    status = str(result.get("status") or "")
    if not status and properties.get("provisioningState") in {"Failed", "Canceled"}:
        status = str(properties["provisioningState"])
    return Run(
        name=name,
        id=str(result.get("runId") or ""),
        status=status,
        digest=str(images[0].get("digest") or "") if images else "",
        why=str(result.get("runErrorMessage") or ""),
    )
