"""An object storage in memory that counts what is asked of it."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeloop.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Named:
    """An object in a listing; ``etag`` changes with every other content."""

    name: str
    size: int
    etag: str


def etag(data: bytes) -> str:
    """As a service would give one to a blob that holds this."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass
class Memory:
    """Objects by name; ``asked`` counts requests by what they were: get, list, exists, put, delete."""

    objects: dict[str, bytes] = field(default_factory=dict)
    name: str = "memory"
    asked: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put_new(self, name: str, data: bytes, *, metadata: dict[str, str] | None = None) -> None:
        """Write only if absent."""
        with self._lock:
            self.asked["put"] += 1
            if name in self.objects:
                raise ConflictError(f"{name} is there.")
            self.objects[name] = data

    def get(self, name: str) -> bytes:
        """Read."""
        with self._lock:
            self.asked["get"] += 1
            if name not in self.objects:
                raise NotFoundError(f"There is no {name}.")
            return self.objects[name]

    def exists(self, name: str) -> bool:
        """Whether it is there."""
        self.asked["exists"] += 1
        return name in self.objects

    def list(self, prefix: str = "") -> Iterator[Named]:
        """Everything below a prefix, by name; one request for every 5000, as Azure answers."""
        with self._lock:
            found = sorted(one for one in self.objects if one.startswith(prefix))
            self.asked["list"] += 1 + max(len(found) - 1, 0) // 5000
        return iter([Named(one, len(self.objects[one]), etag(self.objects[one])) for one in found])

    def delete(self, name: str) -> None:
        """Remove it."""
        self.asked["delete"] += 1
        self.objects.pop(name, None)

    def chunks(self, name: str) -> Iterator[bytes]:
        """It, in pieces."""
        data = self.get(name)
        yield from (data[at : at + 3] for at in range(0, len(data), 3))

    def digest(self, name: str) -> tuple[int, str]:
        """Size and sha256 of what is stored."""
        data = self.get(name)
        return len(data), hashlib.sha256(data).hexdigest()

    @property
    def reads(self) -> int:
        """How many requests only asked."""
        return self.asked["get"] + self.asked["list"] + self.asked["exists"]
