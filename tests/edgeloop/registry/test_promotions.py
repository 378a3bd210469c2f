from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from edgeloop import registry
from edgeloop.errors import ConfigurationError, ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.records import ModelVersion
    from edgeloop.store import Entry, Store

    Register = Callable[..., ModelVersion]


def _promote(store: Store, model: ModelVersion, expected: str = "", evidence: str = "") -> Entry | None:
    return registry.promote(
        store, model.id, by="on-call", why="passed every ring", evidence=evidence, expected_champion=expected
    )


def test_from_candidate_to_champion(store: Store, registered: Register) -> None:
    """A model is nominated, then promoted; the ledger says by whom, why, on what evidence and in whose place."""
    model = registered(1.0)
    assert registry.champion(store) is None
    registry.nominate(store, model, by="train", why="first model", evidence="run")
    assert registry.candidate(store) == model

    entry = _promote(store, model, evidence="rollout")

    assert registry.champion(store) == model
    assert registry.candidate(store) is None
    assert entry is not None
    body = {name: value for name, value in entry.body.items() if name != "at"}
    assert body == {
        "event": "champion",
        "model": model.id,
        "version": 1,
        "from": "",
        "by": "on-call",
        "why": "passed every ring",
        "evidence": "rollout",
        "origin": "live",
    }


def test_repeated_changes_append_nothing(store: Store, registered: Register) -> None:
    """What is already so is told with None, and the ledger does not grow."""
    model = registered(1.0)
    for _ in range(2):
        registry.nominate(store, model, by="train", why="first")
        _promote(store, model)
    other = registered(2.0)
    for _ in range(2):
        registry.reject(store, other.id, by="oncall", why="not now")
        registry.quarantine(store, other.id, by="gate", why="wrong answers")

    assert [one.body["event"] for one in store.ledger("promotions")] == [
        "registered",
        "candidate",
        "champion",
        "registered",
        "rejected",
        "quarantined",
    ]
    assert registry.is_quarantined(store, other.id)
    assert not registry.is_quarantined(store, model.id)


def test_a_stale_expectation_is_refused(store: Store, registered: Register) -> None:
    """Who compared with a champion that is champion no more is told who is, and nothing changes."""
    first, second, third = (registered(float(n)) for n in (1, 2, 3))
    _promote(store, first)
    _promote(store, second, expected=first.id)

    with pytest.raises(ConflictError, match=f"but {second.id[:16]} is champion by now"):
        _promote(store, third, expected=first.id)

    assert registry.champion(store) == second


def test_a_promotion_repeated_after_its_successors_is_still_done(store: Store, registered: Register) -> None:
    """A task cleared late finds its own entry by model, predecessor and evidence; it neither fails nor wins again."""
    first, second = registered(1.0), registered(2.0)
    _promote(store, first, evidence="rollout 1")
    _promote(store, second, expected=first.id, evidence="rollout 2")

    assert _promote(store, first, evidence="rollout 1") is None
    assert registry.champion(store) == second
    with pytest.raises(ConflictError):
        _promote(store, first, evidence="another rollout")


def test_going_back_and_forth_is_a_promotion_each_time(store: Store, registered: Register) -> None:
    """Without evidence an earlier entry of the same two models is not taken for this one."""
    first, second = registered(1.0), registered(2.0)
    _promote(store, first)
    _promote(store, second, expected=first.id)
    _promote(store, first, expected=second.id)

    assert _promote(store, second, expected=first.id) is not None
    assert registry.champion(store) == second


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(store: Store, registered: Register) -> None:
    """Both expect the same champion; exactly one takes its place."""
    first, *rivals = (registered(float(n)) for n in range(1, 10))
    _promote(store, first)

    def attempt(model: ModelVersion) -> str:
        try:
            return "won" if _promote(store, model, expected=first.id) else "already"
        except ConflictError:
            return "told"

    with ThreadPoolExecutor(len(rivals)) as pool:
        outcomes = list(pool.map(attempt, rivals))

    assert sorted(outcomes) == ["told"] * 7 + ["won"]
    assert registry.champion(store) == rivals[outcomes.index("won")]


def test_the_same_promotion_at_once_happens_once(store: Store, registered: Register) -> None:
    """A task and its duplicate agree: one entry, no error."""
    model = registered(1.0)
    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda _: _promote(store, model, evidence="rollout"), range(8)))

    assert sum(one is not None for one in entries) == 1
    assert [one.body["event"] for one in store.ledger("promotions")] == ["registered", "champion"]


def test_a_bad_model_goes_out_again_only_with_a_reason(store: Store, registered: Register) -> None:
    """Nominating or promoting a quarantined model is refused; with force it is done and the reason written down."""
    model = registered(1.0)
    registry.quarantine(store, model.id, by="gate", why="wrong answers on R80711")

    with pytest.raises(ConflictError, match="was quarantined"):
        registry.nominate(store, model, by="train", why="better")
    with pytest.raises(ConflictError, match="cannot become champion"):
        _promote(store, model)

    entry = registry.nominate(store, model, by="train", why="better", force="the device was at fault")
    assert entry is not None
    assert entry.body["why"] == "better (forced: the device was at fault)"
    assert registry.candidate(store) == model


