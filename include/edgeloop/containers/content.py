"""The content of an image as the OCI image specification lays it out: blobs by digest, and the manifest naming them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from edgeloop.record_base import sha256_hex

if TYPE_CHECKING:
    from pathlib import Path

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What a manifest says of a blob: its media type, ``sha256:...`` and size in bytes as it travels."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A blob that can be read as often as needed: from memory, or from a file whatever its size."""

    descriptor: Descriptor
    data: bytes = b""
    file: Path | None = None

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Content:
        """Bytes in memory, under their own digest."""
        digest = f"sha256:{sha256_hex(data)}"
        return cls(descriptor=Descriptor(media_type=media_type, digest=digest, size=len(data)), data=data)

    def open(self) -> BinaryIO:
        """A fresh reader from the first byte on."""
        return self.file.open("rb") if self.file is not None else io.BytesIO(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContent:
    """A whole image, or an artifact that belongs to one: its manifest's bytes, and the blobs that it names."""

    manifest: Content
    blobs: tuple[Content, ...]
    """The configuration first, then the layers from the base to the model."""

    @property
    def digest(self) -> str:
        """``sha256:...`` of the manifest: what devices deploy by."""
        return self.manifest.descriptor.digest
