"""Where records live: immutable blobs, reverse edges, first-wins keys and append-only ledgers.

    records/<kind>/<id>.json      written once; the same identity again is the record that is there
    edges/<parent>/<kind>/<child> so that "what was made of this?" is one listing
    keys/<name>/<key>.json        the first writer decides what a key means
    ledgers/<name>/<seq>.json     appended by compare-and-swap on the sequence number
    heads/<fold>/<name>/<seq>     sums of a ledger, so that reading it stays cheap (:mod:`edgeloop.ledger`)

Everything is written with ``If-None-Match: *`` and decided again on conflict, so two schedulers, a retry and a
backfill cannot both win.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from edgeloop.errors import ConfigurationError, ConflictError, IntegrityError, NotFoundError
from edgeloop.ledger import ENTRIES, Entry, Ledger
from edgeloop.records import KINDS, SCHEMA_VERSION, Record, canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.ledger import Fold

__all__ = ["Entry", "Listed", "Objects", "Store"]

R = TypeVar("R", bound=Record)
S = TypeVar("S")


class Listed(Protocol):
    """An object in a listing."""

    @property
    def name(self) -> str:
        """Its full name."""
        ...


class Objects(Protocol):
    """The object storage a store needs; :class:`edgeloop.azure.blob.BlobContainer` is one."""

    def put_new(self, name: str, data: bytes, *, metadata: dict[str, str] | None = None) -> None:
        """Write only if absent, else raise ``ConflictError``."""
        ...

    def get(self, name: str) -> bytes:
        """Read, or raise ``NotFoundError``."""
        ...

    def exists(self, name: str) -> bool:
        """Whether it is there."""
        ...

    def list(self, prefix: str = "") -> Iterator[Any]:
        """Everything below a prefix, by name."""
        ...

    def delete(self, name: str) -> None:
        """Remove it; that it is not there is no error."""
        ...


class Store:
    """Records of one pipeline, in one container."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def put(self, record: R) -> R:
        """Write ``record`` once and return what is stored under its id: this one, or an earlier one of that identity.

        Edges are written after the record and again on every call, so a crash between the two heals at the next try.
        """
        name = f"records/{record.kind}/{record.id}.json"
        body = {"schema": SCHEMA_VERSION, "kind": record.kind, "record": record.to_dict()}
        stored = record
        try:
            self.objects.put_new(name, canonical_json(body))
        except ConflictError:
            stored = self.get(type(record), record.id)
        for parent in (*stored.parents, *stored.also):
            self.link(parent, stored)
        return stored

    def link(self, parent: str, child: Record) -> None:
        """Name ``child`` among what was made of ``parent``; :meth:`put` does so for the parents a record names."""
        self._once(f"edges/{parent}/{child.kind}/{child.id}", b"")

    def get(self, kind: type[R], record_id: str) -> R:
        """The record of that id; raises ``NotFoundError``, or ``IntegrityError`` if it does not hash to its name."""
        record = self.unchecked(kind, record_id)
        if record.id != record_id:
            raise IntegrityError(
                f"Record {kind.kind}/{record_id} hashes to {record.id}: it was changed after it was written.",
                next="Restore the blob from a backup; do not edit records.",
            )
        return record

    def unchecked(self, kind: type[R], record_id: str) -> R:
        """As :meth:`get`, but a record that was changed is returned as it reads now: for those who show what is wrong.

        Raises ``IntegrityError`` for what is no record at all.
        """
        name = f"records/{kind.kind}/{record_id}.json"
        try:
            raw = json.loads(self.objects.get(name))
            schema, body = int(raw["schema"]), raw["record"]
            if schema <= SCHEMA_VERSION:
                return cast("R", KINDS[raw["kind"]].from_dict(body))
        except (ValueError, TypeError, KeyError) as error:
            raise IntegrityError(
                f"Blob {name} is no record: {type(error).__name__}: {error}",
                left="the blob as it is",
                next="If another version of Edgeloop wrote it, run that version; else restore the blob from a backup.",
            ) from error
        raise ConfigurationError(
            f"Record {kind.kind}/{record_id} has schema version {schema}; this Edgeloop reads up to {SCHEMA_VERSION}.",
            left="the record as it is",
            next="Install the newer version of Edgeloop on every component and restart them.",
        )

    def find(self, kind: type[R], record_id: str) -> R | None:
        """The record of that id, or None."""
        try:
            return self.get(kind, record_id)
        except NotFoundError:
            return None

    def starting(self, kind: type[R], prefix: str) -> R:
        """The record whose id starts with ``prefix``, as partition keys name them; raises ``NotFoundError``."""
        for one in self.ids(kind, prefix):
            return self.get(kind, one)
        raise NotFoundError(
            f"There is no {kind.kind} whose id starts with {prefix!r}.",
            next="Check the run's partition key, or rerun the task that makes the record.",
        )

    def all(self, kind: type[R]) -> list[R]:
        """Every record of a kind, in order of id."""
        return [self.get(kind, one) for one in list(self.ids(kind))]

    def ids(self, kind: type[Record], prefix: str = "") -> Iterator[str]:
        """The ids of a kind's records that start with ``prefix``, in order."""
        stem = f"records/{kind.kind}/"
        return (one.name.removeprefix(stem).removesuffix(".json") for one in self.objects.list(stem + prefix))

    def made_of(self, parent: str) -> dict[str, tuple[str, ...]]:
        """What names ``parent`` among its parents: ids by kind of record, in one listing."""
        stem = f"edges/{parent}/"
        found: dict[str, list[str]] = {}
        for one in self.objects.list(stem):
            kind, _, child = one.name.removeprefix(stem).partition("/")
            found.setdefault(kind, []).append(child)
        return {kind: tuple(children) for kind, children in found.items()}

    def children(self, parent: str, kind: type[R]) -> list[R]:
        """Records of ``kind`` that name ``parent`` among their parents."""
        prefix = f"edges/{parent}/{kind.kind}/"
        return [self.get(kind, one.name.removeprefix(prefix)) for one in self.objects.list(prefix)]

    def named(self, start: str, kind: type[Record]) -> tuple[str, ...]:
        """Ids of ``kind`` that are known by a digest, or made of a record, whose id starts with ``start``."""
        found = (one.name.rsplit("/", 2) for one in self.objects.list(f"edges/{start}"))
        return tuple(child for _, of, child in found if of == kind.kind)

    def fix(self, name: str, key: str, value: str) -> str:
        """Give ``key`` its meaning once: returns ``value``, or what an earlier writer decided."""
        if self._once(f"keys/{name}/{key}.json", json.dumps(value).encode()):
            return value
        decided = self.fixed(name, key)
        return value if decided is None else decided

    def fixed(self, name: str, key: str) -> str | None:
        """What ``key`` means, or None while nobody decided."""
        try:
            return cast("str", json.loads(self.objects.get(f"keys/{name}/{key}.json")))
        except NotFoundError:
            return None

    def keys(self, name: str) -> list[str]:
        """All keys that were fixed under ``name``."""
        prefix = f"keys/{name}/"
        return [one.name.removeprefix(prefix).removesuffix(".json") for one in self.objects.list(prefix)]

    def ledger(self, name: str) -> list[Entry]:
        """All entries of a ledger, oldest first."""
        return list(Ledger(self.objects, name, ENTRIES).read())

    def append(self, name: str, decide: Callable[[list[Entry]], dict[str, Any] | None]) -> Entry | None:
        """Append what ``decide`` makes of the entries so far; None appends nothing.

        When another writer took the number, ``decide`` is asked again with their entry in view.
        """
        return Ledger(self.objects, name, ENTRIES).append(lambda entries: decide(list(entries)))

    def folded(self, name: str, fold: Fold[S]) -> Ledger[S]:
        """A ledger by a way of its own to sum it up, so that what is read and written stays small however it grows."""
        return Ledger(self.objects, name, fold)

    def _once(self, name: str, data: bytes) -> bool:
        try:
            self.objects.put_new(name, data)
        except ConflictError:
            return False
        return True
