"""A container registry, asked over its own HTTP API: what it really holds, never what an engine says it pushed.

The API is the OCI distribution specification; manifests are taken in its form and in Docker's schema 2. Three time-outs
hold: ``registry_wire.CONNECT_SECONDS``, ``IDLE_SECONDS`` between two signs of life, and WHOLE_SECONDS for a question or
PUSH_SECONDS for a push.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgeloop.containers import referrers, registry_manifests, registry_referrers
from edgeloop.containers import registry_problems as problems
from edgeloop.containers.auth import scope_of
from edgeloop.containers.content import Content
from edgeloop.containers.endpoint import PullLogin
from edgeloop.containers.registry_upload import Upload
from edgeloop.containers.registry_wire import WHOLE_SECONDS, Call, CutError, Deadline, Wire
from edgeloop.errors import ConflictError, IntegrityError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.containers.content import ImageContent
    from edgeloop.containers.endpoint import RegistryEndpoint
    from edgeloop.containers.referrers import Attached
    from edgeloop.containers.registry_manifests import Stored

__all__ = ["PUSH_SECONDS", "WHOLE_SECONDS", "Blob", "Manifest", "Registry"]

PUSH_SECONDS = 1800.0
PAUSES = (0.1, 0.3, 1.0, 3.0)
BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
OK = 200
LOG = logging.getLogger(__name__)


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
        """Bring ``image`` into ``repository`` under ``tag`` and read back what stands there.

        Blobs that are there are found and not sent; the manifest goes last, so an image is whole or not there at all.
        Raises ``IntegrityError`` if the tag holds another image afterwards: somebody else pushed to it.
        """
        deadline = Deadline.after(self.push_seconds)
        self._send_blobs(repository, image, deadline)
        before = registry_manifests.read(self.wire, repository, tag, deadline)
        there = before is not None and before.digest == image.digest
        if not there:
            self._named(
                repository,
                image,
                deadline,
                lambda: registry_manifests.write(self.wire, repository, tag, image.manifest, deadline),
            )
        found = self.get(repository, tag)
        if found.digest != image.digest:
            raise problems.other_bytes(self.endpoint, image.digest, found.digest, f"{repository}:{tag}")
        return replace(found, found=there)

    def tag(self, repository: str, digest: str, tag: str) -> None:
        """Give the image ``digest`` another tag; raises ``NotFoundError`` if it is not there."""
        stored = registry_manifests.read(self.wire, repository, digest)
        if stored is None:
            raise self._missing(repository, digest)
        whole = Content.of(stored.data, stored.media_type)
        registry_manifests.write(self.wire, repository, tag, whole, Deadline.after(WHOLE_SECONDS))

    def attach(self, repository: str, subject_digest: str, artifact: ImageContent) -> Attached:
        """Bring ``artifact`` into ``repository`` as something that belongs to ``subject_digest``; again is no harm.

        Its manifest names its subject (added here if it does not). Where the registry keeps no referrers, the tags of
        OCI's fallback are written, so that several at once lose nothing.
        """
        deadline = Deadline.after(self.push_seconds)
        subject = registry_manifests.read(self.wire, repository, subject_digest, deadline)
        if subject is None:
            raise self._missing(repository, subject_digest)
        whole = referrers.with_subject(artifact, subject.digest, subject.media_type, subject.size)
        entry = referrers.entry(whole)
        if entry in self.attached(repository, subject.digest):
            return entry
        self._send_blobs(repository, whole, deadline)
        self._named(
            repository,
            whole,
            deadline,
            lambda: registry_referrers.write(self.wire, repository, subject.digest, whole, deadline),
        )
        if entry.digest not in {one.digest for one in self.attached(repository, subject.digest)}:
            raise problems.other_bytes(self.endpoint, whole.digest, "others", f"what belongs to {subject_digest}")
        return entry

    def attached(self, repository: str, subject_digest: str, artifact_type: str = "") -> tuple[Attached, ...]:
        """What belongs to ``subject_digest``, of one type or of all."""
        found = registry_referrers.listed(self.wire, repository, subject_digest)
        return tuple(one for one in found if artifact_type in {"", one.artifact_type})

    def _missing(self, repository: str, reference: str) -> NotFoundError:
        return NotFoundError(
            f"The registry of connection {self.endpoint.connection!r} has no {repository} {reference}.",
            left="its other images",
            next="Clear the push task of that image.",
        )

    def _send_blobs(self, repository: str, image: ImageContent, deadline: Deadline) -> None:
        for content in image.blobs:
            if self._has(repository, content, deadline):
                continue
            upload = Upload(self.wire, repository, content, deadline)
            upload.run()
            if not self._has(repository, content, deadline):
                raise problems.other_bytes(
                    self.endpoint, content.descriptor.digest, "nothing", f"a blob of {repository} that it took"
                )
            LOG.info("Sent %s, %d bytes, to %s", content.descriptor.digest[:19], upload.sent, repository)

    def _named(self, repository: str, image: ImageContent, deadline: Deadline, write: Callable[[], object]) -> None:
        """Write what names the blobs of ``image``, which are there."""
        for pause in (*PAUSES, None):
            try:
                write()
            except ConflictError as error:
                # While somebody else sends the same blob, Debian's registry has its link empty for a moment and says
                # that it does not know the blob (seen in 3 of 60 rounds of five pushes at once).
                if pause is None or BLOB_UNKNOWN not in error.what:
                    raise
                time.sleep(pause)
                self._send_blobs(repository, image, deadline)
            else:
                return

    def _has(self, repository: str, content: Content, deadline: Deadline) -> bool:
        digest = content.descriptor.digest
        answer = self.wire.send(
            Call(
                method="HEAD", path=f"/v2/{repository}/blobs/{digest}", doing=f"say whether it has {digest}",
                repository=repository, push=True, good=(OK, problems.NOT_FOUND),
            ),
            deadline,
        )  # fmt: skip
        length = answer.headers.get("Content-Length", "")
        return answer.status == OK and length in {"", str(content.descriptor.size)}


def _manifest(stored: Stored) -> Manifest:
    return Manifest(
        digest=stored.digest,
        config=_blob(stored.body["config"]),
        layers=tuple(_blob(one) for one in stored.body["layers"]),
        size=stored.size,
    )


def _blob(body: dict[str, Any]) -> Blob:
    return Blob(digest=body["digest"], size=body["size"])
