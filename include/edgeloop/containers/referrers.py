"""What belongs to an image in a registry, found from the image: referrers of OCI distribution 1.1, and their fallback.

A registry without the referrers API (Debian's 2.8.2) keeps an index under the tag ``sha256-<digest>`` that everybody
rewrites. Two who do so at once would lose one entry. So every artifact first gets a tag of its own,
``sha256-<digest>.<artifact>``, and the index is written until it holds all that have one: whoever writes last looks at
the tags after that, and sees them all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.containers.content import OCI_MANIFEST, Content, ImageContent
from edgeloop.errors import IntegrityError
from edgeloop.record_base import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
SHORT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """An artifact that belongs to an image: its manifest's digest and size, and what it is."""

    digest: str
    size: int
    media_type: str = OCI_MANIFEST
    artifact_type: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As a descriptor of an index."""
        body = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return body | ({"artifactType": self.artifact_type} if self.artifact_type else {})

    @classmethod
    def of(cls, body: dict[str, Any]) -> Attached:
        """From a descriptor of an index."""
        return cls(
            digest=str(body["digest"]),
            size=int(body["size"]),
            media_type=str(body.get("mediaType") or OCI_MANIFEST),
            artifact_type=str(body.get("artifactType") or ""),
        )


def fallback_tag(subject: str) -> str:
    """The tag of the index of what belongs to ``subject`` (``sha256:...``)."""
    return subject.replace(":", "-")


def own_tag(subject: str, artifact: str) -> str:
    """An artifact's own tag beside that."""
    return f"{fallback_tag(subject)}.{artifact.removeprefix('sha256:')[:SHORT]}"


def with_subject(artifact: ImageContent, subject: str, media_type: str, size: int) -> ImageContent:
    """The artifact with ``subject`` in its manifest; raises ``IntegrityError`` if it names another already."""
    with artifact.manifest.open() as source:
        body = json.loads(source.read())
    named = (body.get("subject") or {}).get("digest")
    if named == subject:
        return artifact
    if named:
        raise IntegrityError(
            f"The artifact {artifact.digest} belongs to {named}, not to {subject}.",
            left="nothing was sent",
            next="Make the artifact for the image that it is attached to.",
        )
    whole = {**body, "subject": {"mediaType": media_type, "digest": subject, "size": size}}
    manifest = Content.of(canonical_json(whole), artifact.manifest.descriptor.media_type)
    return ImageContent(manifest=manifest, blobs=artifact.blobs)


def entry(artifact: ImageContent) -> Attached:
    """How an index names an artifact."""
    with artifact.manifest.open() as source:
        body = json.loads(source.read())
    described = artifact.manifest.descriptor
    return Attached(
        digest=described.digest, size=described.size, media_type=described.media_type, artifact_type=kind_of(body)
    )


def kind_of(manifest: dict[str, Any]) -> str:
    """What an artifact is: its type, or its configuration's where it names none."""
    return str(manifest.get("artifactType") or (manifest.get("config") or {}).get("mediaType") or "")


def index(entries: Iterable[Attached]) -> Content:
    """The index of the fallback tag: the same entries give the same bytes, in whatever order they came."""
    ordered = [one.to_dict() for one in sorted(set(entries), key=lambda one: one.digest)]
    return Content.of(canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": ordered}), OCI_INDEX)
