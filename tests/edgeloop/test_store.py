from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.errors import ConfigurationError, ConflictError, IntegrityError, NotFoundError
from edgeloop.records import Batch, Certificate, Dataset, FileRef, ModelVersion
from edgeloop.store import Entry, Store

if TYPE_CHECKING:
    from edgeloop.azure.blob import BlobContainer

AT_ONCE = 8


def _batch(number: int = 1, *, claimed_at: str = "2014-02-01T00:00:00Z") -> Batch:
    file = FileRef(path=f"R80711_2014-{number:02}.csv", size=number, sha256=f"{number:064x}")
    return Batch(pipeline="p", group=f"2014-{number:02}", files=(file,), config="c", claimed_at=claimed_at)


def _certificate(batch: str, suite: str = "s") -> Certificate:
    return Certificate(pipeline="p", batch=batch, suite=suite, group="g")


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    """Tuples, nested file references and all, by id; what is not there is told or None."""
    batch = store.put(_batch())

    assert store.get(Batch, batch.id) == batch
    assert store.find(Batch, batch.id) == batch
    assert store.find(Batch, "0" * 64) is None
    with pytest.raises(NotFoundError, match="records/batch/0000"):
        store.get(Batch, "0" * 64)


def test_the_first_of_an_identity_stays(store: Store) -> None:
    """Claimed again later it is the same record, with the time of the first claim."""
    first = store.put(_batch(claimed_at="2014-02-01T00:00:00Z"))
    again = store.put(_batch(claimed_at="2020-01-01T00:00:00Z"))

    assert again == first
    assert store.all(Batch) == [first]


def test_putting_the_same_identity_at_once_gives_all_the_same_record(store: Store) -> None:
    """Whoever wins, everybody goes on with the winner's record."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = set(pool.map(lambda n: store.put(_batch(claimed_at=str(n))), range(AT_ONCE)))

    assert len(found) == 1
    assert found == {store.get(Batch, _batch().id)}


def test_children_are_found_by_every_parent(store: Store) -> None:
    """Edges lead from each certificate to the dataset, and only to records of the kind that is asked for."""
    one, two = (store.put(_certificate(f"{n:064x}")) for n in (1, 2))
    dataset = store.put(
        Dataset(
            pipeline="p", files=(), certificates=(one.id, two.id), window_start="a", window_end="b", holdout_start="c"
        )
    )
    assert store.children(one.id, Dataset) == store.children(two.id, Dataset) == [dataset]
    assert store.children(one.id, Certificate) == []
    assert store.children("0" * 64, Dataset) == []
    assert store.children(f"{1:064x}", Certificate) == [one]


def test_a_link_names_a_child_beyond_its_own_parents(store: Store) -> None:
    """A second training that gives the same model finds it; linking twice is once."""
    model = store.put(
        ModelVersion(pipeline="p", sha256="s", size=1, blob="b", version=1, training_run="r" * 64, metrics="{}")
    )
    for _ in range(2):
        store.link("q" * 64, model)
    assert store.children("q" * 64, ModelVersion) == store.children("r" * 64, ModelVersion) == [model]


@pytest.mark.fault
@pytest.mark.parametrize("dies_at", [1, 2, 3], ids=["record", "first edge", "second edge"])
def test_a_death_between_record_and_edges_heals_at_the_next_put(
    store: Store, container: BlobContainer, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """Edges are written again on every call, so nothing stays unreachable."""

    class Killed(BaseException):
        """As SIGKILL would: nothing catches it."""

    writes = 0
    put_new = type(container).put_new

    def dying(self: BlobContainer, *args: Any, **kwargs: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == dies_at:
            raise Killed
        put_new(self, *args, **kwargs)

    dataset = Dataset(
        pipeline="p", files=(), certificates=("1" * 64, "2" * 64), window_start="a", window_end="b", holdout_start="c"
    )
    with monkeypatch.context() as patch:
        patch.setattr(type(container), "put_new", dying)
        with pytest.raises(Killed):
            store.put(dataset)

    store.put(dataset)

    assert store.children("1" * 64, Dataset) == store.children("2" * 64, Dataset) == [dataset]


def test_a_record_that_was_edited_is_found_out(store: Store, container: BlobContainer) -> None:
    """Its content no longer hashes to its name."""
    batch = store.put(_batch())
    name = f"records/batch/{batch.id}.json"
    body = json.loads(container.get(name))
    body["record"]["files"][0]["size"] = 99
    container.put(name, json.dumps(body).encode())

    with pytest.raises(IntegrityError, match="was changed after it was written"):
        store.get(Batch, batch.id)
    with pytest.raises(IntegrityError):
        store.find(Batch, batch.id)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"schema": 1, "kind": "nothing", "record": {}}',
        b'{"schema": 1, "kind": "batch", "record": {"pipeline": "p", "retired": 1}}',
        b'{"schema": "one", "kind": "batch", "record": {}}',
    ],
)
def test_what_is_no_record_is_told_with_its_name(store: Store, container: BlobContainer, raw: bytes) -> None:
    """Half-written, foreign and differently shaped blobs are an error that names the blob and what to do."""
    container.put(f"records/batch/{'1' * 64}.json", raw)
    with pytest.raises(IntegrityError, match=r"Blob records/batch/1+\.json is no record") as caught:
        store.find(Batch, "1" * 64)
    assert "restore the blob from a backup" in caught.value.next


def test_a_record_of_a_newer_edgeloop_is_not_guessed_at(store: Store, container: BlobContainer) -> None:
    """A scheduler that was not restarted after an upgrade is told to."""
    container.put(f"records/batch/{'1' * 64}.json", b'{"schema": 2, "kind": "batch", "record": {"new": 1}}')
    with pytest.raises(ConfigurationError, match="has schema version 2; this Edgeloop reads up to 1"):
        store.get(Batch, "1" * 64)


def test_a_record_is_found_by_the_start_of_its_id(store: Store) -> None:
    """Partition keys carry sixteen digits of it."""
    batch = store.put(_batch())
    assert store.starting(Batch, batch.id[:16]) == batch
    with pytest.raises(NotFoundError, match="no batch whose id starts with 'zzzz'"):
        store.starting(Batch, "zzzz")


def test_a_key_means_what_the_first_writer_decided(store: Store) -> None:
    """An empty meaning is a meaning too."""
    assert store.fixed("datasets", "2014-01@ab") is None
    assert store.fix("datasets", "2014-01@ab", "one") == "one"
    assert store.fix("datasets", "2014-01@ab", "two") == "one"
    assert store.fix("datasets", "empty", "") == ""
    assert store.fix("datasets", "empty", "later") == ""
    assert store.fixed("datasets", "2014-01@ab") == "one"
    assert store.keys("datasets") == ["2014-01@ab", "empty"]
    assert store.keys("data") == []


def test_deciding_a_key_at_once_gives_all_the_same_meaning(store: Store) -> None:
    """Eight schedulers, one dataset."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = set(pool.map(lambda n: store.fix("datasets", "k", str(n)), range(AT_ONCE)))
    assert found == {store.fixed("datasets", "k")}


