"""From complete files to batches, once, however many intakes run.

A claim reads the due files, stores their batch's record, and is true with one conditional write to the journal
(:mod:`edgeloop.share.journal`). A run that dies before it leaves unclaimed files, one that dies after it a batch that
is outstanding; the next run heals both. Who mints a batch's partition is decided in :mod:`edgeloop.share.emission`.

A batch is a group as it stands: the files that lie there, and those of the batch it replaces that are gone or cannot be
judged now. A producer that clears away what was claimed takes nothing from the next revision.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgeloop.errors import ConflictError
from edgeloop.records import Batch
from edgeloop.share.cursor import newest_claimed_day
from edgeloop.share.emission import Emissions, Fate, FateOf, Right
from edgeloop.share.grouping import group_of
from edgeloop.share.journal import Entry, Journal, mark
from edgeloop.share.revision import Revision, Revisions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from edgeloop.catalog import Snapshot
    from edgeloop.share.source import Broken, FileSource, Seen
    from edgeloop.store import Store

CLAIMS = "claims"
SLICE_SECONDS = 30.0
"""What was read in this time is claimed before more is read: a run that dies loses no more than that."""
TRIES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What one claim did. ``emit`` are the batches this run must mint a partition for; the rest are counts."""

    emit: tuple[Batch, ...] = ()
    found: int = 0
    """Batches of this share that another run has minted or is minting."""
    unsettled: int = 0
    changed: int = 0
    """Complete files that changed while they were read; they settle again."""
    closed: tuple[Broken, ...] = ()
    """Complete files that may not be read; everything else was claimed."""
    ungrouped: int = 0
    """Files that match the pattern but not the group expression."""
    kept: int = 0
    """Files of the claimed batches that are not on the share now and stay part of their group."""
    files: int = 0


class Claims:
    """What was claimed of one pipeline's source, for a watcher that asks again and again."""

    def __init__(self, store: Store) -> None:
        self.journal = Journal(store)
        self._held: dict[int, Seen] = {}
        """What was found claimed at the last look, by identity; kept, or another object could take one's place."""

    def unclaimed(self, files: Iterable[Seen]) -> tuple[Seen, ...]:
        """Those of ``files`` that no batch holds in this state.

        Silent while nothing is new; what was claimed meanwhile is asked only when something seems to be due.
        """
        files = tuple(files)
        # A watch gives the same object for as long as a file stays as it is, and looking into 100,000 of them takes a
        # third of the time that listing them does.
        held = dict(zip(map(id, files), files, strict=True))
        fresh = held.keys() - self._held.keys()
        due = self._due(one for at, one in held.items() if at in fresh) if fresh else ()
        if due:
            self.journal.read()
            due = self._due(due)
        for one in due:
            del held[id(one)]
        self._held = held
        return due

    def claimed(self, seen: Seen) -> bool:
        """Whether a batch holds the file in this state, as far as was read."""
        return mark(seen) in self.journal.state.marks

    def _due(self, files: Iterable[Seen]) -> tuple[Seen, ...]:
        marks = self.journal.state.marks
        return tuple(one for one in files if mark(one) not in marks)


