"""Looking at a source until files are complete: the one path for tasks that wait and triggers that poll."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from edgeloop.share.complete import Judge, Policy, Renamed, Sentinels, Settled, Verdict, policy_of
from edgeloop.share.manifest import LIMIT_BYTES, Manifests
from edgeloop.share.settle import NS, SHORTEST_PAUSE
from edgeloop.share.source import EVERYTHING, Broken, FileSource, Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.share.scan import Seen

__all__ = ["Broken", "Look", "Policy", "Watch", "policy_of"]


class Look(NamedTuple):
    """One more look: what is complete, what may still be written to, and what is wrong as it lies there."""

    ready: tuple[Seen, ...]
    waiting: tuple[Seen, ...]
    broken: tuple[Broken, ...]


class Watch:
    """What was seen of a source so far. Every method blocks; for a thread, one at a time.

    Args:
        source: Where to look. It may be replaced by one of the same place while watching.
        policy: When a file counts as complete. Another one starts anew.
        scope: Which part of the source; may be replaced.
        claimed: Tells that a file was claimed in this state, so that it was complete then: it is not probed and its
            digest is not computed again. Without it every file of a share costs an open in every new process.
        digest: The sha256 of a file as it was seen, or None if it changed; asked for files of a manifest. By default
            the source is read; one that remembers what it read saves that.
        clock: Wall clock, nanoseconds.
    """

    def __init__(
        self,
        source: FileSource,
        policy: Policy,
        scope: Scope = EVERYTHING,
        *,
        claimed: Callable[[Seen], bool] | None = None,
        digest: Callable[[Seen], str | None] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.source, self.policy, self.scope = source, policy, scope
        self.claimed, self.digest = claimed or (lambda _: False), digest
        self.clock = clock
        self._judged_by: Policy | None = None
        self._judge: Judge = Renamed()
        self._free: dict[str, Seen] = {}
        self._pause: float | None = None

    def look(self) -> Look:
        """List the source once more; raises what the source raises."""
        found = self.source.listing(self.scope, self.policy.marker)
        verdict = self._judge_now().judge(found, self.clock())
        ready, busy = self._probed(verdict)
        self._pause = self.policy.rule.poll_seconds if busy and verdict.pause is None else verdict.pause
        waiting = (*verdict.waiting, *busy) if busy else verdict.waiting
        return Look(ready, tuple(sorted(waiting)), (*found.broken, *verdict.broken))

    def pause(self) -> float:
        """Seconds until another look is useful: a poll, or less when a file will be complete before that."""
        poll = self.policy.rule.poll_seconds
        return poll if self._pause is None else max(SHORTEST_PAUSE, min(poll, self._pause))

    def wait(self, sleep: Callable[[float], None] = time.sleep) -> Look:
        """Look until nothing is waiting, at most as long as a file that was just finished needs to settle.

        Files that arrive together become one batch that way, instead of a revision each. What only its producer can
        complete, by a sentinel say, is not waited for.
        """
        until = self.clock() + round(self.policy.longest_seconds * NS)
        found = self.look()
        while self._pause is not None and self.clock() < until:
            sleep(self.pause())
            found = self.look()
        return found

    def text(self, path: str) -> bytes:
        """The text of a manifest, for :class:`Manifests`."""
        return self.source.read(path, LIMIT_BYTES)

    def there(self, path: str) -> bool:
        """Whether a file is there that the listing does not show, because it is no data of this source."""
        return self.source.look(path) is not None

    def sha256(self, seen: Seen) -> str | None:
        """The digest of a file as it was seen, or None if it changed meanwhile."""
        return self.digest(seen) if self.digest is not None else self.source.digest(seen)

    def trusted(self, seen: Seen) -> bool:
        """Whether the file was found complete before, in this state."""
        return self.claimed(seen)

    def _judge_now(self) -> Judge:
        if self._judged_by != self.policy:
            self._judge, self._judged_by = self._made(), self.policy
        return self._judge

    def _made(self) -> Judge:
        policy = self.policy
        if policy.complete == "renamed":
            return Renamed()
        if policy.complete == "sentinel":
            return Sentinels(policy.group)
        if policy.complete == "manifest":
            return Manifests(policy.rule, self)
        return Settled(policy.rule.at_once() if self.source.appears_whole else policy.rule)

    def _probed(self, verdict: Verdict) -> tuple[tuple[Seen, ...], tuple[Seen, ...]]:
        """The complete files that no writer holds open, and the others. A file is probed once in each state."""
        if not self.source.knows_writers:
            return verdict.ready, ()
        known, free = self._free, {one.path: one for one in verdict.ready}
        fresh = verdict.ready if not known else [one for one in verdict.ready if known.get(one.path) != one]
        busy = {one.path for one in fresh if not self.claimed(one) and self.source.busy(one)}
        self._free = free if not busy else {path: one for path, one in free.items() if path not in busy}
        if not busy:
            return verdict.ready, ()
        ready = tuple(one for one in verdict.ready if one.path not in busy)
        return ready, tuple(one for one in verdict.ready if one.path in busy)
