"""Manifests for the prediction of what devices pull, each read once however many devices ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeloop.errors import IntegrityError
from edgeloop.rollout.bytes_ahead import Contents, Layer, shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeloop.containers.registry import Registry
    from edgeloop.rollout.bytes_ahead import Held


@dataclass(slots=True)
class Source:
    """The registry that devices pull from."""

    registry: Registry
    _layers: dict[str, frozenset[str]] = field(default_factory=dict)

    def contents(self, reference: str) -> Contents:
        """What ``host/repository@sha256:...`` is made of; raises ``NotFoundError`` if the registry has it not."""
        repository, digest = _parts(reference)
        manifest = self.registry.get(repository, digest)
        diff_ids = self.registry.config(repository, manifest)["rootfs"]["diff_ids"]
        if len(diff_ids) != len(manifest.layers):
            raise IntegrityError(
                f"{reference} has {len(manifest.layers)} layers in its manifest, {len(diff_ids)} in its configuration.",
                left="every device serves what it served",
                next="Push the image again under a new version.",
            )
        layers = tuple(
            Layer(digest=one.digest, size=one.size, diff_id=diff_id)
            for one, diff_id in zip(manifest.layers, diff_ids, strict=True)
        )
        return Contents(digest=digest, layers=layers, overhead=manifest.size + manifest.config.size)

    def known(self, wanted: Contents, held: Sequence[Held]) -> frozenset[str]:
        """Digests of layers that a device pulled with images that share a base with ``wanted``.

        Only images of this registry are looked up; what came from elsewhere, or was loaded, counts as unknown, so that
        a prediction may be too high and never too low.
        """
        found: frozenset[str] = frozenset()
        needed = {one.digest for one in wanted.layers}
        for image in sorted(held, key=lambda one: shared(wanted, one), reverse=True):
            if not shared(wanted, image) or needed <= found:
                break
            for reference in image.pulled_as:
                found |= self._digests(reference)
        return found & needed

    def _digests(self, reference: str) -> frozenset[str]:
        host, _, _ = reference.partition("/")
        if host != self.registry.endpoint.host:
            return frozenset()
        if reference not in self._layers:
            manifest = self.registry.find(*_parts(reference))
            digests = () if manifest is None else (one.digest for one in manifest.layers)
            self._layers[reference] = frozenset(digests)
        return self._layers[reference]


def _parts(reference: str) -> tuple[str, str]:
    """Repository without the host, and digest."""
    name, _, digest = reference.partition("@")
    return name.partition("/")[2], digest
