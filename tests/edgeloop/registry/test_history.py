"""The past of a registry, and what it costs to ask: reads are counted on a real container."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop import registry
from edgeloop.errors import ConfigurationError, NotFoundError
from edgeloop.records import ModelVersion, canonical_json, sha256_hex
from edgeloop.registry.promotions import opened
from edgeloop.registry.standing import Reign, standing
from edgeloop.store import Entry, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.azure.blob import BlobContainer

    Register = Callable[..., ModelVersion]

DAY_ZERO = datetime(2026, 1, 1, 12, tzinfo=UTC)
MODELS = 2000
EVENTS = ("registered", "candidate", "champion")


def body(event: str, model: str, version: int, before: str, day: float) -> dict[str, Any]:
    """An entry as 0.2.0 wrote it, on some day."""
    at = (DAY_ZERO + timedelta(days=day)).isoformat(timespec="seconds")
    return {
        "event": event, "model": model, "version": version, "from": before, "at": at, "by": "t", "why": "w",
        "evidence": f"{event}-{version}", "origin": "live",
    }  # fmt: skip


def at_noon(day: float) -> datetime:
    """The moment of that day's entries."""
    return DAY_ZERO + timedelta(days=day)


class Reads:
    """The names that were read of a container."""

    def __init__(self, patch: pytest.MonkeyPatch, container: BlobContainer) -> None:
        self.names: list[str] = []
        for name in ("get", "list", "exists"):
            patch.setattr(type(container), name, self._told(getattr(type(container), name)))

    def _told(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def told(container: BlobContainer, name: str = "", **more: Any) -> Any:
            self.names.append(name)
            return real(container, name, **more)

        return told

    def of(self, ask: Callable[[], object]) -> int:
        """How many reads a question took."""
        self.names.clear()
        ask()
        return len(self.names)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, container: BlobContainer) -> Reads:
    """Counts what is read of this test's container."""
    return Reads(monkeypatch, container)


class Memory(dict[str, bytes]):
    """Where a long ledger is made, for only the few blobs that a question may read are put into the container."""

    def put_new(self, name: str, data: bytes, *, metadata: dict[str, str] | None = None) -> None:
        """Write."""
        self[name] = data

    def get(self, name: str) -> bytes:  # type: ignore[override]
        """Read."""
        if name not in self:
            raise NotFoundError(name)
        return self[name]

    def list(self, prefix: str = "") -> Iterator[SimpleNamespace]:
        """List."""
        return (SimpleNamespace(name=name) for name in sorted(self) if name.startswith(prefix))

    def exists(self, name: str) -> bool:
        """Look."""
        return name in self

    def delete(self, name: str) -> None:
        """Remove."""
        self.pop(name, None)


def models(many: int) -> list[ModelVersion]:
    """So many versions."""
    return [
        ModelVersion(
            pipeline="wind_power", sha256=sha256_hex(b"%d" % n), size=1, blob="", version=n, training_run="r",
            metrics="{}",
        )
        for n in range(1, many + 1)
    ]  # fmt: skip


def test_every_question_is_a_few_reads_of_a_ledger_of_thousands(
    store: Store, container: BlobContainer, reads: Reads, registered: Register
) -> None:
    """Of 6,000 entries only the newest and one model's are there: whoever read any other would be told so."""
    every, memory = models(MODELS), Memory()
    bodies = [
        body(event, one.id, one.version, before.id if before else "", one.version)
        for one, before in zip(every, [None, *every], strict=False)
        for event in EVENTS
    ]
    names = [f"ledgers/promotions/{seq:08d}.json" for seq in range(1, len(bodies) + 1)]
    memory.update(zip(names, map(canonical_json, bodies), strict=True))
    assert opened(Store(memory)).append(lambda _: None) is None
    for name in (f"heads/standing-1/promotions/{len(bodies):08d}", names[-1], *names[900:903], *names[-6:-1]):
        container.put_new(name, memory[name])
    for one in every[-2:]:
        store.put(one)

    model = registered(1.0)
    assert model.version == MODELS + 1

    assert reads.of(lambda: registry.champion(store)) == 5
    assert registry.champion(store) == every[-1]
    assert reads.of(lambda: registry.current(store)) == 4
    assert reads.of(lambda: registry.champion_at(store, at_noon(MODELS - 0.5))) == 5
    assert registry.champion_at(store, at_noon(MODELS - 0.5)) == every[-2]
    assert reads.of(lambda: registry.history(store, every[300].id)) == 4 + len(EVENTS)
    assert reads.of(lambda: registry.history(store, last=7)) == 4 + 7
    assert reads.of(lambda: registry.nominate(store, model, by="t", why="w")) == 4
    assert (
        reads.of(
            lambda: registry.promote(store, model.id, by="t", why="w", evidence="", expected_champion=every[-1].id)
        )
        == 4
    )
    assert registry.champion(store) == model
    assert [one.name.rpartition("/")[2] for one in container.list("heads/")] == ["00006002", "00006003"]


