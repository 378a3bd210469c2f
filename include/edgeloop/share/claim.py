"""From settled files to batches, once, however many intakes run.

    keys/hashed/<state>      the sha256 of a file in one state (path, size, mtime): nothing is read twice
    keys/claimed/<state>     the batch that took it
    keys/claims/<batch>      which run may mint its partition (see :mod:`edgeloop.share.emission`)
    keys/delivered/<batch>   it was minted for certain; a cache of what was found out, never the proof itself

The order of writing is the order above with the batch's record in between, so a run that dies anywhere leaves either
unclaimed files or a batch whose right lies with a dead run; the next run heals both.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgeloop.records import Batch, FileRef
from edgeloop.share.emission import Emissions, FateOf, Right
from edgeloop.share.settle import NS, Rule, next_look, observe, settled, unsettled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgeloop.catalog import Snapshot
    from edgeloop.pipeline import Source
    from edgeloop.share.scan import Folder, Seen
    from edgeloop.store import Store

HASHED, CLAIMED, CLAIMS, DELIVERED = "hashed", "claimed", "claims", "delivered"
GROUP_LENGTH = 100
FEW = 32
"""Up to this many files are looked up one by one; more are cheaper to list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What one claim did. ``emit`` are the batches this run must mint a partition for; the rest are counts of files."""

    emit: tuple[Batch, ...] = ()
    found: int = 0
    """Batches of this share that another run has minted or is minting."""
    unsettled: int = 0
    changed: int = 0
    """Settled files that changed while they were read; they settle again."""
    ungrouped: int = 0
    """Files that match the pattern but not the group expression."""
    files: int = 0


def rule_of(source: Source) -> Rule:
    """The settling rule of a source."""
    return Rule(polls=source.polls, poll_seconds=source.poll_seconds, quiet_seconds=source.quiet_seconds)


def group_of(path: str, expression: str) -> str:
    """Which batch a file belongs to, in characters that a partition key and a blob's name can hold; "" for none."""
    match = re.search(expression, path)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", (match.group(1) or "") if match else "")[:GROUP_LENGTH]


def watch(
    folder: Folder, rule: Rule, *, clock: Callable[[], int] = time.time_ns, sleep: Callable[[float], None] = time.sleep
) -> tuple[tuple[Seen, ...], tuple[Seen, ...]]:
    """Look at the folder until everything is settled, at most as long as a file just finished needs to settle.

    The wait lets files that arrive together become one batch instead of a revision each. Returns settled, unsettled.
    """
    watched = observe({}, folder.scan(), clock())
    longest = max(rule.quiet_seconds, rule.poll_seconds * (rule.polls - 1)) + rule.poll_seconds
    until = clock() + round(longest * NS)
    while unsettled(watched, rule) and clock() < until:
        sleep(next_look(watched, rule, clock()))
        watched = observe(watched, folder.scan(), clock())
    return settled(watched, rule), unsettled(watched, rule)


class Claims:
    """What was claimed of one pipeline's share. Claims are never taken back, so what was seen stays known."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.known: set[str] = set()

    def unclaimed(self, files: Iterable[Seen]) -> tuple[Seen, ...]:
        """Those of ``files`` that no batch has taken in this state."""
        asked = [one for one in files if one.state not in self.known]
        if len(asked) > FEW:
            self.known |= set(self.store.keys(CLAIMED))
        else:
            self.known |= {one.state for one in asked if self.store.fixed(CLAIMED, one.state) is not None}
        return tuple(one for one in asked if one.state not in self.known)


class Claim:
    """One run's claim of everything that is due.

    Args:
        snapshot: The pipeline as it reads now; each batch pins it.
        folder: The source's folder.
        store: The pipeline's store.
        run: Names the task that will mint the partitions, for :data:`FateOf` to ask about later.
        fate: What became of an earlier such task.
        force: A reason to claim every settled group anew, read every file again, and mint whatever has no certificate.
    """

    def __init__(
        self, snapshot: Snapshot, folder: Folder, store: Store, *, run: str, fate: FateOf, force: str = ""
    ) -> None:
        self.snapshot, self.folder, self.store = snapshot, folder, store
        self.run, self.fate, self.force = run, fate, force
        self.rights = Emissions(store, CLAIMS)
        self._refs: dict[Seen, FileRef | None] = {}

    def due(self, files: Iterable[Seen]) -> dict[str, list[Seen]]:
        """The groups that hold anything unclaimed, each with all its files; files of no group are left out."""
        groups: dict[str, list[Seen]] = {}
        for one in files:
            if group := group_of(one.path, self.snapshot.spec.source.group):
                groups.setdefault(group, []).append(one)
        if self.force:
            return groups
        everything = [one for group in groups.values() for one in group]
        fresh = {one.path for one in Claims(self.store).unclaimed(everything)}
        return {name: group for name, group in sorted(groups.items()) if any(one.path in fresh for one in group)}

    def take(self, files: tuple[Seen, ...], *, waiting: int = 0) -> Intake:
        """Claim the due groups among the settled ``files`` and inherit what dead runs left; mints nothing itself.

        Raises:
            UnreachableError: The share or the storage account did not answer; a later run takes up what was left.
        """
        expression = self.snapshot.spec.source.group
        taken: dict[str, Batch] = {}
        for group, members in self.due(files).items():
            if batch := self._batch(group, members):
                taken[batch.id] = batch
        asked = {one: self.ask(one) for one in sorted({*taken, *self._outstanding()})}
        mine = [one for one, right in asked.items() if right is Right.MINE]
        batches = [taken.get(one) or self.store.get(Batch, one) for one in mine]
        return Intake(
            emit=tuple(sorted(batches, key=lambda one: one.key)),
            found=len(asked) - len(mine),
            unsettled=waiting,
            changed=sum(1 for ref in self._refs.values() if ref is None),
            ungrouped=sum(1 for one in files if not group_of(one.path, expression)),
            files=len(files),
        )

    def ask(self, batch: str) -> Right:
        """Whether this run must mint ``batch``. A certificate proves that its partition arrived, whoever sent it."""
        if any(True for _ in self.store.objects.list(f"edges/{batch}/certificate/")):
            right = Right.DELIVERED
        else:
            right = self.rights.ask(batch, self.run, self.fate)
            if self.force and right is not Right.ELSEWHERE:
                return Right.MINE
        if right is Right.DELIVERED:
            self.store.fix(DELIVERED, batch, self.run)
        return right

    def _batch(self, group: str, members: list[Seen]) -> Batch | None:
        for one in members:
            self._refs[one] = self._ref(one)
        files = [ref for one in members if (ref := self._refs[one]) is not None]
        if not files:
            return None
        batch = self.store.put(
            Batch(
                pipeline=self.snapshot.spec.name,
                group=group,
                files=tuple(sorted(files, key=lambda one: one.path)),
                config=self.snapshot.save(self.store.objects),
                claimed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
        )
        # The right before the marks: files that look claimed must have a batch that somebody answers for.
        self.rights.ask(batch.id, self.run, self.fate)
        for one in members:
            if self._refs[one] is not None:
                self.store.fix(CLAIMED, one.state, batch.id)
        return batch

    def _ref(self, seen: Seen) -> FileRef | None:
        sha256 = None if self.force else self.store.fixed(HASHED, seen.state)
        if sha256 is None:
            sha256 = self.folder.digest(seen)
            if sha256 is None:
                return None
            self.store.fix(HASHED, seen.state, sha256)
        return FileRef(path=seen.path, size=seen.size, sha256=sha256)

    def _outstanding(self) -> set[str]:
        return set(self.rights.keys()) - set(self.store.keys(DELIVERED))
