"""Where a sweep looks: recent folders, or everything when that is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.pipeline import Source
from edgeloop.share import Claim, Fate, Folder
from edgeloop.share.cursor import full_sweep_is_due, newest_claimed_day, recent, scope_of_sweep
from edgeloop.share.source import EVERYTHING

if TYPE_CHECKING:
    from edgeloop.catalog import Snapshot
    from edgeloop.store import Store

NOW = datetime(2026, 5, 14, 12, 0, tzinfo=UTC)
DAILY = "17 3 * * *"


def source(**more: Any) -> Source:
    """A source sorted by date."""
    return Source(**{"group": r"_(\d+)\.", "partitions": "%Y/%m/%d", "look_back_days": 2, **more})


@pytest.mark.parametrize(
    ("swept_at", "due"),
    [
        ("", True),
        ("2026-05-14T03:16:59+00:00", True),
        ("2026-05-14T03:17:00+00:00", False),
        ("2026-05-14T11:00:00+00:00", False),
        ("2026-05-13T04:00:00+00:00", True),
        ("2026-01-01T00:00:00+00:00", True),
        ("2026-05-14T05:16:59+02:00", True),
    ],
)
def test_a_full_sweep_is_due_when_a_tick_passed_since_the_last(swept_at: str, *, due: bool) -> None:
    """Whoever runs next does it, so a tick that nobody heard is late, not lost; a first one is due at once."""
    assert full_sweep_is_due(source(), DAILY, swept_at, NOW) is due


def test_a_tick_counts_from_its_very_moment() -> None:
    """The run that the tick itself started does the sweep."""
    tick = datetime(2026, 5, 14, 3, 17, tzinfo=UTC)
    assert full_sweep_is_due(source(), DAILY, "2026-05-13T03:17:01+00:00", tick)
    assert not full_sweep_is_due(source(), DAILY, "2026-05-13T03:17:01+00:00", tick - timedelta(seconds=1))


def test_the_zone_of_the_clock_moves_nothing() -> None:
    """Ticks and days are UTC's, whatever zone the time is told in."""
    east = NOW.astimezone(timezone(timedelta(hours=14)))
    assert not full_sweep_is_due(source(), DAILY, "2026-05-14T03:17:00+00:00", east)
    assert full_sweep_is_due(source(), DAILY, "2026-05-14T03:16:59+00:00", east)
    assert newest_claimed_day("%Y/%m/%d", ["2026/05/16/a_1.csv", "2026/05/14/a_1.csv"], east) == "2026-05-14"


def test_without_partitions_every_sweep_is_full_anyway() -> None:
    """There is nothing to decide and nothing to note."""
    plain = source(partitions="")
    assert not full_sweep_is_due(plain, DAILY, "", NOW)
    assert recent(plain, "", NOW) == EVERYTHING


def test_a_sweep_looks_back_from_the_newest_claimed_day() -> None:
    """From two days before it until tomorrow; everything while nothing was claimed, or when it is a full one."""
    folders = recent(source(), "2026-05-13", NOW).folders
    assert folders == ("2026/05/11", "2026/05/12", "2026/05/13", "2026/05/14", "2026/05/15")
    assert recent(source(), "", NOW) == EVERYTHING
    assert scope_of_sweep(source(), "2026-05-13", NOW, full=True) == EVERYTHING


def test_a_folder_of_the_future_does_not_carry_the_cursor_away() -> None:
    """A wrong clock on the plant must not hide everything until its date has come."""
    paths = ["2026/05/12/a_1.csv", "2099/01/01/a_1.csv", "elsewhere/a_1.csv", "2026/05/15/a_1.csv"]
    assert newest_claimed_day("%Y/%m/%d", paths[:3], NOW) == "2026-05-12"
    assert newest_claimed_day("%Y/%m/%d", paths, NOW) == "2026-05-15"
    assert newest_claimed_day("", paths, NOW) == ""
    assert newest_claimed_day("%Y/%m/%d", [], NOW) == ""


def test_the_cursor_and_the_sweep_are_kept_with_the_claims(snapshot: Snapshot, folder: Folder, store: Store) -> None:
    """The next run reads both from the store; a run that claims nothing moves neither back."""
    section = snapshot.spec.source.model_copy(update={"partitions": "%Y/%m/%d"})
    object.__setattr__(snapshot, "spec", snapshot.spec.model_copy(update={"source": section}))
    for day in ("2026/05/12", "2026/05/10"):
        (folder.path / day).mkdir(parents=True)
        (folder.path / day / "north_2026-05.csv").write_text(day)

    def run(name: str, swept_at: str = "") -> Any:
        work = Claim(snapshot, folder, store, run=name, fate=lambda _: Fate.DELIVERED, clock=lambda: NOW)
        work.take(folder.scan(), swept_at=swept_at)
        return Claim(snapshot, folder, store, run="reader", fate=lambda _: Fate.DELIVERED).journal.read()

    assert run("one").newest_day == "2026-05-12"
    assert run("two", swept_at="2026-05-14T12:00:00+00:00").swept_at == "2026-05-14T12:00:00+00:00"
    state = run("three", swept_at="2026-05-14T11:00:00+00:00")
    assert (state.newest_day, state.swept_at) == ("2026-05-12", "2026-05-14T12:00:00+00:00")
