"""Who makes an image: from a pipeline's ``image.builder`` to what builds, proves and pushes."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError
from edgeloop.records import TrainingRun
from edgeloop_airflow import hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from edgeloop.packaging.build import Recipe
    from edgeloop.packaging.builder import Builder
    from edgeloop.records import ModelVersion
    from edgeloop_airflow.azure_ml_registry import Mirror
    from edgeloop_airflow.hooks import Desk

log = logging.getLogger(__name__)


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


@contextmanager
def _acr_task(desk: Desk, model: ModelVersion) -> Iterator[Builder]:
    from edgeloop.acr import builder
    from edgeloop.acr.runs import RegistryResource, Runs
    from edgeloop.containers.registry import Registry
    from edgeloop_airflow.azure_ml import azure_identity

    image = desk.snapshot.spec.image
    assert image.acr is not None
    registry = Registry(hooks.registry_endpoint(image.registry))
    resource = RegistryResource(
        identity=azure_identity(image.acr.connection),
        subscription=image.acr.subscription,
        resource_group=image.acr.resource_group,
        registry=image.acr.registry,
    )
    base = builder.base_of(registry, image.base)
    with resource.connect() as arm:
        runs = Runs(resource, arm)
        runs.require_host(registry.endpoint)
        yield builder.AcrTaskBuilder(
            runs=runs,
            registry=registry,
            store=desk.store,
            base=base,
            plan=builder.plan_of(base, model, desk.blobs.get(model.blob), recipe_of(desk, model)),
            pool=image.acr.agent_pool,
        )


@contextmanager
def _azure_ml_package(desk: Desk, model: ModelVersion) -> Iterator[Builder]:
    from edgeloop.azure_ml import packages
    from edgeloop.azure_ml.package_builder import PackageBuilder
    from edgeloop.containers.engine import Engine
    from edgeloop.containers.registry import Registry
    from edgeloop.packaging import base_layers
    from edgeloop_airflow.azure_ml import azure_ml_workspace
    from edgeloop_airflow.azure_ml_registry import mirror_of

    section = packages.require_packageable(desk.snapshot.spec)
    with mirror_of(desk, section) as mirror:
        # The task that mirrors a registration runs beside this one, and may be later.
        if mirror.models.find(model.version) is None:
            _publish(mirror, model)
    image, datastore = desk.snapshot.spec.image, desk.snapshot.spec.registry.datastore
    with (
        Engine(hooks.engine_endpoint(image.engine)) as engine,
        packages.opened(azure_ml_workspace(section), datastore, log.info) as packager,
    ):
        yield PackageBuilder(
            packager=packager,
            engine=engine,
            registry=Registry(hooks.registry_endpoint(image.registry)),
            cache=base_layers.Layers(base_layers.folder()),
            store=desk.store,
            model=model,
            recipe=recipe_of(desk, model),
        )


def _publish(mirror: Mirror, model: ModelVersion) -> None:
    """Bring the mirror up to date; what is wrong with other versions is not this model's matter."""
    try:
        mirror.mend(log.info)
    except EdgeloopError:
        if mirror.models.find(model.version) is None:
            raise


BUILDERS: dict[str, Callable[[Desk, ModelVersion], AbstractContextManager[Builder]]] = {
    "engine": _engine,
    "acr_task": _acr_task,
    "azure_ml_package": _azure_ml_package,
}
"""By the value of ``image.builder``."""
