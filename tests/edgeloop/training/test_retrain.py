from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from edgeloop.records import DriftVerdict
from edgeloop.training.asked import Asked
from edgeloop.training.recipe import Recipe
from edgeloop.training.retrain import REASONS, Request, note_recipe, overdue, recipe_image, tick
from edgeloop.training.waiting import Waiting

if TYPE_CHECKING:
    from edgeloop.store import Store

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
A, B, C = (Recipe({"image:name": "trainer", "parameters:max_iter": str(one)}) for one in (1, 2, 3))


def note(store: Store, recipe: Recipe, *, asks: bool = True) -> Request | None:
    """One sweep's look at the recipe."""
    return note_recipe(store, recipe, now=NOW, asks=asks)


def test_the_first_recipe_asks_for_nothing_and_a_change_asks_once(store: Store) -> None:
    """Any number of sweeps after the change ask for the same key, and write nothing more."""
    assert note(store, A) is None
    assert note(store, A) is None
    asked = note(store, B)
    assert asked == Request(key=f"code-{B.digest[:12]}", why="parameters changed: max_iter 1 -> 2")
    assert note(store, B) == asked
    assert len(store.ledger("recipes")) == 2


def test_a_change_back_and_forth_asks_each_time(store: Store) -> None:
    """The recipe of before on today's data is another training than it was then: another key."""
    note(store, A)
    asked = [note(store, one) for one in (B, A, B)]
    keys = [one.key for one in asked if one]
    assert keys == [f"code-{B.digest[:12]}", f"code-{A.digest[:12]}", f"code-{B.digest[:12]}-4"]


def test_a_change_that_may_not_ask_is_the_ground_for_the_next(store: Store) -> None:
    """Before the first data, or where it is switched off, edits train nothing, and are not told later as news."""
    note(store, A)
    assert note(store, B, asks=False) is None
    assert note(store, B) is None
    asked = note(store, C)
    assert asked
    assert asked.why == "parameters changed: max_iter 2 -> 3"


def test_an_image_that_is_seen_for_the_first_time_keeps_what_was_asked(store: Store) -> None:
    """The id is written down as it becomes known, kept while nobody can look, and does not take the request away."""
    note(store, A)
    asked = note(store, B)
    seen = Recipe({**B.parts, "image:id": "1f1f"})
    assert note(store, seen) == asked
    assert recipe_image(store) == "1f1f"
    assert note(store, B) == asked
    assert len(store.ledger("recipes")) == 3
    rebuilt = note(store, Recipe({**B.parts, "image:id": "2e2e"}))
    assert rebuilt
    assert rebuilt.why == "image changed: id 1f1f -> 2e2e"


def test_two_sweeps_at_once_write_one_change(store: Store) -> None:
    """Whoever comes second finds the entry and asks for its key."""
    from concurrent.futures import ThreadPoolExecutor

    note(store, A)
    with ThreadPoolExecutor(8) as pool:
        keys = {one.key for one in pool.map(lambda _: note(store, B), range(8)) if one}
    assert keys == {f"code-{B.digest[:12]}"}
    assert len(store.ledger("recipes")) == 2


def test_the_newest_tick_is_asked_for_and_none_of_before(store: Store) -> None:
    """A schedule starts when it is first seen; of ticks that were missed only the newest counts; "" never ticks."""
    cron = "0 6 * * *"
    assert tick(store, "", NOW) is None
    assert tick(store, cron, NOW) is None
    assert tick(store, cron, NOW + timedelta(hours=17)) is None
    due = tick(store, cron, NOW + timedelta(hours=18))
    assert due
    assert due.key == "cron-2026-11-23T0600Z"
    assert tick(store, cron, NOW + timedelta(hours=30)) == due
    missed = tick(store, cron, NOW + timedelta(days=4))
    assert missed
    assert missed.key == "cron-2026-11-26T0600Z"


@pytest.mark.parametrize(("count", "told"), [(1, "k00"), (5, "k00, k01, k02, k03, k04"), (50, "k04 and 45 more")])
def test_what_nobody_took_is_asked_for_again(store: Store, count: int, told: str) -> None:
    """One key for all of them, that says who waited; the same ones are the same key."""
    waiting = Waiting(store)
    assert overdue(waiting) is None
    for number in range(count):
        waiting.note(f"k{number:02d}")
    waiting.note("k00")
    again = overdue(waiting)
    assert again
    assert again.why.startswith("nothing was trained yet for k00")
    assert again.why.endswith(told)
    assert overdue(waiting) == again


def test_what_was_taken_is_decided_as_for_the_one_that_took_it(store: Store) -> None:
    """Its dataset, snapshot and reason; a try that died in the middle is finished by the next, and others wait on."""
    waiting = Waiting(store)
    for key in ("a", "b"):
        waiting.note(key)
    waiting.take(("a", "b"), "last")
    for name in ("training_configs", "training_reasons", "datasets"):
        store.fix(name, "last", f"its {name}")
    waiting.note("later")
    waiting.drop(["a"])
    for _ in range(2):
        assert waiting.settle("last") == ("a", "b")
        assert waiting.keys() == ("later",)
        assert store.fixed("datasets", "a") == store.fixed("datasets", "b") == "its datasets"
        assert store.fixed("training_configs", "b") == "its training_configs"


def test_the_reason_says_what_asked(store: Store) -> None:
    """New data, drift with its verdict, a change, the clock, a person; what was asked for before what came in."""
    verdict = store.put(
        DriftVerdict(pipeline="p", interval="2014-11", model="m", watermark="w", reason="accuracy .61 of .93")
    )
    drift = f"drift-{verdict.id[:16]}"
    store.fix(REASONS, "code-1", "code changed: train.py 1 -> 2")
    told = {
        ("2014-03@aa",): "new data 2014-03@aa",
        (drift,): "drift: accuracy .61 of .93",
        ("drift-by-hand",): "drift",
        ("2014-03@aa", "code-1"): "code changed: train.py 1 -> 2; new data 2014-03@aa",
        tuple(f"{month}@aa" for month in range(9)): "; ".join(f"new data {n}@aa" for n in range(4)) + "; and 5 more",
    }
    assert {keys: Asked(keys=keys).reason(store) for keys in told} == told
    assert Asked(keys=("code-1",), force="I say so").reason(store) == "I say so"
    assert Asked(keys=("2014-03@aa", "b@c", "code-1")).leading == "code-1"
    assert Asked(keys=("2014-03@aa", "b@c")).leading == "2014-03@aa"
