"""A pipeline.yaml that does not validate: healthy pipelines keep their DAGs, and one file alone says what is wrong."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.dag_processing.dagbag import DagBag
    from tests.policy.conftest import Checkout

STAGES = {"intake", "ingest", "train", "package", "rollout", "drift", "drift_sweep", "reap"}


def _load(checkout: Checkout) -> DagBag:
    from airflow.dag_processing.dagbag import DagBag

    dags = checkout.root / "dags"
    return DagBag(dag_folder=dags, bundle_path=dags, bundle_name="edgeloop")


def _stages(bag: DagBag, pipeline: str) -> set[str]:
    return {name.removeprefix(f"{pipeline}_") for name in bag.dags if name.startswith(f"{pipeline}_")}


@pytest.fixture
def second(checkout: Checkout, pipelines_folder: Path) -> Path:
    """Two healthy pipelines in a folder of their own; returns the second one's pipeline.yaml."""
    source = checkout.root / "include" / "pipelines" / "wind_power"
    for name in ("wind_power", "second"):
        shutil.copytree(source, pipelines_folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    spec = pipelines_folder / "second" / "pipeline.yaml"
    _edit(spec, "name: wind_power\n", "name: second\n")
    _edit(spec, "container: wind-power\n", "container: second\n")
    return spec


def _edit(file: Path, before: str, after: str) -> int:
    """Replace ``before`` once; returns the line it stood on."""
    text = file.read_text(encoding="utf-8")
    assert before in text, f"{file.name} no longer holds {before!r}; correct this test"
    file.write_text(text.replace(before, after, 1), encoding="utf-8")
    return text[: text.index(before)].count("\n") + 1


def test_a_new_pipeline_needs_no_code(checkout: Checkout, second: Path) -> None:
    """A second folder gets every stage's DAG, and nothing in dags/ knew its name."""
    bag = _load(checkout)
    assert not bag.import_errors
    assert _stages(bag, "second") == _stages(bag, "wind_power") == STAGES


def test_a_pipeline_that_was_never_valid_has_no_dags_and_hurts_no_other(checkout: Checkout, second: Path) -> None:
    """Only pipeline_errors.py fails, naming file, line, field and remedy; the healthy pipeline keeps its DAGs."""
    line = _edit(second, "  tolerance: 51.0", "  tolerance: -1")
    bag = _load(checkout)
    assert list(bag.import_errors) == ["pipeline_errors.py"]
    assert re.search(
        rf"{re.escape(str(second))}:{line}: model\.tolerance: -1 .*greater than 0",
        bag.import_errors["pipeline_errors.py"],
    )
    assert _stages(bag, "wind_power") == STAGES
    assert not _stages(bag, "second")


def test_every_problem_is_told_at_once(checkout: Checkout, second: Path) -> None:
    """Three mistakes in two files make one import error with three lines."""
    _edit(second, "owner: wind-data\n", "")
    _edit(second, "  polls: 2", "  pols: 2")
    _edit(second.with_name("expectations.json"), "{", "[")
    (error,) = _load(checkout).import_errors.values()
    assert "owner: is missing" in error
    assert "source.pols: is no known field" in error
    assert "expectations.json:" in error


def test_a_broken_pipeline_runs_on_with_its_last_valid_configuration(checkout: Checkout, second: Path) -> None:
    """Breaking a file that was valid keeps its DAGs; repairing it takes the error away."""
    assert not _load(checkout).import_errors
    _edit(second, "  tolerance: 51.0", "  tolerance: fifty")
    bag = _load(checkout)
    assert list(bag.import_errors) == ["pipeline_errors.py"]
    assert _stages(bag, "second") == STAGES
    _edit(second, "  tolerance: fifty", "  tolerance: 50")
    assert not _load(checkout).import_errors


def test_no_yaml_at_all_is_told_as_such(checkout: Checkout, second: Path) -> None:
    """A file that is no YAML is reported with its line, and stage files still do not raise."""
    line = _edit(second, "residency: on_premises", "residency: [on_premises")
    bag = _load(checkout)
    assert list(bag.import_errors) == ["pipeline_errors.py"]
    found = re.search(r"pipeline\.yaml:(\d+): \(yaml\): is no YAML", bag.import_errors["pipeline_errors.py"])
    assert found
    assert int(found.group(1)) >= line


def test_at_task_start_only_the_tasks_own_dag_is_built(
    checkout: Checkout, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task of one pipeline does not pay for the DAGs of twenty."""
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "second_ingest")
    assert set(_load(checkout).dags) == {"second_ingest"}
