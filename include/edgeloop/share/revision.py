"""A group of files as it stands: what its next batch is made of.

The files that are complete on the source, and those of the batch that stands for the group which are gone, are being
rewritten, or were not looked at. So a producer that clears away what was claimed takes nothing from the next revision,
and a sweep that looks at the recent folders loses none of a month's first days.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from edgeloop.records import Batch, FileRef
from edgeloop.share.grouping import group_of
from edgeloop.share.journal import mark
from edgeloop.share.names import matcher, unreadable
from edgeloop.share.source import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.catalog import Snapshot
    from edgeloop.share.source import Broken, FileSource, Seen
    from edgeloop.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A group as it stands now. ``batch`` is None where its files are those of the batch that stands for it."""

    group: str
    batch: Batch | None
    marks: tuple[tuple[int, int], ...]
    paths: tuple[str, ...]
    kept: int = 0
    """How many files of ``batch`` were not read now."""


class Revisions:
    """Makes the next revision of a group.

    Args:
        snapshot: The pipeline as it reads now; each batch pins it.
        source: Where the files are.
        store: The pipeline's store.
        claimed: Whether a file was claimed last in the state it is seen in.
        force: Read every file again, and let go of what is gone from the source.
        clock: Wall clock, UTC.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        source: FileSource,
        store: Store,
        *,
        claimed: Callable[[Seen], bool],
        force: bool,
        clock: Callable[[], datetime],
    ) -> None:
        self.snapshot, self.source, self.store = snapshot, source, store
        self.claimed, self.force, self.clock = claimed, force, clock
        self._read: dict[Seen, str | None] = {}
        self.closed: dict[Seen, Broken] = {}
        """Files that could not be read for want of a right; their groups go on without them."""

    @property
    def changed(self) -> int:
        """How many files changed while they were read."""
        return sum(1 for sha256 in self._read.values() if sha256 is None)

    def digest(self, seen: Seen) -> str | None:
        """The sha256 of a file's bytes, read once; None if it is not the file that was seen."""
        if seen not in self._read:
            self._read[seen] = self.source.digest(seen)
        return self._read[seen]

    def forget_overtaken(self) -> None:
        """Let go of what was read of files that are not as they were read: somebody may have claimed what came after.

        Claimed from memory, an older state of a file would replace the newer one in its group.
        """
        self._read = {one: sha256 for one, sha256 in self._read.items() if self.source.look(one.path) == one}

    def of(self, group: str, members: list[Seen], standing_id: str | None) -> Revision:
        """The group's next batch, stored, from its complete files and the batch that stands for it."""
        standing = self.store.get(Batch, standing_id) if standing_id else None
        before = {one.path: one for one in standing.files} if standing else {}
        files = {one.path: ref for one in members if (ref := self._ref(one, before.get(one.path))) is not None}
        marks, paths = tuple(mark(one) for one in members if one.path in files), tuple(files)
        files |= {path: ref for path, ref in before.items() if path not in files and self._stays(path, group)}
        refs = tuple(files[path] for path in sorted(files))
        if not paths or (standing and refs == standing.files):
            return Revision(group=group, batch=None, marks=marks, paths=paths)
        batch = self._stored(group, refs, standing)
        return Revision(group=group, batch=batch, marks=marks, paths=paths, kept=len(files) - len(paths))

    def _ref(self, seen: Seen, before: FileRef | None) -> FileRef | None:
        # Claimed in this state last, so the standing batch holds its digest: a late file must not cost reading a month.
        try:
            sha256 = before.sha256 if before is not None and self.claimed(seen) else self.digest(seen)
        except ClosedError:
            self.closed[seen] = unreadable(seen.path)
            return None
        return None if sha256 is None else FileRef(path=seen.path, size=seen.size, sha256=sha256)

    def _stays(self, path: str, group: str) -> bool:
        """Whether a file of the standing batch that was not read now belongs to the next one."""
        source = self.snapshot.spec.source
        if group_of(path, source.group) != group or not counts(path, source.pattern, source.exclude):
            return False
        return not self.force or self.source.look(path) is not None

    def _stored(self, group: str, files: tuple[FileRef, ...], standing: Batch | None) -> Batch:
        now = self.clock()
        if standing is not None and standing.claimed_at:
            # Of two certificates of a group the later claim is the newer data; a clock that is behind must not turn it.
            now = max(now, datetime.fromisoformat(standing.claimed_at) + timedelta(milliseconds=1))
        batch = Batch(
            pipeline=self.snapshot.spec.name,
            group=group,
            files=files,
            config=self.snapshot.save(self.store.objects),
            claimed_at=now.isoformat(timespec="milliseconds"),
            replaces=standing.id if standing else "",
        )
        known = self.store.find(Batch, batch.id) if standing else None
        if standing and known and known.claimed_at <= standing.claimed_at:
            batch = replace(batch, again=standing.id)
        return self.store.put(batch)


def counts(path: str, pattern: str, exclude: tuple[str, ...]) -> bool:
    """Whether a listing would show ``path``: its name matches, and neither it nor a folder above it is excluded."""
    parts = path.split("/")
    above = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    matches, excluded = matcher((pattern,)), matcher(exclude)
    return matches(parts[-1], path) and not any(excluded(one.rpartition("/")[2], one) for one in above)
