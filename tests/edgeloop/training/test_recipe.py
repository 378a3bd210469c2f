from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgeloop import catalog
from edgeloop.training.recipe import Recipe

SAMPLE = Path(__file__).parents[3] / "include" / "pipelines" / "wind_power"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of the sample pipeline that may be edited."""
    return shutil.copytree(SAMPLE, tmp_path / "wind_power", ignore=shutil.ignore_patterns("__pycache__"))


def recipe(home: Path, image_id: str = "") -> Recipe:
    """The recipe of the folder as it reads now."""
    snapshot, problems = catalog.read(home)
    assert snapshot, problems
    return Recipe.of(snapshot, image_id)


def edit(home: Path, name: str, old: str, new: str) -> None:
    """Change a file of the pipeline."""
    text = (home / name).read_text()
    assert old in text
    (home / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("train.py", "STEPS = 10", "STEPS = 5", "code changed: train.py "),
        ("features.py", "MIN_WIND_SPEED = 2.5", "MIN_WIND_SPEED = 3.5", "code changed: features.py "),
        ("pipeline.yaml", "max_iter: 200", "max_iter: 300", "parameters changed: max_iter 200 -> 300"),
        ("pipeline.yaml", "{max_iter: 200}", "{}", "parameters changed: max_iter 200 -> (none)"),
        ("pipeline.yaml", "image: edgeloop/trainer", "image: own/r:4",
         "image changed: name edgeloop/trainer -> own/r:4"),
        ("pipeline.yaml", "domain: Ws_avg > 2.5 and Ot_avg > -50", "domain: Ws_avg > 3",
         "pipeline.yaml changed: domain Ws_avg > 2.5 and Ot_avg > -50 -> Ws_avg > 3"),
        ("pipeline.yaml", "- {name: Va,", "- {name: Vane,", "pipeline.yaml changed: features Ws, Ot, Va, "),
        ("pipeline.yaml", "target: P_avg", "target: Va_avg", "pipeline.yaml changed: target P_avg -> Va_avg"),
    ],
)  # fmt: skip
def test_what_a_training_is_made_of_is_noticed_and_told(home: Path, name: str, old: str, new: str, words: str) -> None:
    """Another recipe, and the one sentence that says what changed from what to what."""
    before = recipe(home)
    edit(home, name, old, new)
    after = recipe(home)
    assert after.digest != before.digest
    assert after.changes(before).startswith(words)
    assert ";" not in after.changes(before)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("pipeline.yaml", 'sweep: "*/10 * * * *"', 'sweep: "*/5 * * * *"'),
        ("pipeline.yaml", "approval: true", "approval: false"),
        ("pipeline.yaml", "fall: 0.10", "fall: 0.20"),
        ("pipeline.yaml", "memory_mb: 2048", "memory_mb: 4096"),
        ("pipeline.yaml", "tolerance: 51.0", "tolerance: 40.0"),
        ("pipeline.yaml", "{name: Ws, low: 2.5, high: 20}", "{name: Ws, low: 2.5, high: 25}"),
        ("expectations.json", '"max_value": 10000\n', '"max_value": 20000\n'),
        ("README.md", "wind", "Wind"),
    ],
)
def test_what_is_no_part_of_it_changes_nothing(home: Path, name: str, old: str, new: str) -> None:
    """Rings, schedules, gates, resources, tolerances, ranges of golden rows, expectations and words train nothing."""
    before = recipe(home)
    edit(home, name, old, new)
    assert recipe(home).digest == before.digest


def test_requirements_are_part_of_it(home: Path) -> None:
    """The file is named and told by its content."""
    edit(home, "pipeline.yaml", "  image: edgeloop/trainer", "  image: edgeloop/trainer\n  requirements: more.txt")
    (home / "more.txt").write_text("polars==1.0 --hash=sha256:" + "0" * 64)
    before = recipe(home)
    (home / "more.txt").write_text("polars==1.1 --hash=sha256:" + "1" * 64)
    assert recipe(home).changes(before).startswith("requirements changed: more.txt ")


def test_a_rebuilt_image_of_the_same_name_is_a_change(home: Path) -> None:
    """Told by the starts of both ids; an image that nobody could look at yet, or now, is none."""
    one, two = recipe(home, "sha256:" + "1f" * 32), recipe(home, "sha256:" + "2e" * 32)
    assert two.changes(one) == "image changed: id 1f1f1f1f1f1f -> 2e2e2e2e2e2e"
    unseen = recipe(home)
    assert unseen.changes(one) == ""
    assert one.changes(unseen) == ""
    assert unseen.knowing(one).digest == one.digest


def test_the_id_of_another_image_says_nothing(home: Path) -> None:
    """What the VM had under the old name is not what it has under the new one."""
    before = recipe(home, "sha256:" + "1f" * 32)
    edit(home, "pipeline.yaml", "image: edgeloop/trainer", "image: own/r:4")
    assert recipe(home).knowing(before).parts.keys() & {"image:id"} == set()
