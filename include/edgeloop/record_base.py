"""What every record is: fields, an identity, and one way to write values for a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, ClassVar, Self

SCHEMA_VERSION = 1
FILE_FIELDS = ("files", "outputs")


def canonical_json(value: object) -> bytes:
    """Encode ``value`` the one way that digests are computed over: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    """The lower-case hexadecimal sha256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """A file by name and content; ``path`` is relative to the place the record speaks of, ``size`` in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of all records; subclasses name their kind and the fields that identify them."""

    kind: ClassVar[str]
    identity: ClassVar[tuple[str, ...]]
    identity_if_set: ClassVar[tuple[str, ...]] = ()
    """Fields that came later: part of the identity only where they say something, so that older ids stay."""

    pipeline: str
    origin: str = "live"
    """``live``, ``rerun`` or ``backfill``: a rerun or backfill never replaces a newer model."""

    @property
    def id(self) -> str:
        """The sha256 of the identity; 64 hexadecimal digits."""
        body = self.to_dict()
        names = [*self.identity, *(name for name in self.identity_if_set if body[name])]
        return sha256_hex(canonical_json({"kind": self.kind, **{name: body[name] for name in names}}))

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids of the records this one was made from."""
        return ()

    @property
    def also(self) -> tuple[str, ...]:
        """Other digests that people know it by; the store leads from them to the record as from a parent."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, field by field; tuples become lists."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> Self:
        """Rebuild a record from :meth:`to_dict`; unknown fields raise ``TypeError``."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in body.items()
        }
        values |= {name: tuple(FileRef(**one) for one in body[name]) for name in FILE_FIELDS if name in body}
        return cls(**values)
