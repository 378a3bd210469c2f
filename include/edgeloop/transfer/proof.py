"""Reading back: what is stored is what was meant, by bytes that come from the service and not from us.

``full``: every byte is read back and hashed. ``sampled`` (``transfer.verify``, for blobs above
``transfer.sample_above_mb`` that went up in blocks) proves less, and says so:

* size and the sha256 in the metadata are those of the file;
* the service made the blob of exactly our blocks in our order, each of which it checked by MD5 when it arrived: their
  names, which hold their number and sha256, are read back;
* the first block, the last one and some between, drawn by the file's own digest, read back with the sha256 in their
  names. A blob that was damaged elsewhere after it had arrived is not noticed.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import ConflictError, IntegrityError
from edgeloop.transfer.plan import Terms, plan
from edgeloop.transfer.throttle import throttle_of

if TYPE_CHECKING:
    from edgeloop.azure.wire import Ranged
    from edgeloop.records import FileRef
    from edgeloop.transfer.target import Target
    from edgeloop.transfer.throttle import Throttle

DIGEST_CHARS = 32
SAMPLE_SHARE, SAMPLE_LEAST = 0.02, 16
FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was read back: of which version, ``how`` as a sentence; ``full`` for all of it."""

    etag: str
    how: str


def verify(container: Target, file: FileRef, terms: Terms | None = None, throttle: Throttle | None = None) -> Proof:
    """Read the blob back and compare; raises ``IntegrityError``, or ``NotFoundError`` if it is gone."""
    terms = terms or Terms()
    throttle = throttle or throttle_of(terms)
    if terms.sampled and file.size > terms.sample_above:
        blocks = container.committed(file.path)
        if named(blocks):
            return _sampled(container, file, blocks, throttle)
    return _full(container, file, terms, throttle)


def there(container: Target, file: FileRef, terms: Terms | None = None, throttle: Throttle | None = None) -> Proof:
    """Prove that the blob of that name is this file; raises ``ConflictError`` on other content, ``NotFoundError``."""
    found = container.look(file.path)
    why = f"{found.size} bytes"
    if found.size == file.size:
        try:
            return verify(container, file, terms, throttle)
        except IntegrityError as error:
            why = error.what
    raise ConflictError(
        f"Blob {container.name}/{file.path} is there with other content: {why}; "
        f"ours has {file.size} bytes, sha256 {file.sha256[:16]}.",
        left="the blob that is there",
        next="Find out what wrote it before you remove it; nothing overwrites it.",
    )


def _full(container: Target, file: FileRef, terms: Terms, throttle: Throttle) -> Proof:
    way, first, size, sha256 = plan(file.size, terms), list[str](), 0, hashlib.sha256()

    def seen(piece: Ranged) -> None:
        first.append(piece.etag)

    for chunk in container.chunks(file.path, block=way.block_bytes, workers=way.workers, seen=seen):
        throttle.take(len(chunk))
        size += len(chunk)
        sha256.update(chunk)
    if (size, sha256.hexdigest()) != (file.size, file.sha256):
        raise _wrong(container, file, f"as {size} bytes with sha256 {sha256.hexdigest()}")
    return Proof(etag=first[0], how=FULL)


def _sampled(container: Target, file: FileRef, blocks: dict[str, int], throttle: Throttle) -> Proof:
    found = container.look(file.path)
    if found.size != file.size or sum(blocks.values()) != file.size:
        raise _wrong(container, file, f"as {found.size} bytes in blocks of {sum(blocks.values())}")
    if found.metadata.get("sha256") != file.sha256:
        raise _wrong(container, file, f"with {found.metadata.get('sha256', 'no sha256')} in its metadata")
    names, sizes = list(blocks), list(blocks.values())
    chosen = sample(file.sha256, len(names))
    for number in chosen:
        throttle.take(sizes[number])
        piece = container.fetch(file.path, sum(sizes[:number]), sizes[number], found.etag)
        if block_id(number, piece.data) != names[number]:
            raise _wrong(container, file, f"with other bytes in block {number} of {len(names)}")
    share = 100 * sum(sizes[number] for number in chosen) / file.size
    return Proof(
        etag=found.etag,
        how=f"sampled: {len(chosen)} of {len(names)} blocks ({share:.1f} % of the bytes) read back, all blocks' names "
        "and checksums on arrival",
    )


def sample(sha256: str, blocks: int) -> list[int]:
    """Which blocks are read back: the first, the last, and some that the content decides and nobody else."""
    between = range(1, blocks - 1)
    count = min(len(between), max(SAMPLE_LEAST, int(blocks * SAMPLE_SHARE)))
    # The same blocks for whoever verifies: a second reading tells whether the first one's finding is still so.
    return sorted({0, blocks - 1, *random.Random(sha256).sample(between, count)})


def block_id(number: int, data: bytes) -> str:
    """The id of a block: its number and the digest of its bytes, so that equal ids mean equal bytes."""
    return f"{number:08d}-{hashlib.sha256(data).hexdigest()[:DIGEST_CHARS]}"


def named(blocks: dict[str, int]) -> bool:
    """Whether these are blocks that an upload of ours named, numbered from 0 without a gap."""
    return bool(blocks) and all(one.startswith(f"{number:08d}-") for number, one in enumerate(blocks))


def _wrong(container: Target, file: FileRef, how: str) -> IntegrityError:
    return IntegrityError(
        f"Blob {container.name}/{file.path} reads back {how}, not as {file.size} bytes with sha256 {file.sha256}.",
        left="the blob as it is",
        next="Restore it, or remove it and clear the task that uploads it.",
    )
