"""The dataset as data asset: one copy of the data, a version of its digest, and nothing told that may not leave."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.azure_contract.sdk import ml_client

from edgeloop.azure_ml import data_asset
from edgeloop.errors import ConflictError
from edgeloop.pipeline import Pipeline
from edgeloop.records import Dataset, FileRef

if TYPE_CHECKING:
    from edgeloop.azure_ml.data_asset import DataAsset
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

TINY = Path(__file__).parents[1] / "data" / "pipelines" / "tiny_power" / "pipeline.yaml"
URL = "https://acct.blob.local.azurestack.external/tiny-power"
DATASET = Dataset(
    pipeline="tiny_power",
    files=(
        FileRef(path="data/b1/R1_2026-01.parquet", size=10, sha256="1" * 64),
        FileRef(path="data/b2/R1 2026-02.parquet", size=20, sha256="2" * 64),
    ),
    certificates=("c1", "c2"),
    window_start="2026-01-01T00:10:03Z",
    window_end="2026-02-28T23:50:01Z",
    holdout_start="2026-02-14T23:50:01Z",
    config="f" * 64,
)


@dataclass(slots=True)
class Blobs:
    """Names that are written once."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def put_new(self, name: str, data: bytes, *, metadata: dict[str, str] | None = None) -> None:
        """Write only if absent."""
        if name in self.kept:
            raise ConflictError(name)
        self.kept[name] = data


def pipeline(residency: str) -> Pipeline:
    """The small pipeline, at home or in the cloud."""
    told = yaml.safe_load(TINY.read_text()) | {"residency": residency}
    return Pipeline.model_validate(told)


@pytest.fixture
def asset() -> DataAsset:
    """The dataset of a pipeline that may tell names."""
    return data_asset.asset_of(DATASET, pipeline("cloud"), URL)


def register(workspace: WorkspaceEndpoint, asset: DataAsset, said: list[str] | None = None) -> DataAsset:
    """Make the workspace know it."""

    def say(text: str, *values: object) -> None:
        if said is not None:
            said.append(text % values)

    with workspace.connect() as arm:
        return data_asset.register(arm, workspace, asset, say)


def test_the_dataset_is_a_version_named_by_its_digest(azure: Any, workspace: WorkspaceEndpoint, asset: Any) -> None:
    """The asset points at the pipeline's own container, with window and digests as tags; nothing is copied."""
    kept = register(workspace, asset)
    assert kept.reference == f"azureml:tiny_power:{DATASET.id[:16]}"
    put = azure.log("PUT", "/data/")[0]
    assert (put["api_version"], put["exact"]) == ("2024-10-01", True)
    assert put["request_body"]["properties"] == {
        "dataType": "mltable",
        "dataUri": f"{URL}/azure_ml/{DATASET.id}/",
        "description": "Certified batches of tiny_power in one window of event time",
        "isAnonymous": False,
        "referencedUris": [f"{URL}/data/b1/R1_2026-01.parquet", f"{URL}/data/b2/R1%202026-02.parquet"],
        "tags": {
            "edgeloop_pipeline": "tiny_power",
            "edgeloop_dataset": DATASET.id,
            "edgeloop_config": "f" * 64,
            "edgeloop_window": "2026-01-01/2026-02-28",
            "edgeloop_holdout_from": "2026-02-14",
            "edgeloop_files": "2",
            "edgeloop_bytes": "30",
            "edgeloop_batches": "2",
            "edgeloop_residency": "cloud",
        },
    }
    assert not [one for one in azure.log() if ".blob." in one["host"]]


def test_the_same_dataset_again_sends_nothing(azure: Any, workspace: WorkspaceEndpoint, asset: Any) -> None:
    """What is already so costs one GET."""
    assert register(workspace, asset) == register(workspace, asset)
    assert len(azure.log("PUT", "/data/")) == 1


