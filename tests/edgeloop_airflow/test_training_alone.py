"""``TrainOnVMOperator`` in somebody's own DAG: a script and files, no pipeline.yaml, no records, no ledger."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from tests.edgeloop_airflow.test_training import CONTEXT, fired, trigger_of

from edgeloop.errors import ConfigurationError, TrainingFailedError
from edgeloop.ssh.shell import Shell
from edgeloop.training import reaper
from edgeloop_airflow import hooks
from edgeloop_airflow.reap import ReapOperator
from edgeloop_airflow.training import TrainOnVMOperator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.site import Site

SCRIPT = """
import json, os
read = {name: open('/data/' + name).read() for name in sorted(os.listdir('/data'))}
print('reads', read, flush=True)
open('/outputs/model.bin', 'w').write(read['b.csv'] * 2)
open('/outputs/extra', 'w').write('stays')
"""


@pytest.fixture
def vm(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The VM's connection; what the test left there is removed."""
    from lab.connections import environment

    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_VM", environment(site)["AIRFLOW_CONN_EDGELOOP_VM"])
    yield
    with Shell(hooks.ssh_endpoint("edgeloop_vm")) as shell:
        label = f"label=edgeloop.pipeline={reaper.ALONE}"
        shell.run(f"docker ps -aq --filter {label} | xargs -r docker rm -f; rm -rf edgeloop/jobs/*", timeout=60)


def operator(folder: Path, script: str = SCRIPT, **more: Any) -> TrainOnVMOperator:
    """The task as somebody writes it."""
    (folder / "fit.py").write_text(script)
    (folder / "a.csv").write_text("1\n")
    (folder / "b.csv").write_text("2\n")
    terms: dict[str, Any] = {
        "script": str(folder / "fit.py"), "data": [str(folder / "a.csv"), (folder / "b.csv").as_uri()],
        "outputs": str(folder / "out"), "collect": ["model.bin"], "parameters": {"depth": 3}, "memory_mb": 256,
        "disk_mb": 1, "grace_seconds": 5, "run": "run-1", "poll_seconds": 0.2, **more,
    }  # fmt: skip
    return TrainOnVMOperator(task_id="fit", **terms)


def finish(task: TrainOnVMOperator) -> str:
    """The whole task."""
    try:
        return task.execute(CONTEXT)
    except TaskDeferred as parked:
        event = asyncio.run(fired(trigger_of(parked)))
        return task.execute_complete(CONTEXT, event=event, **(parked.kwargs or {}))


@pytest.mark.usefixtures("vm")
def test_a_script_is_trained_once_and_its_outputs_come_home(tmp_path: Path) -> None:
    """The folder holds what was asked for and a manifest; the same again returns it; other data is another one."""
    folder = finish(operator(tmp_path))
    home = tmp_path / "out" / folder.rpartition("/")[2]
    assert sorted(one.name for one in home.iterdir()) == ["model.bin", "training.json"]
    assert (home / "model.bin").read_text() == "2\n2\n"
    assert json.loads((home / "training.json").read_text())["outputs"].keys() == {"model.bin"}
    with Shell(hooks.ssh_endpoint("edgeloop_vm")) as shell:
        left = shell.run(f"ls edgeloop/jobs/{home.name} edgeloop/jobs/{home.name}/outputs", timeout=30).text
    assert {"extra", "model.bin"} < set(left.split())
    assert not {"data", "code", "checkpoint", "attempt-1"} & set(left.split())
    assert operator(tmp_path).execute(CONTEXT) == folder
    assert finish(operator(tmp_path, parameters={"depth": 4})) != folder
    assert finish(operator(tmp_path, force="a doubt")) != folder


@pytest.mark.usefixtures("vm")
def test_a_failure_is_told_and_the_reaper_knows_jobs_without_a_pipeline(tmp_path: Path) -> None:
    """The last lines come first; what is kept for a retry goes when the reaper is forced."""
    with pytest.raises(TrainingFailedError, match="no such column"):
        finish(operator(tmp_path, "raise SystemExit('no such column')\n"))
    with pytest.raises(TrainingFailedError, match=r"no regular file model\.bin"):
        finish(operator(tmp_path, "print('forgot')\n"))
    assert ReapOperator(task_id="reap", connection="edgeloop_vm").execute(CONTEXT) == 0
    assert ReapOperator(task_id="reap", connection="edgeloop_vm", force="done").execute(CONTEXT) == 2


@pytest.mark.usefixtures("vm")
def test_files_that_are_not_there_start_nothing(tmp_path: Path) -> None:
    """Two of one name, and none of a name, are told before anything is sent."""
    with pytest.raises(ConfigurationError, match=r"no file .*nowhere\.csv"):
        finish(operator(tmp_path, data=[str(tmp_path / "nowhere.csv")]))
    with pytest.raises(ConfigurationError, match=r"Two files would be /data/a\.csv"):
        finish(operator(tmp_path, data=[str(tmp_path / "a.csv"), str(tmp_path / "x" / "a.csv")]))


def test_an_operator_is_told_what_it_is_for() -> None:
    """Neither, both, or a script without a folder for its outputs is an error of the DAG file."""
    for terms in ({}, {"pipeline": "p", "script": "s", "outputs": "o"}, {"script": "s"}):
        with pytest.raises(ValueError, match="takes either"):
            TrainOnVMOperator(task_id="t", **terms)
    with pytest.raises(ValueError, match="takes either"):
        ReapOperator(task_id="t")


def test_a_vm_that_does_not_answer_is_no_failure_of_the_reaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The train task is who says so; a red reaper every quarter of an hour would page somebody for nothing."""
    nowhere = {"conn_type": "edgeloop_ssh", "host": "127.0.0.1", "port": 1, "login": "x", "extra": {}}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_VM", json.dumps(nowhere))

    def dead(*_: object) -> None:
        from edgeloop.errors import UnreachableError

        raise UnreachableError("nobody there")

    monkeypatch.setattr("edgeloop_airflow.reap.compute.connected", dead)
    monkeypatch.setattr("edgeloop_airflow.reap.hooks.ssh_endpoint", lambda _: None)
    with pytest.raises(AirflowSkipException, match="nobody there"):
        ReapOperator(task_id="reap", connection="edgeloop_vm").execute(CONTEXT)
