"""Which devices an image was shown to, folded from its ledger."""

from __future__ import annotations

from edgeloop.rollout.exposure import EXPOSED, RESTORED, SETTLED, Exposure, fold
from edgeloop.store import Entry


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
    for event in (RESTORED, SETTLED):
        assert fold(entries((EXPOSED, "a", "v1"), (event, "a", ""))) == {}
        again = fold(entries((EXPOSED, "a", "v1"), (event, "a", ""), (EXPOSED, "a", "v3")))
        assert again == {"a": Exposure(site="a", before="v3", seq=3)}