def test_a_ledger_keeps_the_order_past_ten(store: Store) -> None:
    """Sequence numbers sort as numbers do."""
    for n in range(12):
        store.append("moves", lambda _, n=n: {"n": n})  # type: ignore[misc]
    assert [(one.seq, one.body["n"]) for one in store.ledger("moves")] == [(n + 1, n) for n in range(12)]
    assert store.ledger("other") == []


def test_deciding_nothing_appends_nothing(store: Store) -> None:
    """None means that it is already so."""
    assert store.append("moves", lambda _: None) is None
    assert store.ledger("moves") == []


def test_appending_at_once_loses_nothing_and_decides_on_what_is_there(store: Store) -> None:
    """Each of eight counters adds one to what it saw: compare-and-swap makes that one to eight."""

    def count(entries: list[Entry]) -> dict[str, Any]:
        return {"n": entries[-1].body["n"] + 1 if entries else 1}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: store.append("count", count), range(AT_ONCE)))

    assert [(one.seq, one.body["n"]) for one in store.ledger("count")] == [(n, n) for n in range(1, AT_ONCE + 1)]


def test_a_ledger_that_others_always_win_is_given_up_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that never gets its turn says so instead of spinning for ever."""
    monkeypatch.setattr("edgeloop.ledger.LEDGER_TRIES", 4)
    other = Store(store.objects)
    tries = 0

    def beaten(_: list[Entry]) -> dict[str, Any]:
        nonlocal tries
        tries += 1
        other.append("busy", lambda _: {"by": "other"})
        return {"by": "me"}

    with pytest.raises(ConflictError, match="by others 4 times in a row"):
        store.append("busy", beaten)
    assert tries == 4
    assert {one.body["by"] for one in store.ledger("busy")} == {"other"}
