"""From a registered model to an image on the engine: its card, its labels, its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import IntegrityError
from edgeloop.packaging.layer import archive, base_digest, model_layer
from edgeloop.records import ModelImage, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeloop.containers.engine import Engine
    from edgeloop.pipeline import Feature
    from edgeloop.records import ModelVersion

LABEL = "edgeloop."


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """What an image is called: ``repository`` with the registry's host in front, and a ``tag`` never given twice."""

    repository: str
    tag: str

    def __str__(self) -> str:
        """``repository:tag``."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image on the engine; ``found`` if it was there before."""

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


def image_name(host: str, repository: str, model: ModelVersion, image: ModelImage) -> Name:
    """The image's name in the registry at ``host``."""
    return Name(repository=f"{host}/{repository}", tag=f"v{model.version}-{image.key}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What goes into an image beside the model.

    ``base`` is the scorer's base image on the engine, ``host`` the registry's, first part of the image's name,
    ``dataset`` the id of what the model was trained on, ``config`` the digest of the pipeline snapshot.
    """

    base: str
    features: tuple[Feature, ...]
    host: str
    repository: str
    dataset: str = ""
    config: str = ""


def ensure(engine: Engine, model: ModelVersion, content: bytes, recipe: Recipe, *, force: bool = False) -> Built:
    """Make the image of ``model``, whose ONNX file is ``content``, on ``engine``, or find it there.

    ``force`` makes it even if it is there. Raises ``IntegrityError`` if ``content`` is not what the registry says and
    ``NotFoundError`` if the engine has no base image.
    """
    if sha256_hex(content) != model.sha256:
        raise IntegrityError(
            f"The blob {model.blob} hashes to {sha256_hex(content)[:16]}, version {model.version} is "
            f"{model.sha256[:16]}.",
            left="nothing was built",
            next="Restore the blob from a backup; the registered digest is the truth.",
        )
    base = engine.get(recipe.base)
    image = ModelImage(pipeline=model.pipeline, model=model.id, base=base_digest(base), config=recipe.config)
    name = image_name(recipe.host, recipe.repository, model, image)
    found = engine.find(str(name))
    if found is not None and found.labels.get(f"{LABEL}image") == image.id and not force:
        return Built(image=image, name=name, engine_id=found.id, found=True)
    layer = model_layer(content, card(model, recipe.features))
    engine.load(archive(base, layer, labels(model, image, recipe.dataset), str(name)))
    made = engine.get(str(name))
    return Built(image=image, name=name, engine_id=made.id, found=found is not None and found.id == made.id)
