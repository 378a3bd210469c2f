"""What a clumsy hand writes into a pipeline is told with what to type, and costs no other pipeline its DAGs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgeloop import catalog
from edgeloop.errors import ConfigurationError

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


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "  folder: wind_power",
            "\tfolder: wind_power",
            "9: (yaml): is no YAML: found character '\\t' that cannot start",
        ),
        ("  folder: wind_power", "\tfolder: wind_power", "indent with spaces, YAML takes no tabs"),
        ('sweep: "*/10 * * * *"', "sweep: */10 * * * *", "put a text that begins with * or & in quotes"),
        (
            r"group: '_(\d{4}-\d{2})\.csv$'",
            r'group: "_(\d{4}-\d{2})\.csv$"',
            "write it in single quotes, which leave a \\",
        ),
        ("owner: wind-data", "owner: wind: data", "put a text that holds ': ' in quotes"),
        ("name: R80711, device", "name: 80711, device", "sites.0.name: 80711 will not do"),
        ("name: R80711, device", "name: 80711, device", "put it in quotes: '80711'"),
        ("name: R80711, device", "name: no, device", "YAML takes yes, no, on and off for true and false"),
        ("sites: [R80711]", "sites: R80711", "write a list: ['R80711']"),
        ("container: wind-power", "container: Wind_Power", "write 3 to 63 lower-case letters, digits and single '-'"),
        (
            "parameters: {max_iter: 200}",
            "parameters: {a: [1]}",
            "training.parameters.a: write a number, a text, true or",
        ),
        ("parameters: {max_iter: 200}", "parameters: {1: 2}", "put it in quotes: '1'"),
        ("  backend: blob\n  minimum_gain: 0.0\n", "", "registry: is empty; write a value, or remove the line"),
    ],
)
def test_a_slip_of_yaml_is_told_with_what_to_type(home: Path, old: str, new: str, told: str) -> None:
    """YAML and pydantic say what they met; what to write instead is said beside it, once."""
    _edit(home, old, new)

    (problem,) = _told(home)

    assert told in problem


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "time: Date_time",
            "time: Datetime",
            "17: columns.time: names 'Datetime', which expectations.json lets no file",
        ),
        ("time: Date_time", "time: P_avg", "19: columns.target: names 'P_avg' again"),
        ("target: P_avg", "target: ''", "19: columns.target: is empty"),
        ("target: P_avg", "target: P_avg\n  identifiers: [badge]", "20: columns.identifiers: names 'badge'"),
        ("domain: Ws_avg > 2.5", "domain: Wind > 2.5", "28: model.domain: names 'Wind', which expectations.json lets"),
        ("domain: Ws_avg > 2.5", "domain: Ws_avg > > 2.5", "28: model.domain: is no pandas query (invalid syntax)"),
        ("low: 2.5, high: 20", "low: 2.5, high: 1e300", "model.features.0.high: is no float32"),
        ("window_months: 3", "window_months: 2", "51: training.window_months: holds 2 months and minimum_months is 3"),
        ("holdout_days: 14", "holdout_days: 93", "52: training.holdout_days: is the whole window of 3 months"),
        ("holdout_days: 14", "reports: [../*]", "52: training.reports.0: '../*' leads out of /outputs"),
        ("image: edgeloop/trainer", "image: ''", "47: training.image: '' is no image's name"),
        ("  folder: wind_power", "  folder: ../other", "9: source.folder: '../other' leads out of the share"),
        ('pattern: "*.csv"', 'pattern: ""', "10: source.pattern: is empty"),
        ("approval_hours: 4", "approval_hours: 1e10", "72: rollout.approval_hours: is longer than a year (8760)"),
        ("soak_seconds: 5", "soak_seconds: 1000000", "71: rollout.soak_seconds: is longer than a week (604800)"),
        ('drift: "0 6 * * *"', 'drift: "0 6 30 2 *"', "81: schedules.drift: '0 6 30 2 *' is a day that never comes"),
    ],
)
def test_what_could_never_work_is_told_when_it_is_loaded(home: Path, old: str, new: str, told: str) -> None:
    """Each of these loaded, and failed, or did nothing for ever, when its turn had come."""
    _edit(home, old, new)

    (problem,) = _told(home)

    assert problem.startswith("pipeline.yaml:")
    assert told in problem


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("domain: Ws_avg > 2.5 and Ot_avg > -50", "domain: '`Ws_avg` > 2.5 & sin(Ot_avg) < 1 and index >= 0'"),
        ("domain: Ws_avg > 2.5 and Ot_avg > -50", "domain: >\n    Ws_avg > 2.5\n    and Ot_avg.abs() < inf"),
        ('drift: "0 6 * * *"', 'drift: "0 6 29 2 *"'),
        ('drift: "0 6 * * *"', 'drift: "0 6 L * mon-fri"'),
        ("image: edgeloop/trainer", "image: registry.example:5000/Team/own:1.2"),
        ("  folder: wind_power", "  folder: ''"),
    ],
)
def test_what_is_rare_and_right_is_let_through(home: Path, old: str, new: str) -> None:
    """A doubt about what works would take a right pipeline's DAGs away."""
    _edit(home, old, new)

    assert _told(home) == []


