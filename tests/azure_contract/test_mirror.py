"""The record of a training in a workspace, on MLflow's interface behind Azure's tokens and host names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.azure_ml.mirror import NoMemory, RunRecord, State, mirror
from edgeloop.azure_ml.tracking import Tracking
from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

RECORD = RunRecord(
    training="t" * 64,
    experiment="wind_power",
    name="train-" + "t" * 24,
    state=State.FINISHED,
    tags=(("edgeloop_code", "c1"), ("edgeloop_compute", "edge-vm"), ("edgeloop_dataset", "d1")),
    parameters=(("depth", "3"),),
    metrics=(("accuracy", 0.93), ("per_site/R80711/accuracy", 0.9)),
    seconds=60.0,
)
NOW = 1_700_000_000.0


class Died(BaseException):
    """What a kill looks like to the code that is killed."""


@dataclass(slots=True)
class Remembered:
    """A first-wins decision as the store keeps it."""

    run_id: str | None = None

    def find(self) -> str | None:
        """What was decided."""
        return self.run_id

    def decide(self, run_id: str, runs: list[str]) -> str:
        """The first to say it."""
        self.run_id = self.run_id or run_id
        return self.run_id


@pytest.fixture
def tell(workspace: WorkspaceEndpoint) -> Iterator[Callable[..., str]]:
    """Mirror a record; each call is a try of its own. They share a token, which costs half a second to make."""
    with workspace.connect() as arm:

        def run(record: RunRecord, memory: Any) -> str:
            return mirror(Tracking(arm, workspace), record, memory, lambda *_: None, now=lambda: NOW)

        yield run


def test_a_training_is_a_run_with_its_dataset_code_compute_figures_and_state(
    azure: Any, mlflow: Any, tell: Any
) -> None:
    """All that the record says is there, under the training's own id."""
    memory = Remembered()
    run_id = tell(RECORD, memory)
    assert (memory.run_id, mlflow.active) == (run_id, [run_id])
    run = mlflow.runs[run_id]
    assert mlflow.experiments == {"wind_power": run["experiment"]}
    assert (run["status"], run["params"]) == ("FINISHED", {"depth": "3"})
    assert (run["start_time"], run["end_time"]) == (1_699_999_940_000, 1_700_000_000_000)
    assert run["tags"] == {
        "mlflow.runName": RECORD.name, "edgeloop_training": RECORD.training,
        "edgeloop_code": "c1", "edgeloop_compute": "edge-vm", "edgeloop_dataset": "d1",
    }  # fmt: skip
    assert sorted(run["metrics"]) == [
        ("accuracy", 0.93, 1_700_000_000_000, 0),
        ("per_site/R80711/accuracy", 0.9, 1_700_000_000_000, 0),
    ]
    tracking = azure.log(part="/mlflow/")
    assert {one["host"] for one in tracking} == {"westeurope.api.azureml.ms"}
    assert {one["auth"] for one in tracking} == {"Bearer"}
    assert tracking[0]["path"].endswith("/workspaces/edge-ws/api/2.0/mlflow/experiments/get-by-name")


def test_mirroring_the_same_again_writes_nothing(mlflow: Any, tell: Any) -> None:
    """One look, and the run says it already."""
    memory = Remembered()
    first = tell(RECORD, memory)
    mlflow.asked.clear()
    assert tell(RECORD, memory) == first
    assert mlflow.asked == ["runs/get"]


@pytest.mark.parametrize("memory", [Remembered, NoMemory])
def test_a_mirror_that_dies_before_any_of_its_requests_is_finished_by_the_next_try(
    mlflow: Any, tell: Any, memory: Any
) -> None:
    """Wherever it is killed there is one run in the end, and it says everything."""
    tell(RECORD, memory())
    steps, whole = len(mlflow.asked), mlflow.runs["run-0"]
    for dies in range(steps):
        mlflow.runs.clear()
        mlflow.experiments.clear()
        kept, count = memory(), iter(range(steps))

        def kill(_: str, dies: int = dies, count: Any = count) -> None:
            if next(count, None) == dies:
                raise Died

        mlflow.before = kill
        with pytest.raises(Died):
            tell(RECORD, kept)
        mlflow.before = None
        tell(RECORD, kept)
        assert [mlflow.runs[one] for one in mlflow.active] == [whole]


