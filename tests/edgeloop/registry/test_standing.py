from __future__ import annotations

from edgeloop.registry.standing import standing
from edgeloop.store import Entry


def _fold(*events: str) -> tuple[str, str, set[str], set[str]]:
    entries = []
    for seq, (event, model) in enumerate((one.split(" ") for one in events), start=1):
        entries.append(Entry(seq=seq, body={"event": event, "model": model, "version": int(model[1:])}))
    now = standing(entries)
    return now.champion, now.candidate, set(now.rejected), set(now.quarantined)


def test_nothing_happened_yet() -> None:
    """An empty ledger has no champion and no candidate."""
    assert _fold() == ("", "", set(), set())


def test_a_promoted_candidate_is_candidate_no_more() -> None:
    """The model moves from candidate to champion."""
    assert _fold("registered m1", "candidate m1") == ("", "m1", set(), set())
    assert _fold("registered m1", "candidate m1", "champion m1") == ("m1", "", set(), set())


def test_a_newer_candidate_takes_the_place_of_the_older() -> None:
    """Only one model is on its way; the champion is untouched by it."""
    assert _fold("champion m1", "candidate m2", "candidate m3") == ("m1", "m3", set(), set())


def test_promoting_one_leaves_another_candidate_alone() -> None:
    """A candidate nominated while the other rolled out is still the candidate."""
    assert _fold("candidate m1", "candidate m2", "champion m1") == ("m1", "m2", set(), set())


def test_rejected_and_quarantined_models_are_no_candidates() -> None:
    """Both take the model out of the running and leave the champion."""
    assert _fold("champion m1", "candidate m2", "rejected m2") == ("m1", "", {"m2"}, set())
    assert _fold("champion m1", "candidate m2", "quarantined m2") == ("m1", "", set(), {"m2"})


def test_a_quarantined_champion_gives_its_place_back() -> None:
    """The champion before it is champion again; of one that was champion twice nothing is left."""
    assert _fold("champion m1", "champion m2", "quarantined m2") == ("m1", "", set(), {"m2"})
    assert _fold("champion m2", "champion m1", "champion m2", "quarantined m2") == ("m1", "", set(), {"m2"})
    assert _fold("champion m1", "quarantined m1") == ("", "", set(), {"m1"})


def test_nominating_again_lifts_rejection_and_quarantine() -> None:
    """What somebody sends out again with a reason may be promoted."""
    assert _fold("rejected m1", "quarantined m1", "candidate m1") == ("", "m1", set(), set())
