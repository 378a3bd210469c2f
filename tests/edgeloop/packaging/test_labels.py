"""What an image is called and what it says of itself."""

from __future__ import annotations

from tests.shipyard import FEATURES, linear, version_of

from edgeloop.packaging import build
from edgeloop.records import ModelImage

MODEL = version_of("wind", linear(1.0, 2.0), 7)
IMAGE = ModelImage(pipeline="wind", model=MODEL.id, base="b" * 64)


def test_labels_mirror_the_registry() -> None:
    """Version, digest, metrics, tags and lineage stand on the image; what is not known is left out."""
    assert build.labels(MODEL, IMAGE, dataset="d" * 64) == {
        "edgeloop.pipeline": "wind",
        "edgeloop.model": MODEL.id,
        "edgeloop.version": "7",
        "edgeloop.sha256": MODEL.sha256,
        "edgeloop.training_run": "0" * 64,
        "edgeloop.dataset": "d" * 64,
        "edgeloop.metrics": '{"accuracy":0.9}',
        "edgeloop.image": IMAGE.id,
        "edgeloop.base": "b" * 64,
        "edgeloop.tag.window": "2014-01",
    }
    assert "edgeloop.dataset" not in build.labels(MODEL, IMAGE)


def test_a_tag_is_never_given_twice() -> None:
    """It holds the version to read and the image's id to be unique: same model on another base, another tag."""
    name = build.image_name("10.0.0.1:5000", "wind/scorer", MODEL, IMAGE)
    assert str(name) == f"10.0.0.1:5000/wind/scorer:v7-{IMAGE.id[:16]}"
    other = ModelImage(pipeline="wind", model=MODEL.id, base="c" * 64)
    assert build.image_name("10.0.0.1:5000", "wind/scorer", MODEL, other) != name


def test_the_card_is_what_the_scorer_reads() -> None:
    """Name, version as text, digest and the features in the model's order."""
    assert build.card(MODEL, FEATURES) == {
        "name": "wind",
        "version": "7",
        "sha256": MODEL.sha256,
        "features": ["Ws", "Ot"],
    }
