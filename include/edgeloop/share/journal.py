"""What was claimed of a source: one ledger, appended by compare-and-swap, with a compacted head.

    ledgers/claims/<seq>.json   which paths were claimed in which state, what batches that made, which were announced
    heads/claims/<seq>          the sum of all entries up to that one; reading takes it and the few entries since

A claim is one conditional write, so it happened or it did not, whoever dies and however many intakes run. Nothing is
listed that grows with the share: 100,000 known files are one blob of 1.6 MB, and 16 bytes each in memory.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import sys
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConflictError, IntegrityError, NotFoundError
from edgeloop.ledger import MOST_REMOVED
from edgeloop.records import canonical_json
from edgeloop.share.source import Seen
from edgeloop.tidy import tidy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.store import Store

LEDGER, HEADS = "ledgers/claims/", "heads/claims/"
DIGITS = 8
SCHEMA = 1
COMPACT_AFTER = 64
"""Entries after which whoever appends writes a new head."""
MERGE_ABOVE = 10_000
WORD = 8


def mark(seen: Seen) -> tuple[int, int]:
    """A file's path, and the state it is in, as two numbers of 64 bits.

    Two paths of one number would be claimed in turn again and again, to the same batch; none would be overlooked.
    """
    path = hashlib.blake2b(seen.path.encode("utf-8", "surrogatepass"), digest_size=WORD)
    state = hashlib.blake2b(f"{seen.size} {seen.mtime_ns} {seen.etag}".encode(), key=path.digest(), digest_size=WORD)
    return int.from_bytes(path.digest(), "little"), int.from_bytes(state.digest(), "little")


class Marks:
    """The state in which each path was claimed last; sorted arrays, for a million paths must fit a triggerer."""

    def __init__(self) -> None:
        self._paths, self._states = array("Q"), array("Q")
        self._fresh: dict[int, int] = {}

    def __len__(self) -> int:
        """How many paths were ever claimed."""
        return len(self._paths) + sum(1 for path in self._fresh if self._at(path) is None)

    def __contains__(self, one: tuple[int, int]) -> bool:
        """Whether the path was claimed last in this very state."""
        path, state = one
        held = self._fresh.get(path)
        if held is None and (place := self._at(path)) is not None:
            held = self._states[place]
        return held == state

    def knows(self, path: str) -> bool:
        """Whether the file was ever claimed, in whatever state."""
        name = mark(Seen(path, 0, 0))[0]
        return name in self._fresh or self._at(name) is not None

    def update(self, more: Iterable[tuple[int, int]]) -> None:
        """These paths are claimed in these states now."""
        self._fresh.update(more)
        if len(self._fresh) > MERGE_ABOVE:
            self._merge()

    def _at(self, path: int) -> int | None:
        place = bisect_left(self._paths, path)
        return place if place < len(self._paths) and self._paths[place] == path else None

    def _merge(self) -> None:
        held = dict(zip(self._paths, self._states, strict=True)) | self._fresh
        self._paths = array("Q", sorted(held))
        self._states = array("Q", (held[path] for path in self._paths))
        self._fresh = {}

    def to_bytes(self) -> bytes:
        """All of them: every path in order, then every state."""
        self._merge()
        return _little(self._paths) + _little(self._states)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Marks:
        """The marks that :meth:`to_bytes` gave."""
        marks, half = cls(), len(raw) // 2
        marks._paths, marks._states = _words(raw[:half]), _words(raw[half:])
        return marks


def _little(words: array[int]) -> bytes:
    return _words(words.tobytes()).tobytes() if sys.byteorder == "big" else words.tobytes()


def _words(raw: bytes) -> array[int]:
    words = array("Q")
    words.frombytes(raw)
    if sys.byteorder == "big":
        words.byteswap()
    return words


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the journal; ``at`` is ISO 8601 UTC, ``run`` the task that wrote it."""

    run: str
    at: str
    marks: tuple[tuple[int, int], ...] = ()
    batches: tuple[tuple[str, str], ...] = ()
    """Group and id of every batch that now stands for its group."""
    delivered: tuple[str, ...] = ()
    """Batches whose partition is known to have been announced."""
    newest_day: str = ""
    """The newest date folder with claimed files, ISO 8601."""
    swept_at: str = ""
    """When a full sweep began that ended well, ISO 8601 UTC."""

    def to_json(self) -> bytes:
        """The entry as stored."""
        words = array("Q", [word for pair in self.marks for word in pair])
        body: dict[str, Any] = {"schema": SCHEMA, "run": self.run, "at": self.at}
        body |= {"marks": base64.b64encode(_little(words)).decode(), "batches": self.batches}
        body |= {"delivered": self.delivered, "newest_day": self.newest_day, "swept_at": self.swept_at}
        return canonical_json(body)

    @classmethod
    def from_json(cls, raw: bytes) -> Entry:
        """A stored entry back."""
        body = json.loads(raw)
        words = _words(base64.b64decode(body["marks"]))
        return cls(
            run=body["run"],
            at=body["at"],
            marks=tuple(zip(words[::2], words[1::2], strict=True)),
            batches=tuple((group, batch) for group, batch in body["batches"]),
            delivered=tuple(body["delivered"]),
            newest_day=body["newest_day"],
            swept_at=body["swept_at"],
        )


