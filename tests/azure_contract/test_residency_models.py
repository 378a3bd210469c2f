"""What a workspace that mirrors the models of an on_premises pipeline is told of them, and what stays at home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.azure_contract.bench import MODEL_FIGURES, mirror_models, register_model, shown_model

from edgeloop.azure_ml.models_told import told
from edgeloop.records import sha256_hex
from edgeloop.registry.backend import Listed
from edgeloop.registry.blob_backend import BlobRegistry
from edgeloop_airflow import cli

if TYPE_CHECKING:
    import pytest
    from tests.edgeloop_airflow.conftest import Floor

    from edgeloop_airflow.hooks import Desk


def test_an_on_premises_model_goes_with_figures_and_digests_only(azure: Any, mirrored: Desk) -> None:
    """No reason that a person typed and no time of a row; the same of a cloud pipeline says all."""
    register_model(mirrored, 1)
    mirror_models()
    properties = shown_model(azure, 1)["properties"]
    assert {name: text for name, text in properties.items() if name not in {"edgeloop.model", "edgeloop.sha256"}} == {
        "edgeloop.accuracy": "0.93", "edgeloop.dataset": "d" * 64, "edgeloop.size": "7",
        "edgeloop.window_end": "2014-04-01",
    }  # fmt: skip
    (version,) = BlobRegistry(mirrored.store, mirrored.blobs, "tiny_power").versions()
    spec = mirrored.snapshot.spec
    assert told(spec.model_copy(update={"residency": "cloud"}), version).properties == MODEL_FIGURES
    hostile = {"image": "Bob lives here", "note": "R1 at 5.5", "b@d": "1", "registry": "acr.example", "n": "-1.5"}
    tags = told(spec, Listed(version=1, model="m", sha256="s", size=1, tags=hostile)).tags
    assert tags == {"registry": "acr.example", "n": "-1.5"}


def test_a_model_whose_metrics_hold_rows_stays_at_home(
    azure: Any, mirrored: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was registered before that was looked at and cannot change: nobody is told, and the others are mirrored."""
    register_model(mirrored, 1, **{f"row_{n}": str(n) for n in range(200)})
    register_model(mirrored, 2)
    assert mirror_models() == 1
    assert {one["path"].rsplit("/", 1)[-1] for one in azure.log("PUT", "/versions/")} == {"2"}
    assert not [one for one in azure.log("PUT") if sha256_hex(b"model 1") in one["path"]]
    capsys.readouterr()
    assert cli.main(["reconcile", "tiny_power"]) == 0
    assert "version 1 stays at home: The metrics of pipeline tiny_power" in capsys.readouterr().out


def test_what_was_made_at_home_is_not_told_when_the_pipeline_moved_to_the_cloud(
    azure: Any, mirrored: Desk, floor: Floor
) -> None:
    """The stricter residency of the model's own configuration and of today's holds."""
    snapshot = mirrored.snapshot
    mirrored.blobs.put_new(f"configs/{snapshot.digest}.json", snapshot.to_json())
    register_model(mirrored, 1, config=snapshot.digest)
    floor.edit("pipeline.yaml", "residency: on_premises", "residency: cloud")
    mirror_models()
    assert "edgeloop.reason" not in shown_model(azure, 1)["properties"]
