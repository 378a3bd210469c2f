"""What Azure ML packaged is proven here before it is used: real images in a real registry, named by its environment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests import shipyard as yards
from tests.azure_contract.conftest import WORKSPACE_ID
from tests.shipyard import FEATURES, ROWS, Shipyard, linear, version_of

from edgeloop.azure_ml import packages
from edgeloop.azure_ml.package_builder import PackageBuilder
from edgeloop.containers.engine import Engine
from edgeloop.containers.registry import Registry
from edgeloop.errors import IntegrityError, ProofFailedError
from edgeloop.packaging import base_layers, golden

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure_ml.workspace import WorkspaceEndpoint
    from edgeloop.records import ModelImage
    from edgeloop.store import Store
    from lab.site import Site

SERVED, OTHER = linear(1.5, -2.0), linear(1.5, -2.5)
MODEL = version_of("packaged", SERVED, 3)


@pytest.fixture
def yard(site: Site, store: Store) -> Shipyard:
    """Where the images come from that Azure ML is said to have made."""
    return Shipyard(site=site, store=store, pipeline="packaged", port=0)


@pytest.fixture
def builder(azure: Any, workspace: WorkspaceEndpoint, yard: Shipyard) -> Iterator[PackageBuilder]:
    """Azure ML as builder of version 3 of `packaged`."""
    with (
        Engine(yards.builder(yard.site)) as engine,
        packages.opened(workspace, "workspaceblobstore", print) as packager,
    ):
        yield PackageBuilder(
            packager=packager,
            engine=engine,
            registry=Registry(yards.registry(yard.site)),
            cache=base_layers.Layers(base_layers.folder()),
            store=yard.store,
            model=MODEL,
            recipe=replace(yard.recipe(), base="acr.example/edgeloop/scorer-base:1"),
        )


def made(azure: Any, builder: PackageBuilder, image: ModelImage) -> None:
    """The environment that Azure ML says it made names this image, and the engine does not have it."""
    order = builder._order
    path = f"{WORKSPACE_ID}/environments/{order.environment}/versions/{order.number}"
    repository = image.reference.partition("@")[0]
    named = f"{repository}:v3-{image.key}"
    azure.seed(arm={path: {"id": path, "name": order.number, "properties": {"image": named}}})
    manifest = builder.registry.get(repository.partition("/")[2], image.digest)
    builder.engine.remove_image(manifest.config.digest)


def rows() -> golden.Golden:
    """What the registered model answers."""
    return golden.make(SERVED, MODEL.sha256, FEATURES, ROWS)


def test_a_package_that_answers_as_the_model_is_fetched_proven_and_kept(
    azure: Any, builder: PackageBuilder, yard: Shipyard
) -> None:
    """By digest, onto the proving engine; with its bill of materials, and a record that says who built it."""
    image = yard.ship(SERVED, 3)
    made(azure, builder, image)
    built = builder.build(force=False)
    assert (built.found, builder.build(force=False).found) == (False, True)
    assert built.image.base.startswith("azure_ml_package:")
    assert built.image.id != image.id
    proof = builder.prove(rows())
    assert (proof.rows, proof.engine_id) == (ROWS, built.engine_id)
    pushed = builder.push(proven=proof.engine_id)
    assert (pushed.reference, pushed.digest, pushed.found) == (image.reference, image.digest, True)
    assert "numpy" in {one.name for one in builder.inventory().of("pypi")}
    repository = image.reference.partition("@")[0].partition("/")[2]
    kinds = [one.artifact_type for one in builder.registry.attached(repository, image.digest)]
    assert "application/vnd.cyclonedx+json" in kinds


@pytest.mark.parametrize("entrypoint", [None, yards.ENDS_AT_START])
def test_a_package_that_answers_otherwise_or_not_at_all_goes_no_further(
    azure: Any, builder: PackageBuilder, yard: Shipyard, entrypoint: list[str] | None
) -> None:
    """It is in the registry already, and has no proof; a server that does not speak our protocol fails the same way."""
    made(azure, builder, yard.ship_other(SERVED, OTHER, 3, entrypoint))
    builder.build(force=False)
    with pytest.raises(ProofFailedError):
        builder.prove(rows())


def test_a_package_that_was_replaced_after_its_proof_is_not_kept(
    azure: Any, builder: PackageBuilder, yard: Shipyard
) -> None:
    """The registry is asked again, and holds another image under the name."""
    made(azure, builder, yard.ship_other(SERVED, OTHER, 3))
    built = builder.build(force=False)
    with pytest.raises(IntegrityError, match="that was proven"):
        builder.push(proven="sha256:" + "0" * 64)
    assert built.engine_id != "sha256:" + "0" * 64
