"""When a file counts as complete: it has not changed over some looks, and nobody wrote to it for a while."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from edgeloop.share.scan import Seen

NS = 1_000_000_000
SHORTEST_PAUSE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """``polls`` looks that lie ``poll_seconds`` apart and show the same, and ``quiet_seconds`` without a write."""

    polls: int
    poll_seconds: float
    quiet_seconds: float

    def at_once(self) -> Rule:
        """The rule for files that appear whole: one look shows all of them, quiet they must be all the same."""
        return replace(self, polls=1)


class Born(NamedTuple):
    """The look that first showed files in their present state: its number, and when it was (wall clock, ns)."""

    look: int
    at_ns: int


class Settling:
    """What has changed lately. What settled costs one comparison a look, so that 100,000 files can be polled."""

    def __init__(self) -> None:
        self.young: dict[str, Born] = {}
        self.files: tuple[Seen, ...] = ()
        """The last listing; what did not change is the very object of the listing before, which saves comparisons."""
        self._seen: dict[str, Seen] = {}
        self._looks = 0

    def observe(self, found: tuple[Seen, ...], now_ns: int, rule: Rule) -> None:
        """One more listing: a changed file starts anew, one that is gone or has settled is no longer young."""
        self._looks += 1
        changed = self._changed(found)
        self.young.update(dict.fromkeys(changed, Born(self._looks, now_ns)))
        enough = self._looks - rule.polls + 1
        self.young = {
            path: born
            for path, born in self.young.items()
            if born.look > enough or now_ns < self._settles_at(path, born, rule)
        }

    def _changed(self, found: tuple[Seen, ...]) -> list[str]:
        """The paths whose state is new; brings what is known of all files up to date."""
        # Mostly the same files in the same order: comparing them pairwise takes a tenth of making a dict of them.
        if len(found) == len(self.files):
            places = list(compress(count(), map(ne, found, self.files)))
            if all(found[at].path == self.files[at].path for at in places):
                kept = list(self.files)
                for at in places:
                    kept[at] = found[at]
                self.files = tuple(kept)
                self._seen.update((found[at].path, found[at]) for at in places)
                return [found[at].path for at in places]
        known = self._seen
        self.files = tuple([old if (old := known.get(one.path)) == one else one for one in found])
        self._seen = {one.path: one for one in self.files}
        self.young = {path: born for path, born in self.young.items() if path in self._seen}
        return [one.path for one in self.files if known.get(one.path) is not one]

    def next_look(self, rule: Rule, now_ns: int) -> float:
        """Seconds to sleep: a poll, or less when a file will settle before that."""
        until = now_ns + round(rule.poll_seconds * NS)
        due = (
            self._settles_at(path, born, rule) for path, born in self.young.items() if self._watched(born, rule) < until
        )
        return max(SHORTEST_PAUSE, (min(until, *due, until) - now_ns) / NS)

    def _settles_at(self, path: str, born: Born, rule: Rule) -> int:
        """The wall clock (ns) from which the next unchanged look settles the file.

        Age counts from the file's own time. A server whose clock is ahead writes times of our future; such a file
        counts as quiet from when we first saw it, or it would never settle.
        """
        written = min(self._seen[path].mtime_ns, born.at_ns)
        return max(self._watched(born, rule), written + round(rule.quiet_seconds * NS))

    @staticmethod
    def _watched(born: Born, rule: Rule) -> int:
        """When (ns) the file will have been looked at for long enough, however old it is."""
        return born.at_ns + round((rule.polls - 1) * rule.poll_seconds * NS)
