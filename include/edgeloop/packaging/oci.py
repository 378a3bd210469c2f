"""An image as the OCI image specification lays it out, put together here: no builder, no clock, no engine.

Layers from the base to the model, the configuration that was proven, and the manifest that names them. The same inputs
give the same manifest digest on every machine. Annotations are those of the specification (image-spec, annotations.md).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgeloop.containers.content import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Content, ImageContent
from edgeloop.packaging import squeeze
from edgeloop.packaging.layer import EPOCH
from edgeloop.records import canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeloop.containers.content import Descriptor
    from edgeloop.records import ModelVersion

ANNOTATION = "org.opencontainers.image."


def created(model: ModelVersion) -> str:
    """When an image of ``model`` counts as made: the end of what it learned from, in UTC to the second.

    As SOURCE_DATE_EPOCH has it, the time of the newest source; the clock's would make another image of the same model.
    """
    try:
        end = datetime.fromisoformat(model.window_end)
    except ValueError:
        return EPOCH
    return (end if end.tzinfo else end.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def said_of(model: ModelVersion, image_id: str, *, source: str, dataset: str) -> dict[str, str]:
    """What the manifest says of the image; ``source`` is where its pipeline is kept, "" if nobody said."""
    said = {
        f"{ANNOTATION}title": f"{model.pipeline} scorer",
        f"{ANNOTATION}version": str(model.version),
        f"{ANNOTATION}created": created(model),
        f"{ANNOTATION}source": source or f"urn:edgeloop:pipeline:{model.pipeline}",
        f"{ANNOTATION}revision": model.config,
        "edgeloop.model": model.id,
        "edgeloop.sha256": model.sha256,
        "edgeloop.dataset": dataset,
        "edgeloop.training_run": model.training_run,
        "edgeloop.image": image_id,
    }
    return {name: value for name, value in said.items() if value}


def packed(layer: bytes) -> Content:
    """A layer as it travels: the same bytes from the same zlib, whatever the day and the folder."""
    return Content.of(squeeze.gzipped(layer), OCI_LAYER)


def packed_before(layer: bytes) -> Content:
    """A layer as 0.3.0 packed it: images of then are pushed again as they were."""
    return Content.of(squeeze.gzipped_at_once(layer), OCI_LAYER)


def image(configuration: bytes, layers: Sequence[Content], said: dict[str, str]) -> ImageContent:
    """The image of ``configuration`` and ``layers`` (from the base to the model), with annotations."""
    about = Content.of(configuration, OCI_CONFIG)
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _named(about.descriptor),
        "layers": [_named(one.descriptor) for one in layers],
        "annotations": said,
    }
    return ImageContent(manifest=Content.of(canonical_json(body), OCI_MANIFEST), blobs=(about, *layers))


def artifact(content: bytes, media_type: str, *more: bytes) -> ImageContent:
    """Something that belongs to an image: blobs of ``media_type``, which is also the artifact's type.

    It has no configuration; the first blob stands there too, for an empty one is one more to ask the registry for.
    """
    blobs = [Content.of(one, media_type) for one in (content, *more)]
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": media_type,
        "config": _named(blobs[0].descriptor),
        "layers": [_named(one.descriptor) for one in blobs],
    }
    return ImageContent(manifest=Content.of(canonical_json(body), OCI_MANIFEST), blobs=tuple(blobs))


def _named(one: Descriptor) -> dict[str, str | int]:
    return {"mediaType": one.media_type, "digest": one.digest, "size": one.size}
