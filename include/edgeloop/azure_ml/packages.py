"""`models.package`: an image that Azure ML builds of a registered model, as an alternative builder. Experimental.

Microsoft marks it so in its SDK, and has it in preview api-versions only (it is gone from 2024-10-01-preview on). The
base is an image that the workspace's registry holds; the model and its card are copied in beside it, and the server is
the base's own (``Custom``): Azure ML's inference server answers ``/score`` and not the Open Inference Protocol that
devices and gates speak. What comes out is in a registry before anybody has tried it, under a name that nothing uses:
whether it is any good is found out by the golden rows, on its digest, and it is rolled out only then.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.azure_ml import job_body, model_version
from edgeloop.azure_ml.arm import POLL_SECONDS
from edgeloop.azure_ml.jobs import API_VERSION
from edgeloop.azure_ml.model_bytes import ModelBytes, place_of
from edgeloop.azure_ml.workspace import MODEL_VERSION
from edgeloop.errors import CloudError, ConfigurationError, ConflictError, NotFoundError, ResidencyError
from edgeloop.pipeline_image import in_registry
from edgeloop.records import canonical_json, sha256_hex
from edgeloop.residency import permits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint
    from edgeloop.containers.registry import Manifest
    from edgeloop.pipeline import Pipeline
    from edgeloop.pipeline_parts import Permit
    from edgeloop.pipeline_training import Workspace
    from edgeloop.records import ModelVersion

PACKAGE_VERSION = "2023-08-01-preview"
"""That of Microsoft's own SDK (azure-ai-ml 1.35.2)."""
BUILD_SECONDS = 3600.0
PERMIT: Permit = "azure_ml_outputs"
FOLDER, PORT = "model", 8080
LIVE, READY = "/v2/health/live", "/v2/health/ready"
DIGITS = 16
FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be packaged: a published model version, its card, and the base image by a reference with a host."""

    pipeline: str
    version: int
    sha256: str
    base: str
    card: bytes

    @property
    def environment(self) -> str:
        """The name of the environment that comes out: a model on a base with a card is one version of it."""
        return f"edgeloop-{self.pipeline}".replace("_", "-")

    @property
    def number(self) -> str:
        """Its version."""
        parts = {"model": self.sha256, "base": self.base, "card": sha256_hex(self.card), "version": self.version}
        return sha256_hex(canonical_json(parts))[:DIGITS]

    @property
    def card_blob(self) -> str:
        """Where the card is, beside the model's bytes."""
        folder = model_version.blob_name(self.pipeline, self.sha256).rpartition("/")[0]
        return f"{folder}/cards/{sha256_hex(self.card)}/model.json"


def require_packageable(spec: Pipeline) -> Workspace:
    """The workspace that packages for this pipeline.

    Raises:
        ConfigurationError: There is none, it does not know the models, or the base is in no registry.
        ResidencyError: The pipeline is ``on_premises`` and does not permit what leaves with a build.
    """
    if spec.azure_ml is None or spec.registry.backend != "azure_ml":
        lacks = "it has no section azure_ml" if spec.azure_ml is None else "its registry.backend is not azure_ml"
        raise ConfigurationError(
            f"Azure ML cannot package models of pipeline {spec.name}: {lacks}.",
            left="nothing was asked of Azure",
            next="Add the section and registry.backend: azure_ml, or write image.builder: engine.",
        )
    if not in_registry(spec.image.base):
        raise ConfigurationError(
            f"Azure ML cannot build on {spec.image.base!r}: it pulls the base from a registry.",
            left="nothing was asked of Azure",
            next="Push the base to the workspace's registry and name it whole in image.base: "
            "<registry>/edgeloop/scorer-base:<tag>; or write image.builder: engine.",
        )
    if not permits(spec, PERMIT):
        raise ResidencyError(
            f"Pipeline {spec.name} is on_premises, and its image was about to be built by Azure ML, whose build logs "
            "go to the workspace.",
            left="the model in the private account; nothing was asked of Azure",
            next=f"Write image.builder: engine, or allow it with residency_permits: [{PERMIT}].",
        )
    return spec.azure_ml


def order_of(model: ModelVersion, base: str, card: bytes) -> Order:
    """What is asked for to package ``model``."""
    return Order(pipeline=model.pipeline, version=model.version, sha256=model.sha256, base=base, card=card)


def body(order: Order, workspace: WorkspaceEndpoint, datastore: str) -> dict[str, Any]:
    """The request: our own server as the base has it, told where the model is and where it answers."""
    routes = {"livenessRoute": LIVE, "readinessRoute": READY, "scoringRoute": f"/v2/models/{order.pipeline}/infer"}
    card = model_version.model_uri(workspace, datastore, order.card_blob)
    return {
        "targetEnvironmentId": f"azureml:/{environment_path(order, workspace)}",
        "baseEnvironmentSource": {
            "baseEnvironmentSourceType": "EnvironmentAsset",
            "resourceId": f"azureml:/{job_body.environment_path(workspace.id, order.base)}",
        },
        "inferencingServer": {
            "serverType": "Custom",
            "inferenceConfiguration": {name: {"path": path, "port": PORT} for name, path in routes.items()},
        },
        "modelConfiguration": {"mode": "Copy", "mountPath": FOLDER},
        "inputs": [
            {
                "inputType": "UriFile",
                "mode": "Copy",
                "mountPath": FOLDER,
                "path": {"inputPathType": "Url", "url": card},
            }
        ],
        "environmentVariables": {"EDGELOOP_MODEL": f"/{FOLDER}"},
        "tags": {"edgeloop.sha256": order.sha256, "edgeloop.version": str(order.version)},
    }


