"""What a source is to the rest of the loop: a place that lists files and gives their bytes, whatever lies behind it."""

from __future__ import annotations

from dataclasses import dataclass
from json import encoder
from typing import TYPE_CHECKING, NamedTuple, Protocol

from edgeloop.errors import ConfigurationError
from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from pathlib import Path


class Seen(NamedTuple):
    """A file as one listing showed it: ``path`` below the source's folder, size in bytes, mtime in nanoseconds.

    ``etag`` is what a blob has besides: its times are whole seconds, two uploads within one differ by etag alone. A
    tuple: 100,000 frozen dataclasses took longer to make than the listing itself.
    """

    path: str
    size: int
    mtime_ns: int
    etag: str = ""

    @property
    def state(self) -> str:
        """The sha256 that names this file in this state, without reading it."""
        # The canonical JSON of the list, spelled out: a third of the time over 100,000 files.
        etag = f",{encoder.encode_basestring(self.etag)}" if self.etag else ""
        return sha256_hex(f"[{encoder.encode_basestring(self.path)},{self.size},{self.mtime_ns}{etag}]".encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which part of a source a listing looks at: ``folders`` below the source's folder; None for all of it."""

    folders: tuple[str, ...] | None = None


EVERYTHING = Scope()


class Broken(NamedTuple):
    """A file that will not become part of a batch as it lies there, and why; ``path`` is fit for a log."""

    path: str
    reason: str


class ClosedError(ConfigurationError):
    """A file that is there and may not be read by us."""


class Listing(NamedTuple):
    """What one listing found, each by path: data, sentinels and manifests, and what has an impossible name."""

    files: tuple[Seen, ...]
    markers: tuple[Seen, ...] = ()
    broken: tuple[Broken, ...] = ()


class FileSource(Protocol):
    """A source of files: a mounted folder, an SMB share, or a prefix of a container.

    Every method raises ``UnreachableError`` naming the connection when the source does not answer within its time-out,
    and ``ConfigurationError`` when it refuses who we are. Paths are relative to the source's folder, with slashes.
    """

    @property
    def connection(self) -> str:
        """The Airflow connection id that errors name."""
        ...

    @property
    def appears_whole(self) -> bool:
        """Whether a file cannot be seen before its last byte is there; true for block blobs."""
        ...

    @property
    def knows_writers(self) -> bool:
        """Whether :meth:`busy` can ever say so; true for SMB."""
        ...

    def listing(self, scope: Scope = EVERYTHING, marker: str = "") -> Listing:
        """Everything in ``scope`` in one pass. What matches the glob ``marker`` is a marker and never data."""
        ...

    def scan(self, scope: Scope = EVERYTHING) -> tuple[Seen, ...]:
        """Every file in ``scope`` that matches and is not excluded, by path; folders that are not there hold none."""
        ...

    def markers(self, pattern: str, scope: Scope = EVERYTHING) -> tuple[Seen, ...]:
        """Every file in ``scope`` that matches ``pattern`` (sentinels, manifests), by path."""
        ...

    def check(self) -> None:
        """Raise ``UnreachableError`` if the source's folder is not there."""
        ...

    def look(self, path: str) -> Seen | None:
        """One file as it is now, or None if it is gone."""
        ...

    def busy(self, seen: Seen) -> bool:
        """Whether a writer is known to hold the file open; False where the source cannot tell."""
        ...

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of a small file such as a manifest; raises ``NotFoundError``, ``IntegrityError`` above limit.

        A file that may not be read is a ``ClosedError``.
        """
        ...

    def digest(self, seen: Seen, copy_to: Path | None = None) -> str | None:
        """The sha256 of a file's bytes, copied to ``copy_to`` on the way; None if it is not the file that was seen.

        Raises ``ClosedError`` if it may not be read, ``ScratchError`` if the copy cannot be written here.
        """
        ...
