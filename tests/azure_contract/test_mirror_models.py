"""The task and the command that keep a workspace's models as the store has them; the store is never written by them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from tests.azure_contract.bench import SECTION
from tests.azure_contract.conftest import WORKSPACE_ID

from edgeloop import registry
from edgeloop.azure_ml.models_told import told
from edgeloop.containers.content import OCI_CONFIG, OCI_MANIFEST, Content, ImageContent
from edgeloop.errors import ConflictError, UnreachableError
from edgeloop.records import ModelImage, ModelVersion, canonical_json, sha256_hex
from edgeloop.registry.backend import CHAMPION, Listed
from edgeloop.registry.blob_backend import BlobRegistry
from edgeloop_airflow import cli
from edgeloop_airflow.azure_ml_registry import MirrorModelsOperator

if TYPE_CHECKING:
    from tests.edgeloop_airflow.conftest import Floor

    from edgeloop_airflow.hooks import Desk
    from lab.site import Site

REGISTRY = "registry: {backend: azure_ml}\n"
FIGURES = {"accuracy": "0.93", "dataset": "d" * 64, "window_end": "2014-04-01T00:10:03Z", "reason": "Bob's rows"}


@pytest.fixture
def desk(azure: Any, floor: Floor, site: Site, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The tiny pipeline, which is on_premises, with a workspace that mirrors its models and a container registry."""
    path = floor.home / "pipeline.yaml"
    path.write_text(path.read_text() + SECTION + REGISTRY)
    told = {"conn_type": "edgeloop_registry", "host": site.registry.host, "extra": {"insecure": True}}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_REGISTRY", json.dumps(told))
    return floor.desk()


def register(desk: Desk, number: int, **properties: str) -> str:
    """A version in the store; returns its model's id."""
    content = b"model %d" % number
    sha256 = sha256_hex(content)
    blank = ModelVersion(pipeline="tiny_power", sha256=sha256, size=0, blob="", version=0, training_run="", metrics="")
    wanted = Listed(
        version=number, model=blank.id, sha256=sha256, size=len(content), properties={**FIGURES, **properties}
    )
    return BlobRegistry(desk.store, desk.blobs, "tiny_power").publish(wanted, content).model


def mirror() -> int:
    """The task at the end of a stage."""
    return MirrorModelsOperator(task_id="mirror_models", pipeline="tiny_power").execute({})


def shown(azure: Any, number: int) -> dict[str, Any]:
    """A version as the workspace has it."""
    found: dict[str, Any] = azure.resource(f"models/tiny_power/versions/{number}")["properties"]
    return found


def names(desk: Desk) -> list[tuple[str, int]]:
    """Everything in the pipeline's container."""
    return [(one.name, one.size) for one in desk.blobs.list()]


def test_what_is_registered_and_promoted_is_shown(azure: Any, desk: Desk) -> None:
    """Numbers, figures, aliases and the image's digest follow the store; what is so already sends nothing."""
    one, two = register(desk, 1), register(desk, 2)
    assert mirror() == 2
    registry.promote(desk.store, one, by="t", why="first", evidence="", expected_champion="")
    registry.quarantine(desk.store, two, by="gate", why="wrong answers")
    registry.tag(desk.store, one, {"image": "sha256:" + "e" * 64, "registry": "reg.example:5000/a"}, by="push")
    assert mirror() == 2
    champion, bad = shown(azure, 1), shown(azure, 2)
    assert champion["tags"] == {
        "edgeloop.alias": "champion", "edgeloop.image": "sha256:" + "e" * 64, "edgeloop.registry": "reg.example:5000/a",
    }  # fmt: skip
    assert (bad["tags"], bad["isArchived"]) == ({"edgeloop.alias": "quarantined"}, True)
    before = len(azure.log("PUT"))
    assert mirror() == 2
    assert len(azure.log("PUT")) == before


def test_an_on_premises_model_goes_with_figures_and_digests_only(azure: Any, desk: Desk) -> None:
    """No reason that a person typed and no time of a row; the same of a cloud pipeline says all."""
    register(desk, 1)
    mirror()
    properties = shown(azure, 1)["properties"]
    assert {name: text for name, text in properties.items() if name not in {"edgeloop.model", "edgeloop.sha256"}} == {
        "edgeloop.accuracy": "0.93", "edgeloop.dataset": "d" * 64, "edgeloop.size": "7",
        "edgeloop.window_end": "2014-04-01",
    }  # fmt: skip
    (version,) = BlobRegistry(desk.store, desk.blobs, "tiny_power").versions()
    spec = desk.snapshot.spec
    assert told(spec.model_copy(update={"residency": "cloud"}), version).properties == FIGURES
    hostile = {"image": "Bob lives here", "note": "R1 at 5.5", "b@d": "1", "registry": "acr.example", "n": "-1.5"}
    tags = told(spec, Listed(version=1, model="m", sha256="s", size=1, tags=hostile)).tags
    assert tags == {"registry": "acr.example", "n": "-1.5"}


