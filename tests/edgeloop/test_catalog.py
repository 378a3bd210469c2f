from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeloop import catalog
from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from edgeloop.problems import Problem

OWN = "  kind: blob\n  connection: edgeloop_private\n  folder: wind-power/data"
SAMPLE = Path(__file__).resolve().parents[2] / "include" / "pipelines" / "wind_power"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A valid pipeline in a folder of its own."""
    return _copy(tmp_path / "pipelines", "wind_power", "wind-power")


def _copy(folder: Path, name: str, container: str) -> Path:
    shutil.copytree(SAMPLE, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    _edit(folder / name, "name: wind_power", f"name: {name}")
    _edit(folder / name, "container: wind-power", f"container: {container}")
    return folder / name


def _edit(home: Path, old: str, new: str) -> None:
    spec = home / catalog.SPEC
    text = spec.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    spec.write_text(text.replace(old, new), encoding="utf-8")


def _load(home: Path) -> catalog.Catalog:
    return catalog.load(home.parent, home.parent.parent / "last_valid")


def _only(home: Path) -> Problem:
    """The one problem there is; it names an existing file and says what to do."""
    (problem,) = _load(home).problems
    assert Path(problem.file).exists()
    assert problem.remedy
    return problem


def _line(home: Path, text: str) -> int:
    lines = (home / catalog.SPEC).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_the_sample_pipeline_is_valid(home: Path) -> None:
    """It loads without a problem, with the files that a user brings."""
    found = _load(home)

    assert found.problems == ()
    assert found.find("wind_power").spec.sites[1].device == "edgeloop_device_r80721"
    assert "def main" in found.find("wind_power").text("train.py")


@pytest.mark.parametrize(
    ("old", "new", "field", "remedy"),
    [
        ("owner: wind-data", "owner: [a, b]", "owner", "valid string"),
        ("owner: wind-data", "owner: wind-data\nowned_by: me", "owned_by", "is no known field"),
        ("owner: wind-data\n", "", "owner", "is missing; add it"),
        ("polls: 2", "polls: 1", "source.polls", "1 will not do: Input should be greater than or equal to 2"),
        ("polls: 2", "polls: two", "source.polls", "'two' will not do"),
        ("tolerance: 51.0 ", "tolerance: .nan ", "model.tolerance", "finite number"),
        ("residency: on_premises ", "residency: anywhere ", "residency", "'on_premises' or 'cloud'"),
        ("container: wind-power", "container: Wind_Power", "storage.container", "'Wind_Power' will not do"),
        ("(\\d{4}-\\d{2})", "(\\d{4}-\\d{2}", "source.group", "is no regular expression"),
        ("  connection: edgeloop_share", "  kind: blob\n  connection: c", "source.folder", "begins with the container"),
        ("  connection: edgeloop_share", "  preset: stack_edge", "source.preset", "or write kind: blob"),
        ("  connection: edgeloop_share\n  folder: wind_power", OWN, "source.folder", "own container 'wind-power'"),
        ("(\\d{4}-\\d{2})", "\\d{4}-\\d{2}", "source.group", "exactly one (...) that names the batch, it holds 0"),
        ("(\\d{4}-\\d{2})", "(\\d{4})-(\\d{2})", "source.group", "it holds 2"),
        ("target: P_avg", "target: P_avg\n  timezone: Paris", "columns.timezone", "no IANA name"),
        ("low: 2.5, high: 20", "low: 20, high: 2.5", "model.features.0.high", "must be above low, which is 20"),
        ("name: Ot, low", "name: Ws, low", "model.features", "names Ws more than once"),
        ("sites: [R80711]", "sites: [R99999, R80711]", "rollout.rings", "names unknown sites R99999; sites are R80711"),
        ("sites: [R80721, R80736]", "sites: [R80721]", "rollout.rings", "leaves out R80736; add each site to a ring"),
        ("[R80721, R80736]", "[R80721, R80736, R80711]", "rollout.rings", "names R80711 more than once"),
        ("name: rest", "name: canary", "rollout.rings", "has canary more than once"),
        ("name: R80721, device", "name: R80711, device", "sites", "names R80711 more than once"),
        ("edgeloop_device_r80721", "edgeloop_device_r80711", "sites", "edgeloop_device_r80711 more than once"),
        ('drift: "0 6 * * *"', 'drift: "0 6 * *"', "schedules.drift", "cron expression of five fields"),
        ('drift: "0 6 * * *"', 'drift: "61 6 * * *"', "schedules.drift", "cron expression of five fields"),
        ("owner: wind-data", "owner: wind-data\nowner: me", "owner", "is there twice, first on line"),
        ("name: wind_power", "name: water_power", "name", "must be the folder's name: 'name: wind_power'"),
    ],
)
def test_each_mistake_is_told_with_file_line_field_and_remedy(
    home: Path, old: str, new: str, field: str, remedy: str
) -> None:
    """The line is that of the field, or of the section where the field is missing, and what to write is said."""
    missing = new == ""
    _edit(home, old, new)

    problem = _only(home)

    assert problem.file == str(home / catalog.SPEC)
    assert problem.field == field
    assert remedy in problem.remedy
    here = (home / catalog.SPEC).read_text(encoding="utf-8").splitlines()[problem.line - 1]
    assert missing or field.rsplit(".", 1)[-1] in here
    assert str(problem) == f"{problem.file}:{problem.line}: {problem.field}: {problem.remedy}"


def test_all_mistakes_of_a_file_are_told_at_once(home: Path) -> None:
    """Nobody corrects one field to meet the next."""
    _edit(home, "polls: 2", "polls: 1")
    _edit(home, "cpus: 1", "cpus: none")
    _edit(home, "fleet: ssh_docker", "fleet: pigeons")
    (home / catalog.SUITE).write_text("[")

    assert {one.field for one in _load(home).problems} == {
        "source.polls",
        "training.cpus",
        "rollout.fleet",
        "(json)",
    }


@pytest.mark.parametrize(
    ("text", "line", "remedy"),
    [
        ("name: [unclosed\nother: 1\n", 2, "is no YAML"),
        ("name: wind_power\n\tindented: by tab\n", 2, "is no YAML"),
        ("a: b: c\n", 1, "is no YAML"),
        ("", 1, "must be a mapping that starts with 'name:'"),
        ("- a\n- list\n", 1, "must be a mapping"),
        ("just text\n", 1, "must be a mapping"),
        ("name: &a [*a]\nbuilt: 2014-02-30\n", 0, "cannot be read as YAML"),
        ("name: " + "[" * 5000 + "\n", 0, "cannot be read as YAML"),
        ("name: \x00\n", 0, "is no YAML"),
        ("--- 1\n--- 2\n", 2, "is no YAML"),
        ("!!python/object/apply:os.system ['true']\n", 1, "is no YAML"),
        ("? [a, b]\n: c\n", 1, "is no YAML"),
    ],
)
def test_a_file_that_is_no_pipeline_is_told_and_never_raised(home: Path, text: str, line: int, remedy: str) -> None:
    """Broken YAML of every kind is one problem of that file."""
    (home / catalog.SPEC).write_text(text)

    problem = _only(home)

    assert problem.file == str(home / catalog.SPEC)
    assert problem.line == line
    assert remedy in problem.remedy


@pytest.mark.parametrize("name", [catalog.SPEC, catalog.SUITE, catalog.SCRIPT])
def test_a_missing_file_is_named(home: Path, name: str) -> None:
    """Each of the three files that make a pipeline is asked for by name."""
    (home / name).unlink()

    problems = _load(home).problems

    assert [(one.file, one.line, one.field) for one in problems] == [(str(home / name), 0, name)]
    assert "is missing" in problems[0].remedy


def test_a_folder_without_a_pipeline_is_told_for_each_file(home: Path) -> None:
    """An empty folder lacks all three; hidden folders and caches are no pipelines."""
    for name in ("empty", "__pycache__", ".git", "_draft"):
        (home.parent / name).mkdir()
    (home.parent / "README.md").write_text("not a pipeline")

    found = _load(home)

    assert [Path(one.file).relative_to(home.parent).as_posix() for one in found.problems] == [
        "empty/pipeline.yaml",
        "empty/expectations.json",
        "empty/train.py",
    ]
    assert [one.spec.name for one in found.pipelines] == ["wind_power"]


def test_a_file_that_is_not_utf8_is_told_with_the_byte(home: Path) -> None:
    """A Latin-1 umlaut in the script is one problem; it is not missing as well."""
    (home / catalog.SCRIPT).write_bytes(b"# gr\xfc\xdfe\n")

    problem = _only(home)

    assert (problem.file, problem.field) == (str(home / catalog.SCRIPT), catalog.SCRIPT)
    assert problem.remedy == "is no UTF-8 text (byte 4 is 0xfc); save it as UTF-8"


def test_a_huge_file_is_told_with_its_size_and_not_read(home: Path) -> None:
    """A data file that landed in the pipeline's folder is not shipped with every batch."""
    with (home / "data.json").open("wb") as file:
        file.truncate(3_000_000_000)

    problem = _only(home)

    assert problem.file == str(home / "data.json")
    assert "has 3000000000 bytes, at most 1000000" in problem.remedy


