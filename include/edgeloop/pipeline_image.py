"""The section of a pipeline.yaml about the image: who builds it, on what base, and where it is pushed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeloop.pipeline_parts import ConnectionId, Part


def in_registry(image: str) -> bool:
    """Whether an image's name begins with the host of a registry."""
    host, slash, _ = image.partition("/")
    return bool(slash) and ("." in host or ":" in host)


class Image(Part):
    """How a model becomes an image."""

    builder: Literal["engine", "acr_task", "azure_ml_package"] = "engine"
    """Who builds: this worker and a Docker engine that proves, a task of the Azure registry, or Azure ML."""
    registry: ConnectionId = "edgeloop_registry"
    engine: ConnectionId = "edgeloop_builder"
    repository: Annotated[str, Field(pattern=r"^[a-z0-9]+(?:[._/-][a-z0-9]+)*$")]
    base: str = "edgeloop/scorer-base"
    source: str = ""
    """Where the pipeline's files are kept, for the image's annotations: the address of its repository."""
    audit: bool = True
    """Whether a vulnerability database is asked about the Python distributions inside; needs a way to the internet."""
    golden_rows: Annotated[int, Field(ge=1, le=10_000)] = 64
