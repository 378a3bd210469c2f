"""Ledgers: entries that are only ever appended, and the compacted heads that keep every question a few reads.

    ledgers/<name>/<seq>.json     the truth: one entry, written once by compare-and-swap on the sequence number
    heads/<fold>/<name>/<seq>     the sum of all entries up to that one, by one way to sum them up

A head is a short cut and never the truth. It is written after the entries it sums up, so whoever dies in between leaves
an older head and costs the next reader a read for each entry since. It counts only if its digest is right and the
ledger's entry of that number is the one it was made of; else (damaged, or the ledger was restored from a backup) the
ledger is read in full, as one that has no head yet, and the next who appends writes a head again. Removing old heads is
housekeeping: whoever may not delete leaves them, and the next who may removes them, some at a time.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from edgeloop.errors import ConflictError, IntegrityError, NotFoundError
from edgeloop.record_base import canonical_json, sha256_hex
from edgeloop.tidy import tidy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeloop.store import Objects

S = TypeVar("S")
SEQUENCE_DIGITS = 8
LEDGER_TRIES = 50
SCHEMA = 1
KEPT_HEADS = 2
"""The one before the newest stays for whoever listed it a moment ago, and for the day the newest is damaged."""
MOST_REMOVED = 50
"""Of the heads that somebody without the right to delete left; who has it pays for some at each of his own."""
PLAIN_EVERY = 8
LISTED_TRIES = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a ledger."""

    seq: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold(Generic[S]):
    """A way to sum up a ledger.

    ``add`` takes the sum so far (None at the start) and the entries after it, oldest first. ``name`` is part of the
    heads' names: a fold that means something else needs another one, so that no old head is taken for a new. A head
    is written once ``every`` entries are not in one.
    """

    name: str
    add: Callable[[S | None, Sequence[Entry]], S]
    to_json: Callable[[S], Any]
    from_json: Callable[[Any], S]
    every: int = 1


