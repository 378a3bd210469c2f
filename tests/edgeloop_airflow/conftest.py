"""What intake and ingest need to run outside Airflow: a pipeline, its connections, and a task's context."""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.edgeloop_airflow.yard import PORTS, Yard, bring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure.blob import BlobAccount
    from edgeloop_airflow.hooks import Desk
    from lab.site import Site

TINY = Path(__file__).parents[1] / "data" / "pipelines" / "tiny_power"
SAMPLES = Path(__file__).resolve().parents[2] / "include" / "pipelines"
HEADER = "site,at,wind,power\n"


@dataclass(slots=True)
class Floor:
    """One pipeline named tiny_power on a share and a container of this test's own."""

    home: Path
    share: Path
    states: dict[tuple[str, str, str], str | None] = field(default_factory=dict)
    """What Airflow would say of (dag, task, run)."""
    paused: set[str] = field(default_factory=set)
    """DAGs that Airflow would say are paused."""
    runs: dict[str, int] = field(default_factory=dict)
    """How many runs Airflow would count in a state."""

    def desk(self) -> Desk:
        """The pipeline's desk, through its connections."""
        from edgeloop_airflow import hooks

        return hooks.desk("tiny_power")

    def drop(self, name: str, *rows: str, text: str | None = None) -> Path:
        """Put a file on the share: rows of `site,at,wind,power`, or a text of its own."""
        path = self.share / "exports" / name
        path.write_text(HEADER + "".join(f"{row}\n" for row in rows) if text is None else text)
        return path

    def month(self, site: str, month: str, rows: int = 4) -> Path:
        """A good file of one site and month."""
        return self.drop(f"{site}_{month}.csv", *(f"{site},{month}-01T00:{n:02d}:00Z,5,{n}.5" for n in range(rows)))

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a file of the pipeline."""
        text = (self.home / name).read_text()
        assert old in text
        (self.home / name).write_text(text.replace(old, new))

    def context(self, *, key: str | None = None, run: str = "run-1", dag: str = "tiny_power_x", task: str = "t") -> Any:
        """A task's context, with the events that it emits."""
        from airflow.sdk.execution_time.context import OutletEventAccessors

        def states(dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str | None]]:
            known = {
                one: self.states[dag_id, task_ids[0], one]
                for one in run_ids
                if (dag_id, task_ids[0], one) in self.states
            }
            return {one: {task_ids[0]: state} for one, state in known.items()}

        return {
            "ti": SimpleNamespace(
                dag_id=dag,
                task_id=task,
                run_id=run,
                get_task_states=states,
                get_dr_count=lambda dag_id, states: sum(self.runs.get(one, 0) for one in states),
                get_dag=lambda name: SimpleNamespace(is_paused=name in self.paused),
            ),
            "dag_run": SimpleNamespace(partition_key=key),
            "outlet_events": OutletEventAccessors(),
        }


@pytest.fixture
def floor(
    pipelines_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blob_account: BlobAccount, container: Any
) -> Floor:
    """The tiny pipeline with an empty share and an empty container."""
    home, share = pipelines_folder / "tiny_power", tmp_path / "share"
    shutil.copytree(TINY, home)
    (share / "exports").mkdir(parents=True)
    blobs = {"conn_type": "wasb", "extra": {"connection_string": blob_account.connection_string}}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_PRIVATE", json.dumps(blobs))
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_SHARE", json.dumps({"conn_type": "fs", "extra": {"path": str(share)}}))
    floor = Floor(home=home, share=share)
    floor.edit("pipeline.yaml", "container: tiny-power", f"container: {container.name}")
    return floor


@pytest.fixture
def emitted() -> Any:
    """The partition keys a context's task emitted to an asset, sorted."""

    def keys(context: Any, asset: Any) -> list[str]:
        return sorted(context["outlet_events"][asset].partition_keys)

    return keys


@pytest.fixture
def sample(blob_account: BlobAccount, pipelines_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The sample pipeline's desk, on a container of this test's own."""
    from edgeloop_airflow import hooks

    home = pipelines_folder / "wind_power"
    shutil.copytree(SAMPLES / "wind_power", home, ignore=shutil.ignore_patterns("__pycache__"))
    spec = home / "pipeline.yaml"
    text = spec.read_text(encoding="utf-8").replace("container: wind-power", f"container: t{uuid.uuid4().hex[:20]}")
    spec.write_text(text, encoding="utf-8")
    account = {"conn_type": "wasb", "extra": {"connection_string": blob_account.connection_string}}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_PRIVATE", json.dumps(account))
    return hooks.desk("wind_power")


@pytest.fixture
def yard(site: Site, pipelines_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    """A pipeline of this test's own on the site; its containers are removed afterwards."""
    import docker

    from lab.connections import environment

    for name, value in environment(site).items():
        monkeypatch.setenv(name, value)
    port = next(PORTS)
    bring(pipelines_folder, f"yard{port}", port)
    yield Yard(f"yard{port}")
    for device in site.devices:
        client = docker.DockerClient(base_url=device.docker, timeout=30)
        for one in client.containers.list(all=True, filters={"label": f"edgeloop.pipeline=yard{port}"}):
            one.remove(force=True)
        client.close()
