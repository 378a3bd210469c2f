"""When a file counts as complete: it has not changed over some looks, and nobody wrote to it for a while."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
        self._seen: dict[str, Seen] = {}
        self._looks = 0
        self._due_ns: int | None = None

    def observe(self, found: Iterable[Seen], now_ns: int, rule: Rule) -> None:
        """One more listing: a changed file starts anew, one that is gone or has settled is no longer young."""
        before, after = self._seen, {one.path: one for one in found}
        changed = [path for path, one in after.items() if before.get(path) != one] if before else list(after)
        self._seen, self._looks = after, self._looks + 1
        young = {path: born for path, born in self.young.items() if path in after}
        young.update(dict.fromkeys(changed, Born(self._looks, now_ns)))
        due = {path: self._settles_at(after[path], born, rule) for path, born in young.items()}
        enough = self._looks - rule.polls + 1
        self.young = {path: born for path, born in young.items() if born.look > enough or due[path] > now_ns}
        self._due_ns = min((due[path] for path in self.young), default=None)

    def next_look(self, rule: Rule, now_ns: int) -> float:
        """Seconds to sleep: a poll, or less when a file will settle before that."""
        ahead = rule.poll_seconds if self._due_ns is None else (self._due_ns - now_ns) / NS
        return max(SHORTEST_PAUSE, min(rule.poll_seconds, ahead))

    def _settles_at(self, seen: Seen, born: Born, rule: Rule) -> int:
        """The wall clock (ns) from which the next unchanged look settles the file.

        Age counts from the file's own time. A server whose clock is ahead writes times of our future; such a file
        counts as quiet from when we first saw it, or it would never settle.
        """
        watched = born.at_ns + round((rule.polls - 1) * rule.poll_seconds * NS)
        return max(watched, min(seen.mtime_ns, born.at_ns) + round(rule.quiet_seconds * NS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A file in one state since ``since_ns``, seen so ``looks`` times, last at ``last_ns`` (wall clock, ns)."""

    seen: Seen
    since_ns: int
    last_ns: int
    looks: int = 1


def observe(before: Mapping[str, Watched], found: Iterable[Seen], now_ns: int) -> dict[str, Watched]:
    """What is known after one more listing: a changed file starts anew, one that is gone is forgotten."""
    after: dict[str, Watched] = {}
    for seen in found:
        known = before.get(seen.path)
        if known is None or known.seen != seen:
            after[seen.path] = Watched(seen=seen, since_ns=now_ns, last_ns=now_ns)
        else:
            after[seen.path] = Watched(seen=seen, since_ns=known.since_ns, last_ns=now_ns, looks=known.looks + 1)
    return after


def is_settled(one: Watched, rule: Rule) -> bool:
    """Whether the file is complete as far as size and time can tell."""
    return one.looks >= rule.polls and one.last_ns >= settles_at(one, rule)


def settles_at(one: Watched, rule: Rule) -> int:
    """The wall clock (ns) from which the next unchanged look settles the file.

    Age counts from the file's own time. A server whose clock is ahead writes times of our future; such a file counts
    as quiet from when we first saw it, or it would never settle.
    """
    watched = one.since_ns + round((rule.polls - 1) * rule.poll_seconds * NS)
    written = min(one.seen.mtime_ns, one.since_ns)
    return max(watched, written + round(rule.quiet_seconds * NS))


def settled(watched: Mapping[str, Watched], rule: Rule) -> tuple[Seen, ...]:
    """The complete files, by path."""
    return tuple(watched[path].seen for path in sorted(watched) if is_settled(watched[path], rule))


def unsettled(watched: Mapping[str, Watched], rule: Rule) -> tuple[Seen, ...]:
    """The files that may still be written to, by path."""
    return tuple(watched[path].seen for path in sorted(watched) if not is_settled(watched[path], rule))


def next_look(watched: Mapping[str, Watched], rule: Rule, now_ns: int, at_least: float = 0.05) -> float:
    """Seconds to sleep: a poll, or less when a file will settle before that."""
    due = [settles_at(one, rule) for one in watched.values() if not is_settled(one, rule)]
    ahead = [(one - now_ns) / NS for one in due]
    return max(at_least, min([rule.poll_seconds, *ahead]))
