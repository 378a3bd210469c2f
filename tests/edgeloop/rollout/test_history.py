from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from tests.memory import Memory

from edgeloop.rollout import history
from edgeloop.store import Store

if TYPE_CHECKING:
    from edgeloop.store import Entry

SITE = "R80711"
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NOON = datetime(2014, 2, 1, 12, tzinfo=UTC)


@pytest.fixture
def store() -> Store:
    """An empty one."""
    return Store(Memory())


def saw(store: Store, digest: str, hours: float, **more: Any) -> Entry | None:
    """The device is seen so many hours after noon."""
    at = NOON + timedelta(hours=hours)
    asked = {"image": digest[7:11], "by": f"run{hours}"} | more
    return history.saw(store, SITE, digest=digest, at=at, **asked)


def told(store: Store) -> list[tuple[str, str, str]]:
    """What was served, when and until when, by hour."""
    return [(one.digest[7:8], one.since[8:13], one.until[8:13]) for one in history.history(store, SITE)]


def test_what_runs_now_and_what_ran_then(store: Store) -> None:
    """Since when, until when, and which run brought it; before anything was seen nothing is claimed."""
    saw(store, A, 0)
    saw(store, B, 3)
    first, second = history.history(store, SITE)
    assert (first.image, first.digest, first.by, first.until) == ("aaaa", A, "run0", second.since)
    assert (second.image, second.until, second.since) == ("bbbb", "", "2014-02-01T15:00:00.000+00:00")
    assert history.on(store, SITE, NOON + timedelta(hours=2)) == first
    assert history.on(store, SITE, NOON + timedelta(hours=3)) == second
    assert history.on(store, SITE, NOON - timedelta(seconds=1)) is None
    east = timezone(timedelta(hours=5))
    assert history.on(store, SITE, NOON.astimezone(east)) == first


def test_seen_again_it_is_noted_once(store: Store) -> None:
    """A gate that is tried again, and a run that comes back to the same image, add no line."""
    assert saw(store, A, 0) is not None
    assert saw(store, A, 1) is None
    assert saw(store, A, 0) is None
    assert told(store) == [("a", "01T12", "")]


def test_back_and_forth_is_three_spans(store: Store) -> None:
    """A restore brings the old one back; that is a time of its own."""
    for hours, digest in enumerate((A, B, A)):
        saw(store, digest, hours)
    assert told(store) == [("a", "01T12", "01T13"), ("b", "01T13", "01T14"), ("a", "01T14", "")]


def test_a_note_that_comes_late_takes_its_place_in_time(store: Store) -> None:
    """A worker that slept between its look and its note claims nothing about what was seen since."""
    saw(store, A, 0)
    saw(store, B, 4)
    assert saw(store, A, 2) is None
    assert saw(store, B, 3) is not None
    assert told(store) == [("a", "01T12", "01T15"), ("b", "01T15", "")]


def test_of_many_at_once_one_is_noted(store: Store) -> None:
    """Eight tasks see the same at the same time; the ledger has one line."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: saw(store, A, 0), range(8)))
    assert len([one for one in made if one is not None]) == 1
    assert told(store) == [("a", "01T12", "")]


def test_an_image_that_was_seen_before_is_known_by_its_digest(store: Store) -> None:
    """A restore knows only a reference; somebody else's image has no record, and one by tag has no digest."""
    saw(store, A, 0)
    saw(store, B, 1)
    saw(store, A, 2, image="")
    saw(store, "", 3, image="", reference="nginx:1")
    saw(store, "", 4, image="", reference="nginx:1")
    saw(store, "", 5, image="")
    found = history.history(store, SITE)
    assert [(one.image, one.what) for one in found[2:]] == [("aaaa", A), ("", "nginx:1"), ("", "")]


def test_what_was_served_on_a_day(store: Store) -> None:
    """Everything that served at any moment of it, first and last moment included and excluded."""
    saw(store, A, -36)
    saw(store, B, 0)
    saw(store, A, 12)
    known = history.history(store, SITE)
    days = {day: "".join(one.digest[7] for one in history.during(known, *history.day(day))) for day in (
        "2014-01-30", "2014-01-31", "2014-02-01", "2014-02-02", "2020-01-01",
    )}  # fmt: skip
    assert days == {"2014-01-30": "", "2014-01-31": "a", "2014-02-01": "ab", "2014-02-02": "a", "2020-01-01": "a"}
    with pytest.raises(ValueError, match="does not match format"):
        history.day("yesterday")