def test_a_model_whose_metrics_hold_rows_stays_at_home(
    azure: Any, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was registered before that was looked at and cannot change: nobody is told, and the others are mirrored."""
    register(desk, 1, **{f"row_{n}": str(n) for n in range(200)})
    register(desk, 2)
    assert mirror() == 1
    assert {one["path"].rsplit("/", 1)[-1] for one in azure.log("PUT", "/versions/")} == {"2"}
    assert not [one for one in azure.log("PUT") if sha256_hex(b"model 1") in one["path"]]
    capsys.readouterr()
    assert cli.main(["reconcile", "tiny_power"]) == 0
    assert "version 1 stays at home: The metrics of pipeline tiny_power" in capsys.readouterr().out


def test_what_was_made_at_home_is_not_told_when_the_pipeline_moved_to_the_cloud(
    azure: Any, desk: Desk, floor: Any
) -> None:
    """The stricter residency of the model's own configuration and of today's holds."""
    snapshot = desk.snapshot
    desk.blobs.put_new(f"configs/{snapshot.digest}.json", snapshot.to_json())
    register(desk, 1, config=snapshot.digest)
    floor.edit("pipeline.yaml", "residency: on_premises", "residency: cloud")
    mirror()
    assert "edgeloop.reason" not in shown(azure, 1)["properties"]


def test_an_azure_that_is_away_loses_nothing(azure: Any, desk: Desk) -> None:
    """The task fails by name, the store has what it had; the next run, of any stage, tells what is missing."""
    register(desk, 1)
    azure.faults({"match": "management.azure.com", "status": 503, "times": 99})
    before = names(desk)
    with pytest.raises(UnreachableError, match="azure_default"):
        mirror()
    azure.faults()
    assert names(desk) == before
    register(desk, 2)
    assert mirror() == 2
    assert [shown(azure, number)["properties"]["edgeloop.size"] for number in (1, 2)] == ["7", "7"]


def test_a_pipeline_without_the_backend_is_told_to_nobody(azure: Any, floor: Floor) -> None:
    """Skipped with the reason, and no request."""
    with pytest.raises(AirflowSkipException, match=r"registry\.backend: blob"):
        mirror()
    assert azure.log() == []


def test_a_number_that_somebody_took_turns_the_task_red_with_what_to_type(azure: Any, desk: Desk) -> None:
    """Two pipelines of one name in one workspace, say; the store is right, and its other versions are there."""
    register(desk, 1)
    register(desk, 2)
    path = f"{WORKSPACE_ID}/models/tiny_power/versions/1"
    hand = {"modelUri": "azureml://jobs/x", "tags": {}, "properties": {}, "isArchived": False}
    azure.seed(arm={path: {"id": path, "name": "1", "properties": hand}})
    with pytest.raises(ConflictError, match="registered by somebody else") as red:
        mirror()
    assert "edgeloop reconcile tiny_power" in str(red.value)
    assert shown(azure, 2)["properties"]["edgeloop.size"] == "7"


def test_reconcile_reports_and_mends_the_mirror_and_never_the_store(
    azure: Any, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 with a line for each difference, 0 once it is mended; what is in the store is as before."""
    model = register(desk, 1)
    registry.promote(desk.store, model, by="t", why="first", evidence="", expected_champion="")
    before = names(desk)
    assert cli.main(["reconcile", "tiny_power"]) == 1
    out = capsys.readouterr().out
    assert "version 1: model " in out
    assert "is missing in azure_ml" in out
    assert "Next: edgeloop reconcile tiny_power --mend" in out
    assert azure.log("PUT", "/models/") == []
    assert cli.main(["reconcile", "tiny_power", "--mend"]) == 0
    assert "1 versions in workspace edge-ws: 1 differences, 0 after mending" in capsys.readouterr().out
    assert shown(azure, 1)["tags"]["edgeloop.alias"] == CHAMPION
    assert cli.main(["reconcile", "tiny_power"]) == 0
    assert names(desk) == before


def pushed(desk: Desk, model: str, repository: str, digest: str) -> None:
    """The record of an image that was pushed, with the tag that says so."""
    reference = f"reg.example/{repository}@{digest}"
    desk.store.put(ModelImage(pipeline="tiny_power", model=model, base="b", reference=reference, digest=digest))
    registry.tag(desk.store, model, {"image": digest}, by="push")


def test_reconcile_finds_images_that_left_the_container_registry(
    azure: Any, desk: Desk, capsys: pytest.CaptureFixture[str]
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
    pushed(desk, register(desk, 1), "reconcile/a", there.digest)
    pushed(desk, register(desk, 2), "reconcile/a", "sha256:" + "0" * 64)
    mirror()
    assert cli.main(["reconcile", "tiny_power", "--mend"]) == 1
    out = capsys.readouterr().out
    assert "2 images in registry edgeloop_registry: 1 differences" in out
    assert "version 2: image sha256:000000000000 of reconcile/a is missing" in out
    assert "--mend" not in out


def test_reconcile_tells_what_one_side_shows_while_the_other_is_away(
    azure: Any, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """2, the error of the silent side, and the images all the same."""
    register(desk, 1)
    azure.faults({"match": "management.azure.com", "status": 503, "times": 99})
    assert cli.main(["reconcile", "tiny_power"]) == 2
    said = capsys.readouterr()
    assert "azure_default" in said.err
    assert "0 images in registry edgeloop_registry: 0 differences" in said.out


def test_reconcile_of_a_pipeline_without_a_mirror_asks_the_registry_only(
    azure: Any, desk: Desk, floor: Floor, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that there is none."""
    floor.edit("pipeline.yaml", REGISTRY, "")
    assert cli.main(["reconcile", "tiny_power"]) == 0
    assert "tiny_power has no mirror (registry.backend: blob)" in capsys.readouterr().out
    assert azure.log() == []