def test_quarantining_the_champion_brings_its_predecessor_back(store: Store, registered: Register) -> None:
    """The registry never names a model that was found bad as the one that should serve."""
    first, second = registered(1.0), registered(2.0)
    _promote(store, first)
    _promote(store, second, expected=first.id)

    registry.quarantine(store, second.id, by="oncall", why="drifts at once")

    assert registry.champion(store) == first


def test_a_champion_is_not_rejected(store: Store, registered: Register) -> None:
    """Rejecting is for candidates; the error says what to do with a champion."""
    model = registered(1.0)
    _promote(store, model)
    with pytest.raises(ConflictError) as caught:
        registry.reject(store, model.id, by="oncall", why="no")
    assert "Quarantine it" in caught.value.next


def test_what_was_never_registered_cannot_be_promoted(store: Store, registered: Register) -> None:
    """The error names the models that are there."""
    model = registered(1.0)
    for change in (registry.reject, registry.quarantine):
        with pytest.raises(NotFoundError, match=f"newest that are: {model.id[:16]}"):
            change(store, "f" * 64, by="x", why="y")


def test_a_candidate_takes_the_place_of_whom_it_was_compared_with(store: Store, registered: Register) -> None:
    """Its nomination names the champion; another promoted since is not what it was compared with."""
    first, second, third = (registered(float(n)) for n in (1, 2, 3))
    _promote(store, first)
    registry.nominate(store, second, by="train", why="better", expected_champion=first.id)
    _promote(store, third, expected=first.id)

    assert registry.current(store).basis(second.id) == first.id
    with pytest.raises(ConflictError, match=f"to replace champion {first.id[:16]}, but {third.id[:16]} is champion"):
        _promote(store, second, expected=registry.current(store).basis(second.id))
    registry.nominate(store, second, by="oncall", why="again", force="compared by hand")
    assert _promote(store, second, expected=registry.current(store).basis(second.id)) is not None


def test_who_was_compared_with_a_former_champion_is_not_nominated(store: Store, registered: Register) -> None:
    """The champion changed between the comparison and the nomination; also the first champion is a change."""
    first, second = registered(1.0), registered(2.0)
    _promote(store, first)
    with pytest.raises(ConflictError, match=r"to replace champion \(none\), but"):
        registry.nominate(store, second, by="train", why="first", expected_champion="")
    assert registry.candidate(store) is None
    assert registry.nominate(store, first, by="train", why="it", expected_champion="") is None, "it is champion"


def test_a_quarantine_in_between_leaves_a_promotion_its_basis(store: Store, registered: Register) -> None:
    """The champion it was compared with was found bad: who took its place meanwhile was champion before it."""
    first, second, third = (registered(float(n)) for n in (1, 2, 3))
    _promote(store, first)
    _promote(store, second, expected=first.id)
    registry.nominate(store, third, by="train", why="better", expected_champion=second.id)
    registry.quarantine(store, second.id, by="oncall", why="drifts")

    expected = registry.current(store).basis(third.id)
    assert expected == first.id
    assert _promote(store, third, expected=expected, evidence="rollout") is not None
    registry.quarantine(store, first.id, by="oncall", why="drifts too")
    assert _promote(store, third, expected=registry.current(store).basis(third.id), evidence="rollout") is None


def test_what_overrides_a_quarantine_is_an_entry(store: Store, registered: Register) -> None:
    """The reason stands by itself beside the why; a reason where nothing was to override is none."""
    bad, good = registered(1.0), registered(2.0)
    registry.quarantine(store, bad.id, by="gate", why="wrong answers")
    found = registry.set_aside(store, bad.id)
    assert found is not None
    assert (found.body["event"], found.body["why"]) == ("quarantined", "wrong answers")

    lifted = registry.nominate(store, bad, by="oncall", why="rollout", force="the device was at fault")
    plain = registry.nominate(store, good, by="oncall", why="rollout", force="newer")

    assert lifted is not None
    assert plain is not None
    assert lifted.body["override"] == "the device was at fault"
    assert "override" not in plain.body
    assert registry.set_aside(store, good.id) is None


def test_an_event_of_a_later_version_is_told(store: Store, registered: Register) -> None:
    """What it would mean for the champion cannot be known, so nothing is said at all."""
    model = registered(1.0)
    store.append("promotions", lambda _: {"event": "retired", "model": model.id, "version": 1, "from": "", "at": ""})
    with pytest.raises(ConfigurationError, match=r"Entry 2 .*'retired'") as caught:
        registry.champion(store)
    assert "newer version" in caught.value.next
