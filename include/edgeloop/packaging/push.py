"""Pushing an image and reading back from the registry what has arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import IntegrityError

if TYPE_CHECKING:
    from edgeloop.containers.content import ImageContent
    from edgeloop.containers.registry import Manifest, Registry
    from edgeloop.packaging.build import Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An image in the registry: ``reference`` is ``host/repository@sha256:...``; ``size`` in bytes, packed."""

    reference: str
    digest: str
    size: int
    found: bool


def ensure(registry: Registry, name: Name, content: ImageContent, *, proven: str) -> Pushed:
    """Push ``content`` as ``name`` unless the registry holds exactly it.

    Args:
        registry: Where to.
        name: Its repository begins with the registry's host.
        content: The image; blobs that are there are not sent.
        proven: The digest of the configuration that was proven (the image's id on an engine that ran it).

    Raises:
        IntegrityError: ``content`` is not what was proven, or the registry holds something else under the name after
            the push.
    """
    config = content.blobs[0].descriptor.digest
    if config != proven:
        raise IntegrityError(
            f"{name} would be {config[:19]}, but it was {proven[:19]} that was proven.",
            left="the registry and the devices",
            next="Clear the prove task of this run.",
        )
    repository = name.repository.removeprefix(f"{registry.endpoint.host}/")
    manifest = registry.push(repository, name.tag, content)
    return _pushed(name, manifest, found=manifest.found)


def as_found(name: Name, manifest: Manifest) -> Pushed:
    """An image that the registry has already."""
    return _pushed(name, manifest, found=True)


def _pushed(name: Name, manifest: Manifest, *, found: bool) -> Pushed:
    return Pushed(
        reference=f"{name.repository}@{manifest.digest}",
        digest=manifest.digest,
        size=sum(one.size for one in manifest.layers),
        found=found,
    )
