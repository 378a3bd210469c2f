"""A pipeline of a test's own on the real site: its folder, its connections, and tasks run one by one."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.sdk.execution_time.context import OutletEventAccessors
from tests.proven import proven
from tests.shipyard import linear

from edgeloop import registry
from edgeloop.records import TrainingRun
from edgeloop_airflow import hooks
from edgeloop_airflow.assets import Assets
from edgeloop_airflow.packaging import BuildImageOperator, ProveImageOperator, PushImageOperator
from edgeloop_airflow.rollout import (
    AdvanceOperator,
    GateOperator,
    PrefetchOperator,
    ReportOperator,
    RestoreOperator,
    SwitchOperator,
)

if TYPE_CHECKING:
    from edgeloop.records import ModelVersion
    from edgeloop_airflow.hooks import Desk

SAMPLE = Path(__file__).resolve().parents[2] / "include" / "pipelines" / "wind_power"
OPERATORS = {
    "build": BuildImageOperator,
    "prove": ProveImageOperator,
    "push": PushImageOperator,
    "prefetch": PrefetchOperator,
    "switch": SwitchOperator,
    "gate": GateOperator,
    "advance": AdvanceOperator,
    "restore": RestoreOperator,
    "report": ReportOperator,
}
ANNOUNCING = {"push", "advance"}
PORTS = itertools.count(18300)
"""Where scorers listen: one for each test."""


def bring(folder: Path, name: str, port: int) -> None:
    """The sample pipeline under another name, with a scorer port of its own and a short soak."""
    shutil.copytree(SAMPLE, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    spec = folder / name / "pipeline.yaml"
    text = spec.read_text(encoding="utf-8")
    for before, after in {
        "name: wind_power\n": f"name: {name}\n",
        "container: wind-power": f"container: {name}",
        "repository: wind_power/scorer": "repository: tests/scorer\n  audit: false",
        "  soak_seconds: 5": f"  soak_seconds: 0.2\n  scorer_port: {port}",
    }.items():
        assert before in text, f"pipeline.yaml no longer holds {before!r}; correct this test"
        text = text.replace(before, after)
    spec.write_text(text, encoding="utf-8")


@dataclass
class Ti:
    """A task instance as operators use it: XCom of its run, and which try it is."""

    xcom: dict[tuple[str, str], Any]
    task_id: str
    try_number: int = 1
    max_tries: int = 3
    states: dict[str, str] = field(default_factory=dict)
    """How the run's tasks ended."""
    dag_id: str = "yard"
    run_id: str = "run"

    def get_task_states(self, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        """As Airflow answers."""
        assert (dag_id, run_ids) == (self.dag_id, [self.run_id])
        return {self.run_id: {task: self.states.get(task) for task in task_ids}}

    def xcom_push(self, key: str, value: Any) -> None:
        """Remember."""
        self.xcom[self.task_id, key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        """Recall."""
        return self.xcom.get((task_ids, key))


@dataclass
class Run:
    """One run: its partition key, its XCom, and the partitions its tasks announced."""

    pipeline: str
    key: str
    run_id: str
    xcom: dict[tuple[str, str], Any] = field(default_factory=dict)
    announced: list[str] = field(default_factory=list)
    kind: str = ""
    """Airflow's type of the run, and what was given with it."""
    conf: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def task(self, name: str, *, force: str = "", try_number: int = 1) -> Any:
        """Run a task; returns what it returned."""
        assets = Assets(self.pipeline)
        extra: dict[str, Any] = {} if name == "gate" else {"force": force}
        if name in ANNOUNCING:
            extra["outlets"] = [assets.ring]
        operator = OPERATORS[name](task_id=name, pipeline=self.pipeline, **extra)
        events, ti = OutletEventAccessors(), Ti(self.xcom, name, try_number, states=self.states)
        run = SimpleNamespace(
            partition_key=self.key,
            run_id=self.run_id,
            dag_id=f"{self.pipeline}_test",
            run_type=self.kind,
            conf=self.conf,
        )
        context: Any = {"dag_run": run, "ti": ti, "outlet_events": events}
        self.states[name] = "failed"
        value = operator.choose_branch(context) if name == "gate" else operator.execute(context)
        self.states[name] = "success"
        self.xcom[name, "return_value"] = value
        self.announced += sorted(events[assets.ring].partition_keys)
        return value

    def answer(self, option: str, by: str) -> None:
        """As the approve task leaves it."""
        self.xcom["approve", "answer"], self.xcom["approve", "answered_by"] = option, by


@dataclass
class Yard:
    """The pipeline, its desk, and models that are candidates."""

    name: str
    count: int = 0

    @property
    def desk(self) -> Desk:
        """The pipeline's desk."""
        return hooks.desk(self.name)

    def candidate(self, weight: float) -> ModelVersion:
        """A registered model that is the candidate."""
        desk = self.desk
        run = desk.store.put(
            TrainingRun(
                pipeline=self.name, dataset="d" * 64, code=str(weight), image="i", parameters="{}", config=self.config
            )
        )
        onnx = linear(*([weight] * len(desk.snapshot.spec.model.features)))
        model = registry.register(
            desk.store,
            desk.blobs,
            pipeline=self.name,
            onnx=onnx,
            training_run=run,
            metrics=proven(onnx, {"accuracy": 0.9}),
        )
        registry.nominate(desk.store, model, by="test", why="test")
        return model

    @property
    def config(self) -> str:
        """The digest of the stored snapshot."""
        desk = self.desk
        return desk.snapshot.save(desk.blobs)

    def run(self, key: str) -> Run:
        """A run of a partition."""
        self.count += 1
        return Run(self.name, key, f"run{self.count}")

    def package(self, model: ModelVersion) -> str:
        """Build, prove and push; returns ring 0's key."""
        run = self.run(model.key)
        for name in ("build", "prove", "push"):
            run.task(name)
        (key,) = run.announced
        return key

    def switched(self, key: str) -> Run:
        """A ring's run up to its gate."""
        run = self.run(key)
        run.task("prefetch")
        run.task("switch")
        return run

    def promote(self, model: ModelVersion) -> None:
        """Through every ring to champion."""
        from airflow.sdk.exceptions import AirflowSkipException

        key = self.package(model)
        for _ in self.desk.snapshot.spec.rollout.rings:
            run = self.switched(key)
            if run.task("gate") == "approve":
                run.answer("Approve", "oncall")
            try:
                run.task("advance")
            except AirflowSkipException:
                return
            (key,) = run.announced
