"""Images put together here, on real engines and a real registry: alike everywhere, and only what was proven."""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.shipyard import FEATURES, REPOSITORY, Shipyard, builder, linear, registry

from edgeloop.containers.endpoint import EngineEndpoint
from edgeloop.containers.engine import Engine
from edgeloop.containers.registry import Registry
from edgeloop.errors import IntegrityError
from edgeloop.packaging import base_layers, bom_link, build, golden, oci, proof, sbom, squeeze
from edgeloop.packaging.base_layers import Layers
from edgeloop.packaging.builder import EngineBuilder, bill_of
from edgeloop.packaging.layer import pack
from edgeloop.packaging.packing import LAYERS, Packing
from edgeloop.records import sha256_hex
from edgeloop.store import Store
from lab import images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure.blob import BlobAccount

GOOD, OTHER = linear(1.0, 2.0), linear(9.0, 9.0)


@pytest.fixture
def engine(shipyard: Shipyard) -> Iterator[Engine]:
    """The builder's engine."""
    with Engine(builder(shipyard.site)) as one:
        yield one


@pytest.fixture
def floor(shipyard: Shipyard, engine: Engine) -> build.Plan:
    """An image of one layer of a few bytes, to build on; not on any engine yet."""
    base = replace(engine.get(shipyard.recipe().base), layers=())
    return build.plan(base, shipyard.model(GOOD, 1), pack({"etc/x": shipyard.pipeline.encode()}), shipyard.recipe())


@pytest.fixture
def small(shipyard: Shipyard, engine: Engine, floor: build.Plan, tmp_path: Path) -> EngineBuilder:
    """Makes an image on such a base; its layer cache is this test's own."""
    base = engine.get(build.put(engine, floor).engine_id)
    plan = build.plan(base, shipyard.model(GOOD, 1), pack({"model/x": GOOD}), shipyard.recipe())
    return replace(shipyard.builder(engine, plan), cache=Layers(tmp_path / "cache"))


def sealed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the engine gives no layer any more."""

    def no(*_: object) -> Iterator[bytes]:
        pytest.fail("the base was packed once more")
        yield b""

    monkeypatch.setattr(engine, "save", no)


def dockerfile(url: str, base: str, tag: str) -> str:
    """Build the scorer's Dockerfile on an engine, with libraries and a server of a few bytes; returns its id."""
    import docker

    client = docker.DockerClient(base_url=url, timeout=60)
    with tempfile.TemporaryDirectory() as scratch:
        files = {"Dockerfile": images.IMAGES / "scorer" / "Dockerfile"}
        for name in ("site", "server"):
            files[f"{name}.tar"] = Path(scratch) / f"{name}.tar"
            files[f"{name}.tar"].write_bytes(pack({f"opt/{name}/x": b"x"}))
        images._build(client, files, base, tag, Path(scratch))
    made: str = client.images.get(tag).id
    client.close()
    return made