ENTRIES: Fold[tuple[Entry, ...]] = Fold(
    name="entries",
    add=lambda before, entries: (*(before or ()), *entries),
    to_json=lambda entries: [one.body for one in entries],
    from_json=lambda raw: tuple(Entry(seq=seq, body=body) for seq, body in enumerate(raw, start=1)),
    every=PLAIN_EVERY,
)
"""Nothing is summed up: all entries, in one blob instead of many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sum(Generic[S]):
    """What was read: the entries up to ``seq``, the last of which has the digest ``last``, ``behind`` in no head."""

    value: S
    seq: int = 0
    last: str = ""
    behind: int = 0
    heads: tuple[str, ...] = ()
    spoilt: tuple[str, ...] = ()


class Ledger(Generic[S]):
    """One ledger, read and appended to by one way to sum it up."""

    def __init__(self, objects: Objects, name: str, fold: Fold[S]) -> None:
        self._objects, self.name, self._fold = objects, name, fold
        self._entries, self._heads = f"ledgers/{name}/", f"heads/{fold.name}/{name}/"

    def read(self) -> S:
        """The sum of all entries: the newest head and what came after it.

        Raises ``IntegrityError`` if an entry is missing or damaged.
        """
        return self._read().value

    def append(self, decide: Callable[[S], dict[str, Any] | None]) -> Entry | None:
        """Append what ``decide`` makes of the sum so far; None appends nothing.

        When another writer took the number, ``decide`` is asked again with their entry in view.
        """
        now = self._read()
        for _ in range(LEDGER_TRIES):
            body = decide(now.value)
            if body is None:
                self._compact(now)
                return None
            data = canonical_json(body)
            try:
                self._objects.put_new(self._entry_name(now.seq + 1), data)
            except ConflictError:
                now = self._further(now)
                continue
            self._compact(self._with(now, [data]))
            return Entry(seq=now.seq + 1, body=body)
        raise ConflictError(
            f"Ledger {self.name} was written by others {LEDGER_TRIES} times in a row.",
            left="the ledger as the others wrote it",
            next="Clear the task.",
        )

    def entry(self, seq: int) -> Entry:
        """One entry by its number; raises ``NotFoundError``."""
        return self._parsed(seq, self._objects.get(self._entry_name(seq)))

    def _read(self) -> _Sum[S]:
        return self._further(self._from_head())

    def _from_head(self, tries: int = LISTED_TRIES) -> _Sum[S]:
        heads = tuple(one.name for one in self._objects.list(self._heads))
        spoilt: list[str] = []
        for name in reversed(heads):
            try:
                data = self._objects.get(name)
            except NotFoundError:
                # Pruned since it was listed: there are newer ones.
                return self._from_head(tries - 1) if tries else self._whole((), ())
            found = self._checked(data)
            if found is not None:
                value, seq, last = found
                return _Sum(value=value, seq=seq, last=last, heads=heads, spoilt=tuple(spoilt))
            spoilt.append(name)
            _log.warning("Head %s is damaged or of another ledger; the ledger is read without it.", name)
        return self._whole(heads, tuple(spoilt))

    def _checked(self, data: bytes) -> tuple[S, int, str] | None:
        """What a head says, or None if it is none of this ledger as it is."""
        try:
            raw = json.loads(data)
            digest, seq, last = raw.pop("digest"), raw["seq"], raw["last"]
            if digest != sha256_hex(canonical_json(raw)) or raw["schema"] != SCHEMA:
                return None
            if sha256_hex(self._objects.get(self._entry_name(seq))) != last:
                return None
            return self._fold.from_json(raw["state"]), seq, last
        except (NotFoundError, ValueError, LookupError, TypeError, AttributeError):
            # Damaged, or of a ledger that was restored to before it.
            return None

    def _whole(self, heads: tuple[str, ...], spoilt: tuple[str, ...]) -> _Sum[S]:
        names = [one.name for one in self._objects.list(self._entries)]
        for seq, name in enumerate(names, start=1):
            if name != self._entry_name(seq):
                raise IntegrityError(
                    f"Ledger {self.name} has {name}, but no {self._entry_name(seq)}: an entry was removed or renamed.",
                    left="the ledger as it is",
                    next=f"Restore {self._entry_name(seq)} from a backup; entries are never deleted.",
                )
        empty = _Sum(value=self._fold.add(None, []), heads=heads, spoilt=spoilt)
        return self._with(empty, [self._objects.get(name) for name in names])

    def _further(self, now: _Sum[S]) -> _Sum[S]:
        found: list[bytes] = []
        while True:
            try:
                found.append(self._objects.get(self._entry_name(now.seq + len(found) + 1)))
            except NotFoundError:
                return self._with(now, found)

    def _with(self, now: _Sum[S], found: Sequence[bytes]) -> _Sum[S]:
        if not found:
            return now
        entries = [self._parsed(now.seq + at, data) for at, data in enumerate(found, start=1)]
        return _Sum(
            value=self._fold.add(now.value, entries),
            seq=now.seq + len(found),
            last=sha256_hex(found[-1]),
            behind=now.behind + len(found),
            heads=now.heads,
            spoilt=now.spoilt,
        )

    def _parsed(self, seq: int, data: bytes) -> Entry:
        try:
            body = json.loads(data)
        except ValueError as error:
            raise IntegrityError(
                f"Blob {self._entry_name(seq)} is no entry of a ledger: {type(error).__name__}: {error}",
                left="the blob as it is",
                next="Restore the blob from a backup; do not edit entries.",
            ) from error
        return Entry(seq=seq, body=body)

    def _compact(self, now: _Sum[S]) -> None:
        if now.behind < self._fold.every:
            return
        tidy(self._objects, now.spoilt)
        raw = {"schema": SCHEMA, "seq": now.seq, "last": now.last, "state": self._fold.to_json(now.value)}
        name = f"{self._heads}{now.seq:0{SEQUENCE_DIGITS}d}"
        try:
            self._objects.put_new(name, canonical_json({**raw, "digest": sha256_hex(canonical_json(raw))}))
        except ConflictError:
            # Whoever read the same entries and was faster wrote the same sum.
            return
        tidy(self._objects, sorted({*now.heads, name} - {*now.spoilt})[:-KEPT_HEADS][:MOST_REMOVED])

    def _entry_name(self, seq: int) -> str:
        return f"{self._entries}{seq:0{SEQUENCE_DIGITS}d}.json"