@dataclass(slots=True, kw_only=True)
class State:
    """The sum of the entries up to ``seq``."""

    seq: int = 0
    marks: Marks = field(default_factory=Marks)
    standing: dict[str, str] = field(default_factory=dict)
    """The batch that stands for each group."""
    outstanding: set[str] = field(default_factory=set)
    """Batches that nobody is known to have announced."""
    newest_day: str = ""
    swept_at: str = ""

    def apply(self, entry: Entry) -> None:
        """Add the next entry."""
        self.seq += 1
        self.marks.update(entry.marks)
        self.standing.update(entry.batches)
        self.outstanding |= {batch for _, batch in entry.batches}
        self.outstanding -= set(entry.delivered)
        self.newest_day = max(self.newest_day, entry.newest_day)
        self.swept_at = max(self.swept_at, entry.swept_at)

    def to_bytes(self) -> bytes:
        """The head: a line of JSON, then the marks."""
        body: dict[str, Any] = {"schema": SCHEMA, "seq": self.seq, "standing": self.standing}
        body |= {"outstanding": sorted(self.outstanding), "newest_day": self.newest_day, "swept_at": self.swept_at}
        return canonical_json(body) + b"\n" + self.marks.to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> State:
        """A head back."""
        line, _, marks = raw.partition(b"\n")
        body = json.loads(line)
        return cls(
            seq=body["seq"],
            marks=Marks.from_bytes(marks),
            standing=body["standing"],
            outstanding=set(body["outstanding"]),
            newest_day=body["newest_day"],
            swept_at=body["swept_at"],
        )


class Journal:
    """The claims of one pipeline. One object belongs to one thread at a time."""

    def __init__(self, store: Store) -> None:
        self.objects = store.objects
        self.state = State()
        """What was read so far."""
        self._begun, self._head = False, 0

    def read(self) -> State:
        """Everything claimed until now; after the first time one small question, and one more for each new entry.

        Raises:
            UnreachableError: The storage account did not answer.
            IntegrityError: An entry or a head is not what was written.
        """
        if not self._begun:
            self.state, self._begun = self._newest_head(), True
        while (entry := self._entry(self.state.seq + 1)) is not None:
            self.state.apply(entry)
        return self.state

    def append(self, entry: Entry) -> bool:
        """Write ``entry`` after all that was read; False if somebody else wrote there, as :meth:`read` then shows."""
        state = self.state if self._begun else self.read()
        try:
            self.objects.put_new(f"{LEDGER}{state.seq + 1:0{DIGITS}d}.json", entry.to_json())
        except ConflictError:
            return False
        state.apply(entry)
        if state.seq - self._head >= COMPACT_AFTER:
            self._compact(state)
        return True

    def _entry(self, seq: int) -> Entry | None:
        name = f"{LEDGER}{seq:0{DIGITS}d}.json"
        try:
            return Entry.from_json(self.objects.get(name))
        except NotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise _spoilt(name, error, "restore the blob from a backup") from error

    def _newest_head(self) -> State:
        names = [one.name for one in self.objects.list(HEADS)]
        if not names:
            return State()
        try:
            state = State.from_bytes(self.objects.get(names[-1]))
        except NotFoundError:
            return self._newest_head()  # replaced by a newer one since it was listed
        except (ValueError, KeyError, TypeError) as error:
            raise _spoilt(names[-1], error, "delete the blob; it is made anew from the entries") from error
        self._head = state.seq
        return state

    def _compact(self, state: State) -> None:
        # Whoever read the same entries and was faster wrote the same bytes.
        with contextlib.suppress(ConflictError):
            self.objects.put_new(f"{HEADS}{state.seq:0{DIGITS}d}", state.to_bytes())
        self._head = state.seq
        # The one before stays for whoever listed it a moment ago.
        tidy(self.objects, [one.name for one in self.objects.list(HEADS)][:-2][:MOST_REMOVED])


def _spoilt(name: str, error: Exception, remedy: str) -> IntegrityError:
    return IntegrityError(
        f"Blob {name} is no part of the journal of claims: {type(error).__name__}: {error}",
        left="the blob as it is; nothing was claimed",
        next=f"If another version of Edgeloop wrote it, run that version; else {remedy}.",
    )
