from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.drift.interval import examine, ground_of, settle
from edgeloop.drift.report import Row, comparisons, plot, rows, table
from edgeloop.drift.retrain import request_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.edgeloop.drift.conftest import Plant

PNG = b"\x89PNG\r\n\x1a\n"


def test_every_version_and_month_with_predictions_is_a_row(plant: Plant) -> None:
    """Counted from logs and labels; the stored verdict stands beside, and whether it was trained for."""
    first = plant.promote(plant.model(1))
    for month, y in (("2014-10", 110.0), ("2014-11", 300.0)):
        plant.certify(month)
        for site in ("R80711", "R80721", "R80736"):
            plant.predict(month, first, y, site=site)
        ground = ground_of(plant.bench, month)
        verdict = settle(plant.bench, ground, examine(plant.bench, ground), first)
    plant.bench.store.fix("datasets", request_key(verdict), "d" * 64)
    second = plant.promote(plant.model(2, accuracy=0.95))
    plant.predict("2014-11", second, 120.0, start="b")
    plant.certify("2014-12")

    found = rows(plant.bench)

    assert [(one.interval, one.version, one.rows, one.accuracy, one.verdict, one.retrained) for one in found] == [
        ("2014-10", 1, 600, 1.0, "good", False),
        ("2014-11", 1, 600, 0.0, "fallen", True),
        ("2014-11", 2, 200, 1.0, "not judged", False),
    ]
    assert [(one.version, one.accuracy, one.champion) for one in comparisons(plant.bench)] == [
        (1, 0.9, None),
        (2, 0.95, None),
    ]


def _row(interval: str, version: int, accuracy: float, verdict: str = "good", *, retrained: bool = False) -> Row:
    return Row(
        interval=interval,
        version=version,
        rows=9000,
        accuracy=accuracy,
        reference=0.93,
        mae=20.0,
        verdict=verdict,
        retrained=retrained,
    )


def test_the_table_is_aligned() -> None:
    """One line per row under its head, nothing cut off."""
    text = table([_row("2014-10", 1, 0.94), _row("2014-11", 12, 0.776, "fallen", retrained=True)])

    assert text.splitlines() == [
        "interval  model  rows  accuracy  hold-out  MAE   verdict",
        "2014-10   v1     9000  0.940     0.930     20.0  good",
        "2014-11   v12    9000  0.776     0.930     20.0  fallen, retrained",
    ]


def test_the_plot_is_a_readable_png_without_a_display(tmp_path: Path) -> None:
    """It is written into a folder that is not there yet, with a size a reader can use."""
    found = [_row("2014-10", 1, 0.94), _row("2014-11", 1, 0.776, "fallen", retrained=True), _row("2014-12", 2, 0.85)]

    written = plot(found, tmp_path / "build" / "accuracy.png", title="wind_power")

    raw = written.read_bytes()
    assert raw.startswith(PNG)
    assert int.from_bytes(raw[16:20]) >= 1000
    assert int.from_bytes(raw[20:24]) >= 500


def test_an_empty_report_is_a_plot_too(tmp_path: Path) -> None:
    """Before the first prediction the demo still shows axes."""
    assert plot([], tmp_path / "accuracy.png").read_bytes().startswith(PNG)
    assert table([]) == "interval  model  rows  accuracy  hold-out  MAE  verdict"
