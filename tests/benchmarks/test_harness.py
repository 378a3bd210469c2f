"""The benchmark harness: what a figure says, what is kept, and when the exit code is 1."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

import benchmarks.__main__ as command
from benchmarks import arrival
from benchmarks.harness import Figure, Pair, beyond_peer, keep, table
from edgeloop.pipeline import Source

if TYPE_CHECKING:
    from pathlib import Path

PAIRS = [Pair(ours=3.0, peer=2.0), Pair(ours=7.0, peer=2.0), Pair(ours=4.0, peer=2.0)]


def _figure(bar: float) -> Figure:
    return beyond_peer("arrival: first task", PAIRS, unit="s", bar=bar, peer="settle time")


def test_a_figure_is_the_median_of_what_ours_costs_beyond_the_peer() -> None:
    """One slow run does not move the figure; every run is kept."""
    figure = _figure(2.0)
    assert (figure.value, figure.ratio, figure.runs) == (2.0, 2.0, (1.0, 5.0, 2.0))


@pytest.mark.parametrize(("bar", "holds"), [(1.9, False), (2.0, True), (2.1, True)])
def test_a_bar_holds_up_to_itself(bar: float, holds: bool) -> None:
    """The bar is the largest value that is good enough."""
    assert _figure(bar).holds is holds


def test_a_limit_of_nothing_is_held_by_nothing() -> None:
    """Counting what must not happen has no peer to divide by."""
    none = beyond_peer("imports", [Pair(ours=0.0, peer=0.0)], unit="modules", bar=0.0, peer="none")
    one = beyond_peer("imports", [Pair(ours=1.0, peer=0.0)], unit="modules", bar=0.0, peer="none")
    assert none.holds
    assert not one.holds


def test_what_is_kept_is_a_list_with_every_field(tmp_path: Path) -> None:
    """build/bench.json is made whole, in a folder that need not exist."""
    keep([_figure(2.0)], tmp_path / "build" / "bench.json")
    (one,) = json.loads((tmp_path / "build" / "bench.json").read_text("utf-8"))
    assert {"name", "value", "unit", "bar", "holds", "peer", "runs"} <= set(one)
    assert one["holds"] is True
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["bench.json"]


def test_the_table_shows_median_spread_ratio_and_verdict() -> None:
    """A reader sees from one line what was measured, against what, and whether it is good enough."""
    out = io.StringIO()
    Console(file=out, width=200).print(table([_figure(1.5)]))
    assert all(part in out.getvalue() for part in ("2 s", "1 to 5", "x 2", "<= 1.5 s", "NO", "settle time", "3"))


@pytest.mark.parametrize(("bar", "code"), [(1.0, 1), (2.0, 0)])
def test_a_broken_bar_is_an_exit_code(bar: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI sees a bar that does not hold; the figures are kept all the same."""
    monkeypatch.setattr(command, "BENCHES", {"a": lambda _say: [_figure(bar)], "b": lambda _say: pytest.fail("b ran")})
    monkeypatch.setattr(command, "KEPT", tmp_path / "bench.json")
    assert command.main("a", Console(file=io.StringIO())) == code
    assert (tmp_path / "bench.json").exists()


def test_an_unknown_figure_is_told_with_the_known_ones() -> None:
    """A typing error in ONLY= measures nothing and lists what there is."""
    out = io.StringIO()
    assert command.main("parse_tiem", Console(file=out, width=200)) == 2
    assert "parse_time" in out.getvalue()


def test_the_settle_time_is_the_longer_of_quiet_and_polls() -> None:
    """Arrival is measured beyond what pipeline.yaml asks for."""
    assert arrival.settle_seconds(Source(group="(.)", quiet_seconds=2, polls=4, poll_seconds=1)) == pytest.approx(3)
    assert arrival.settle_seconds(Source(group="(.)", quiet_seconds=5, polls=2, poll_seconds=1)) == pytest.approx(5)
