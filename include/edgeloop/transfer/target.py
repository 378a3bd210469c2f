"""What transfers need of a container, and what they say of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import RawIOBase
    from pathlib import Path

    from edgeloop.azure.blob import BlobItem, Looked
    from edgeloop.azure.features import Features
    from edgeloop.azure.wire import Ranged
    from edgeloop.records import FileRef

READ_BYTES = 1024 * 1024
Log = Callable[[str], None]


class Target(Protocol):
    """A container; :class:`edgeloop.azure.blob.BlobContainer` is one, and says what each method promises."""

    name: str

    @property
    def features(self) -> Features:
        """Limits of the service."""
        ...

    def look(self, name: str) -> Looked:
        """Size, etag and metadata, or raise ``NotFoundError``."""
        ...

    def put_whole(self, name: str, data: bytes, *, metadata: dict[str, str]) -> str:
        """Write a small blob, or raise ``ConflictError`` if it is there."""
        ...

    def staged(self, name: str) -> dict[str, int]:
        """Ids and sizes of uncommitted blocks."""
        ...

    def stage(self, name: str, block: str, data: bytes) -> None:
        """Send one block with its checksum."""
        ...

    def commit(self, name: str, blocks: list[str], *, metadata: dict[str, str] | None = None) -> str:
        """Make the blob, or raise ``ConflictError`` if it is there."""
        ...

    def committed(self, name: str) -> dict[str, int]:
        """Ids and sizes of a blob's blocks, in order."""
        ...

    def fetch(self, name: str, start: int, length: int, etag: str = "") -> Ranged:
        """A piece of one version."""
        ...

    def chunks(
        self, name: str, *, block: int, workers: int, start: int = 0, seen: Callable[[Ranged], None]
    ) -> Iterator[bytes]:
        """The bytes of one version in order."""
        ...

    def get(self, name: str) -> bytes:
        """The whole of a small blob."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write or replace a small blob."""
        ...

    def put_new(self, name: str, data: bytes) -> None:
        """Write a small blob, or raise ``ConflictError`` if it is there."""
        ...

    def delete(self, name: str) -> None:
        """Remove the blob."""
        ...

    def list(self, prefix: str = "", *, make: bool = True) -> Iterator[BlobItem]:
        """Blobs by prefix; with ``make`` false a container that is not there raises ``NotFoundError``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """A file that is in blob storage; ``found`` if it was there before, ``sent`` in bytes.

    ``etag`` is the version that was proven and ``proof`` how; both are empty if nothing was read back. ``stamp`` is by
    what the file that was read is known until it changes, "" if that is not certain.
    """

    file: FileRef
    found: bool
    sent: int
    etag: str = ""
    proof: str = ""
    stamp: str = ""


def file_digest(path: Path) -> tuple[int, str]:
    """Size and sha256 of a file, read once."""
    with path.open("rb", buffering=0) as stream:
        return digest_of(stream)


def digest_of(stream: RawIOBase, expected: int = READ_BYTES) -> tuple[int, str]:
    """Size and sha256 of what is left in an open file, ``expected`` bytes or more or less."""
    size, sha256 = 0, hashlib.sha256()
    # Memory for a MiB, set aside and given back for every small file, took longer than to read it.
    at_once = min(READ_BYTES, expected + 1)
    while data := stream.read(at_once):
        size += len(data)
        sha256.update(data)
    return size, sha256.hexdigest()
