"""What a figure is, and how figures are printed, kept and judged.

A figure is made of paired runs: ours and the peer's, taken side by side on the same machine in the same minute, so
that a busy machine slows both. Ratios travel between machines; seconds do not.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One run: ``ours`` and ``peer`` in the same unit."""

    ours: float
    peer: float

    @property
    def beyond(self) -> float:
        """What ours costs on top of the peer."""
        return self.ours - self.peer

    @property
    def ratio(self) -> float:
        """Ours as a multiple of the peer; 1 where the peer is nothing."""
        return self.ours / self.peer if self.peer else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table.

    Args:
        name: What is measured; ``ONLY=`` takes the part before the colon.
        value: Median of ``runs``.
        unit: Of ``value``, ``bar`` and ``runs``.
        bar: The largest ``value`` that is good enough.
        peer: What ours is compared with.
        ratio: Median of ours as a multiple of the peer.
        runs: The value of each run.
    """

    name: str
    value: float
    unit: str
    bar: float
    peer: str
    ratio: float
    runs: tuple[float, ...]

    @property
    def holds(self) -> bool:
        """Whether the bar holds."""
        return self.value <= self.bar

    def as_json(self) -> dict[str, object]:
        """The figure as kept in build/bench.json."""
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "bar": self.bar,
            "holds": self.holds,
            "peer": self.peer,
            "ratio": round(self.ratio, 4),
            "runs": [round(run, 4) for run in self.runs],
        }


def beyond_peer(name: str, pairs: Sequence[Pair], *, unit: str, bar: float, peer: str) -> Figure:
    """The figure of what ours costs on top of its peer: the medians over at least one pair."""
    runs = tuple(pair.beyond for pair in pairs)
    ratio = statistics.median(pair.ratio for pair in pairs)
    return Figure(name=name, value=statistics.median(runs), unit=unit, bar=bar, peer=peer, ratio=ratio, runs=runs)


def times_peer(name: str, pairs: Sequence[Pair], *, bar: float, peer: str) -> Figure:
    """The figure of ours as a multiple of its peer: the median over at least one pair."""
    runs = tuple(pair.ratio for pair in pairs)
    ratio = statistics.median(runs)
    return Figure(name=name, value=ratio, unit="x", bar=bar, peer=peer, ratio=ratio, runs=runs)


def table(figures: Sequence[Figure]) -> Table:
    """The figures for a person to read."""
    names = ("median", "spread", "ratio", "bar", "holds", "against", "runs")
    made = Table(Column("figure", no_wrap=True), *names, title="Figures and bars")
    for one in figures:
        made.add_row(
            one.name,
            f"{one.value:.3g} {one.unit}",
            f"{min(one.runs):.3g} to {max(one.runs):.3g}",
            f"x {one.ratio:.3g}",
            f"<= {one.bar:g} {one.unit}",
            "[green]yes[/]" if one.holds else "[bold red]NO[/]",
            one.peer,
            str(len(one.runs)),
        )
    return made


def keep(figures: Sequence[Figure], path: Path) -> None:
    """Write the figures as a JSON list, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps([one.as_json() for one in figures], indent=1) + "\n", encoding="utf-8")
    part.replace(path)
