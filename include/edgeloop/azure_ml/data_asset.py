"""A dataset as data asset of a workspace: a pointer at the blobs that were trained on, never a second copy of them.

A dataset's files lie beside other batches' below ``data/``, so a folder (uri_folder) would name more than was trained
on. The asset is an MLTable instead: one small file in the pipeline's own container that lists exactly those blobs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from edgeloop.azure_ml.workspace import DATA_VERSION
from edgeloop.errors import ConflictError
from edgeloop.records import sha256_hex
from edgeloop.residency import private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint
    from edgeloop.pipeline import Pipeline
    from edgeloop.records import Dataset
    from edgeloop.store import Objects

VERSION_DIGITS = 16
DAY = 10
FOLDER = "azure_ml"
FILE = "MLTable"
"""The name that the service looks for in the folder that the asset points at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataAsset:
    """One version of a data asset; ``referenced`` are the blobs behind it where the workspace may know their names."""

    name: str
    version: str
    uri: str
    kind: str = "mltable"
    referenced: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    description: str = ""

    @property
    def reference(self) -> str:
        """How jobs and people name it."""
        return f"azureml:{self.name}:{self.version}"


def asset_of(dataset: Dataset, spec: Pipeline, container_url: str) -> DataAsset:
    """What the workspace is told of a dataset: digests, counts, days and where it lies.

    Of an ``on_premises`` pipeline no file's name is told; the list of them stays in the private account. A SAS in
    ``container_url`` is left out.
    """
    base = plain_url(container_url)
    tags = {
        "edgeloop_pipeline": dataset.pipeline,
        "edgeloop_dataset": dataset.id,
        "edgeloop_config": dataset.config,
        # A time of day is the event time of a row.
        "edgeloop_window": f"{dataset.window_start[:DAY]}/{dataset.window_end[:DAY]}",
        "edgeloop_holdout_from": dataset.holdout_start[:DAY],
        "edgeloop_files": str(len(dataset.files)),
        "edgeloop_bytes": str(sum(one.size for one in dataset.files)),
        "edgeloop_batches": str(len(dataset.certificates)),
        "edgeloop_residency": spec.residency,
    }
    return DataAsset(
        name=dataset.pipeline,
        version=dataset.id[:VERSION_DIGITS],
        uri=f"{base}/{FOLDER}/{dataset.id}/",
        referenced=() if private(spec) else _urls(dataset, base),
        tags=tuple(sorted((name, value) for name, value in tags.items() if value)),
        description=f"Certified batches of {dataset.pipeline} in one window of event time",
    )


def table(dataset: Dataset, container_url: str) -> bytes:
    """The MLTable file: every blob of the dataset, read as Parquet. The same dataset gives the same bytes."""
    import yaml

    listed = {
        "type": "mltable",
        "paths": [{"file": one} for one in _urls(dataset, plain_url(container_url))],
        "transformations": [{"read_parquet": {"include_path_column": False}}],
    }
    text: str = yaml.safe_dump(listed, sort_keys=False)
    return text.encode()


def keep_table(dataset: Dataset, container_url: str, objects: Objects) -> None:
    """Put the MLTable file beside the data, once."""
    try:
        objects.put_new(f"{FOLDER}/{dataset.id}/{FILE}", table(dataset, container_url))
    except ConflictError:
        return  # it is named by the dataset's digest: the one that is there says the same


def plain_url(url: str) -> str:
    """An address without the SAS that may open it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def _urls(dataset: Dataset, base: str) -> tuple[str, ...]:
    return tuple(f"{base}/{quote(one.path)}" for one in dataset.files)


def body(asset: DataAsset) -> dict[str, Any]:
    """The resource that is PUT."""
    properties: dict[str, Any] = {
        "dataType": asset.kind,
        "dataUri": asset.uri,
        "description": asset.description,
        "tags": dict(asset.tags),
        "isAnonymous": False,
    }
    if asset.kind == "mltable" and asset.referenced:
        properties["referencedUris"] = list(asset.referenced)
    return {"properties": properties}


def register(arm: ArmClient, workspace: WorkspaceEndpoint, asset: DataAsset, say: Callable[..., None]) -> DataAsset:
    """Make the workspace know the asset; returns the version that is there.

    A version never points elsewhere than it did. Where the same dataset lies in another account by now, a version
    beside it, named by the new address as well, points there.
    """
    for one in _versions(asset):
        where = f"{workspace.id}/data/{one.name}/versions/{one.version}"
        found = arm.find(where, DATA_VERSION)
        properties = (found or {}).get("properties") or {}
        if found is not None and properties.get("dataUri") != one.uri:
            there = plain_url(str(properties.get("dataUri")))
            say("%s points at %s, and the data is at %s now", one.reference, there, plain_url(one.uri))
            continue
        if found is not None and properties.get("tags") == dict(one.tags):
            say("Data asset %s is there already", one.reference)
        else:
            arm.put(where, DATA_VERSION, body(one))
            say("Data asset %s points at %s", one.reference, plain_url(one.uri))
        return one
    raise ConflictError(
        f"Data asset {asset.reference} and its version for {plain_url(asset.uri)} both point elsewhere.",
        left="both versions as they are",
        next="Archive the one that somebody made by hand (`az ml data archive`), then clear the task.",
    )


def _versions(asset: DataAsset) -> Iterable[DataAsset]:
    yield asset
    yield replace(asset, version=f"{asset.version}-{sha256_hex(asset.uri.encode())[:8]}")
