"""The journal of claims: small questions about many files, and nothing lost between entries and heads."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import IntegrityError
from edgeloop.share import Claims
from edgeloop.share import journal as journals
from edgeloop.share.journal import Entry, Journal, Marks, State, mark
from edgeloop.share.source import Seen

if TYPE_CHECKING:
    from edgeloop.azure.blob import BlobContainer
    from edgeloop.store import Store

AT = "2026-05-01T12:00:00.000+00:00"
MANY = 100_000


def seen(number: int, size: int = 1) -> Seen:
    """A file of many."""
    return Seen(f"2026/05/{number % 31:02d}/plant_{number:06d}.csv", size, 1_700_000_000_000_000_000 + number)


def entry(number: int, **more: object) -> Entry:
    """An entry that claims one file as one batch."""
    batches = ((f"g{number}", f"{number:064x}"),)
    return Entry(run="r", at=AT, marks=(mark(seen(number)),), batches=batches, **more)  # type: ignore[arg-type]


def test_a_journal_reads_back_what_was_appended(store: Store) -> None:
    """Marks, what stands, what is outstanding, the cursor and the last full sweep; newer values win, older do not."""
    one = Journal(store)
    assert one.append(entry(1, newest_day="2026-05-02", swept_at="2026-05-02T03:00:00+00:00"))
    assert one.append(entry(2, newest_day="2026-05-01", delivered=(f"{1:064x}",)))
    state = Journal(store).read()
    assert mark(seen(1)) in state.marks
    assert mark(seen(1, size=2)) not in state.marks
    assert mark(seen(3)) not in state.marks
    assert state.standing == {"g1": f"{1:064x}", "g2": f"{2:064x}"}
    assert state.outstanding == {f"{2:064x}"}
    assert (state.newest_day, state.swept_at) == ("2026-05-02", "2026-05-02T03:00:00+00:00")


def test_a_state_that_is_claimed_last_is_the_one_that_counts() -> None:
    """A file put back to what it was before is due, although it was claimed like that once."""
    marks = Marks()
    marks.update([mark(seen(1)), mark(seen(1, size=2))])
    assert mark(seen(1)) not in marks
    assert mark(seen(1, size=2)) in marks
    assert marks.knows(seen(1).path)
    assert not marks.knows(seen(2).path)
    assert len(marks) == 1


def test_an_etag_is_part_of_a_state() -> None:
    """Two uploads of a blob within a second differ by nothing else."""
    assert mark(Seen("a", 1, 2, "x")) != mark(Seen("a", 1, 2, "y"))


@pytest.mark.fault
def test_of_two_who_append_at_once_one_is_told_so(store: Store) -> None:
    """The other reads what was written and decides again; no number is left out and none is written twice."""
    one, two = Journal(store), Journal(store)
    one.read(), two.read()
    assert one.append(entry(1))
    assert not two.append(entry(2))
    assert mark(seen(1)) in two.read().marks
    assert two.append(entry(2))
    assert one.read().seq == 2


def test_a_head_sums_up_what_came_before(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new reader asks for the head and the entries since; two heads stay, for those who listed one a moment ago."""
    monkeypatch.setattr(journals, "COMPACT_AFTER", 4)
    writer = Journal(store)
    for number in range(14):
        assert writer.append(entry(number))
    assert [one.name for one in store.objects.list(journals.HEADS)] == [
        "heads/claims/00000008",
        "heads/claims/00000012",
    ]
    asked: list[str] = []
    get = type(store.objects).get  # type: ignore[attr-defined]

    def told(self: BlobContainer, name: str) -> bytes:
        asked.append(name)
        return bytes(get(self, name))

    monkeypatch.setattr(type(store.objects), "get", told)
    state = Journal(store).read()
    assert asked == ["heads/claims/00000012", *(f"ledgers/claims/{seq:08d}.json" for seq in (13, 14, 15))]
    assert state.seq == 14
    assert all(mark(seen(number)) in state.marks for number in range(14))
    assert len(state.standing) == len(state.outstanding) == 14


@pytest.mark.fault
@pytest.mark.parametrize("name", ["heads/claims/00000001", "ledgers/claims/00000001.json"])
@pytest.mark.parametrize("raw", [b"", b"{}", b'{"schema":1}\n123', b"\xff\xfe"])
def test_a_spoilt_blob_is_told_and_nothing_is_claimed(store: Store, name: str, raw: bytes) -> None:
    """Reading on over it would claim files anew."""
    store.objects.put_new(name, raw)
    with pytest.raises(IntegrityError, match="is no part of the journal of claims") as raised:
        Journal(store).read()
    assert name in str(raised.value)
    assert raised.value.next


def test_a_hundred_thousand_known_files_are_cheap(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll without news asks nobody; news costs one small question; a head of all is 16 bytes a file."""
    files = [seen(number) for number in range(MANY)]
    first = Journal(store)
    assert first.append(Entry(run="r", at=AT, marks=tuple(map(mark, files))))
    first._compact(first.state)
    (head,) = store.objects.list(journals.HEADS)
    assert head.size < 16 * MANY + 1000
    asked: list[str] = []
    for name in ("get", "list"):
        real = getattr(type(store.objects), name)
        monkeypatch.setattr(
            type(store.objects), name, lambda self, what, real=real: (asked.append(what), real(self, what))[1]
        )
    claims = Claims(store)
    assert claims.unclaimed(files) == ()
    assert asked == ["heads/claims/", head.name, "ledgers/claims/00000002.json"]
    marks = claims.journal.state.marks
    assert sys.getsizeof(marks._paths) + sys.getsizeof(marks._states) + sys.getsizeof(marks._fresh) < 18 * MANY
    asked.clear()
    assert claims.unclaimed(files) == ()
    assert asked == []
    fresh = [seen(MANY + number) for number in range(50)]
    assert claims.unclaimed([*files, *fresh]) == tuple(fresh)
    assert asked == ["ledgers/claims/00000002.json"]


def test_marks_come_back_from_bytes() -> None:
    """Paths in order, then states, eight bytes each, the newest of what was merged."""
    marks = Marks()
    marks.update(mark(seen(number)) for number in range(1000))
    marks.update([mark(seen(7, size=9))])
    raw = marks.to_bytes()
    assert len(raw) == 16 * 1000
    back = Marks.from_bytes(raw)
    assert all((mark(seen(number)) in back) is (number != 7) for number in range(1000))
    assert mark(seen(7, size=9)) in back
    assert State.from_bytes(State(seq=3, marks=back).to_bytes()).marks.to_bytes() == raw
