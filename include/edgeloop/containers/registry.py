"""A container registry, asked over its own HTTP API: what it really holds, never what an engine says it pushed.

The API is the OCI distribution specification; manifests are taken in its form and in Docker's schema 2. Three time-outs
hold: ``registry_wire.CONNECT_SECONDS``, ``IDLE_SECONDS`` between two signs of life, and WHOLE_SECONDS for a question or
PUSH_SECONDS for a push.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgeloop.containers import referrers, registry_blobs, registry_manifests, registry_referrers
from edgeloop.containers import registry_problems as problems
from edgeloop.containers.auth import scope_of
from edgeloop.containers.endpoint import PullLogin
from edgeloop.containers.registry_wire import WHOLE_SECONDS, Call, CutError, Deadline, Wire
from edgeloop.errors import ConflictError, IntegrityError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeloop.containers.content import Content, ImageContent
    from edgeloop.containers.endpoint import RegistryEndpoint
    from edgeloop.containers.referrers import Attached
    from edgeloop.containers.registry_manifests import Stored

__all__ = ["PUSH_SECONDS", "WHOLE_SECONDS", "Blob", "Manifest", "Registry"]

PUSH_SECONDS = 1800.0
OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One blob of an image: its digest (``sha256:...``) and size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An image in a registry; ``digest`` is the sha256 of the bytes that were read, ``config`` is the image's id."""

    digest: str
    config: Blob
    layers: tuple[Blob, ...]
    size: int = 0
    """Of the manifest itself, in bytes."""
    found: bool = field(default=False, compare=False)
    """Whether a push found it there."""


