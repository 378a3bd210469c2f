"""Build, proof and push on a real engine and a real registry."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.shipyard import ENDS_AT_START, FEATURES, ROWS, Shipyard, builder, linear, registry, version_of

from edgeloop.containers.engine import Engine
from edgeloop.containers.registry import Registry
from edgeloop.errors import IntegrityError, NotFoundError, ProofFailedError, UnreachableError
from edgeloop.packaging import build, golden, proof
from edgeloop.records import sha256_hex

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
    assert 0 < passed.cpu_seconds < 5
    assert proofs(engine) == []


def other(shipyard: Shipyard, engine: Engine, served: bytes, entrypoint: list[str] | None = None) -> str:
    """The id of an image on the engine that says it serves ``GOOD``."""
    return build.put(engine, shipyard.plan_other(engine, GOOD, served, 1, entrypoint)).engine_id


def good_rows() -> golden.Golden:
    """What ``GOOD`` answers."""
    return golden.make(GOOD, sha256_hex(GOOD), FEATURES, ROWS)


def test_an_image_that_answers_wrongly_is_not_proven(shipyard: Shipyard, engine: Engine) -> None:
    """Healthy and wrong: the proof counts the answers that differ, and cleans up."""
    with pytest.raises(ProofFailedError, match=f"gave {ROWS} of {ROWS} golden answers other than the model's"):
        proof.prove(engine, other(shipyard, engine, OTHER), shipyard.pipeline, good_rows())
    assert proofs(engine) == []


def test_an_image_that_ends_at_start_is_not_proven(shipyard: Shipyard, engine: Engine) -> None:
    """The error holds the container's last words."""
    with pytest.raises(ProofFailedError, match=r"(?s)ended by itself.*no licence"):
        proof.prove(engine, other(shipyard, engine, GOOD, ENDS_AT_START), shipyard.pipeline, good_rows())
    assert proofs(engine) == []


def test_an_image_that_never_gets_ready_is_not_proven(shipyard: Shipyard, engine: Engine) -> None:
    """Running is not ready: after the time given the proof fails."""
    image = other(shipyard, engine, GOOD, ["python3", "-c", "import time; time.sleep(600)"])
    with pytest.raises(ProofFailedError, match="not ready"):
        proof.prove(engine, image, shipyard.pipeline, good_rows(), ready_seconds=0.5)
    assert proofs(engine) == []


def test_a_pushed_image_is_what_the_registry_holds(shipyard: Shipyard, engine: Engine) -> None:
    """The digest is the sha256 of the manifest that an independent read gets; the second push finds it."""
    client = Registry(registry(shipyard.site))
    makes = shipyard.builder(engine, shipyard.plan(engine, GOOD, 1))
    built = makes.build(force=False)
    pushed = makes.push(proven=built.engine_id)
    assert not pushed.found
    repository = shipyard.recipe().repository
    request = urllib.request.Request(
        f"http://{shipyard.site.registry.host}/v2/{repository}/manifests/{built.name.tag}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        raw = answer.read()
    assert pushed.digest == "sha256:" + hashlib.sha256(raw).hexdigest()
    assert makes.push(proven=built.engine_id) == replace(pushed, found=True)
    manifest = client.get(repository, pushed.digest)
    assert manifest.config.digest == built.engine_id
    assert manifest.layers[-1].size < 2_000
    assert client.config(repository, manifest)["config"]["Labels"]["edgeloop.image"] == built.image.id
    assert client.exists(repository, pushed.digest)
    assert not client.exists(repository, "sha256:" + "0" * 64)


def test_an_engine_that_is_not_there_is_named(shipyard: Shipyard) -> None:
    """The error names the connection and how to look."""
    nowhere = replace(builder(shipyard.site), url="unix:///run/edgeloop-nowhere.sock")
    with pytest.raises(UnreachableError, match=r"(?s)edgeloop_builder.*docker -H unix:///run/edgeloop-nowhere.sock"):
        Engine(nowhere).__enter__()
