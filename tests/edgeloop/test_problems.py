"""What a clumsy hand writes into a pipeline is told with what to type, and costs no other pipeline its DAGs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgeloop import catalog

SAMPLE = Path(__file__).resolve().parents[2] / "include" / "pipelines" / "wind_power"
WIDE = '{"expectations": [{"type": "expect_column_values_to_be_between", "kwargs": {"min_value": ' + "1" * 5000 + "}}]}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The sample, renamed, in a folder of its own."""
    made = tmp_path / "pipelines" / "tide"
    shutil.copytree(SAMPLE, made, ignore=shutil.ignore_patterns("__pycache__"))
    _edit(made, "name: wind_power", "name: tide")
    return made


def _edit(home: Path, old: str, new: str) -> None:
    spec = home / catalog.SPEC
    text = spec.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    spec.write_text(text.replace(old, new), encoding="utf-8")


def _told(home: Path) -> list[str]:
    """Every problem of the folder, without the folder's own path."""
    found = catalog.load(home.parent, home.parent.parent / "last_valid")
    return [str(one).removeprefix(f"{home}/") for one in found.problems]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "target: P_avg",
            "target: P_avg\n  timezone: Europe",
            "pipeline.yaml:20: columns.timezone: 'Europe' is no IANA",
        ),
        ("target: P_avg", "target: P_avg\n  timezone: " + "a" * 300, "is no IANA name"),
        ("owner: wind-data", "owner: &x [*x]", "pipeline.yaml:4: owner: "),
        ("owner: wind-data", "owner: &x {a: *x}", "pipeline.yaml:4: owner: "),
        (r"'_(\d{4}-\d{2})\.csv$'", "'(a{99999999999})'", "pipeline.yaml:11: source.group: is no regular expression"),
    ],
    ids=["timezone-is-a-folder", "timezone-is-too-long", "list-in-itself", "mapping-in-itself", "endless-regex"],
)
def test_what_the_checks_themselves_stumble_over_is_a_problem_of_that_file(
    home: Path, old: str, new: str, told: str
) -> None:
    """An exception here would be one in every stage file, and take every pipeline's DAGs away."""
    _edit(home, old, new)

    (problem,) = _told(home)

    assert told in problem


def test_a_number_that_python_does_not_read_is_a_problem_of_the_suite(home: Path) -> None:
    """JSON knows numbers of any length, Python's parser refuses those above 4,300 digits with a bare ValueError."""
    (home / catalog.SUITE).write_text(WIDE)

    (problem,) = _told(home)

    assert problem.startswith("expectations.json:0: (json): cannot be read as JSON: Exceeds the limit")


def test_aliases_of_aliases_are_looked_at_once(home: Path) -> None:
    """Thirty lists that hold the one before twice are a billion lists to whoever walks along the aliases."""
    bombs = "\n".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]" for n in range(1, 30))
    _edit(home, "owner: wind-data", f"owner: wind-data\nx0: &x0 [a]\n{bombs}")

    assert len(_told(home)) == 30
