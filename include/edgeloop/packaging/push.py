"""Pushing an image and reading back from the registry what has arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import IntegrityError

if TYPE_CHECKING:
    from edgeloop.containers.engine import Engine
    from edgeloop.containers.registry import Registry
    from edgeloop.packaging.build import Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An image in the registry: ``reference`` is ``host/repository@sha256:...``; ``size`` in bytes, packed."""

    reference: str
    digest: str
    size: int
    found: bool


def ensure(engine: Engine, registry: Registry, name: Name, engine_id: str, *, force: bool = False) -> Pushed:
    """Push ``name``, whose id on ``engine`` is ``engine_id``, unless the registry holds exactly it.

    The digest is that of the manifest's bytes as read back. Raises ``IntegrityError`` if the registry holds something
    else under the name after the push.
    """
    repository = name.repository.removeprefix(f"{registry.endpoint.host}/")
    manifest = registry.find(repository, name.tag)
    found = manifest is not None and manifest.config.digest == engine_id and not force
    if not found:
        told = engine.push(name.repository, name.tag, registry.endpoint)
        manifest = registry.get(repository, name.tag)
        if manifest.digest != told:
            raise _not_what_was_pushed(name, told, manifest.digest)
    assert manifest is not None
    if manifest.config.digest != engine_id:
        raise _not_what_was_pushed(name, engine_id, manifest.config.digest)
    return Pushed(
        reference=f"{name.repository}@{manifest.digest}",
        digest=manifest.digest,
        size=sum(one.size for one in manifest.layers),
        found=found,
    )


def _not_what_was_pushed(name: Name, wanted: str, got: str) -> IntegrityError:
    return IntegrityError(
        f"{name} should be {wanted} in the registry, but it answers {got}.",
        left="the devices serve what they served",
        next="See who else pushes to that repository; then clear the push task.",
    )
