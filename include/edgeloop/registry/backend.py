"""What a registry of models can do, wherever it is: the one protocol of the backends ``blob`` and ``azure_ml``.

The store is the truth. The backend ``blob`` is a view of its records and ledgers; ``azure_ml`` is a mirror of that
view, with the same version numbers, so that every difference between the two can be named and mended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

CHAMPION, CHALLENGER, QUARANTINED = ALIASES = ("champion", "challenger", "quarantined")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One version as a registry shows it.

    ``properties`` are what never changes (where it came from, what it was measured at), ``tags`` what is added later
    (image digest, registry), ``aliases`` some of ``ALIASES``. ``model`` is the id of its record, ``size`` in bytes.
    """

    version: int
    model: str
    sha256: str
    size: int
    properties: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: frozenset[str] = frozenset()


class ModelRegistry(Protocol):
    """A registry of one pipeline's models; every method is safe to repeat and to run at once with itself."""

    def publish(self, wanted: Listed, content: bytes) -> Listed:
        """Make this version known under exactly this number, or find it there; returns what the registry shows.

        Raises ``ConflictError`` if the number belongs to other bytes: a version is never changed in place. A try that
        died halfway is finished by the next one.
        """
        ...

    def find(self, version: int) -> Listed | None:
        """The version of that number, or None."""
        ...

    def versions(self) -> tuple[Listed, ...]:
        """All of them, in order of their number."""
        ...

    def tag(self, version: int, tags: Mapping[str, str]) -> Listed:
        """Add or replace tags; properties stay. Raises ``NotFoundError`` for a version that was never published."""
        ...

    def alias(self, aliases: Mapping[str, int | Collection[int]]) -> None:
        """Show exactly these aliases (alias -> version number, or numbers: several may be quarantined at a time).

        Those that are not named are taken off. Raises ``NotFoundError`` for a version that was never published.
        """
        ...
