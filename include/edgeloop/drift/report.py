"""Accuracy per interval and model version, as table rows and as a plot: what every deployed model really did."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.drift.certified import newest_certificates
from edgeloop.drift.interval import accuracy_of, examine, ground_of
from edgeloop.drift.judge import Policy, Tally, judge
from edgeloop.drift.labels import intervals_between
from edgeloop.drift.retrain import request_key
from edgeloop.records import DriftVerdict, ModelVersion, TrainingRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from edgeloop.drift.interval import Bench

LEVEL_LABELS = 8
"""More interval names than this overlap unless they are tilted."""
COLOURS = ("#1f4e79", "#d1495b", "#2e8b57", "#8e6c8a", "#b8860b", "#3b8ea5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model version in one interval.

    ``accuracy`` and ``reference`` (hold-out) are shares of right rows, ``mae`` in the target's unit. ``verdict`` is
    what was stored, or ``not judged`` for a model beside the judged one. ``retrained``: whether it led to a training.
    """

    interval: str
    version: int
    rows: int
    accuracy: float
    reference: float
    mae: float
    verdict: str
    retrained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A version against the champion it was measured with, on the same hold-out; ``champion`` is None for the first."""

    version: int
    window_end: str
    accuracy: float
    champion: float | None


def rows(bench: Bench) -> list[Row]:
    """Every registered model in every interval that has predictions and labels, counted anew from logs and labels."""
    models = {one.sha256: one for one in bench.store.all(ModelVersion)}
    verdicts: dict[tuple[str, str], DriftVerdict] = {}
    for one in bench.store.all(DriftVerdict):
        known = verdicts.get((one.interval, one.model))
        if known is None or one.rows >= known.rows:
            verdicts[one.interval, one.model] = one
    certificates = newest_certificates(bench.store)
    keys = {
        key
        for one in certificates
        for key in intervals_between(one.event_start, one.event_end, bench.spec.drift.interval)
    }
    found = []
    for key in sorted(keys):
        ground = ground_of(bench, key, certificates)
        if not ground.logs:
            continue
        tallies: dict[str, list[Tally]] = defaultdict(list)
        for counted in examine(bench, ground).tallies:
            tallies[counted.sha256].append(counted)
        found += [
            _row(bench, key, models[sha256], own, verdicts.get((key, models[sha256].id)))
            for sha256, own in tallies.items()
            if sha256 in models
        ]
    return sorted(found, key=lambda row: (row.interval, row.version))


def comparisons(bench: Bench) -> list[Comparison]:
    """Each version's hold-out accuracy beside that of the champion of its day, oldest version first."""
    found = []
    for model in sorted(bench.store.all(ModelVersion), key=lambda one: one.version):
        run = bench.store.find(TrainingRun, model.training_run)
        beside = json.loads(run.metrics or "{}").get("champion") if run else None
        champion = float(beside["accuracy"]) if isinstance(beside, dict) else None
        found.append(
            Comparison(
                version=model.version, window_end=model.window_end, accuracy=accuracy_of(model), champion=champion
            )
        )
    return found


def _row(bench: Bench, key: str, model: ModelVersion, tallies: Sequence[Tally], stored: DriftVerdict | None) -> Row:
    counted = judge(tallies, accuracy_of(model), Policy(fall=bench.spec.drift.fall, minimum_rows=1))
    return Row(
        interval=key,
        version=model.version,
        rows=counted.rows,
        accuracy=counted.accuracy,
        reference=counted.reference,
        mae=counted.mae,
        verdict=stored.verdict if stored else "not judged",
        retrained=stored is not None and bench.store.fixed("datasets", request_key(stored)) is not None,
    )


