"""Which devices an image was shown to, folded from its ledger."""

from __future__ import annotations

from edgeloop.records import ModelImage
from edgeloop.rollout.exposure import (
    EXPOSED,
    OVERTAKEN,
    RESTORED,
    SETTLED,
    Exposure,
    close,
    expose,
    fold,
    taken_back,
    way_back,
)
from edgeloop.store import Entry, Store


def entries(*events: tuple[str, str, str]) -> list[Entry]:
    """A ledger of (event, site, before)."""
    return [
        Entry(seq=seq, body={"event": event, "site": site, "before": before})
        for seq, (event, site, before) in enumerate(events, start=1)
    ]


def test_the_first_entry_of_a_device_wins() -> None:
    """A switch that is run again cannot take its own remains for what served before."""
    found = fold(entries((EXPOSED, "a", "v1"), (EXPOSED, "a", "v2"), (EXPOSED, "b", "")))
    assert found == {
        "a": Exposure(site="a", before="v1", seq=1),
        "b": Exposure(site="b", before="", seq=3),
    }


def test_a_restored_or_settled_device_is_exposed_anew() -> None:
    """A later rollout of the same image goes back to what serves then."""
    for event in (RESTORED, SETTLED, OVERTAKEN):
        assert fold(entries((EXPOSED, "a", "v1"), (event, "a", ""))) == {}
        again = fold(entries((EXPOSED, "a", "v1"), (event, "a", ""), (EXPOSED, "a", "v3")))
        assert again == {"a": Exposure(site="a", before="v3", seq=3)}


def test_an_image_was_taken_back_only_after_somebody_saw_it_serve() -> None:
    """An older restore says nothing of an image that came to the device again, whoever brought it."""
    told = entries((EXPOSED, "a", "v1"), (EXPOSED, "b", "v2"), (RESTORED, "a", ""))
    for entry in told:
        entry.body["at"] = f"2026-01-0{entry.seq}T00:00:00+00:00"
    found = taken_back(told, "a", "2026-01-02T00:00:00+00:00")
    assert found == Exposure(site="a", before="v1", seq=1, at="2026-01-01T00:00:00+00:00")
    assert taken_back(told, "a", "2026-01-04T00:00:00+00:00") is None
    assert taken_back(told, "b", "") is None
    assert taken_back(told[:2], "a", "") is None
    again = Entry(seq=4, body={"event": EXPOSED, "site": "a", "before": "v3"})
    assert taken_back([*told, again], "a", "") is None


def test_the_way_back_follows_restores_and_never_ends_at_the_bad_image(store: Store) -> None:
    """Through two images that were taken back; in a circle it stays what was written down."""
    made = {
        name: ModelImage(pipeline="p", model=name * 64, base=name, reference=name, digest=name) for name in ("1", "2")
    }
    first = expose(store, made["1"], "a", "old", by="x")
    second = expose(store, made["2"], "a", "1", by="x")
    third = Exposure(site="a", before="2", seq=9, at=second.at)

    def images(reference: str) -> list[ModelImage]:
        return [one for one in made.values() if one.reference == reference]

    assert way_back(store, third, "3", images) == third
    close(store, made["2"], "a", RESTORED, by="x")
    assert way_back(store, third, "3", images).before == "1"
    close(store, made["1"], "a", RESTORED, by="x")
    assert way_back(store, third, "3", images).before == "old"
    assert way_back(store, third, "old", images) == third
    assert first.before == "old"
