"""One file to one blob: conditional, checked block by block on the way, read back whole afterwards.

Blocks are named by their number and content, so an upload that was interrupted goes on with what the service already
holds. The blob appears only when all of its blocks are there, and only if nobody else made it meanwhile.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgeloop.errors import ConflictError, IntegrityError, NotFoundError
from edgeloop.records import FileRef

if TYPE_CHECKING:
    from pathlib import Path

BLOCK_BYTES = 4 * 1024 * 1024
READ_BYTES = 1024 * 1024


class Target(Protocol):
    """The container an upload needs; :class:`edgeloop.azure.blob.BlobContainer` is one."""

    name: str

    def staged(self, name: str) -> dict[str, int]:
        """Ids and sizes of uncommitted blocks."""
        ...

    def stage(self, name: str, block: str, data: bytes) -> None:
        """Send one block with its checksum."""
        ...

    def commit(self, name: str, blocks: list[str], *, metadata: dict[str, str] | None = None) -> None:
        """Make the blob, or raise ``ConflictError`` if it is there."""
        ...

    def digest(self, name: str) -> tuple[int, str]:
        """Size and sha256 of the stored bytes, or raise ``NotFoundError``."""
        ...

    def delete(self, name: str) -> None:
        """Remove the blob."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """A file that is in blob storage; ``found`` if it was there before, ``sent`` in bytes."""

    file: FileRef
    found: bool
    sent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an upload is; sizes in bytes, ``resumed`` were there from an earlier try."""

    name: str
    done: int
    size: int
    resumed: int


Report = Callable[[Progress], None]


def upload(container: Target, name: str, path: Path, *, report: Report | None = None) -> Transferred:
    """Put the file at ``path`` into the blob ``name`` and prove that it arrived.

    The same content under that name is found and left; nothing is sent.

    Raises:
        ConflictError: Other content has that name; it stays.
        IntegrityError: The file changed while it was sent (no blob was made), or what was read back is not what was
            sent (the blob was removed again).
        UnreachableError: The account did not answer; blocks that arrived are used by the next try.
    """
    size, sha256 = file_digest(path)
    file = FileRef(path=name, size=size, sha256=sha256)
    if there(container, file):
        return Transferred(file=file, found=True, sent=0)
    blocks, sent = _send(container, file, path, report)
    encoded = base64.b64encode(bytes.fromhex(sha256)).decode()
    try:
        container.commit(name, blocks, metadata={"sha256": sha256, "sha256_base64": encoded})
    except ConflictError:
        # Somebody was faster: the same content is as good as ours, other content raises.
        if there(container, file):
            return Transferred(file=file, found=True, sent=sent)
        raise
    try:
        verify(container, file)
    except IntegrityError as error:
        # Ours alone (the commit was conditional) and wrong: left in place it would block every retry.
        container.delete(name)
        raise IntegrityError(error.what, left="no blob; it was removed again", next="Clear the task.") from error
    return Transferred(file=file, found=False, sent=sent)


def there(container: Target, file: FileRef) -> bool:
    """Whether the blob is there with this content, judged by reading it; raises ``ConflictError`` on other content."""
    try:
        size, sha256 = container.digest(file.path)
    except NotFoundError:
        return False
    if (size, sha256) != (file.size, file.sha256):
        raise ConflictError(
            f"Blob {container.name}/{file.path} is there with other content: {size} bytes, sha256 {sha256[:16]}; "
            f"ours has {file.size} bytes, sha256 {file.sha256[:16]}.",
            left="the blob that is there",
            next="Find out what wrote it before you remove it; nothing overwrites it.",
        )
    return True


def verify(container: Target, file: FileRef) -> None:
    """Read the blob back and compare; raises ``IntegrityError``, or ``NotFoundError`` if it is gone."""
    size, sha256 = container.digest(file.path)
    if (size, sha256) != (file.size, file.sha256):
        raise IntegrityError(
            f"Blob {container.name}/{file.path} reads back as {size} bytes with sha256 {sha256}, "
            f"not as {file.size} bytes with sha256 {file.sha256}.",
            left="the blob as it is",
            next="Restore it, or remove it and clear the task that uploads it.",
        )


def file_digest(path: Path) -> tuple[int, str]:
    """Size and sha256 of a file, read once."""
    size, sha256 = 0, hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(READ_BYTES):
            size += len(chunk)
            sha256.update(chunk)
    return size, sha256.hexdigest()


def block_id(number: int, data: bytes) -> str:
    """The id of a block: its number and the digest of its bytes, so that equal ids mean equal bytes."""
    return base64.b64encode(f"{number:08d}-{hashlib.sha256(data).hexdigest()[:32]}".encode()).decode()


def _send(container: Target, file: FileRef, path: Path, report: Report | None) -> tuple[list[str], int]:
    waiting = container.staged(file.path)
    blocks: list[str] = []
    done, resumed, sha256 = 0, 0, hashlib.sha256()
    with path.open("rb") as stream:
        while data := stream.read(BLOCK_BYTES):
            sha256.update(data)
            block = block_id(len(blocks), data)
            if waiting.get(block) == len(data):
                resumed += len(data)
            else:
                container.stage(file.path, block, data)
            blocks.append(block)
            done += len(data)
            if report:
                report(Progress(name=file.path, done=done, size=file.size, resumed=resumed))
    if (done, sha256.hexdigest()) != (file.size, file.sha256):
        raise IntegrityError(
            f"{path.name} changed while it was uploaded.", left="no blob was made", next="Clear the task."
        )
    return blocks, done - resumed
