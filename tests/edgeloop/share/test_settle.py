"""When a file counts as complete."""

from __future__ import annotations

from edgeloop.share.scan import Seen
from edgeloop.share.settle import NS, Rule, Settling

RULE = Rule(polls=3, poll_seconds=1.0, quiet_seconds=5.0)
EPOCH = 1_700_000_000 * NS


def at(seconds: float) -> int:
    """Nanoseconds of a moment of these tests."""
    return EPOCH + round(seconds * NS)


def seen(path: str = "a.csv", *, size: int = 10, written: float = 0.0) -> Seen:
    """A file as listed; `written` in seconds."""
    return Seen(path=path, size=size, mtime_ns=at(written))


def after(*looks: tuple[float, list[Seen]], rule: Rule = RULE) -> list[str]:
    """Paths that are settled after these listings, each (seconds, files)."""
    settling = Settling()
    for moment, files in looks:
        settling.observe(tuple(files), at(moment), rule)
    return [one.path for one in looks[-1][1] if one.path not in settling.young]


def test_a_file_settles_after_its_polls_and_quiet_time() -> None:
    """Three same looks over two seconds settle a file whose last write is five seconds old, no earlier."""
    old = seen(written=-100)
    assert after((0, [old]), (1, [old])) == []
    assert after((0, [old]), (1, [old]), (2, [old])) == ["a.csv"]


def test_a_fresh_file_waits_for_its_quiet_time() -> None:
    """However often it was looked at, a file written four seconds ago is not settled; five seconds ago it is."""
    fresh = seen(written=0)
    looks = [(second / 2, [fresh]) for second in range(9)]
    assert after(*looks) == []
    assert after(*looks, (5, [fresh])) == ["a.csv"]


def test_growth_and_rewriting_start_anew() -> None:
    """Another size or another time is another state: the looks count from there."""
    old, grown, touched = seen(written=-100), seen(written=-100, size=11), seen(written=-50)
    assert after((0, [old]), (1, [old]), (2, [grown])) == []
    assert after((0, [old]), (1, [old]), (2, [touched]), (3, [touched])) == []
    assert after((0, [old]), (1, [old]), (2, [grown]), (3, [grown]), (4, [grown])) == ["a.csv"]


def test_quick_looks_do_not_replace_waiting() -> None:
    """Three looks within a tenth of a second are no three polls."""
    old = seen(written=-100)
    assert after((0, [old]), (0.05, [old]), (0.1, [old])) == []


def test_waiting_does_not_replace_looks() -> None:
    """Two looks a minute apart are no three polls: a writer may have paused between them."""
    old = seen(written=-100)
    assert after((0, [old]), (60, [old])) == []
    assert after((0, [old]), (60, [old]), (60.1, [old])) == ["a.csv"]


def test_a_kept_time_does_not_settle_a_file_that_is_still_copied() -> None:
    """A copy that keeps the old time settles by looks alone, so it must have stopped growing."""
    looks = [(second, [seen(written=-1000, size=second)]) for second in range(10)]
    assert after(*looks) == []


def test_a_server_clock_ahead_does_not_keep_a_file_for_ever() -> None:
    """A time of our future counts as quiet from when the file was first seen."""
    ahead = seen(written=3600)
    assert after((0, [ahead]), (2, [ahead]), (4, [ahead])) == []
    assert after((0, [ahead]), (2, [ahead]), (5, [ahead])) == ["a.csv"]


def test_a_file_that_vanishes_is_forgotten() -> None:
    """Coming back after a gap, it starts anew."""
    old = seen(written=-100)
    assert after((0, [old]), (1, [old]), (2, []), (3, [old])) == []


def test_each_file_settles_on_its_own() -> None:
    """One that is still written to keeps no other waiting."""
    old, fresh = seen("b.csv", written=-100), seen("a.csv", written=1.5)
    looks = [(0, [old]), (1, [old]), (2, [old, fresh])]
    assert after(*looks) == ["b.csv"]


def test_the_next_look_is_due_when_a_file_settles() -> None:
    """The sleep is a poll, or less if a file settles before the poll is over, and never nothing."""
    rule = Rule(polls=2, poll_seconds=1.0, quiet_seconds=2.0)
    settling = Settling()
    settling.observe((seen(written=0),), at(0.1), rule)
    assert settling.next_look(rule, at(0.1)) == 1.0
    settling.observe((seen(written=0),), at(1.7), rule)
    assert round(settling.next_look(rule, at(1.7)), 3) == 0.3
    assert settling.next_look(rule, at(2.5)) == 0.05
    assert Settling().next_look(rule, at(0)) == 1.0


def test_two_uploads_within_a_second_are_two_states() -> None:
    """Blobs have times of whole seconds: the etag alone tells that one was replaced."""
    one, other = (Seen(path="a", size=1, mtime_ns=at(-100), etag=etag) for etag in ("0x1", "0x2"))
    assert one.state != other.state
    assert after((0, [one]), (1, [one]), (2, [other]), (3, [other])) == []
    assert after((0, [one]), (1, [one]), (2, [one])) == ["a"]


def test_what_appears_whole_is_settled_at_once_when_it_is_quiet() -> None:
    """One look shows all of it; the quiet time still lets files that arrive together become one batch."""
    rule = RULE.at_once()
    assert after((0, [seen(written=-5)]), rule=rule) == ["a.csv"]
    assert after((0, [seen(written=-4)]), rule=rule) == []
    assert after((0, [seen(written=-4)]), (1, [seen(written=-4)]), rule=rule) == ["a.csv"]


def test_what_stays_as_it_is_stays_the_same_object() -> None:
    """However a listing moves it about; what changed is the new one, and is young again."""
    rule = Rule(polls=1, poll_seconds=1.0, quiet_seconds=0.0)
    settling = Settling()

    def look(*files: tuple[str, int]) -> tuple[Seen, ...]:
        settling.observe(tuple(Seen(path, size, at(-100), "") for path, size in files), at(0), rule)
        assert [(one.path, one.size) for one in settling.files] == list(files)
        return settling.files

    a, b = look(("a", 1), ("b", 1))
    assert look(("a", 1), ("b", 2))[0] is a
    assert look(("a", 1), ("b", 2))[1] is not b
    first, new, last = look(("a", 1), ("aa", 1), ("b", 2))
    assert first is a
    assert look(("aa", 1), ("b", 2)) == (new, last)
    assert all(one is other for one, other in zip(look(("aa", 1), ("b", 2)), (new, last), strict=True))
