"""What every DAG must have before on-call meets it at night: an owner, known tags, a runbook, retries, time-outs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edgeloop_airflow.tags import Tag, pipeline_tag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import DAG, BaseOperator
    from tests.policy.conftest import Checkout

STAGES = ("intake", "ingest", "train", "package", "rollout", "drift", "drift_sweep", "reap")
HOUSE = frozenset({"reprocess"})
"""DAGs that belong to no pipeline; their form asks for one."""
ONE_AT_A_TIME = ("intake", "train", "drift", "reap")
RUNBOOK = ("### Purpose", "### When it fails", "### Rerun")
HEAVY_AT_PARSE = (
    *("great_expectations", "azure.ai.ml", "azure.storage.blob", "pandas", "numpy", "pyarrow", "docker"),
    *("onnx", "onnxruntime", "skl2onnx", "sklearn", "scipy", "paramiko", "asyncssh", "smbclient", "matplotlib"),
)


def _dags(bag: DagBag) -> Iterator[DAG]:
    assert bag.dags, "the bag is empty; nothing was judged"
    yield from bag.dags.values()


def _tasks(bag: DagBag) -> Iterator[tuple[str, BaseOperator]]:
    for dag in _dags(bag):
        for task in dag.tasks:
            yield f"{dag.dag_id}.{task.task_id}", task


def test_every_dag_file_loads(bag: DagBag) -> None:
    """No file has an import error."""
    assert not bag.import_errors


def test_every_pipeline_has_every_stage(bag: DagBag) -> None:
    """A pipeline without one of its stages would stop the loop in silence."""
    assert {f"wind_power_{stage}" for stage in STAGES} <= set(bag.dags)


def test_every_task_has_an_owner(bag: DagBag) -> None:
    """The owner is the pipeline's, never Airflow's default."""
    wrong = [f"{name} is owned by {task.owner!r}" for name, task in _tasks(bag) if task.owner in {"", "airflow"}]
    assert not wrong, "\n".join(wrong)


def test_tags_come_from_the_enum(bag: DagBag) -> None:
    """Only words of edgeloop_airflow.tags.Tag, one stage among them, and the pipeline's own tag."""
    known = {tag.value for tag in Tag}
    for dag in _dags(bag):
        pipelines = {tag for tag in dag.tags if tag.startswith("pipeline:")}
        assert dag.tags - pipelines <= known, f"{dag.dag_id}: add {dag.tags - pipelines - known} to Tag or drop it"
        assert pipelines == (set() if dag.dag_id in HOUSE else {pipeline_tag(_pipeline_of(dag))}), dag.dag_id
        assert len([tag for tag in dag.tags if tag.startswith("stage:")]) == 1, dag.dag_id
        assert Tag.EDGELOOP in dag.tags, dag.dag_id


def _pipeline_of(dag: DAG) -> str:
    stage = max((one for one in STAGES if dag.dag_id.endswith(f"_{one}")), key=len)
    return dag.dag_id.removesuffix(f"_{stage}")


def test_every_dag_carries_its_runbook(bag: DagBag) -> None:
    """doc_md says what the DAG is for, what a failure means, and the exact command to run it again."""
    for dag in _dags(bag):
        text = dag.doc_md or ""
        at = [text.find(heading) for heading in RUNBOOK]
        assert -1 not in at, f"{dag.dag_id}: add {[one for one in RUNBOOK if one not in text]} to its runbook"
        assert at == sorted(at), f"{dag.dag_id}: the runbook's headings come in the order {RUNBOOK}"
        assert "airflow dags" in text[at[2] :], f"{dag.dag_id}: 'Rerun' must name the command to type"
        assert dag.dag_id in text[at[2] :], f"{dag.dag_id}: the command must name this DAG"
        assert "{" not in text.replace('{"', "").replace("{{", ""), f"{dag.dag_id}: an unfilled {{placeholder}}"


def test_every_task_is_tried_again(bag: DagBag) -> None:
    """Airflow 3.3.2 fails some tasks that resume within seconds of parking; a retry re-attaches, no retry is a page."""
    wrong = [f"{name}: give it retries" for name, task in _tasks(bag) if task.retries < 1]
    assert not wrong, "\n".join(wrong)