def test_two_mirrors_at_once_end_with_one_run(mlflow: Any, tell: Any) -> None:
    """The second runs as a whole between the first one's search and its creation."""
    memory = Remembered()

    def other(what: str) -> None:
        if what == "runs/create":
            mlflow.before = None
            tell(RECORD, memory)

    mlflow.before = other
    kept = tell(RECORD, memory)
    assert mlflow.active == [kept] == [memory.run_id]
    assert len(mlflow.runs) == 2


def test_a_training_is_running_then_failed_then_finished(mlflow: Any, tell: Any) -> None:
    """One run follows the tries of one training; figures come with the last."""
    memory = Remembered()
    states = []
    for state in (State.RUNNING, State.FAILED, State.RUNNING, State.FINISHED, State.RUNNING):
        metrics = RECORD.metrics if state is State.FINISHED else ()
        run_id = tell(replace(RECORD, state=state, metrics=metrics), memory)
        states.append(mlflow.runs[run_id]["status"])
    # What is finished stays so: a late word about its start changes nothing.
    assert states == ["RUNNING", "FAILED", "RUNNING", "FINISHED", "FINISHED"]
    assert mlflow.active == [run_id]


def test_a_run_that_somebody_deleted_is_made_anew(mlflow: Any, tell: Any) -> None:
    """What was decided in the store cannot be taken back, and traps nobody."""
    memory = Remembered()
    first = tell(RECORD, memory)
    mlflow.runs[first]["stage"] = "deleted"
    second = tell(RECORD, memory)
    assert second != first
    assert mlflow.active == [second]
    assert tell(RECORD, memory) == second


def test_many_parameters_and_figures_travel_in_the_sizes_that_the_service_takes(mlflow: Any, tell: Any) -> None:
    """250 parameters and 2500 figures are six requests."""
    record = replace(
        RECORD,
        parameters=tuple((f"p{n}", "1") for n in range(250)),
        metrics=tuple((f"m{n}", 1.0) for n in range(2500)),
    )
    run = mlflow.runs[tell(record, Remembered())]
    assert (len(run["params"]), len(run["metrics"])) == (250, 2500)
    assert mlflow.asked.count("runs/log-batch") == 3 + 3 + 1


def test_a_tracking_address_outside_the_cloud_gets_no_token(
    azure: Any, workspace: WorkspaceEndpoint, tell: Any
) -> None:
    """The address comes from an answer; nothing is sent to a host that is not the cloud's."""
    where = f"azureml://evil.example/mlflow/v1.0{workspace.id}"
    body = {"id": workspace.id, "location": "westeurope", "properties": {"mlFlowTrackingUri": where}}
    azure.faults({"match": "GET .*/workspaces/edge-ws$", "status": 200, "times": 1, "body": body})
    with pytest.raises(ConfigurationError, match=r"not below api\.azureml\.ms"):
        tell(RECORD, Remembered())
    assert azure.log(part="/mlflow/") == []


def test_the_fake_tracking_keeps_mlflows_rules(mlflow: Any) -> None:
    """A second experiment of a name and a changed parameter are refused, as MLflow refuses them."""
    assert mlflow.answer("experiments/create", {"name": "a"}) == (200, {"experiment_id": "e0"})
    assert mlflow.answer("experiments/create", {"name": "a"})[0] == 400
    assert mlflow.answer("experiments/get-by-name", {"experiment_name": "b"})[0] == 404
    assert mlflow.answer("runs/create", {"experiment_id": "e9", "start_time": 1, "tags": []})[0] == 404
    run = mlflow.answer("runs/create", {"experiment_id": "e0", "start_time": 1, "tags": []})[1]["run"]["info"]["run_id"]
    batch = {"run_id": run, "params": [{"key": "k", "value": "1"}]}
    assert mlflow.answer("runs/log-batch", batch)[0] == 200
    assert mlflow.answer("runs/log-batch", batch)[0] == 200
    batch["params"] = [{"key": "k", "value": "2"}]
    assert mlflow.answer("runs/log-batch", batch)[0] == 400
    assert mlflow.answer("runs/get", {"run_id": "none"})[0] == 404
