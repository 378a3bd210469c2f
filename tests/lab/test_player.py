"""The player against scorers that really run, on real days."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import UnreachableError
from lab import player
from lab.errors import LabError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "images"))
from scorer_process import Scorer, await_ready, launch, make_model  # noqa: E402 - the line above finds it

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = ROOT / "tests" / "data" / "wind_power"
JANUARY, DECEMBER = DATA / "R80711_2014-01.csv", DATA / "R80711_2014-12.csv"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Scorer]]:
    """Start a scorer of eight features called wind_power, of a version and on a port if asked for."""
    running = []

    def _serve(version: str = "1", port: int | None = None) -> Scorer:
        folder = tmp_path / f"model-{version}"
        onnx = make_model(folder, 8)
        card = json.loads((folder / "model.json").read_text()) | {"name": "wind_power", "version": version}
        (folder / "model.json").write_text(json.dumps(card))
        (tmp_path / "share").mkdir(exist_ok=True)
        process, free = launch(folder, tmp_path / "share", **({"PORT": str(port)} if port else {}))
        running.append(process)
        scorer = Scorer(process, port or free, tmp_path / "share", onnx)
        await_ready(scorer.process, scorer.port)
        return scorer

    yield _serve
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def url(scorer: Scorer) -> str:
    """Where the player finds it."""
    return f"http://127.0.0.1:{scorer.port}"


def test_every_row_of_the_domain_is_played_once_in_order(serve: Callable[..., Scorer]) -> None:
    """What the scorer logged is the file's rows in the model's domain, at their instants in UTC."""
    scorer = serve()
    rows = player.read(DATA / "R80711_2014-03.csv")
    played = player.play(url(scorer), [DATA / "R80711_2014-03.csv"])
    assert (played.rows, played.versions) == (len(rows), {"1": len(rows)})
    assert [line["event_time"] for line in scorer.logged()] == [f"{t:%Y-%m-%dT%H:%M:%SZ}" for t in rows.times]


def test_rows_outside_the_domain_stay_at_the_plant() -> None:
    """Silent sensors and the broken thermometer are not sent."""
    assert len(player.read(DATA / "R80721_2015-03.csv")) < 432 - 241 + 1
    assert player.read(DATA / "R80721_2014-06.csv").x[:, 1].min() > -50


def test_a_month_played_is_found_and_another_version_plays_it_again(
    serve: Callable[..., Scorer], tmp_path: Path
) -> None:
    """The position holds per file and version; `once` counts any version."""
    said: list[str] = []
    scorer, where = serve(), tmp_path / "state" / "position.json"
    first = player.play(url(scorer), [JANUARY], position=where, report=said.append)
    assert player.play(url(scorer), [JANUARY], position=where, report=said.append).rows == 0
    assert said[-1].startswith("found")
    scorer.stop()
    scorer = serve("2")
    assert player.play(url(scorer), [JANUARY], position=where, once=True, report=said.append).rows == 0
    assert player.play(url(scorer), [JANUARY], position=where, report=said.append).versions == {"2": first.rows}


def test_a_scorer_killed_in_the_middle_loses_no_row(serve: Callable[..., Scorer], tmp_path: Path) -> None:
    """The player waits for the next container; every row is in the log, those of the broken request at most twice.

    The version that took over has not answered the file from its first row on, and is not said to have.
    """
    scorer, where = serve(), tmp_path / "position.json"
    rows = player.read(JANUARY)
    result: list[player.Played] = []

    def work() -> None:
        result.append(player.play(url(scorer), [JANUARY], rows_per_request=1, position=where, report=str))

    thread = threading.Thread(target=work)
    thread.start()
    while len(scorer.logged()) < 20:
        thread.join(0.01)
    scorer.stop(signal.SIGKILL)
    again = serve("2", scorer.port)
    thread.join(60)
    logged = [line["event_time"] for line in again.logged()]
    assert set(logged) == {f"{t:%Y-%m-%dT%H:%M:%SZ}" for t in rows.times}
    assert len(rows) <= len(logged) <= len(rows) + 1
    assert result[0].rows == len(rows)
    assert set(result[0].versions) == {"1", "2"}
    assert list(json.loads(where.read_text())[JANUARY.name]) == ["1"]


def test_a_play_broken_off_goes_on_where_it_stopped(serve: Callable[..., Scorer], tmp_path: Path) -> None:
    """Rows before the position are not sent a second time."""
    scorer, where = serve(), tmp_path / "position.json"
    where.write_text(json.dumps({JANUARY.name: {"1": 100}}))
    rows = player.read(JANUARY)
    assert player.play(url(scorer), [JANUARY], position=where).rows == len(rows) - 100
    assert scorer.logged()[0]["event_time"] == f"{rows.times[100]:%Y-%m-%dT%H:%M:%SZ}"
    where.write_text('{"torn')
    assert player.play(url(scorer), [DECEMBER], position=where).rows == len(player.read(DECEMBER))


def test_speed_spreads_the_rows(serve: Callable[..., Scorer]) -> None:
    """At a given speed the last request leaves no earlier than its event time asks for."""
    scorer, rows = serve(), player.read(JANUARY)
    span = (rows.times[-1] - rows.times[0]).total_seconds()
    assert player.play(url(scorer), [JANUARY], rows_per_request=1, speed=span / 1.5).seconds >= 1.4


def test_a_scorer_that_stays_away_is_reported_with_what_to_do() -> None:
    """UnreachableError after the whole time-out, naming the address."""
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        player.play("http://127.0.0.1:9", [JANUARY], whole=0.5)


def test_what_cannot_be_played_is_said(tmp_path: Path) -> None:
    """A month that is not there, and a file that is no such CSV."""
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    for path in (tmp_path / "R80711_2013-01.csv", tmp_path / "no.csv"):
        with pytest.raises(LabError, match="cannot be played"):
            player.read(path)