def environment_path(order: Order, workspace: WorkspaceEndpoint) -> str:
    """The ARM id of the environment version that comes out."""
    return f"{workspace.id}/environments/{order.environment}/versions/{order.number}"


@contextmanager
def opened(workspace: WorkspaceEndpoint, datastore: str, say: Callable[..., None]) -> Iterator[Packager]:
    """A packager that waits as long as a build takes."""
    with (
        workspace.connect(operation_seconds=BUILD_SECONDS) as arm,
        ModelBytes(place_of(arm, workspace, datastore), workspace) as bytes_,
    ):
        yield Packager(arm, workspace, bytes_, say)


class Packager:
    """Builds packages in one workspace.

    Args:
        arm: Who asks; how long a build may take is its ``operation_seconds``.
        workspace: Where.
        bytes_: Where cards go.
        say: Takes lines of the task's log.
    """

    def __init__(
        self, arm: ArmClient, workspace: WorkspaceEndpoint, bytes_: ModelBytes, say: Callable[..., None]
    ) -> None:
        self._arm, self._workspace, self._bytes, self._say = arm, workspace, bytes_, say

    def ensure(self, order: Order) -> str:
        """The name of the order's image, built now or found: ``<registry>/<repository>:<tag>``.

        A try that died while Azure builds finds what came of it, or asks again for the same environment.

        Raises:
            NotFoundError: The workspace does not have the model version.
            CloudError: The build failed.
            UnreachableError: It is not done in time.
        """
        if image := self._image(order):
            self._say("Found package %s of version %d", image, order.version)
            return image
        model = f"{self._workspace.id}/models/{order.pipeline}/versions/{order.version}"
        if self._arm.find(model, MODEL_VERSION) is None:
            raise NotFoundError(
                f"Workspace {self._workspace.workspace!r} has no version {order.version} of {order.pipeline}.",
                left="nothing was built",
                next=f"Run `edgeloop reconcile {order.pipeline} --mend`, then clear the build task.",
            )
        self._bytes.keep(order.card_blob, order.card, sha256_hex(order.card))
        self._ensure_base(order.base)
        self._say("Azure ML packages version %d on %s (experimental)", order.version, order.base)
        self._build(order, f"{model}/package")
        image = self._image(order)
        if not image:
            raise CloudError(
                f"Azure ML says that it packaged version {order.version} of {order.pipeline}, and environment "
                f"{order.environment}:{order.number} names no image.",
                left="the environment as it is; nothing was proven or recorded",
                next="Look at it in the studio under Environments, then clear the build task.",
            )
        return image

    def _build(self, order: Order, path: str) -> None:
        request = body(order, self._workspace, self._bytes.place.datastore)
        try:
            result = self._arm.post(path, PACKAGE_VERSION, request)
        except ConflictError:
            # Another try of the same order began it, and may be at it still.
            if not self._appears(order):
                raise
            return
        if result.get("buildState") == FAILED:
            raise CloudError(
                f"Azure ML could not package version {order.version} of {order.pipeline} on {order.base}.",
                left="the model and its version; nothing was pushed under a name that is used",
                next=f"Read the build's log in the studio (Environments > {order.environment} > {order.number}), or "
                "write image.builder: engine.",
            )

    def _appears(self, order: Order) -> bool:
        """Whether an environment that somebody else has begun comes to name its image, in the time of a build."""
        until = time.monotonic() + self._arm.endpoint.operation_seconds
        while not self._image(order):
            if (
                time.monotonic() > until
                or self._arm.find(environment_path(order, self._workspace), API_VERSION) is None
            ):
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _ensure_base(self, base: str) -> None:
        path = job_body.environment_path(self._workspace.id, base)
        if self._arm.find(path, API_VERSION) is None:
            properties = {"image": base, "osType": "Linux", "description": "The scorer's base of Edgeloop."}
            self._arm.put(path, API_VERSION, {"properties": properties})

    def _image(self, order: Order) -> str:
        found = self._arm.find(environment_path(order, self._workspace), API_VERSION)
        return str(((found or {}).get("properties") or {}).get("image") or "")


def by_digest(image: str, host: str, find: Callable[[str, str], Manifest | None]) -> str:
    """The package by digest, read back from the registry: ``<host>/<repository>@sha256:...``.

    ``find`` is :meth:`edgeloop.containers.registry.Registry.find` of the pipeline's registry, at ``host``.

    Raises:
        ConfigurationError: Azure ML pushed to another registry than the one devices pull from.
        NotFoundError: It is not there.
    """
    theirs, _, rest = image.partition("/")
    if theirs.casefold() != host.casefold():
        raise ConfigurationError(
            f"Azure ML pushed the package to {theirs}, and the pipeline's devices pull from {host}.",
            left="the package where it is; nothing was recorded",
            next="Let image.registry name a connection to the workspace's own registry (`az ml workspace show --query "
            "container_registry`), then clear the build task.",
        )
    repository, _, tag = rest.partition(":")
    found = find(repository, tag or "latest")
    if found is None:
        raise NotFoundError(
            f"Azure ML says that the package is {image}, and the registry does not have it.",
            left="nothing was recorded",
            next="Delete the environment of that name and version in the studio, then clear the build task.",
        )
    return f"{host}/{repository}@{found.digest}"