def test_files_that_are_no_texts_of_a_pipeline_are_left_out(home: Path) -> None:
    """Caches, editors' files, data, dangling links and folders are neither shipped nor judged."""
    before = _load(home).find("wind_power").digest
    (home / "__pycache__").mkdir()
    (home / "train.py~").write_bytes(b"\xff")
    (home / "sample.csv").write_bytes(b"\xff" * 2_000_000)
    (home / "gone.py").symlink_to(home / "nowhere.py")

    found = _load(home)

    assert found.problems == ()
    assert found.find("wind_power").digest == before


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("{", 1, "(json)"),
        ('{\n"a": 1,\n}', 3, "(json)"),
        ("[" * 100_000, 0, "(json)"),
        ("[]", 1, "expectations"),
        ('{"expectations": {}}', 1, "expectations"),
    ],
)
def test_a_suite_that_is_none_is_told(home: Path, text: str, line: int, field: str) -> None:
    """JSON errors carry their line, a wrong shape the field."""
    (home / catalog.SUITE).write_text(text)

    problem = _only(home)

    assert (problem.file, problem.line, problem.field) == (str(home / catalog.SUITE), line, field)


def test_a_broken_pipeline_keeps_its_last_valid_configuration(home: Path) -> None:
    """The healthy pipeline goes on with its new text, the broken one with its old; correcting it takes effect."""
    other = _copy(home.parent, "solar_power", "solar-power")
    before = _load(home)
    _edit(home, "polls: 2", "polls: none")
    _edit(other, "owner: wind-data", "owner: sun-data")

    broken = _load(home)

    assert broken.find("wind_power") == before.find("wind_power")
    assert broken.find("solar_power").spec.owner == "sun-data"
    assert [one.field for one in broken.problems] == ["source.polls"]

    _edit(home, "polls: none", "polls: 3")
    assert _load(home).find("wind_power").spec.source.polls == 3
    assert _load(home).problems == ()


