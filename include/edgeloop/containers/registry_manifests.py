"""Manifests and indexes of a registry, read and written with their digests compared each way."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.containers import registry_problems as problems
from edgeloop.containers.content import OCI_MANIFEST, Content, Descriptor
from edgeloop.containers.referrers import OCI_INDEX
from edgeloop.containers.registry_wire import Call
from edgeloop.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeloop.containers.registry_wire import Deadline, Wire
    from edgeloop.errors import EdgeloopError

DOCKER = "application/vnd.docker.distribution.manifest"
ACCEPTED = ", ".join([OCI_MANIFEST, f"{DOCKER}.v2+json", OCI_INDEX, f"{DOCKER}.list.v2+json"])
OK, CREATED, FAILED = 200, 201, 412
PAUSES = (0.1, 0.3, 1.0, 3.0)
"""Before what a registry said that it misses is looked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A manifest or an index as the registry answered it; ``digest`` is the sha256 of the bytes that were read."""

    digest: str
    media_type: str
    size: int
    body: dict[str, Any]
    data: bytes = b""
    """Its bytes."""
    etag: str = ""
    """What a conditional write compares, where the registry knows such."""

    @property
    def content(self) -> Content:
        """To be written again."""
        return Content(
            descriptor=Descriptor(media_type=self.media_type, digest=self.digest, size=self.size), data=self.data
        )


def misses(error: EdgeloopError) -> bool:
    """Whether a manifest was refused for what it names.

    While somebody else sends the same blob or manifest, Debian's registry has its link empty for a moment and says that
    it does not know it (seen in 3 of 60 rounds of five pushes at once).
    """
    return "BLOB_UNKNOWN" in error.what


def digest_of(data: bytes) -> str:
    """``sha256:...``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def stored(content: Content) -> Stored:
    """As a registry that holds it would answer."""
    with content.open() as source:
        data = source.read()
    one = content.descriptor
    return Stored(digest=one.digest, media_type=one.media_type, size=one.size, body=json.loads(data), data=data)


def told(wire: Wire, repository: str, reference: str, media_type: str, deadline: Deadline) -> str | None:
    """Which digest the registry says that a tag has; None if it has none of ``media_type``."""
    answer = wire.send(
        Call(
            method="HEAD", path=f"/v2/{repository}/manifests/{reference}",
            doing=f"say what {repository} {reference} is", repository=repository, good=(OK, problems.NOT_FOUND),
            headers={"Accept": media_type},
        ),
        deadline,
    )  # fmt: skip
    if answer.status != OK:
        return None
    if digest := answer.headers.get("Docker-Content-Digest"):
        return digest
    found = read(wire, repository, reference, deadline, media_type)
    return None if found is None else found.digest


def read(
    wire: Wire, repository: str, reference: str, deadline: Deadline | None = None, accept: str = ACCEPTED
) -> Stored | None:
    """The manifest or index of a tag or digest, or None; raises ``IntegrityError`` if it is not what was asked for."""
    doing = f"give the manifest of {repository} {reference}"
    answer = wire.send(
        Call(
            method="GET", path=f"/v2/{repository}/manifests/{reference}", doing=doing, repository=repository,
            good=(OK, problems.NOT_FOUND), headers={"Accept": accept},
        ),
        deadline,
    )  # fmt: skip
    if answer.status != OK:
        return None
    digest = digest_of(answer.body)
    if reference.startswith("sha256:") and reference != digest:
        raise IntegrityError(
            f"The registry of connection {wire.endpoint.connection!r} answers {digest} when asked for {reference}.",
            left="the registry as it is",
            next="Delete that manifest from the registry and push the image again.",
        )
    try:
        body = json.loads(answer.body)
        media_type = str(body.get("mediaType") or answer.headers.get("Content-Type", "")).partition(";")[0]
    except (ValueError, AttributeError) as error:
        raise problems.silent(wire.endpoint, doing, "it is no JSON object") from error
    etag = answer.headers.get("ETag", "")
    return Stored(digest=digest, media_type=media_type, size=len(answer.body), body=body, data=answer.body, etag=etag)


def write(
    wire: Wire,
    repository: str,
    reference: str,
    content: Content,
    deadline: Deadline,
    *,
    only: Mapping[str, str] | None = None,
) -> Mapping[str, str]:
    """Put a manifest or index under a tag or its digest; returns the answer's headers.

    With ``only``, the headers of a condition, nothing is written where the registry knows conditions and this is not
    met; who asks must read back.
    """
    with content.open() as source:
        data = source.read()
    wanted = content.descriptor.digest
    if digest_of(data) != wanted:
        raise problems.other_bytes(wire.endpoint, wanted, digest_of(data), "the manifest to send")
    answer = wire.send(
        Call(
            method="PUT", path=f"/v2/{repository}/manifests/{reference}", repository=repository, push=True,
            doing=f"take the manifest of {repository} {reference}", good=(CREATED, FAILED) if only else (CREATED,),
            headers={"Content-Type": content.descriptor.media_type, **(only or {})}, data=data,
        ),
        deadline,
    )  # fmt: skip
    told = answer.headers.get("Docker-Content-Digest", wanted)
    if told != wanted:
        raise problems.other_bytes(wire.endpoint, wanted, told, f"{repository} {reference}")
    return answer.headers
