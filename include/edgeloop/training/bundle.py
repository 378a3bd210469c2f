"""What a job finds on the VM, and the tar streams that bring it: many small files travel 2.5 times faster so."""

from __future__ import annotations

import tarfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

from edgeloop.errors import IntegrityError
from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from edgeloop.azure.blob import BlobContainer

MANIFEST = "manifest.sha256"
HELD, LOOSE = "held", "loose"
"""Where the last stream finds what arrived before it, and puts what it brings itself."""
BLOCK = tarfile.BLOCKSIZE
KIB, GIB = 1024, 1024**3
AHEAD = 8
"""How many small files are read from storage while others are being sent."""
Way = Literal["auto", "direct", "worker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file of the job: its path there, its size in bytes, its sha256, and where its bytes come from.

    ``read`` gives the bytes from an offset on. ``blob`` is its name in the cargo's storage, "" if it is not there.
    ``cached`` says whether the VM keeps it for other jobs.
    """

    path: str
    size: int
    sha256: str
    read: Callable[[int], Iterable[bytes]]
    blob: str = ""
    cached: bool = True

    @property
    def loose(self) -> bool:
        """Whether it travels with the job's own folder; nothing is gained by keeping an empty file."""
        return not self.cached or not self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Cargo:
    """Everything a job finds on the VM, and how it gets there.

    Args:
        members: The files.
        source: The container that members with a ``blob`` are in.
        way: ``training.staging`` of the pipeline.
        cache_bytes: What the VM may keep for other jobs when this one is staged.
        spare_kib: Free disk that the VM must have beyond what is sent.
    """

    members: tuple[Member, ...]
    source: BlobContainer | None = None
    way: Way = "auto"
    cache_bytes: int = 20 * GIB
    spare_kib: int = 64 * KIB


def member(path: str, data: bytes) -> Member:
    """A small file that is in memory and belongs to one job."""
    return Member(path=path, size=len(data), sha256=sha256_hex(data), read=lambda start: (data[start:],), cached=False)


def manifest(members: Iterable[Member]) -> bytes:
    """The members' digests as ``sha256sum -c`` reads them, names with a backslash or line end escaped as it does."""
    return "".join(_line(one) for one in members).encode()


def _line(one: Member) -> str:
    escaped = one.path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == one.path else chr(92)}{one.sha256}  {escaped}\n"


def tar_stream(members: Iterable[Member], *, sent: Callable[[int], None] = lambda _: None) -> Iterator[bytes]:
    """The members as a tar, each named by its sha256; files ahead are read while one is sent.

    ``sent`` is told the size of each that went.

    Raises:
        IntegrityError: A source gave more or fewer bytes than its size says.
    """
    for one, data in _ahead(members):
        if len(data) != one.size:
            raise IntegrityError(
                f"{one.path} has {len(data)} bytes in storage, its record says {one.size}.",
                left="nothing was started on the VM",
                next="Rerun the ingest run that certified it with a force reason.",
            )
        yield _head(one.sha256, one.size) + data + b"\0" * (-one.size % BLOCK)
        sent(one.size)
    yield b"\0" * (2 * BLOCK)


def _ahead(members: Iterable[Member]) -> Iterator[tuple[Member, bytes]]:
    rest = iter(members)

    def whole(one: Member) -> tuple[Member, bytes]:
        return one, b"".join(one.read(0))

    with ThreadPoolExecutor(AHEAD, thread_name_prefix="staging") as pool:
        waiting: deque[Future[tuple[Member, bytes]]] = deque(pool.submit(whole, one) for one in islice(rest, AHEAD))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(whole, one) for one in islice(rest, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def folder_stream(members: Sequence[Member]) -> Iterator[bytes]:
    """The job's folder as a tar: loose files with their bytes, the others as links to what arrived before.

    File names are in the tar and in no shell text, so that they may hold any character. The same members are the same
    bytes.
    """
    sent: set[str] = set()
    for one in members:
        if one.loose and one.sha256 not in sent:
            sent.add(one.sha256)
            data = b"".join(one.read(0))
            yield _head(f"{LOOSE}/{one.sha256}", len(data)) + data + b"\0" * (-len(data) % BLOCK)
    for one in members:
        yield _head(one.path, 0, link=f"{LOOSE if one.loose else HELD}/{one.sha256}")
    listed = manifest(members)
    yield _head(MANIFEST, len(listed)) + listed + b"\0" * (-len(listed) % BLOCK)
    yield b"\0" * (2 * BLOCK)


def _head(path: str, size: int, *, link: str = "") -> bytes:
    info = tarfile.TarInfo(path)
    info.size, info.mode = size, 0o444
    if link:
        info.type, info.linkname = tarfile.LNKTYPE, link
    return info.tobuf(tarfile.GNU_FORMAT)
