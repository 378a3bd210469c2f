from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.errors import IntegrityError
from edgeloop.ledger import PLAIN_EVERY, Entry, Fold, Ledger
from edgeloop.records import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeloop.store import Objects, Store

LONG = 200
NAME = "count"
TOTAL: Fold[int] = Fold(
    name="total",
    add=lambda before, entries: (before or 0) + sum(one.body["n"] for one in entries),
    to_json=lambda total: total,
    from_json=int,
)
HEADS = "heads/total/count/"


class Counted:
    """The real container, with the names that were asked of it."""

    def __init__(self, objects: Objects) -> None:
        self.objects, self.reads, self.writes = objects, [], []

    def get(self, name: str) -> bytes:
        """Read."""
        self.reads.append(name)
        return self.objects.get(name)

    def exists(self, name: str) -> bool:
        """Look."""
        self.reads.append(name)
        return self.objects.exists(name)

    def list(self, prefix: str = "") -> Iterator[Any]:
        """List."""
        self.reads.append(prefix)
        return self.objects.list(prefix)

    def put_new(self, name: str, data: bytes, *, metadata: dict[str, str] | None = None) -> None:
        """Write."""
        self.writes.append(name)
        self.objects.put_new(name, data, metadata=metadata)

    def delete(self, name: str) -> None:
        """Remove."""
        self.writes.append(name)
        self.objects.delete(name)


@pytest.fixture
def counted(store: Store) -> Counted:
    """This test's container, counting."""
    return Counted(store.objects)


@pytest.fixture
def ledger(counted: Counted) -> Ledger[int]:
    """A ledger of numbers that is summed up as their total."""
    return Ledger(counted, NAME, TOTAL)


def written_by_0_2_0(objects: Objects, bodies: Sequence[dict[str, Any]], name: str = NAME) -> None:
    """A ledger without heads, as the version before heads left it."""

    def put(seq: int) -> None:
        objects.put_new(f"ledgers/{name}/{seq + 1:08d}.json", canonical_json(bodies[seq]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(len(bodies))))


def heads(objects: Objects) -> list[str]:
    """What heads there are."""
    return [one.name.removeprefix(HEADS) for one in objects.list(HEADS)]


def one_more(_: int) -> dict[str, Any]:
    """An entry that counts one."""
    return {"n": 1}


def test_a_ledger_without_heads_is_read_as_before_and_gets_one_in_passing(
    ledger: Ledger[int], counted: Counted
) -> None:
    """The first who appends reads all and writes a head; from then on nobody reads more than a few blobs."""
    written_by_0_2_0(counted.objects, [{"n": 1}] * LONG)
    assert ledger.read() == LONG
    assert len(counted.reads) == LONG + 3

    assert ledger.append(one_more) == Entry(seq=LONG + 1, body={"n": 1})
    assert heads(counted.objects) == [f"{LONG + 1:08d}"]
    counted.reads.clear()
    assert ledger.read() == LONG + 1
    assert counted.reads == [
        HEADS,
        f"{HEADS}{LONG + 1:08d}",
        f"ledgers/count/{LONG + 1:08d}.json",
        f"ledgers/count/{LONG + 2:08d}.json",
    ]


def test_a_question_alone_leaves_a_head_where_there_was_none(ledger: Ledger[int], counted: Counted) -> None:
    """A change that is so already appends nothing, and still spares the next one the long way."""
    written_by_0_2_0(counted.objects, [{"n": 1}] * 20)
    assert ledger.append(lambda _: None) is None
    counted.reads.clear()
    assert ledger.read() == 20
    assert len(counted.reads) == 4


def test_appending_costs_the_same_however_long_the_ledger_is(ledger: Ledger[int], counted: Counted) -> None:
    """Four reads, the entry, its head, and the removal of the head that two newer ones replace."""
    for _ in range(5):
        ledger.append(one_more)
    counted.reads.clear(), counted.writes.clear()
    ledger.append(one_more)
    assert len(counted.reads) == 4
    assert counted.writes == [f"ledgers/count/{6:08d}.json", f"{HEADS}{6:08d}", f"{HEADS}{4:08d}"]
    assert heads(counted.objects) == [f"{seq:08d}" for seq in (5, 6)]


