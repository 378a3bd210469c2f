"""What a source is to the rest of the loop: a place that lists files and gives their bytes, whatever lies behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.share.scan import Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which part of a source a listing looks at: ``folders`` below the source's folder; None for all of it."""

    folders: tuple[str, ...] | None = None


EVERYTHING = Scope()


class FileSource(Protocol):
    """A source of files: a mounted folder, an SMB share, or a prefix of a container.

    Every method raises ``UnreachableError`` naming the connection when the source does not answer within its time-out,
    and ``ConfigurationError`` when it refuses who we are. Paths are relative to the source's folder, with slashes.
    """

    @property
    def connection(self) -> str:
        """The Airflow connection id that errors name."""
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
        """The bytes of a small file such as a manifest; raises ``NotFoundError``, ``IntegrityError`` above limit."""
        ...

    def digest(self, seen: Seen, copy_to: Path | None = None) -> str | None:
        """The sha256 of a file's bytes, copied to ``copy_to`` on the way; None if it is not the file that was seen."""
        ...