def test_another_machine_on_another_day_gives_the_same_digest(
    floor: build.Plan, shipyard: Shipyard, blob_account: BlobAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two engines that each built the base, two folders, two stores, forty days apart: one manifest."""
    found = []
    for turn, url in enumerate((shipyard.site.builder.docker, shipyard.site.vm.docker)):
        days = time.time() + turn * 40 * 24 * 3600
        with Engine(EngineEndpoint(connection="one of two", url=url)) as engine, monkeypatch.context() as clock:
            base = dockerfile(url, build.put(engine, floor).engine_id, f"tests/{shipyard.pipeline}:two")
            clock.setattr(time, "time", lambda: days)  # noqa: B023 - it is asked within this turn
            plan = build.prepare(engine, shipyard.model(GOOD, 1), GOOD, replace(shipyard.recipe(), base=base))
            store = Store(blob_account.container(f"{shipyard.pipeline}-{turn}"))
            cache = Layers(tmp_path / "deeper" / str(turn))
            found.append((base, Packing(engine=engine, plan=plan, cache=cache, store=store).content()))
    (here, first), (there, second) = found
    assert here != there, "one base was copied: the test would show nothing"
    assert second.digest == first.digest
    assert [one.descriptor for one in second.blobs] == [one.descriptor for one in first.blobs]


def test_a_new_model_is_one_layer_and_packs_nothing_of_the_base(
    shipyard: Shipyard, engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker without any packed layer names the base's as the store has them, and the registry has their bytes."""
    shipyard.ship(GOOD, 1)
    sealed(engine, monkeypatch)
    old = shipyard.builder(engine, shipyard.plan(engine, GOOD, 1))._packing.content()
    makes = replace(shipyard.builder(engine, shipyard.plan(engine, OTHER, 2)), cache=Layers(tmp_path / "empty"))
    makes.build(force=False)
    pushed = makes.push(proven=makes.plan.engine_id)
    new = makes._packing.content()
    assert pushed.digest == new.digest
    assert [a.descriptor == b.descriptor for a, b in zip(old.blobs, new.blobs, strict=True)] == [
        False, True, True, True, False,
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_another_zlib_makes_no_other_manifest(
    small: EngineBuilder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was pushed first decides how a layer is packed; who packs otherwise follows, and sends nothing."""
    first = small.push(proven=small.plan.engine_id)
    for module, name in ((base_layers, "LEVEL"), (squeeze, "LEVEL"), (squeeze, "SMALL"), (squeeze, "LARGE")):
        monkeypatch.setattr(module, name, 1)
    later = replace(small, cache=Layers(tmp_path / "later"))
    alone = replace(later._packing, store=Store(small.store.objects.account.container(f"{small.plan.image.key}-x")))  # type: ignore[attr-defined]
    assert alone.content().digest != first.digest, "both pack alike: the test would show nothing"
    assert later.push(proven=later.plan.engine_id) == replace(first, found=True)
    lost = replace(small.registry.endpoint, host=small.registry.endpoint.host)
    elsewhere = replace(later.plan, name=replace(later.plan.name, repository=f"{lost.host}/{small.plan.image.key}"))
    with pytest.raises(IntegrityError, match="this worker packs that layer"):
        replace(later, plan=elsewhere).push(proven=later.plan.engine_id)
    assert not small.registry.exists(small.plan.image.key, elsewhere.name.tag)


def test_an_image_of_before_keeps_its_bytes(small: EngineBuilder) -> None:
    """0.3.0 packed the model's layer otherwise; a registry that lost such an image gets that very one again."""
    layer = small.plan.layer
    before = oci.packed_before(layer)
    assert before.data == gzip.compress(layer, 6, mtime=0)[:9] + b"\xff" + gzip.compress(layer, 6, mtime=0)[10:]
    assert before.descriptor != oci.packed(layer).descriptor
    small.store.fix(LAYERS, sha256_hex(layer), f"{before.descriptor.digest} {before.descriptor.size}")
    small.push(proven=small.plan.engine_id)
    assert small.registry.blob(small._repository, before.descriptor.digest) == before.data


@pytest.mark.parametrize("change", ["other bytes", "another layer under its own digest"])
def test_a_packed_layer_that_was_changed_is_never_pushed(small: EngineBuilder, change: str) -> None:
    """It is packed again from the engine's, and what the registry holds unpacks to what was proven."""
    (diff_id,) = small.plan.base.layers
    small.inventory()
    found = small.cache.find(diff_id)
    assert found is not None
    path = small.cache.file(diff_id, found[0])
    assert path is not None
    if change == "other bytes":
        path.write_bytes(b"\x1f\x8b" + bytes(60))
    else:
        foreign = oci.packed(pack({"etc/x": b"foreign"}))
        path.unlink()
        digest = foreign.descriptor.digest.removeprefix("sha256:")
        (path.parent / f"{digest}-{foreign.descriptor.size}.tar.gz").write_bytes(foreign.data)
    pushed = small.push(proven=small.plan.engine_id)
    layers = small.registry.get(REPOSITORY, pushed.digest).layers
    assert layers[0].digest == found[0].digest


def test_what_took_the_name_on_the_engine_is_not_pushed(shipyard: Shipyard, engine: Engine) -> None:
    """A name is no proof: the image is run by its id, and the registry gets the configuration of that id."""
    makes = shipyard.builder(engine, shipyard.plan(engine, GOOD, 1))
    built = makes.build(force=False)
    wrong = build.put(engine, shipyard.plan_other(engine, GOOD, OTHER, 1))
    engine.tag(wrong.engine_id, built.name.repository, built.name.tag)
    rows = golden.make(GOOD, makes.plan.model.sha256, FEATURES, 8)
    assert makes.prove(rows).engine_id == built.engine_id
    pushed = makes.push(proven=built.engine_id)
    assert makes.registry.get(REPOSITORY, pushed.digest).config.digest == built.engine_id


def test_an_image_that_was_not_proven_is_not_pushed(shipyard: Shipyard, engine: Engine) -> None:
    """Its model's layer was changed: it cannot have the id that the proof names, and the registry stays empty of it."""
    proven = shipyard.plan(engine, GOOD, 1).engine_id
    changed = shipyard.builder(engine, shipyard.plan_other(engine, GOOD, OTHER, 1))
    with pytest.raises(IntegrityError, match=r"it was .* that was proven"):
        changed.push(proven=proven)
    assert not changed.registry.exists(REPOSITORY, changed.plan.name.tag)


def test_a_layer_that_somebody_renamed_in_the_store_is_not_pushed(small: EngineBuilder) -> None:
    """The registry has no such bytes and nobody can make them: no manifest names them."""
    (diff_id,) = small.plan.base.layers
    small.store.fix("layers", diff_id.removeprefix("sha256:"), f"sha256:{'0' * 64} 99")
    with pytest.raises(IntegrityError, match="The registry lost sha256:000"):
        small.push(proven=small.plan.engine_id)
    assert not small.registry.exists(REPOSITORY, small.plan.name.tag)


def test_two_at_once_make_one_image(shipyard: Shipyard) -> None:
    """Both build, prove and push: one digest, one image on the engine, and neither takes the other's container away."""

    def package(_: int) -> str:
        with Engine(builder(shipyard.site)) as own:
            makes = shipyard.builder(own, shipyard.plan(own, GOOD, 1))
            makes.build(force=True)
            rows = golden.make(GOOD, makes.plan.model.sha256, FEATURES, 8)
            return makes.push(proven=makes.prove(rows).engine_id).digest

    with ThreadPoolExecutor(3) as pool:
        digests = list(pool.map(package, range(3)))
    assert len(set(digests)) == 1
    with Engine(builder(shipyard.site)) as engine:
        assert engine.labels("edgeloop.proof") == {}


def test_the_bill_of_materials_belongs_to_the_image(shipyard: Shipyard, engine: Engine) -> None:
    """Found from the image in the registry and kept beside the records: what this base holds, and the model."""
    image = shipyard.ship(GOOD, 1)
    client = Registry(registry(shipyard.site))
    (found,) = client.attached(REPOSITORY, image.digest, sbom.MEDIA_TYPE)
    parts = [client.blob(REPOSITORY, one.digest) for one in client.get(REPOSITORY, found.digest).layers]
    whole = shipyard.store.objects.get(bill_of(image))
    assert tuple(parts) == bom_link.split(whole)
    named = {one["name"]: one for one in json.loads(whole)["components"]}
    assert {one["name"] for part in parts for one in json.loads(part)["components"]} - {bom_link.BASE} == set(named)
    pins = dict(images_pins())
    assert {name: named[name]["version"] for name in pins} == pins
    assert {"libc6", "libssl3", "python3.11-minimal", "tini"} <= set(named)
    assert named[shipyard.pipeline]["hashes"][0]["content"] == shipyard.model(GOOD, 1).sha256
    assert named["libssl3"]["purl"].startswith("pkg:deb/debian/libssl3@3.")


def images_pins() -> list[tuple[str, str]]:
    """What the scorer's requirements pin."""
    lines = (images.IMAGES / "scorer" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split(" ")[0].split("==") for line in lines if "==" in line and line[0] not in " #"]
    return [(name, version) for name, version in pins]


def test_no_shell_is_needed(shipyard: Shipyard, engine: Engine) -> None:
    """Without any, and without coreutils: the scorer starts, the proof asks it, and Docker finds it healthy."""
    model, base = shipyard.model(GOOD, 1), engine.get(shipyard.recipe().base)
    gone = [f"bin/.wh.{name}" for name in ("sh", "dash", "cat", "ls", "env")] + ["usr/bin/.wh.env"]
    bare = build.put(engine, build.plan(base, model, pack(dict.fromkeys(gone, b"")), shipyard.recipe()))
    plan = build.prepare(engine, model, GOOD, replace(shipyard.recipe(), base=bare.engine_id))
    built = build.put(engine, plan)
    rows = golden.make(GOOD, model.sha256, FEATURES, 8)
    assert proof.prove(engine, built.engine_id, shipyard.pipeline, rows).rows == 8
    name = f"bare-{shipyard.pipeline}"
    try:
        engine.start(built.engine_id, name, **proof.run_options())
        assert engine.ask(
            name, ["python3", "-c", "import os; print(os.path.exists('/bin/sh'))"], b"", timeout=20
        ).out == (b"False\n")
        deadline = time.monotonic() + 60
        while engine.client.api.inspect_container(name)["State"]["Health"]["Status"] != "healthy":
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        engine.remove(name)


def test_the_base_is_a_build_argument(shipyard: Shipyard, small: EngineBuilder, engine: Engine) -> None:
    """Where a registry answers it comes from there: here the site's own, under the name of Python's slim image."""
    small.push(proven=small.plan.engine_id)
    repository = f"{shipyard.pipeline}/python"
    small.registry.push(repository, "3.11-slim", small._packing.content())
    base = f"{shipyard.site.registry.host}/{repository}:3.11-slim"
    made = engine.get(dockerfile(shipyard.site.builder.docker, base, f"tests/{shipyard.pipeline}:slim"))
    assert made.layers[:2] == (*small.plan.base.layers, f"sha256:{sha256_hex(small.plan.layer)}")
    assert made.config["User"] == "10001:10001"
    assert made.config["Healthcheck"]["Test"] == ["CMD", "python3", "-m", "scorer.healthcheck"]
