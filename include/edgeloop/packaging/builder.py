"""Who makes, proves and pushes an image: the three steps, and the builder that does them by a Docker engine.

Another builder has the same three: it may work elsewhere, but what it pushes is what it proved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgeloop.errors import ConflictError, NotFoundError
from edgeloop.packaging import bom_link, build, oci, proof, push, sbom
from edgeloop.packaging.packing import Packing
from edgeloop.records import ModelImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.containers.content import ImageContent
    from edgeloop.containers.engine import Engine
    from edgeloop.containers.registry import Registry
    from edgeloop.packaging.base_layers import Layers
    from edgeloop.packaging.build import Built, Plan
    from edgeloop.packaging.golden import Golden
    from edgeloop.packaging.inventory import Inventory
    from edgeloop.packaging.proof import Proof
    from edgeloop.packaging.push import Pushed
    from edgeloop.store import Store


class Builder(Protocol):
    """Makes the image of one model, proves it and pushes it; every step finds what an earlier try finished."""

    def build(self, *, force: bool) -> Built:
        """Make the image, or find it; ``force`` makes it even so."""
        ...

    def inventory(self) -> Inventory:
        """The packages inside, once it is built."""
        ...

    def prove(self, rows: Golden) -> Proof:
        """Run it as a device would and compare its answers; raises ``ProofFailedError``."""
        ...

    def push(self, *, proven: str) -> Pushed:
        """Bring exactly what was proven, by its id ``proven``, into the registry, with its bill of materials."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBuilder:
    """A Docker engine proves; this worker puts the image together and speaks to the registry itself."""

    engine: Engine
    registry: Registry
    cache: Layers
    store: Store
    plan: Plan

    def build(self, *, force: bool) -> Built:
        """Put the model's layer on the base that the engine has."""
        return build.put(self.engine, self.plan, force=force)

    def inventory(self) -> Inventory:
        """Read from the base's layers, once for each base."""
        return self._packing.inventory()

    def prove(self, rows: Golden) -> Proof:
        """By the image's id: what else was given its name since is not asked."""
        return proof.prove(self.engine, self.plan.engine_id, self.plan.model.pipeline, rows)

    def push(self, *, proven: str) -> Pushed:
        """Push it, or find what was recorded for this image already: a record never changes its digest."""
        content = self._packing.content()
        if before := self._recorded(content.digest):
            return before
        pushed = push.ensure(self.registry, self.plan.name, content, proven=proven)
        self._packing.settle(content)
        for tag in build.more_tags(self.plan.model):
            self.registry.tag(self._repository, pushed.digest, tag, content.manifest)
        made = bill(self.store, self.plan, self.inventory)
        self.registry.attach(self._repository, pushed.digest, made, content.manifest)
        return pushed

    def _recorded(self, digest: str) -> Pushed | None:
        """What was pushed for this image before, by a version that made it otherwise, if the registry has it."""
        known = self.store.find(ModelImage, self.plan.image.id)
        if known is None or known.digest in {"", digest}:
            return None
        there = self.registry.find(self._repository, known.digest)
        return None if there is None else push.as_found(self.plan.name, there)

    @property
    def _packing(self) -> Packing:
        return Packing(engine=self.engine, plan=self.plan, cache=self.cache, store=self.store)

    @property
    def _repository(self) -> str:
        return self.plan.name.repository.removeprefix(f"{self.registry.endpoint.host}/")


def bill(store: Store, plan: Plan, inventory: Callable[[], Inventory]) -> ImageContent:
    """The bill of materials, made once and kept whole beside the records; as an artifact, in two blobs."""
    blob = bill_of(plan.image)
    try:
        text = store.objects.get(blob)
    except NotFoundError:
        text = sbom.make(plan, inventory())
        try:
            store.objects.put_new(blob, text)
        except ConflictError:
            text = store.objects.get(blob)
    own, base = bom_link.split(text)
    return oci.artifact(own, sbom.MEDIA_TYPE, base)


def bill_of(image: ModelImage) -> str:
    """The blob with an image's bill of materials."""
    return f"sboms/{image.id}.json"
