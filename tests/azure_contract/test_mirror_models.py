"""The task and the command that keep a workspace's models as the store has them; the store is never written by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from tests.azure_contract.bench import REGISTRY_SECTION, mirror_models, register_model, shown_model
from tests.azure_contract.conftest import WORKSPACE_ID

from edgeloop import registry
from edgeloop.containers.content import OCI_CONFIG, OCI_MANIFEST, Content, ImageContent
from edgeloop.errors import ConflictError, IntegrityError, UnreachableError
from edgeloop.records import ModelImage, canonical_json, sha256_hex
from edgeloop.registry.backend import CHAMPION
from edgeloop_airflow import cli
from edgeloop_airflow.azure_ml_registry import PublishModelOperator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.edgeloop_airflow.conftest import Floor

    from edgeloop_airflow.hooks import Desk


def names(mirrored: Desk) -> list[tuple[str, int]]:
    """Everything in the pipeline's container."""
    return [(one.name, one.size) for one in mirrored.blobs.list()]


def test_what_is_registered_and_promoted_is_shown(azure: Any, mirrored: Desk) -> None:
    """Numbers, figures, aliases and the image's digest follow the store; what is so already sends nothing."""
    one, two = register_model(mirrored, 1), register_model(mirrored, 2)
    assert mirror_models() == 2
    registry.promote(mirrored.store, one, by="t", why="first", evidence="", expected_champion="")
    registry.quarantine(mirrored.store, two, by="gate", why="wrong answers")
    registry.tag(mirrored.store, one, {"image": "sha256:" + "e" * 64, "registry": "reg.example:5000/a"}, by="push")
    assert mirror_models() == 2
    champion, bad = shown_model(azure, 1), shown_model(azure, 2)
    assert champion["tags"] == {
        "edgeloop.alias": "champion", "edgeloop.image": "sha256:" + "e" * 64, "edgeloop.registry": "reg.example:5000/a",
    }  # fmt: skip
    assert (bad["tags"], bad["isArchived"]) == ({"edgeloop.alias": "quarantined"}, True)
    before = len(azure.log("PUT"))
    assert mirror_models() == 2
    assert len(azure.log("PUT")) == before


def test_an_azure_that_is_away_loses_nothing(azure: Any, mirrored: Desk) -> None:
    """The task fails by name, the store has what it had; the next run, of any stage, tells what is missing."""
    register_model(mirrored, 1)
    azure.faults({"match": "management.azure.com", "status": 503, "times": 99})
    before = names(mirrored)
    with pytest.raises(UnreachableError, match="azure_default"):
        mirror_models()
    azure.faults()
    assert names(mirrored) == before
    register_model(mirrored, 2)
    assert mirror_models() == 2
    assert [shown_model(azure, number)["properties"]["edgeloop.size"] for number in (1, 2)] == ["7", "7"]


def test_a_pipeline_without_the_backend_is_told_to_nobody(azure: Any, floor: Floor) -> None:
    """Skipped with the reason, and no request."""
    with pytest.raises(AirflowSkipException, match=r"registry\.backend: blob"):
        mirror_models()
    assert azure.log() == []


def test_a_number_that_somebody_took_turns_the_task_red_with_what_to_type(azure: Any, mirrored: Desk) -> None:
    """Two pipelines of one name in one workspace, say; the store is right, and its other versions are there."""
    register_model(mirrored, 1)
    register_model(mirrored, 2)
    path = f"{WORKSPACE_ID}/models/tiny_power/versions/1"
    hand = {"modelUri": "azureml://jobs/x", "tags": {}, "properties": {}, "isArchived": False}
    azure.seed(arm={path: {"id": path, "name": "1", "properties": hand}})
    with pytest.raises(ConflictError, match="registered by somebody else") as red:
        mirror_models()
    assert "edgeloop reconcile tiny_power" in str(red.value)
    assert shown_model(azure, 2)["properties"]["edgeloop.size"] == "7"