class Claim:
    """One run's claim of everything that is due.

    Args:
        snapshot: The pipeline as it reads now; each batch pins it.
        source: Where the files are.
        store: The pipeline's store.
        run: Names the task that will mint the partitions, for :data:`FateOf` to ask about later.
        fate: What became of an earlier such task.
        force: A reason to claim every group as it lies there, read every file again, and mint whatever has no
            certificate. What is gone from the source leaves its group.
        clock: Wall clock, UTC.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        source: FileSource,
        store: Store,
        *,
        run: str,
        fate: FateOf,
        force: str = "",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.snapshot, self.store = snapshot, store
        self.run, self.force, self.clock = run, force, clock
        self.journal = Journal(store)
        self.revisions = Revisions(snapshot, source, store, claimed=self.claimed, force=bool(force), clock=clock)
        self.rights = Emissions(store, CLAIMS)
        self._fate, self._fates = fate, dict[str, Fate]()

    def claimed(self, seen: Seen) -> bool:
        """Whether a batch holds the file in this state."""
        return not self.force and mark(seen) in self.journal.state.marks

    def digest(self, seen: Seen) -> str | None:
        """The sha256 of a file's bytes, read once; None if it is not the file that was seen."""
        return self.revisions.digest(seen)

    def due(self, files: Iterable[Seen]) -> dict[str, list[Seen]]:
        """The groups that hold anything unclaimed, each with all its files; files of no group are left out."""
        groups: dict[str, list[Seen]] = {}
        for one in files:
            if group := group_of(one.path, self.snapshot.spec.source.group):
                groups.setdefault(group, []).append(one)
        return {
            name: members for name, members in sorted(groups.items()) if not all(self.claimed(one) for one in members)
        }

    def take(self, files: Sequence[Seen], *, waiting: int = 0, swept_at: str = "") -> Intake:
        """Claim the due groups among the complete ``files`` and inherit what dead runs left; mints nothing itself.

        Args:
            files: What is complete in what was looked at.
            waiting: How many are not.
            swept_at: When the full sweep that saw ``files`` began, ISO 8601 UTC; "" if this is none.

        Raises:
            UnreachableError: The source or the storage account did not answer; a later run takes up what was left.
        """
        self._catch_up()
        revisions = self._claim(self.due(files))
        asked = self._ask_all(revisions)
        self._note(asked, swept_at)
        mine = [one for one, right in asked.items() if right is Right.MINE]
        taken = {one.batch.id: one.batch for one in revisions if one.batch is not None}
        batches = [taken.get(one) or self.store.get(Batch, one) for one in mine]
        expression = self.snapshot.spec.source.group
        return Intake(
            emit=tuple(sorted(batches, key=lambda one: one.key)),
            found=len(asked) - len(mine),
            unsettled=waiting,
            changed=self.revisions.changed,
            closed=tuple(sorted(self.revisions.closed.values())),
            ungrouped=sum(1 for one in files if not group_of(one.path, expression)),
            kept=sum(one.kept for one in revisions if one.batch is not None),
            files=len(files),
        )

    def _catch_up(self) -> None:
        before = self.journal.state.seq
        if self.journal.read().seq != before:
            self.revisions.forget_overtaken()

    def ask(self, batch: str, *, forced: bool = False) -> Right:
        """Whether this run must mint ``batch``. A certificate proves that its partition arrived, whoever sent it."""
        if any(True for _ in self.store.objects.list(f"edges/{batch}/certificate/")):
            return Right.DELIVERED
        right = self.rights.ask(batch, self.run, self._remembered_fate)
        return Right.MINE if forced and right is not Right.ELSEWHERE else right

    def _remembered_fate(self, holder: str) -> Fate:
        if holder not in self._fates:
            self._fates[holder] = self._fate(holder)
        return self._fates[holder]

    def _ask_all(self, revisions: list[Revision]) -> dict[str, Right]:
        state = self.journal.read()
        forced = {state.standing[one.group] for one in revisions if self.force and one.group in state.standing}
        return {one: self.ask(one, forced=one in forced) for one in sorted(state.outstanding | forced)}

    def _note(self, asked: Mapping[str, Right], swept_at: str) -> None:
        """Keep what was found out, so that nobody asks again. Whoever wrote in between says what is left to note."""
        delivered = {one for one, right in asked.items() if right is Right.DELIVERED}
        for _ in range(TRIES):
            news = tuple(sorted(delivered & self.journal.read().outstanding))
            if not news and swept_at <= self.journal.state.swept_at:
                return
            if self.journal.append(self._entry(delivered=news, swept_at=swept_at)):
                return
        raise self._crowded()

    def _claim(self, due: dict[str, list[Seen]]) -> list[Revision]:
        """Claim ``due`` in slices; what others claimed in between is left to them."""
        done: list[Revision] = []
        refused = 0
        while due:
            slice_ = self._slice(due)
            if self._append(slice_):
                refused = 0
                done += slice_
                due = {group: due[group] for group in due if group not in {one.group for one in slice_}}
            else:
                refused += 1
                if refused > TRIES:
                    raise self._crowded()
                self._catch_up()
                due = self.due(one for members in due.values() for one in members)
        return done

    def _slice(self, due: dict[str, list[Seen]]) -> list[Revision]:
        until = time.monotonic() + SLICE_SECONDS
        made: list[Revision] = []
        for group, members in due.items():
            made.append(self.revisions.of(group, members, self.journal.state.standing.get(group)))
            if time.monotonic() >= until:
                break
        return made

    def _append(self, revisions: list[Revision]) -> bool:
        marks = tuple(pair for one in revisions for pair in one.marks)
        batches = tuple((one.group, one.batch.id) for one in revisions if one.batch is not None)
        if not batches and all(pair in self.journal.state.marks for pair in marks):
            return True
        paths = (path for one in revisions for path in one.paths)
        day = newest_claimed_day(self.snapshot.spec.source.partitions, paths, self.clock())
        return self.journal.append(self._entry(marks=marks, batches=batches, newest_day=day))

    def _entry(
        self,
        *,
        marks: tuple[tuple[int, int], ...] = (),
        batches: tuple[tuple[str, str], ...] = (),
        delivered: tuple[str, ...] = (),
        newest_day: str = "",
        swept_at: str = "",
    ) -> Entry:
        at = self.clock().isoformat(timespec="milliseconds")
        return Entry(
            run=self.run, at=at, marks=marks, batches=batches, delivered=delivered, newest_day=newest_day,
            swept_at=swept_at,
        )  # fmt: skip

    def _crowded(self) -> ConflictError:
        return ConflictError(
            f"The claims of {self.snapshot.spec.name} were written by others {TRIES} times in a row.",
            left="the claims as the others wrote them",
            next="Clear the task.",
        )
