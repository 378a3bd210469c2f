"""What belongs to an image in a registry, found from the image: referrers of OCI distribution 1.1, and their fallback.

A registry without the referrers API (Debian's 2.8.2) keeps an index under the tag ``sha256-<digest>`` that everybody
reads, adds to, writes whole, and reads back. That costs the same however many images a repository has. Whoever writes
between another's look and its writing is overwritten where the registry knows no conditions: so says the specification,
and no tag of one's own helps without listing all tags, which grew with each image. It is harmless here: an image's bill
is kept in the store and made once, so two packagings of it at once write the same index, byte for byte; what another
tool loses that way (a signature) it finds missing, and so does the next run of the task with the bill.
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


def index(named: Iterable[dict[str, Any]]) -> Content:
    """The index of the fallback tag: the same descriptors give the same bytes, in whatever order they came."""
    ordered = sorted({str(one["digest"]): one for one in named}.items())
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one for _, one in ordered]}
    return Content.of(canonical_json(body), OCI_INDEX)
