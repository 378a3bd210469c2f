"""Who makes an image: from a pipeline's ``image.builder`` to what builds, proves and pushes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeloop.records import TrainingRun
from edgeloop_airflow import hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from edgeloop.packaging.build import Recipe
    from edgeloop.packaging.builder import Builder
    from edgeloop.records import ModelVersion
    from edgeloop_airflow.hooks import Desk


@contextmanager
def opened(desk: Desk, model: ModelVersion) -> Iterator[Builder]:
    """The builder of a pipeline's images, ready for ``model``; ``desk`` is at the model's snapshot."""
    with BUILDERS[desk.snapshot.spec.image.builder](desk, model) as builder:
        yield builder


def recipe_of(desk: Desk, model: ModelVersion) -> Recipe:
    """What goes into the image of ``model`` beside it."""
    from edgeloop.packaging.build import Recipe

    spec = desk.snapshot.spec
    training = desk.store.find(TrainingRun, model.training_run)
    return Recipe(
        base=spec.image.base,
        features=spec.model.features,
        host=hooks.registry_endpoint(spec.image.registry).host,
        repository=spec.image.repository,
        dataset=training.dataset if training else "",
        config=model.config,
        source=spec.image.source,
    )


@contextmanager
def _engine(desk: Desk, model: ModelVersion) -> Iterator[Builder]:
    from edgeloop.containers.engine import Engine
    from edgeloop.containers.registry import Registry
    from edgeloop.packaging import base_layers, build
    from edgeloop.packaging.builder import EngineBuilder

    image = desk.snapshot.spec.image
    with Engine(hooks.engine_endpoint(image.engine)) as engine:
        yield EngineBuilder(
            engine=engine,
            registry=Registry(hooks.registry_endpoint(image.registry)),
            cache=base_layers.Layers(base_layers.folder()),
            store=desk.store,
            plan=build.prepare(engine, model, desk.blobs.get(model.blob), recipe_of(desk, model)),
        )


BUILDERS: dict[str, Callable[[Desk, ModelVersion], AbstractContextManager[Builder]]] = {"engine": _engine}
"""By the value of ``image.builder``."""