class Registry:
    """One registry. Every method raises ``UnreachableError`` if it does not answer in time.

    ``ConfigurationError`` says that it lets us not in, or that we may not do what is asked.
    """

    def __init__(self, endpoint: RegistryEndpoint, *, push_seconds: float = PUSH_SECONDS) -> None:
        self.endpoint, self.push_seconds = endpoint, push_seconds
        self.wire = Wire(endpoint)

    def check(self) -> None:
        """Ask once whether it is there and lets us in; raises the house's errors."""
        try:
            self.wire.once(Call(method="GET", path="/v2/", doing="say that it is there"), Deadline.after(WHOLE_SECONDS))
        except CutError as cut:
            raise cut.error from cut

    def find(self, repository: str, reference: str) -> Manifest | None:
        """The manifest of a tag or digest, or None; raises ``IntegrityError`` if its bytes are not their digest's."""
        stored = registry_manifests.read(self.wire, repository, reference)
        if stored is None:
            return None
        try:
            return _manifest(stored)
        except (KeyError, TypeError) as error:
            raise IntegrityError(
                f"{repository} {reference} in the registry of connection {self.endpoint.connection!r} is no image of "
                f"one machine but {stored.media_type or 'something else'}.",
                left="the registry as it is",
                next="Name an image of one platform, or delete that tag and clear the push task.",
            ) from error

    def get(self, repository: str, reference: str) -> Manifest:
        """As :meth:`find`, but raises ``NotFoundError``."""
        found = self.find(repository, reference)
        if found is None:
            raise self._missing(repository, reference)
        return found

    def exists(self, repository: str, reference: str) -> bool:
        """Whether the registry holds that tag or digest."""
        return registry_manifests.read(self.wire, repository, reference) is not None

    def whole(self, repository: str, reference: str) -> bool:
        """Whether it holds that image with every blob that its manifest names; nothing of them is read."""
        found = self.find(repository, reference)
        return found is not None and all(
            registry_blobs.holds(self.wire, repository, one.digest, one.size, Deadline.after(WHOLE_SECONDS))
            for one in (found.config, *found.layers)
        )

    def config(self, repository: str, manifest: Manifest) -> dict[str, Any]:
        """The image's configuration as stored: environment, command, labels, layers."""
        body: dict[str, Any] = json.loads(self.blob(repository, manifest.config.digest))
        return body

    def blob(self, repository: str, digest: str) -> bytes:
        """A blob that fits into memory; raises ``IntegrityError`` if it is lost or is not its digest's."""
        answer = self.wire.send(
            Call(
                method="GET", path=f"/v2/{repository}/blobs/{digest}", doing=f"give blob {digest}",
                repository=repository, good=(OK, problems.NOT_FOUND),
            )
        )  # fmt: skip
        if answer.status != OK or registry_manifests.digest_of(answer.body) != digest:
            raise IntegrityError(
                f"The registry of connection {self.endpoint.connection!r} lost or changed {digest}.",
                left="the registry as it is",
                next="Clear the push task of that image.",
            )
        return answer.body

    def pull_login(self, repository: str, reference: str) -> PullLogin | None:
        """What a Docker engine needs to pull ``reference``: a token for just that where there are tokens, else our own.

        None where nothing is needed. Raises ``ConfigurationError`` if we may not pull it ourselves.
        """
        self.wire.send(
            Call(
                method="HEAD", path=f"/v2/{repository}/manifests/{reference}", doing=f"let {repository} be pulled",
                repository=repository, good=(OK, problems.NOT_FOUND), headers={"Accept": registry_manifests.ACCEPTED},
            )
        )  # fmt: skip
        kind, _, secret = self.wire.login.header(scope_of(repository, push=False)).partition(" ")
        if kind == "Bearer":
            return PullLogin(host=self.endpoint.host, token=secret)
        if kind == "Basic":
            return PullLogin(host=self.endpoint.host, user=self.endpoint.user, password=self.endpoint.password)
        return None

    def push(self, repository: str, tag: str, image: ImageContent) -> Manifest:
        """Bring ``image`` into ``repository`` under ``tag`` and read back which digest stands there.

        Blobs that are there are found and not sent; the manifest goes last, so an image is whole or not there at all.
        Raises ``IntegrityError`` if the tag holds another image afterwards: somebody else pushed to it.
        """
        deadline = Deadline.after(self.push_seconds)
        maybe = registry_blobs.bring_image(self.wire, repository, image, deadline)
        there = maybe and self._stands(repository, tag, image, deadline)
        if not there:
            self._named(repository, image, tag, deadline)
            if not self._stands(repository, tag, image, deadline):
                stands = self.get(repository, tag).digest
                raise problems.other_bytes(self.endpoint, image.digest, stands, f"{repository}:{tag}")
        return replace(_manifest(registry_manifests.stored(image.manifest)), found=there)

    def tag(self, repository: str, digest: str, tag: str, known: Content | None = None) -> None:
        """Give the image ``digest`` another tag; raises ``NotFoundError`` if it is not there.

        ``known`` is its manifest, where who asks has just brought it there; else it is read.
        """
        manifest = known or self._read(repository, digest).content
        registry_manifests.write(self.wire, repository, tag, manifest, Deadline.after(WHOLE_SECONDS))

    def attach(
        self, repository: str, subject_digest: str, artifact: ImageContent, known: Content | None = None
    ) -> Attached:
        """Bring ``artifact`` into ``repository`` as something that belongs to ``subject_digest``; again is no harm.

        Its manifest names its subject (added here if it does not); its first blob is its own, so nobody is asked for
        it. Where the registry keeps no referrers, OCI's tag for them is written. ``known`` as in :meth:`tag`.
        """
        deadline = Deadline.after(self.push_seconds)
        subject = (known or self._read(repository, subject_digest).content).descriptor
        whole = referrers.with_subject(artifact, subject.digest, subject.media_type, subject.size)
        entry = referrers.entry(whole)
        before = registry_referrers.listing(self.wire, repository, subject.digest, deadline)
        if entry in registry_referrers.entries(before):
            return entry
        registry_blobs.bring(self.wire, repository, whole, deadline, new=whole.blobs[:1])
        headers = self._named(repository, whole, whole.digest, deadline)
        if headers.get("OCI-Subject") != subject.digest:
            registry_referrers.enter(self.wire, repository, subject.digest, entry, before=before, deadline=deadline)
        return entry

    def attached(self, repository: str, subject_digest: str, artifact_type: str = "") -> tuple[Attached, ...]:
        """What belongs to ``subject_digest``, of one type or of all."""
        found = registry_referrers.listed(self.wire, repository, subject_digest)
        return tuple(one for one in found if artifact_type in {"", one.artifact_type})

    def _stands(self, repository: str, tag: str, image: ImageContent, deadline: Deadline) -> bool:
        """Whether the registry says that ``tag`` is ``image``."""
        kind = image.manifest.descriptor.media_type
        return registry_manifests.told(self.wire, repository, tag, kind, deadline) == image.digest

    def _read(self, repository: str, digest: str) -> Stored:
        stored = registry_manifests.read(self.wire, repository, digest)
        if stored is None:
            raise self._missing(repository, digest)
        return stored

    def _missing(self, repository: str, reference: str) -> NotFoundError:
        return NotFoundError(
            f"The registry of connection {self.endpoint.connection!r} has no {repository} {reference}.",
            left="its other images",
            next="Clear the push task of that image.",
        )

    def _named(self, repository: str, image: ImageContent, name: str, deadline: Deadline) -> Mapping[str, str]:
        """Write the manifest of ``image``, whose blobs are there, under ``name``; the headers of the answer."""
        for pause in registry_manifests.PAUSES:
            try:
                return registry_manifests.write(self.wire, repository, name, image.manifest, deadline)
            except (ConflictError, NotFoundError) as error:
                if not registry_manifests.misses(error):
                    raise
                time.sleep(pause)
                registry_blobs.bring(self.wire, repository, image, deadline)
        return registry_manifests.write(self.wire, repository, name, image.manifest, deadline)


def _manifest(stored: Stored) -> Manifest:
    return Manifest(
        digest=stored.digest,
        config=_blob(stored.body["config"]),
        layers=tuple(_blob(one) for one in stored.body["layers"]),
        size=stored.size,
    )


def _blob(body: dict[str, Any]) -> Blob:
    return Blob(digest=body["digest"], size=body["size"])
