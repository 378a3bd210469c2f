"""The image as OCI content: what the manifest names and says, and that nothing of the moment is in it."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from dataclasses import replace

import pytest
from tests.edgeloop.packaging.test_layer import BASE
from tests.shipyard import FEATURES, linear, version_of

from edgeloop.containers.content import Content, Descriptor
from edgeloop.packaging import build, layer, oci

ONNX = linear(1.0, 2.0)
MODEL = replace(version_of("wind", ONNX, 7), window_end="2014-02-01T01:00:00+01:00", config="c" * 64)
RECIPE = build.Recipe(base="b", features=FEATURES, host="h:1", repository="wind/scorer", dataset="d" * 64)


def plan(onnx: bytes = ONNX, model: object = MODEL) -> build.Plan:
    """An image of the model on a base with two layers."""
    return build.plan(BASE, model, layer.model_layer(onnx, build.card(MODEL, FEATURES)), RECIPE)  # type: ignore[arg-type]


def content(one: build.Plan) -> tuple[Content, ...]:
    """Layers as they travel: the base's packed somewhere before."""
    base = [
        Content(descriptor=Descriptor(media_type="t", digest="sha256:" + letter * 64, size=9)) for letter in ("e", "f")
    ]
    return (*base, oci.packed(one.layer))


def manifest(one: build.Plan) -> dict[str, object]:
    """What is pushed."""
    with oci.image(one.configuration, content(one), one.annotations).manifest.open() as stream:
        return dict(json.load(stream))


def test_a_manifest_names_configuration_and_layers_from_the_base_to_the_model() -> None:
    """Runtime, libraries, server, model: what changes most lies on top, and the configuration is the image's id."""
    one = plan()
    body = manifest(one)
    assert (body["schemaVersion"], body["mediaType"]) == (2, "application/vnd.oci.image.manifest.v1+json")
    assert body["config"] == {
        "digest": one.engine_id,
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "size": len(one.configuration),
    }
    layers = body["layers"]
    assert isinstance(layers, list)
    assert [each["digest"][7] for each in layers[:2]] == ["e", "f"]
    assert layers[2]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert json.loads(one.configuration)["rootfs"]["diff_ids"][2] == "sha256:" + hashlib.sha256(one.layer).hexdigest()
    assert gzip.decompress(content(one)[2].data) == one.layer


def test_the_clock_is_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another day gives the same digest to the last bit."""
    one = plan()
    before = oci.image(one.configuration, content(one), one.annotations).digest
    day = time.time() + 40 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: day)
    again = plan()
    assert oci.image(again.configuration, content(again), again.annotations).digest == before


def test_annotations_come_from_the_records() -> None:
    """The specification's own names where it has one; created is the end of what the model learned from, in UTC."""
    assert manifest(plan())["annotations"] == {
        "org.opencontainers.image.title": "wind scorer",
        "org.opencontainers.image.version": "7",
        "org.opencontainers.image.created": "2014-02-01T00:00:00Z",
        "org.opencontainers.image.source": "urn:edgeloop:pipeline:wind",
        "org.opencontainers.image.revision": "c" * 64,
        "edgeloop.model": MODEL.id,
        "edgeloop.sha256": MODEL.sha256,
        "edgeloop.dataset": "d" * 64,
        "edgeloop.training_run": "0" * 64,
        "edgeloop.image": plan().image.id,
    }
    said = oci.said_of(MODEL, "i", source="https://git.example/wind", dataset="")
    assert said["org.opencontainers.image.source"] == "https://git.example/wind"
    assert "edgeloop.dataset" not in said


@pytest.mark.parametrize("end", ["", "last winter"])
def test_a_model_without_a_window_is_of_no_time(end: str) -> None:
    """Never the clock's: the epoch says that nobody knows."""
    assert oci.created(replace(MODEL, window_end=end)) == "1970-01-01T00:00:00Z"


def test_a_new_model_changes_one_layer() -> None:
    """The layer of the model and the configuration that names it; all that is below stays what devices hold."""
    other = linear(3.0, 4.0)
    changed = replace(MODEL, sha256=hashlib.sha256(other).hexdigest(), version=8)
    old, new = plan(), plan(other, changed)
    before, after = content(old), content(new)
    assert [a.descriptor.digest == b.descriptor.digest for a, b in zip(before, after, strict=True)] == [
        True,
        True,
        False,
    ]
    assert old.engine_id != new.engine_id


def test_tags_that_can_be_tags_of_images_are() -> None:
    """A text with spaces stays a label."""
    tagged = replace(MODEL, tags=("dataset=" + "d" * 64, "reason=the accuracy fell", "window=2014-01"))
    assert build.more_tags(tagged) == ("dataset-" + "d" * 64, "window-2014-01")


def test_an_artifact_is_its_blobs_and_nothing_else() -> None:
    """The type is said once more for who looks from the image; the first blob stands for the configuration as well."""
    made = oci.artifact(b"{}", "application/vnd.cyclonedx+json", b"[1]")
    with made.manifest.open() as stream:
        body = json.load(stream)
    assert body["artifactType"] == body["layers"][0]["mediaType"] == "application/vnd.cyclonedx+json"
    assert body["config"] == body["layers"][0]
    assert [one["digest"] for one in body["layers"]] == [one.descriptor.digest for one in made.blobs]
    assert [one.descriptor.size for one in made.blobs] == [2, 3]