@pytest.mark.fault
@pytest.mark.parametrize("dies_at", [1, 2, 3], ids=["entry", "head", "removal"])
def test_whoever_dies_while_appending_leaves_the_truth(
    counted: Counted, ledger: Ledger[int], monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """Before the entry nothing happened; after it everything did, head or no head."""
    for _ in range(3):
        ledger.append(one_more)
    counted.writes.clear()

    class Killed(BaseException):
        """As SIGKILL would: nothing catches it."""

    def dying(do: Any) -> Any:
        def done(*args: Any, **kwargs: Any) -> None:
            if len(counted.writes) == dies_at:
                raise Killed
            do(*args, **kwargs)

        return done

    with monkeypatch.context() as patch:
        for what in ("put_new", "delete"):
            patch.setattr(counted.objects, what, dying(getattr(counted.objects, what)))
        with pytest.raises(Killed):
            ledger.append(one_more)

    happened = 3 if dies_at == 1 else 4
    assert ledger.read() == happened
    ledger.append(one_more)
    assert ledger.read() == happened + 1
    assert heads(counted.objects)[-1] == f"{happened + 1:08d}"


@pytest.mark.fault
@pytest.mark.parametrize("damage", ["torn", "other sum", "other schema", "nothing", "not json"])
def test_a_damaged_head_costs_reads_and_never_truth(ledger: Ledger[int], counted: Counted, damage: str) -> None:
    """The head before it is taken, or all entries; the next who appends removes it."""
    for _ in range(4):
        ledger.append(one_more)
    name = f"{HEADS}{4:08d}"
    whole = counted.objects.get(name)
    spoilt = {
        "torn": whole[: len(whole) // 2],
        "other sum": whole.replace(b'"state":4', b'"state":7'),
        "other schema": whole.replace(b'"schema":1', b'"schema":9'),
        "nothing": b"",
        "not json": b"\xff\xfe",
    }[damage]
    assert spoilt != whole
    counted.objects.delete(name)
    counted.objects.put_new(name, spoilt)

    assert ledger.read() == 4
    ledger.append(one_more)
    assert heads(counted.objects) == [f"{seq:08d}" for seq in (3, 5)]
    assert ledger.read() == 5


@pytest.mark.fault
def test_heads_of_another_ledger_or_of_a_later_day_count_for_nothing(ledger: Ledger[int], counted: Counted) -> None:
    """A ledger restored from a backup, with the heads of what it was before: the entries decide."""
    for _ in range(6):
        ledger.append(one_more)
    for seq in (5, 6):
        counted.objects.delete(f"ledgers/count/{seq:08d}.json")
    assert ledger.read() == 4

    Ledger(counted, NAME, TOTAL).append(lambda _: {"n": 10})
    assert ledger.read() == 14
    assert heads(counted.objects) == [f"{5:08d}"]


@pytest.mark.fault
def test_lost_heads_are_no_loss(ledger: Ledger[int], counted: Counted) -> None:
    """Without any, all entries are read once more."""
    for _ in range(5):
        ledger.append(one_more)
    for name in heads(counted.objects):
        counted.objects.delete(HEADS + name)
    assert ledger.read() == 5


@pytest.mark.fault
def test_a_missing_entry_is_told(ledger: Ledger[int], counted: Counted) -> None:
    """What the ledger says cannot be known without it; nothing is made up."""
    written_by_0_2_0(counted.objects, [{"n": 1}] * 5)
    counted.objects.delete(f"ledgers/count/{3:08d}.json")
    with pytest.raises(IntegrityError, match="an entry was removed or renamed") as caught:
        ledger.read()
    assert "00000003" in caught.value.next


@pytest.mark.fault
def test_a_damaged_entry_is_told(ledger: Ledger[int], counted: Counted) -> None:
    """An entry that is no JSON names its blob."""
    counted.objects.put_new(f"ledgers/count/{1:08d}.json", b"{")
    with pytest.raises(IntegrityError, match=r"ledgers/count/00000001\.json is no entry"):
        ledger.read()


@pytest.mark.fault
def test_eight_writers_and_two_readers_at_once(counted: Counted) -> None:
    """Heads are written and removed under everybody's hands, and every number is used once."""

    def write(_: int) -> None:
        for _ in range(5):
            Ledger(counted, NAME, TOTAL).append(lambda total: {"n": 1, "before": total})

    def look(_: int) -> list[int]:
        return [Ledger(counted, NAME, TOTAL).read() for _ in range(10)]

    with ThreadPoolExecutor(10) as pool:
        writing, seen = pool.map(write, range(8)), pool.map(look, range(2))
        list(writing)
        assert all(one == sorted(one) for one in seen)
    befores = [json.loads(counted.objects.get(f"ledgers/count/{seq:08d}.json"))["before"] for seq in range(1, 41)]
    assert befores == list(range(40))
    assert Ledger(counted, NAME, TOTAL).read() == 40


def test_all_entries_of_a_plain_ledger_are_a_few_reads(store: Store, counted: Counted) -> None:
    """A ledger that is not summed up has its entries in one blob, and at most a few beside it."""
    written_by_0_2_0(counted.objects, [{"n": n} for n in range(30)], "plain")
    expected = list(range(30))
    for n in range(30, 30 + 2 * PLAIN_EVERY):
        store.append("plain", lambda entries, n=n: {"n": n} if entries[-1].body["n"] == n - 1 else None)  # type: ignore[misc]
        expected.append(n)
    plain = type(store)(counted)
    assert [(one.seq, one.body["n"]) for one in plain.ledger("plain")] == list(enumerate(expected, start=1))
    assert len(counted.reads) <= PLAIN_EVERY + 4