def test_microsofts_sdk_reads_the_version(azure: Any, workspace: WorkspaceEndpoint, asset: Any) -> None:
    """azure-ai-ml finds type, address and tags."""
    register(workspace, asset)
    found = ml_client(workspace).data.get("tiny_power", version=DATASET.id[:16])
    assert (found.type, found.path, found.tags["edgeloop_dataset"]) == ("mltable", asset.uri, DATASET.id)


def test_data_that_moved_to_another_account_gets_a_version_beside_the_first(
    azure: Any, workspace: WorkspaceEndpoint, asset: Any
) -> None:
    """A version never points elsewhere than it did; the service would refuse it."""
    first = register(workspace, asset)
    moved = data_asset.asset_of(DATASET, pipeline("cloud"), URL.replace("acct", "other"))
    said: list[str] = []
    second = register(workspace, moved, said)
    assert second.version.startswith(f"{first.version}-")
    assert "points at" in said[0]
    assert register(workspace, moved) == second
    assert register(workspace, asset) == first


def test_a_version_that_somebody_pointed_elsewhere_is_never_overwritten(
    azure: Any, workspace: WorkspaceEndpoint, asset: Any
) -> None:
    """Both names taken by hand is told, and nothing is sent."""
    for one in data_asset._versions(asset):
        register(workspace, replace(one, uri="https://elsewhere.example/x/"))
    before = len(azure.log("PUT"))
    with pytest.raises(ConflictError, match="both point elsewhere"):
        register(workspace, asset)
    assert len(azure.log("PUT")) == before


def test_changed_tags_are_written_to_the_version_that_is_there(
    azure: Any, workspace: WorkspaceEndpoint, asset: Any
) -> None:
    """Tags may change, the address may not."""
    register(workspace, replace(asset, tags=()))
    register(workspace, asset)
    assert azure.resource(f"data/tiny_power/versions/{asset.version}")["properties"]["tags"] == dict(asset.tags)


def test_an_on_premises_dataset_tells_no_names_of_files_and_no_times_of_rows() -> None:
    """Digests, counts, days and the account's address: nothing that stands in a row or in a file's name."""
    private = data_asset.asset_of(DATASET, pipeline("on_premises"), f"{URL}?sig=secret")
    told = str(data_asset.body(private))
    assert private.referenced == ()
    assert all(word not in told for word in ("parquet", "R1", "00:10", "23:50", "sig=", "data/b1"))
    assert private.uri == f"{URL}/azure_ml/{DATASET.id}/"


def test_the_table_names_every_blob_once_and_is_written_once() -> None:
    """The file beside the data lists exactly what was trained on, without a SAS."""
    blobs = Blobs()
    for _ in range(2):
        data_asset.keep_table(DATASET, f"{URL}?sig=secret", blobs)  # type: ignore[arg-type]
    (name,) = blobs.kept
    assert name == f"azure_ml/{DATASET.id}/MLTable"
    assert yaml.safe_load(blobs.kept[name]) == {
        "type": "mltable",
        "paths": [{"file": f"{URL}/data/b1/R1_2026-01.parquet"}, {"file": f"{URL}/data/b2/R1%202026-02.parquet"}],
        "transformations": [{"read_parquet": {"include_path_column": False}}],
    }


def test_a_sas_in_an_address_of_ones_own_is_in_no_line(azure: Any, workspace: WorkspaceEndpoint, asset: Any) -> None:
    """Azure gets the address as it is given; the task's log and the error hold what stands before the question mark."""
    said: list[str] = []
    wanted = replace(asset, uri=f"{URL}/mine.csv?sig=secret", kind="uri_file")
    for one in data_asset._versions(wanted):
        register(workspace, replace(one, uri=f"{URL}/other.csv?sig=secret"), said)
    with pytest.raises(ConflictError, match=r"mine\.csv both point elsewhere") as caught:
        register(workspace, wanted, said)
    assert "other.csv" in str(said)
    assert "sig=" not in f"{said} {caught.value}"