def table(found: Iterable[Row]) -> str:
    """The rows as text with aligned columns."""
    head = ("interval", "model", "rows", "accuracy", "hold-out", "MAE", "verdict")
    body = [
        (
            row.interval,
            f"v{row.version}",
            f"{row.rows}",
            f"{row.accuracy:.3f}",
            f"{row.reference:.3f}",
            f"{row.mae:.1f}",
            row.verdict + (", retrained" if row.retrained else ""),
        )
        for row in found
    ]
    widths = [max(len(line[at]) for line in [head, *body]) for at in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *body]
    )


def plot(found: Sequence[Row], path: Path, *, beside: Sequence[Row] = (), title: str = "", unit: str = "") -> Path:
    """Draw accuracy per interval, a line for each model version, with retrainings marked; a PNG at ``path``.

    ``beside`` are figures of a replaced version computed on intervals it no longer served, drawn hollow and dashed.
    Works without a display. An empty report draws axes and says so.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    intervals = sorted({row.interval for row in (*found, *beside)})
    _lines(axes, found, intervals)
    _ghosts(axes, beside, intervals)
    _marks(axes, found, intervals)
    axes.set_xticks(range(len(intervals)), intervals, rotation=45 if len(intervals) > LEVEL_LABELS else 0)
    axes.set_xlabel("event time")
    axes.set_ylabel("share of rows within tolerance" + (f" ({unit})" if unit else ""))
    axes.set_title(title or "Accuracy of what the devices predicted", loc="left", fontweight="bold")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _lines(axes: Axes, found: Sequence[Row], intervals: Sequence[str]) -> None:
    place = {key: at for at, key in enumerate(intervals)}
    for version in sorted({row.version for row in found}):
        own = [row for row in found if row.version == version]
        colour = COLOURS[(version - 1) % len(COLOURS)]
        at, accuracy = [place[row.interval] for row in own], [row.accuracy for row in own]
        axes.plot(
            at, accuracy, "o-", color=colour, linewidth=2, markersize=7, label=f"version {version} on the devices"
        )
        axes.plot(
            at,
            [row.reference for row in own],
            ":",
            color=colour,
            linewidth=1.3,
            label=f"version {version} on its hold-out",
        )
        for x, row in zip(at, own, strict=True):
            axes.annotate(
                f"{row.accuracy:.2f}",
                (x, row.accuracy),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                color=colour,
            )
    if found:
        low, high = min(row.accuracy for row in found), max(max(row.accuracy, row.reference) for row in found)
        axes.set_ylim(max(0.0, low - 0.12), min(1.02, high + 0.08))
        axes.set_xlim(-0.5, len(intervals) - 0.5)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    else:
        axes.text(0.5, 0.5, "no interval has both predictions and labels yet", ha="center", transform=axes.transAxes)


def _ghosts(axes: Axes, beside: Sequence[Row], intervals: Sequence[str]) -> None:
    for version in sorted({row.version for row in beside}):
        own = [row for row in beside if row.version == version]
        at, accuracy = [intervals.index(row.interval) for row in own], [row.accuracy for row in own]
        colour = COLOURS[(version - 1) % len(COLOURS)]
        label = f"version {version}, had it stayed"
        axes.plot(at, accuracy, "o--", color=colour, linewidth=1, markerfacecolor="white", label=label)
        low, _ = axes.get_ylim()
        axes.set_ylim(min([low, *(one - 0.05 for one in accuracy)]))
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _marks(axes: Axes, found: Sequence[Row], intervals: Sequence[str]) -> None:
    for row in found:
        if row.verdict == "fallen":
            at = intervals.index(row.interval)
            axes.plot(
                at,
                row.accuracy,
                "o",
                markersize=16,
                markerfacecolor="none",
                markeredgecolor="#b00020",
                markeredgewidth=2,
            )
        if row.retrained:
            border = intervals.index(row.interval) + 0.5
            axes.axvline(border, color="#444444", linestyle="--", linewidth=1)
            axes.annotate(
                "fallen: retrained",
                (border, 0.98),
                xycoords=("data", "axes fraction"),
                rotation=90,
                ha="right",
                va="top",
                color="#444444",
            )