def fold(*told: tuple[str, str, float]) -> Iterator[Entry]:
    """Entries of (event, model, day)."""
    before = ""
    for seq, (event, model, day) in enumerate(told, start=1):
        entries = Entry(seq=seq, body=body(event, model, int(model[1:]), before, day))
        before = model if event == "champion" else before
        yield entries


def test_who_was_champion_on_a_day() -> None:
    """Nobody before the first; the one that was until it changed; a quarantined one was champion all the same."""
    now = standing(
        fold(("champion", "m1", 1), ("champion", "m2", 5), ("quarantined", "m2", 9), ("champion", "m3", 9.25))
    )
    moments = {0.9: "", 1: "m1", 4.9: "m1", 5: "m2", 8.9: "m2", 9: "m1", 9.2: "m1", 9.3: "m3", 400: "m3"}
    assert {day: now.champion_at(at_noon(day)) for day in moments} == moments

    def between(start: float, end: float) -> list[str]:
        return [one.champion for one in now.reigns_between(at_noon(start), at_noon(end))]

    assert between(-3, 0.5) == []
    assert between(0, 1.5) == ["m1"]
    assert between(2, 3) == ["m1"]
    assert between(8.5, 9.5) == ["m2", "m1", "m3"]
    assert between(5, 9) == ["m2"], "the end is not part of it"


def test_a_day_after_which_there_was_no_champion() -> None:
    """The only one was quarantined."""
    now = standing(fold(("champion", "m1", 1), ("quarantined", "m1", 2)))
    assert now.champion_at(at_noon(3)) == ""
    assert now.reigns_between(at_noon(2.5), at_noon(3)) == ()
    assert now.reigns == (
        Reign(since=at_noon(1).isoformat(), seq=1, champion="m1"),
        Reign(since=at_noon(2).isoformat(), seq=2, champion=""),
    )


def test_where_clocks_disagree_the_order_of_the_ledger_counts() -> None:
    """A worker whose clock is a day behind promotes: that took effect no earlier than what stands above it."""
    now = standing(fold(("champion", "m1", 5), ("champion", "m2", 4)))
    assert [now.champion_at(at_noon(day)) for day in (4.5, 5, 6)] == ["", "m2", "m2"]
    assert [one.champion for one in now.reigns_between(at_noon(4), at_noon(6))] == ["m2"]


def test_a_sum_and_more_entries_are_the_sum_of_all() -> None:
    """Wherever a head was written, what follows comes to the same; through JSON as well."""
    from edgeloop.registry.standing import CANDIDATE, CHAMPION, QUARANTINED, REGISTERED, REJECTED, from_json, to_json

    known = (REGISTERED, CANDIDATE, CHAMPION, REJECTED, QUARANTINED)
    told = [(known[n * 7 % 5], f"m{n * 5 % 4}", float(n)) for n in range(40)]
    entries = list(fold(*told))
    entries.append(
        Entry(seq=41, body={**body("aliased", "m2", 2, "", 41), "aliases": {"champion": "m2", "quarantined": ["m1"]}})
    )
    whole = standing(entries)
    for cut in range(len(entries) + 1):
        head = from_json(json.loads(canonical_json(to_json(standing(entries[:cut])))))
        assert standing(entries[cut:], head) == whole
        assert [*standing(entries[cut:], head).versions] == [*whole.versions], "the newest are named last"


def test_a_model_is_named_by_version_key_or_id(store: Store, registered: Register) -> None:
    """As people and runs write it; what fits none or several is told."""
    first, second = registered(1.0), registered(2.0)
    now = registry.current(store)
    for named in ("2", "v2", second.key, second.id, second.id[:10]):
        assert registry.which(now, named) == second.id
    for named in ("3", "v3", "", f"v1@{second.id[:16]}", "latest"):
        with pytest.raises(ConfigurationError, match="There is no model") as caught:
            registry.which(now, named)
        assert f"v1@{first.id[:16]}" in caught.value.next


def test_the_past_of_a_registry_that_has_none(store: Store) -> None:
    """No champion on any day, no entries."""
    assert registry.champion_at(store, at_noon(0)) is None
    assert registry.history(store) == ()
    assert registry.history(store, "f" * 64) == ()