def test_every_task_has_a_time_out(bag: DagBag) -> None:
    """A hung peer must not hold a worker slot for ever."""
    wrong = [f"{name}: set execution_timeout" for name, task in _tasks(bag) if not task.execution_timeout]
    assert not wrong, "\n".join(wrong)


def test_a_gate_that_nobody_answers_restores(bag: DagBag) -> None:
    """The approval has a deadline, and silence means the safe answer, which leads to restore."""
    from airflow.providers.standard.operators.hitl import HITLOperator

    gates = [(name, task) for name, task in _tasks(bag) if isinstance(task, HITLOperator)]
    assert gates
    for name, gate in gates:
        mapping = getattr(gate, "options_mapping", {})
        assert gate.response_timeout or gate.execution_timeout, f"{name}: nobody may answer for ever"
        assert gate.defaults, f"{name}: silence needs a default"
        assert {mapping.get(option) for option in gate.defaults} == {"restore"}, f"{name}: silence must restore"


def test_one_person_reprocesses_at_a_time(bag: DagBag) -> None:
    """What one request clears, the next one finds running; two at once would start the same partition twice."""
    assert all(bag.dags[name].max_active_runs == 1 for name in HOUSE)


@pytest.mark.parametrize("stage", ONE_AT_A_TIME)
def test_stages_that_decide_run_one_at_a_time(bag: DagBag, stage: str) -> None:
    """Two claims, two trainings or two judgements at once would decide on the same state twice."""
    assert bag.dags[f"wind_power_{stage}"].max_active_runs == 1


@pytest.mark.parametrize(
    ("stage", "before"), [("train", {"register"}), ("package", {"push"}), ("rollout", {"advance", "restore"})]
)
def test_a_mirror_of_the_models_hides_no_failure_and_holds_up_nothing(
    bag: DagBag, stage: str, before: set[str]
) -> None:
    """It is the last task and no other waits for it; where a task before it failed it fails, and with it the run."""
    for dag in _dags(bag):
        if dag.dag_id in HOUSE or not dag.dag_id.endswith(f"_{stage}"):
            continue
        task = dag.get_task("mirror_models")
        assert (task.upstream_task_ids, task.downstream_task_ids) == (before, set())
        assert task.trigger_rule == "none_failed"


def test_intake_refuses_backfills(bag: DagBag) -> None:
    """What lies on the source now says nothing about a day in the past; every other way to start it stays open."""
    assert bag.dags["wind_power_intake"].allowed_run_types == {
        *("scheduled", "asset_triggered", "asset_materialization", "manual", "operator_triggered"),
    }


def test_nothing_catches_up_by_itself(bag: DagBag) -> None:
    """Unpausing a DAG after a week must not start a week of runs."""
    assert not [dag.dag_id for dag in _dags(bag) if dag.catchup]


def test_tasks_read_their_pipeline_and_nothing_else(bag: DagBag) -> None:
    """Our operators get a pipeline's name; what the pipeline says is read at run, from the snapshot."""
    from airflow.providers.standard.operators.hitl import HITLOperator

    ours = [
        (name, task)
        for name, task in _tasks(bag)
        if type(task).__module__.startswith("edgeloop_airflow")
        and not isinstance(task, HITLOperator)
        and task.dag.dag_id not in HOUSE
    ]
    assert ours
    wrong = [name for name, task in ours if getattr(task, "pipeline", None) != _pipeline_of(task.dag)]
    assert not wrong, "\n".join(wrong)


PARSE_ALL = """
import runpy, sys
heavy, files = sys.argv[1].split(","), sys.argv[2:]
from airflow.sdk import DAG
for file in files:
    runpy.run_path(file)
    for name in heavy:
        if name in sys.modules:
            print(f"{file} imports {name}")
"""


def test_reading_dag_files_imports_nothing_heavy(checkout: Checkout, dag_files: list[Path], tmp_path: Path) -> None:
    """After a fresh interpreter has read every DAG file, none of the heavy libraries is in sys.modules."""
    environment = {
        **os.environ,
        "EDGELOOP_PIPELINES": str(checkout.root / "include" / "pipelines"),
        "EDGELOOP_LAST_VALID": str(tmp_path / "last_valid"),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
    }
    argv = [sys.executable, "-c", PARSE_ALL, ",".join(HEAVY_AT_PARSE), *map(str, dag_files)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.strip(), done.stdout
