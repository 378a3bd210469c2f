"""Build, proof and push on a real engine and a real registry."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.shipyard import ENDS_AT_START, FEATURES, ROWS, Shipyard, builder, linear, registry, version_of

from edgeloop.containers.endpoint import RegistryEndpoint
from edgeloop.containers.engine import Engine
from edgeloop.containers.registry import Registry
from edgeloop.errors import EngineError, IntegrityError, NotFoundError, ProofFailedError, UnreachableError
from edgeloop.packaging import build, golden, proof, push

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.packaging.build import Built

GOOD, OTHER = linear(1.0, 2.0), linear(9.0, 9.0)


@pytest.fixture
def engine(shipyard: Shipyard) -> Iterator[Engine]:
    """The builder's engine."""
    with Engine(builder(shipyard.site)) as one:
        yield one


@pytest.fixture
def built(shipyard: Shipyard, engine: Engine) -> Built:
    """A good image on the engine."""
    return build.ensure(engine, version_of(shipyard.pipeline, GOOD, 1), GOOD, shipyard.recipe())


def proofs(engine: Engine) -> list[str]:
    """Containers that proofs left behind."""
    return [one.name for one in engine.client.containers.list(all=True) if one.name.startswith("edgeloop-proof")]


def test_the_same_model_on_the_same_base_is_built_once(shipyard: Shipyard, engine: Engine, built: Built) -> None:
    """The second time it is found; made anew by force, or after it was lost, it is the same image to the last bit."""
    model = version_of(shipyard.pipeline, GOOD, 1)
    assert not built.found
    assert build.ensure(engine, model, GOOD, shipyard.recipe()) == replace(built, found=True)
    assert build.ensure(engine, model, GOOD, shipyard.recipe(), force=True).engine_id == built.engine_id
    engine.remove_image(str(built.name))
    assert build.ensure(engine, model, GOOD, shipyard.recipe()) == built


def test_a_changed_model_file_is_not_built(shipyard: Shipyard, engine: Engine) -> None:
    """The registered digest is the truth; the blob's bytes are checked before they become an image."""
    with pytest.raises(IntegrityError, match="hashes to"):
        build.ensure(engine, version_of(shipyard.pipeline, GOOD, 1), OTHER, shipyard.recipe())


def test_a_missing_base_is_named(shipyard: Shipyard, engine: Engine) -> None:
    """The error says which image is not on which engine."""
    recipe = replace(shipyard.recipe(), base="edgeloop/nowhere:1")
    with pytest.raises(NotFoundError, match=r"edgeloop_builder.*edgeloop/nowhere:1"):
        build.ensure(engine, version_of(shipyard.pipeline, GOOD, 1), GOOD, recipe)


def test_a_base_without_a_tag_is_the_newest_of_its_name(shipyard: Shipyard, engine: Engine, built: Built) -> None:
    """pipeline.yaml names the repository; whoever makes the base gives the tags."""
    recipe = replace(shipyard.recipe(), base=shipyard.recipe().base.partition(":")[0])
    found = build.ensure(engine, version_of(shipyard.pipeline, GOOD, 1), GOOD, recipe)
    assert found.image == built.image


def test_a_good_image_is_proven_and_nothing_is_left(shipyard: Shipyard, engine: Engine, built: Built) -> None:
    """Every golden answer is the model's; start-up time and memory come from the container; it is gone afterwards."""
    rows = golden.make(GOOD, version_of(shipyard.pipeline, GOOD, 1).sha256, FEATURES, 600)
    passed = proof.prove(engine, built.engine_id, shipyard.pipeline, rows)
    assert passed.rows == 600
    assert passed.start_seconds > 0
    assert 1_000_000 < passed.memory_bytes < 500_000_000
    assert json.loads(passed.to_json())["engine_id"] == built.engine_id
    assert proofs(engine) == []


