"""What says that a file is complete, and the verdict over one listing.

The order of trust: a manifest or a sentinel that is written last; a rename from a temporary suffix; size, time and etag
that stay the same. Each judge is asked once for each listing and keeps what it needs to know from one to the next.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from edgeloop.share.grouping import group_of
from edgeloop.share.settle import Rule, Settling

if TYPE_CHECKING:
    from collections.abc import Collection

    from edgeloop.pipeline import Source
    from edgeloop.share.scan import Seen
    from edgeloop.share.source import Broken, Listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a file counts as complete; ``group`` is the expression that names a file's batch."""

    complete: str = "settled"
    marker: str = ""
    group: str = ""
    rule: Rule

    @property
    def longest_seconds(self) -> float:
        """How long a file that nobody touches any more may take until it counts as complete."""
        rule = self.rule
        return max(rule.quiet_seconds, rule.poll_seconds * (rule.polls - 1)) + rule.poll_seconds


def policy_of(source: Source) -> Policy:
    """The policy of a pipeline.yaml's source."""
    return Policy(
        complete=source.complete,
        marker=source.marker,
        group=source.group,
        rule=Rule(polls=source.polls, poll_seconds=source.poll_seconds, quiet_seconds=source.quiet_seconds),
    )


class Verdict(NamedTuple):
    """One listing, judged. ``pause``: seconds until time alone can change the verdict; None if only a producer can."""

    ready: tuple[Seen, ...]
    waiting: tuple[Seen, ...] = ()
    broken: tuple[Broken, ...] = ()
    pause: float | None = None


class Judge(Protocol):
    """Tells complete files from others, listing by listing."""

    def judge(self, found: Listing, now_ns: int) -> Verdict:
        """The verdict over ``found``, listed at ``now_ns``."""
        ...


FEW = 5000
BY_PATH = itemgetter(0)


class Settled:
    """Complete is what did not change over some looks and lay quiet for a while."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.settling = rule, Settling()

    def judge(self, found: Listing, now_ns: int) -> Verdict:
        """Files that settled, and the others."""
        self.settling.observe(found.files, now_ns, self.rule)
        young = self.settling.young
        if not young:
            return Verdict(self.settling.files)
        ready, waiting = _parted(self.settling.files, young)
        return Verdict(ready, waiting, pause=self.settling.next_look(self.rule, now_ns))


def _parted(files: tuple[Seen, ...], young: Collection[str]) -> tuple[tuple[Seen, ...], tuple[Seen, ...]]:
    """The files, without those in ``young`` and these alone; sorted by path, so that few are looked up and cut out."""
    if len(young) > FEW:
        return (
            tuple([one for one in files if one.path not in young]),  # a list first: a generator takes twice as long
            tuple([one for one in files if one.path in young]),
        )
    places = [bisect_left(files, path, key=BY_PATH) for path in sorted(young)]
    ready: list[Seen] = []
    start = 0
    for at in places:
        ready += files[start:at]
        start = at + 1
    return (*ready, *files[start:]), tuple([files[at] for at in places])


class Renamed:
    """Complete is what bears its final name: the producer writes under an excluded one and renames."""

    def judge(self, found: Listing, now_ns: int) -> Verdict:  # noqa: ARG002 - time plays no part
        """Every file."""
        return Verdict(found.files)


class Sentinels:
    """Complete is what a sentinel covers: written after the file, in its folder or one above, for its group or all."""

    def __init__(self, group: str) -> None:
        self.group = group

    def judge(self, found: Listing, now_ns: int) -> Verdict:  # noqa: ARG002 - the share's own times decide
        """Files that a sentinel covers, and the others."""
        written: dict[tuple[str, str], int] = {}
        for one in found.markers:
            key = (folder_of(one.path), group_of(one.path, self.group) if self.group else "")
            written[key] = max(written.get(key, one.mtime_ns), one.mtime_ns)
        covered = [self._covered(one, written) for one in found.files]
        return Verdict(
            tuple(one for one, yes in zip(found.files, covered, strict=True) if yes),
            tuple(one for one, yes in zip(found.files, covered, strict=True) if not yes),
        )

    def _covered(self, one: Seen, written: dict[tuple[str, str], int]) -> bool:
        group = group_of(one.path, self.group) if self.group else ""
        folder = folder_of(one.path)
        while True:
            newest = max(written.get((folder, ""), -1), written.get((folder, group), -1))
            if newest >= one.mtime_ns:
                return True
            if not folder:
                return False
            folder = folder_of(folder)


def folder_of(path: str) -> str:
    """The folder that ``path`` lies in, "" for the source's own."""
    return path.rpartition("/")[0]