def test_reconcile_reports_and_mends_the_mirror_and_never_the_store(
    azure: Any, mirrored: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 with a line for each difference, 0 once it is mended; what is in the store is as before."""
    model = register_model(mirrored, 1)
    registry.promote(mirrored.store, model, by="t", why="first", evidence="", expected_champion="")
    before = names(mirrored)
    assert cli.main(["reconcile", "tiny_power"]) == 1
    out = capsys.readouterr().out
    assert "version 1: model " in out
    assert "is missing in azure_ml" in out
    assert "Next: edgeloop reconcile tiny_power --mend" in out
    assert azure.log("PUT", "/models/") == []
    assert cli.main(["reconcile", "tiny_power", "--mend"]) == 0
    assert "1 versions in workspace edge-ws: 1 differences, 0 after mending" in capsys.readouterr().out
    assert shown_model(azure, 1)["tags"]["edgeloop.alias"] == CHAMPION
    assert cli.main(["reconcile", "tiny_power"]) == 0
    assert names(mirrored) == before


def pushed(mirrored: Desk, model: str, repository: str, digest: str) -> None:
    """The record of an image that was pushed, with the tag that says so."""
    reference = f"reg.example/{repository}@{digest}"
    mirrored.store.put(ModelImage(pipeline="tiny_power", model=model, base="b", reference=reference, digest=digest))
    registry.tag(mirrored.store, model, {"image": digest}, by="push")


def test_reconcile_finds_images_that_left_the_container_registry(
    azure: Any, mirrored: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked of the real registry by digest; --mend pushes nothing, so it stays a difference."""
    from edgeloop.containers.registry import Registry
    from edgeloop_airflow import hooks

    config = Content.of(b"{}", OCI_CONFIG)
    body = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "config": {
        "mediaType": OCI_CONFIG, "digest": config.descriptor.digest, "size": 2,
    }}  # fmt: skip
    image = ImageContent(manifest=Content.of(canonical_json(body), OCI_MANIFEST), blobs=(config,))
    there = Registry(hooks.registry_endpoint("edgeloop_registry")).push("reconcile/a", "1", image)
    pushed(mirrored, register_model(mirrored, 1), "reconcile/a", there.digest)
    pushed(mirrored, register_model(mirrored, 2), "reconcile/a", "sha256:" + "0" * 64)
    mirror_models()
    assert cli.main(["reconcile", "tiny_power", "--mend"]) == 1
    out = capsys.readouterr().out
    assert "2 images in registry edgeloop_registry: 1 differences" in out
    assert "version 2: image sha256:000000000000 of reconcile/a is missing" in out
    assert "--mend" not in out


def test_reconcile_takes_an_image_that_is_not_its_digests_for_lost(
    mirrored: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that answers other bytes for a digest has not what was deployed; the other images are looked at."""
    from edgeloop.containers.registry import Registry

    def damaged(*_: object) -> None:
        raise IntegrityError("other bytes")

    monkeypatch.setattr(Registry, "find", damaged)
    for number in (1, 2):
        pushed(mirrored, register_model(mirrored, number), "reconcile/a", "sha256:" + f"{number}" * 64)
    mirror_models()
    assert cli.main(["reconcile", "tiny_power"]) == 1
    assert "2 images in registry edgeloop_registry: 2 differences" in capsys.readouterr().out


def test_reconcile_tells_what_one_side_shows_while_the_other_is_away(
    azure: Any, mirrored: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """2, the error of the silent side, and the images all the same."""
    register_model(mirrored, 1)
    azure.faults({"match": "management.azure.com", "status": 503, "times": 99})
    assert cli.main(["reconcile", "tiny_power"]) == 2
    said = capsys.readouterr()
    assert "azure_default" in said.err
    assert "0 images in registry edgeloop_registry: 0 differences" in said.out


def test_reconcile_of_a_pipeline_without_a_mirror_asks_the_registry_only(
    azure: Any, mirrored: Desk, floor: Floor, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that there is none."""
    floor.edit("pipeline.yaml", REGISTRY_SECTION, "")
    assert cli.main(["reconcile", "tiny_power"]) == 0
    assert "tiny_power has no mirror (registry.backend: blob)" in capsys.readouterr().out
    assert azure.log() == []


def test_a_file_of_ones_own_is_published_without_a_pipeline(azure: Any, tmp_path: Path) -> None:
    """Plain arguments, no store; the same file again is found, and another one under its number is refused."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"one")
    here = {"resource_group": "edge-rg", "workspace": "edge-ws"}
    task = PublishModelOperator(
        task_id="publish",
        name="sales",
        version="7",
        path=str(path),
        tags={"stage": "trial"},
        aliases=[CHAMPION],
        **here,
    )
    assert task.execute({}) == task.execute({}) == "azureml:sales:7"
    told = azure.resource("models/sales/versions/7")["properties"]
    assert told["tags"] == {"edgeloop.stage": "trial", "edgeloop.alias": "champion"}
    assert told["properties"]["edgeloop.sha256"] == sha256_hex(b"one")
    path.write_bytes(b"two")
    with pytest.raises(ConflictError, match="never changed in place"):
        task.execute({})
