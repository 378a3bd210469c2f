"""The section of a pipeline.yaml about the image: who builds it, on what base, and where it is pushed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgeloop.pipeline_parts import ConnectionId, Part, wrong


def in_registry(image: str) -> bool:
    """Whether an image's name begins with the host of a registry."""
    host, slash, _ = image.partition("/")
    return bool(slash) and ("." in host or ":" in host)


class AcrTask(Part):
    """The registry of Azure whose tasks build, prove and push."""

    connection: ConnectionId = "azure_default"
    """The Azure provider's connection (type ``azure``)."""
    subscription: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
    resource_group: Annotated[str, Field(min_length=1, max_length=90)]
    registry: Annotated[str, Field(pattern=r"^[a-zA-Z0-9]{5,50}$")]
    """The registry's name, the first word of its login server."""
    agent_pool: str = ""
    """A pool of the registry's own, where its tasks must reach a private network; "" is Azure's own machines."""


class Image(Part):
    """How a model becomes an image."""

    builder: Literal["engine", "acr_task", "azure_ml_package"] = "engine"
    """Who builds: this worker and a Docker engine that proves, a task of the Azure registry, or Azure ML."""
    registry: ConnectionId = "edgeloop_registry"
    engine: ConnectionId = "edgeloop_builder"
    acr: AcrTask | None = None
    repository: Annotated[str, Field(pattern=r"^[a-z0-9]+(?:[._/-][a-z0-9]+)*$")]
    base: str = "edgeloop/scorer-base"
    source: str = ""
    """Where the pipeline's files are kept, for the image's annotations: the address of its repository."""
    audit: bool = True
    """Whether a vulnerability database is asked about the Python distributions inside; needs a way to the internet."""
    golden_rows: Annotated[int, Field(ge=1, le=10_000)] = 64

    @model_validator(mode="after")
    def _a_task_has_a_registry(self) -> Self:
        if self.builder == "acr_task" and self.acr is None:
            raise wrong(
                "is 'acr_task' without a section image.acr: write subscription, resource_group and registry there",
                "builder",
            )
        if self.builder == "acr_task" and not in_registry(self.base):
            raise wrong(
                f"is {self.base!r}, and a task takes its base from the registry: name it whole, "
                "<login server>/edgeloop/scorer-base:<tag>",
                "base",
            )
        return self
