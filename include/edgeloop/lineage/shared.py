"""Whether the files of a batch still lie on the share as they were claimed; read from there, so only when asked to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError
from edgeloop.lineage.chain import Check, State
from edgeloop.lineage.links import short

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.records import Batch, FileRef
    from edgeloop.share.source import FileSource

WHAT = "is on the share as it was claimed"


@dataclass(slots=True)
class Shared:
    """``open`` makes the source that a configuration names; ``standing`` is the batch that stands for each group."""

    open: Callable[[str], FileSource]
    standing: Callable[[], dict[str, str]]
    say: Callable[[str], None] = lambda _: None
    _sources: dict[str, FileSource | str] = field(default_factory=dict)
    _known: dict[str, tuple[Check, ...]] = field(default_factory=dict)
    _standing: dict[str, str] | None = None

    def checks(self, batch: Batch) -> tuple[Check, ...]:
        """One for each of its files; a source that cannot be asked leaves all of them untried."""
        if batch.id not in self._known:
            self.say(f"reading {len(batch.files)} files of batch {batch.key} on the share")
            self._known[batch.id] = tuple(self._check(batch, file) for file in batch.files)
        return self._known[batch.id]

    def _check(self, batch: Batch, file: FileRef) -> Check:
        source = self._source(batch.config)
        if isinstance(source, str):
            return _unseen(source)
        try:
            seen = source.look(file.path)
            found = source.digest(seen) if seen else None
        except EdgeloopError as error:
            # Of one that went silent the next file is not asked for: each question would wait for its time-out.
            self._sources[batch.config] = error.what
            return _unseen(error.what)
        if found == file.sha256:
            return Check.of(WHAT, "")
        how = f"it hashes to {short(found)}" if found else "it is being written" if seen else "it is gone"
        return self._changed(batch, how)

    def _changed(self, batch: Batch, how: str) -> Check:
        if self._standing is None:
            self._standing = self.standing()
        now = self._standing.get(batch.group, batch.id)
        if now != batch.id:
            # A revision was claimed: what this batch read is not expected to be there any more.
            return Check(what=WHAT, state=State.UNPROVEN, found=f"{how}; batch {short(now)} replaced this one since")
        doing = (
            "A file that was revised is claimed anew by the next intake; one that was lost belongs back on the share."
        )
        return Check.of(WHAT, how, doing)

    def _source(self, config: str) -> FileSource | str:
        """The source, or why there is none."""
        if config not in self._sources:
            try:
                source = self.open(config)
                source.check()
            except EdgeloopError as error:
                self._sources[config] = error.what
            else:
                self._sources[config] = source
        return self._sources[config]


def _unseen(why: str) -> Check:
    return Check(what=WHAT, state=State.UNPROVEN, found=f"not looked at: {why}")