def test_a_pipeline_that_was_never_valid_is_only_told(home: Path) -> None:
    """Without a last valid configuration there is nothing to run."""
    _edit(home, "polls: 2", "polls: none")

    found = _load(home)

    assert found.pipelines == ()
    with pytest.raises(ConfigurationError, match="'wind_power' does not validate"):
        found.find("wind_power")


@pytest.mark.parametrize("kept", [b"", b"[]", b"{}", b'{"files": [["pipeline.yaml", "name: x"]]}', b'{"files": 1}'])
def test_a_damaged_last_valid_configuration_is_as_good_as_none(home: Path, kept: bytes) -> None:
    """A half-written or foreign file there never breaks the DAG files."""
    _load(home)
    (home.parent.parent / "last_valid" / "wind_power.json").write_bytes(kept)
    _edit(home, "polls: 2", "polls: none")

    found = _load(home)

    assert found.pipelines == ()
    assert len(found.problems) == 1


def test_a_last_valid_folder_that_cannot_be_written_costs_only_the_fallback(home: Path) -> None:
    """A full or read-only disk takes no DAG away."""
    (home.parent.parent / "last_valid").write_text("a file where the folder should be")

    assert [one.spec.name for one in _load(home).pipelines] == ["wind_power"]


def test_a_folder_of_pipelines_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A wrong EDGELOOP_PIPELINES is a problem with a remedy, not an exception in every stage file."""
    found = catalog.load(tmp_path / "nowhere", tmp_path / "last_valid")

    assert found.pipelines == ()
    assert "EDGELOOP_PIPELINES" in found.problems[0].remedy


def test_two_pipelines_cannot_share_a_container(home: Path) -> None:
    """The one that had it goes on, even if the newcomer's name sorts first; the newcomer is told the line."""
    _load(home)
    newcomer = _copy(home.parent, "a_newcomer", "wind-power")

    found = _load(home)

    assert [one.spec.name for one in found.pipelines] == ["wind_power"]
    (problem,) = found.problems
    assert problem.file == str(newcomer / catalog.SPEC)
    assert problem.line == _line(newcomer, "container:")
    assert problem.remedy == "'wind-power' belongs to pipeline wind_power; give this one a container of its own"


def test_a_removed_pipeline_is_gone(home: Path) -> None:
    """The last valid configuration is for broken pipelines, not for removed ones."""
    _load(home)
    shutil.rmtree(home)

    assert _load(home) == catalog.Catalog(pipelines=(), problems=())


def test_a_snapshot_comes_back_from_its_json(home: Path) -> None:
    """Digest, model and texts survive storage; the code digest changes with the Python files alone."""
    snapshot = _load(home).find("wind_power")
    again = catalog.from_json(snapshot.to_json())
    assert again == snapshot
    assert again.digest == snapshot.digest

    _edit(home, "polls: 2", "polls: 3")
    edited = _load(home).find("wind_power")
    assert edited.digest != snapshot.digest
    assert edited.code_digest == snapshot.code_digest

    (home / "train.py").write_text("# another\n")
    assert _load(home).find("wind_power").code_digest != snapshot.code_digest


def test_a_stored_snapshot_of_another_version_says_what_to_do() -> None:
    """A field that no longer exists is told as such, with the next step."""
    raw = json.dumps({"files": [["pipeline.yaml", "name: wind_power\nretired: 1\n"]]}).encode()
    with pytest.raises(ConfigurationError, match="retired: is no known field") as caught:
        catalog.from_json(raw)
    assert "claim them anew" in caught.value.next


def test_asking_for_a_file_a_pipeline_lacks_names_it(home: Path) -> None:
    """The error says which pipeline and which file."""
    with pytest.raises(ConfigurationError, match=r"Pipeline wind_power has no notes\.md"):
        _load(home).find("wind_power").text("notes.md")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything, so there is no unreadable file to meet")
def test_an_unreadable_file_is_told(home: Path) -> None:
    """Wrong permissions are a problem of that file."""
    (home / catalog.SCRIPT).chmod(0)
    assert "correct its permissions" in _only(home).remedy