def test_the_container_of_a_killed_proof_is_taken_away_by_the_next(
    shipyard: Shipyard, engine: Engine, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies cannot clean up after itself: the next try of the same image does, and is proven."""
    rows = golden.make(GOOD, version_of(shipyard.pipeline, GOOD, 1).sha256, FEATURES, 10)
    with monkeypatch.context() as killed:
        killed.setattr(Engine, "remove", lambda *_: None)
        proof.prove(engine, built.engine_id, shipyard.pipeline, rows)
    assert len(proofs(engine)) == 1
    assert proof.prove(engine, built.engine_id, shipyard.pipeline, rows).rows == 10
    assert proofs(engine) == []


def test_an_image_that_answers_wrongly_is_not_proven(shipyard: Shipyard, engine: Engine) -> None:
    """Healthy and wrong: the proof counts the answers that differ, and cleans up."""
    image = shipyard.ship_other(GOOD, OTHER, 1)
    rows = shipyard.answers[image.reference]
    with pytest.raises(ProofFailedError, match=f"gave {ROWS} of {ROWS} golden answers other than the model's"):
        proof.prove(engine, image.reference, shipyard.pipeline, rows)
    assert proofs(engine) == []


def test_an_image_that_ends_at_start_is_not_proven(shipyard: Shipyard, engine: Engine) -> None:
    """The error holds the container's last words."""
    image = shipyard.ship_other(GOOD, GOOD, 1, ENDS_AT_START)
    with pytest.raises(ProofFailedError, match=r"(?s)ended by itself.*no licence"):
        proof.prove(engine, image.reference, shipyard.pipeline, shipyard.answers[image.reference])
    assert proofs(engine) == []


def test_an_image_that_never_gets_ready_is_not_proven(shipyard: Shipyard, engine: Engine) -> None:
    """Running is not ready: after the time given the proof fails."""
    image = shipyard.ship_other(GOOD, GOOD, 1, ["python3", "-c", "import time; time.sleep(600)"])
    with pytest.raises(ProofFailedError, match="not ready"):
        proof.prove(engine, image.reference, shipyard.pipeline, shipyard.answers[image.reference], ready_seconds=0.5)
    assert proofs(engine) == []


def test_a_pushed_image_is_what_the_registry_holds(shipyard: Shipyard, engine: Engine, built: Built) -> None:
    """The digest is the sha256 of the manifest that an independent read gets; the second push finds it."""
    client = Registry(registry(shipyard.site))
    pushed = push.through_engine(engine, client, built.name, built.engine_id)
    assert not pushed.found
    repository = shipyard.recipe().repository
    request = urllib.request.Request(
        f"http://{shipyard.site.registry.host}/v2/{repository}/manifests/{built.name.tag}",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert pushed.digest == "sha256:" + hashlib.sha256(answer.read()).hexdigest()
    assert push.through_engine(engine, client, built.name, built.engine_id) == replace(pushed, found=True)
    manifest = client.get(repository, pushed.digest)
    assert manifest.layers[-1].size < 2_000
    assert client.config(repository, manifest)["config"]["Labels"]["edgeloop.image"] == built.image.id
    assert client.exists(repository, pushed.digest)
    assert not client.exists(repository, "sha256:" + "0" * 64)


def test_a_push_that_is_refused_raises(shipyard: Shipyard, engine: Engine, built: Built) -> None:
    """A failed push ends with status 200 and an error in its stream; it must not pass for a push."""
    nowhere = RegistryEndpoint(connection="edgeloop_nowhere", host="127.0.0.1:9", insecure=True)
    engine.tag(built.engine_id, "127.0.0.1:9/tests", "x")
    with pytest.raises(EngineError, match="edgeloop_nowhere"):
        engine.push("127.0.0.1:9/tests", "x", nowhere)
    with pytest.raises(UnreachableError, match="edgeloop_nowhere"):
        Registry(nowhere).find("tests", "x")


def test_an_engine_that_is_not_there_is_named(shipyard: Shipyard) -> None:
    """The error names the connection and how to look."""
    nowhere = replace(builder(shipyard.site), url="unix:///run/edgeloop-nowhere.sock")
    with pytest.raises(UnreachableError, match=r"(?s)edgeloop_builder.*docker -H unix:///run/edgeloop-nowhere.sock"):
        Engine(nowhere).__enter__()
