"""An image's layers on their way to a registry: each named as it was packed first, its bytes looked for when needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from edgeloop.containers.content import OCI_LAYER, Content, Descriptor
from edgeloop.errors import IntegrityError
from edgeloop.packaging import oci
from edgeloop.packaging.base_layers import Late
from edgeloop.packaging.inventory import Inventory, united
from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.containers.content import ImageContent
    from edgeloop.containers.engine import Engine
    from edgeloop.packaging.base_layers import Layers
    from edgeloop.packaging.build import Plan
    from edgeloop.store import Store

LAYERS, INVENTORIES = "layers", "inventories"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """The layers of one image: what the store says of them, what this worker has packed, and the engine's base."""

    engine: Engine
    plan: Plan
    cache: Layers
    store: Store

    def content(self) -> ImageContent:
        """The whole image; no byte of the base is read unless a registry asks for it."""
        layers = [self._base_layer(one) for one in self.plan.base.layers]
        return oci.image(self.plan.configuration, [*layers, self._model_layer()], self.plan.annotations)

    def settle(self, pushed: ImageContent) -> None:
        """Say for ever how the layers are packed, once a registry holds them so: the first to say it decides."""
        names = [*self.plan.base.layers, self._model_diff_id]
        for diff_id, blob in zip(names, pushed.blobs[1:], strict=True):
            self.store.fix(LAYERS, _key(diff_id), f"{blob.descriptor.digest} {blob.descriptor.size}")

    def inventory(self) -> Inventory:
        """What the base holds. Packs its layers if neither the store nor this worker knows them."""
        return united(self._inventory(one) for one in self.plan.base.layers)

    @property
    def _model_diff_id(self) -> str:
        return "sha256:" + sha256_hex(self.plan.layer)

    def _base_layer(self, diff_id: str) -> Content:
        wanted = self._decided(diff_id) or self._packed(diff_id)[0]
        return Late(descriptor=wanted, make=partial(self._file, diff_id, wanted))

    def _model_layer(self) -> Content:
        wanted = self._decided(self._model_diff_id)
        for pack in (oci.packed, oci.packed_before):
            made = pack(self.plan.layer)
            if wanted in {None, made.descriptor}:
                return made
        assert wanted is not None
        return Late(descriptor=wanted, make=partial(self._lost, self._model_diff_id, wanted))

    def _inventory(self, diff_id: str) -> Inventory:
        known = self.store.fixed(INVENTORIES, _key(diff_id))
        if known is None:
            known = self.store.fix(INVENTORIES, _key(diff_id), self._packed(diff_id)[1].to_json())
        return Inventory.from_json(known)

    def _decided(self, diff_id: str) -> Descriptor | None:
        said = self.store.fixed(LAYERS, _key(diff_id))
        if said is None:
            return None
        digest, _, size = said.partition(" ")
        return Descriptor(media_type=OCI_LAYER, digest=digest, size=int(size))

    def _packed(self, diff_id: str) -> tuple[Descriptor, Inventory]:
        found = self.cache.find(diff_id)
        # Nobody has vouched for it yet, and a registry compares packed bytes only.
        if found is None or not self.cache.holds(diff_id, found[0]):
            self._take()
            found = self.cache.find(diff_id)
        if found is None:
            raise IntegrityError(
                f"The packed layer {diff_id[:19]} vanished from {self.cache.root} while it was made.",
                left="the engine's images",
                next="See who cleans that folder; then clear the task.",
            )
        return found

    def _file(self, diff_id: str, wanted: Descriptor) -> Path:
        """The packed layer's file; one that is gone or was changed is packed again."""
        path = self.cache.file(diff_id, wanted)
        if path is None:
            self._take()
            path = self.cache.file(diff_id, wanted)
        return path or self._lost(diff_id, wanted)

    def _take(self) -> None:
        missing = [one for one in self.plan.base.layers if not self._here(one)]
        self.cache.take(self.engine.save(self.plan.base.id), missing)

    def _here(self, diff_id: str) -> bool:
        found = self.cache.find(diff_id)
        return found is not None and self.cache.file(diff_id, found[0]) is not None

    def _lost(self, diff_id: str, wanted: Descriptor) -> Path:
        raise IntegrityError(
            f"The registry lost {wanted.digest}, and this worker packs that layer ({diff_id[:19]}) otherwise.",
            left="the registry and the devices",
            next="Restore the blob in the registry from a backup, or clear the push task on a worker whose zlib "
            "packed it first.",
        )


def _key(diff_id: str) -> str:
    return diff_id.removeprefix("sha256:")
