"""From a registered model to an image on the engine: its card, its labels, its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import EngineError, IntegrityError
from edgeloop.packaging import oci
from edgeloop.packaging.layer import archive, base_digest, config, model_layer
from edgeloop.records import ModelImage, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeloop.containers.engine import Engine, EngineImage
    from edgeloop.pipeline import Feature
    from edgeloop.records import ModelVersion

LABEL = "edgeloop."
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""What the OCI distribution specification takes as a tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """What an image is called: ``repository`` with the registry's host in front, and a ``tag`` never given twice."""

    repository: str
    tag: str

    def __str__(self) -> str:
        """``repository:tag``."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An image as it will be, known to the last bit before anything is made."""

    image: ModelImage
    name: Name
    model: ModelVersion
    dataset: str
    base: EngineImage
    layer: bytes
    """The model's, unpacked."""
    configuration: bytes
    annotations: dict[str, str]

    @property
    def engine_id(self) -> str:
        """The image's id on every engine: the digest of its configuration, which names its layers by theirs."""
        return "sha256:" + sha256_hex(self.configuration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image that can be proven: ``engine_id`` is what it is run by; ``found`` if it was there before."""

    image: ModelImage
    name: Name
    engine_id: str
    found: bool


def card(model: ModelVersion, features: Sequence[Feature]) -> dict[str, object]:
    """``/model/model.json``: what the scorer says it serves."""
    return {
        "name": model.pipeline,
        "version": str(model.version),
        "sha256": model.sha256,
        "features": [one.name for one in features],
    }


def labels(model: ModelVersion, image: ModelImage, dataset: str = "") -> dict[str, str]:
    """What the image says of itself, so that `docker inspect` on a device leads back to the registry."""
    mirrored = {
        "pipeline": model.pipeline,
        "model": model.id,
        "version": str(model.version),
        "sha256": model.sha256,
        "training_run": model.training_run,
        "dataset": dataset,
        "metrics": model.metrics,
        "window_end": model.window_end,
        "image": image.id,
        "base": image.base,
        **{f"tag.{name}": value for name, _, value in (one.partition("=") for one in model.tags)},
    }
    return {LABEL + name: value for name, value in mirrored.items() if value}


def more_tags(model: ModelVersion) -> tuple[str, ...]:
    """The registry's tags of a model that can be an image's: ``dataset-<id>``; the newest image of one has it."""
    return tuple(tag for tag in (one.replace("=", "-", 1) for one in model.tags) if TAG.fullmatch(tag))


def image_name(host: str, repository: str, model: ModelVersion, image: ModelImage) -> Name:
    """The image's name in the registry at ``host``."""
    return Name(repository=f"{host}/{repository}", tag=f"v{model.version}-{image.key}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What goes into an image beside the model.

    ``base`` is the scorer's base image on the engine, ``host`` the registry's, first part of the image's name,
    ``dataset`` the id of what the model was trained on, ``config`` the digest of the pipeline snapshot, ``source``
    where the pipeline's files are kept.
    """

    base: str
    features: tuple[Feature, ...]
    host: str
    repository: str
    dataset: str = ""
    config: str = ""
    source: str = ""


def plan(base: EngineImage, model: ModelVersion, layer: bytes, recipe: Recipe, *, by: str = "") -> Plan:
    """The image of ``layer`` on ``base``: pure, the same on every machine and every day.

    ``by`` names a builder whose images have digests of their own; their records are then others than ours.
    """
    stands_on = f"{by}:{base_digest(base)}" if by else base_digest(base)
    image = ModelImage(pipeline=model.pipeline, model=model.id, base=stands_on, config=recipe.config)
    return Plan(
        image=image,
        name=image_name(recipe.host, recipe.repository, model, image),
        model=model,
        dataset=recipe.dataset,
        base=base,
        layer=layer,
        configuration=config(base, layer, labels(model, image, recipe.dataset), oci.created(model)),
        annotations=oci.said_of(model, image.id, source=recipe.source, dataset=recipe.dataset),
    )


def prepare(engine: Engine, model: ModelVersion, content: bytes, recipe: Recipe) -> Plan:
    """The image of ``model``, whose ONNX file is ``content``, on the base that ``engine`` has; makes nothing.

    Raises ``IntegrityError`` if ``content`` is not what the registry says and ``NotFoundError`` if the engine has no
    base image.
    """
    require_same(model, content)
    return plan(engine.get(recipe.base), model, layer_of(model, content, recipe), recipe)


def layer_of(model: ModelVersion, content: bytes, recipe: Recipe) -> bytes:
    """The model's layer, unpacked."""
    return model_layer(content, card(model, recipe.features))


def require_same(model: ModelVersion, content: bytes) -> None:
    """Raise ``IntegrityError`` if ``content`` is not what the registry says of ``model``."""
    if sha256_hex(content) != model.sha256:
        raise IntegrityError(
            f"The blob {model.blob} hashes to {sha256_hex(content)[:16]}, version {model.version} is "
            f"{model.sha256[:16]}.",
            left="nothing was built",
            next="Restore the blob from a backup; the registered digest is the truth.",
        )


def ensure(engine: Engine, model: ModelVersion, content: bytes, recipe: Recipe, *, force: bool = False) -> Built:
    """Make the image of ``model`` on ``engine``, or find it there; ``force`` makes it even so.

    Raises as :func:`prepare` and :func:`put`.
    """
    return put(engine, prepare(engine, model, content, recipe), force=force)


def put(engine: Engine, wanted: Plan, *, force: bool = False) -> Built:
    """Bring the image onto ``engine``, or find it there by its id: what has its name may be anything."""
    found = engine.find(wanted.engine_id) is not None
    if not found or force:
        engine.load(archive(wanted.base, wanted.layer, wanted.configuration, str(wanted.name)))
    else:
        engine.tag(wanted.engine_id, wanted.name.repository, wanted.name.tag)
    if engine.find(wanted.engine_id) is None:
        raise EngineError(
            f"The engine of connection {engine.endpoint.connection!r} took {wanted.name} but has no image "
            f"{wanted.engine_id}.",
            left="its other images",
            next="Clear the build task; if it stays so, look at the engine's log and disk.",
        )
    return Built(image=wanted.image, name=wanted.name, engine_id=wanted.engine_id, found=found)