def test_what_a_batch_pinned_is_read_whatever_would_be_told_today(home: Path) -> None:
    """A doubt is about what somebody has just written; a claimed batch goes on under what it was claimed under."""
    before, _ = catalog.read(home)
    assert before is not None
    text = before.text(catalog.SPEC).replace("window_months: 3", "window_months: 2")
    old = catalog.Snapshot(spec=before.spec, files=((catalog.SPEC, text),))

    assert catalog.from_json(old.to_json()).spec.training.window_months == 2


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("def (:\n", 1, "is no Python: invalid syntax; python3 -m py_compile"),
        ("x = 1\nif x:\n\ty = 1\n        z = 2\n", 4, "inconsistent use of tabs and spaces"),
        ("x = '\0'\n", 0, "null bytes"),
        ("x = " + "(" * 5000 + "\n", 1, "too many nested parentheses"),
    ],
)
@pytest.mark.parametrize("name", ["train.py", "beside.py"])
def test_a_script_that_is_no_python_is_told_before_it_is_sent(
    home: Path, name: str, text: str, line: int, told: str
) -> None:
    """It would otherwise be found on the VM, after the data has travelled; what it imports from beside it, too."""
    (home / name).write_text(text)

    (problem,) = _told(home)

    assert problem.startswith(f"{name}:{line}: {name}: ")
    assert told in problem


def test_scripts_of_an_image_of_ones_own_are_that_images_matter(home: Path) -> None:
    """Its Python may be newer than the one here, or it may have none."""
    _edit(home, "image: edgeloop/trainer", "image: own/trainer:1")
    (home / "train.py").write_text("type Newer[T] = list[T]\n")

    assert _told(home) == []


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({}, "expectations.0.kwargs.column: is missing; expect_column_values_to_not_be_null needs the name"),
        ({"colunm": "P_avg"}, "expectations.0.kwargs.column: is missing"),
        ({"column": "P_avg", "mostly": 95}, "expectations.0.kwargs.mostly: is 95; write a share of rows from 0 to 1"),
    ],
)
def test_an_expectation_that_no_batch_could_meet_is_told(home: Path, kwargs: dict[str, object], told: str) -> None:
    """Otherwise every batch of the pipeline is red, one after the other."""
    one = {"type": "expect_column_values_to_not_be_null", "kwargs": kwargs}
    (home / catalog.SUITE).write_text(json.dumps({"expectations": [one]}))

    (problem,) = _told(home)

    assert problem.startswith("expectations.json:1: ")
    assert told in problem


def test_an_expectation_on_a_column_that_the_suite_forbids_is_told(home: Path) -> None:
    """The suite itself says which columns a file has."""
    suite = home / catalog.SUITE
    suite.write_text(suite.read_text().replace('"column": "Ba_avg"', '"column": "Bx_avg"', 1))

    (problem,) = _told(home)

    assert "expectations.2.kwargs.column: is 'Bx_avg', and the suite's own columns are Ba_avg, " in problem


def test_a_suite_with_a_byte_order_mark_is_told_as_that(home: Path) -> None:
    """An editor put three bytes in front that nobody sees."""
    suite = home / catalog.SUITE
    suite.write_bytes(b"\xef\xbb\xbf" + suite.read_bytes())

    (problem,) = _told(home)

    assert problem == (
        "expectations.json:1: (json): begins with a byte order mark, which is no JSON; save it as UTF-8 without BOM"
    )


def test_asking_for_a_pipeline_that_was_never_valid_says_what_is_wrong_with_it(home: Path) -> None:
    """Not that there is none: it lies there, before the eyes of whoever asks."""
    _edit(home, "tolerance: 51.0", "tolerance: 0")
    found = catalog.load(home.parent, home.parent.parent / "last_valid")

    with pytest.raises(
        ConfigurationError, match=r"'tide' does not validate(.|\n)*Correct it: .*27: model.tolerance: 0 wi"
    ):
        found.find("tide")
    with pytest.raises(ConfigurationError, match="There is no pipeline 'tides'"):
        found.find("tides")
