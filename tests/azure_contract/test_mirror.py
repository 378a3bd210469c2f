"""The record of a training in a workspace, on MLflow's interface behind Azure's tokens and host names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.azure_contract.mlflow import Direct, Mlflow

from edgeloop.azure_ml.identity import Identity
from edgeloop.azure_ml.mirror import NoMemory, RunRecord, State, mirror
from edgeloop.azure_ml.tracking import Tracking
from edgeloop.azure_ml.workspace import WorkspaceEndpoint
from edgeloop.errors import CloudError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def told(arm: Any, workspace: WorkspaceEndpoint, record: RunRecord, memory: Any) -> str:
    """Mirror a record; each call is a try of its own."""
    return mirror(Tracking(arm, workspace), record, memory, lambda *_: None, now=lambda: NOW)


@pytest.fixture
def wired(workspace: WorkspaceEndpoint, mlflow: Mlflow) -> Iterator[Callable[..., str]]:
    """Mirror a record over the wire; the tries share a token."""
    with workspace.connect() as arm:
        yield partial(told, arm, workspace)


@pytest.fixture
def fake() -> Mlflow:
    """A tracking of this process's own."""
    return Mlflow()


@pytest.fixture
def tell(fake: Mlflow) -> Callable[..., str]:
    """Mirror a record to the tracking of this process's own."""
    identity = Identity.of("azure_default", "", "", {})
    endpoint = WorkspaceEndpoint(identity=identity, subscription="s", resource_group="g", workspace="w")
    return partial(told, Direct(fake), endpoint)


def test_a_training_is_a_run_with_its_dataset_code_compute_figures_and_state(
    azure: Any, mlflow: Any, wired: Any
) -> None:
    """All that the record says is there, under the training's own id."""
    memory = Remembered()
    run_id = wired(RECORD, memory)
    assert (memory.run_id, mlflow.active) == (run_id, [run_id])
    run = mlflow.runs[run_id]
    assert mlflow.experiments == {"wind_power": run["experiment"]}
    assert (run["status"], run["params"]) == ("FINISHED", {"depth": "3"})
    assert (run["start_time"], run["end_time"]) == (1_699_999_940_000, 1_700_000_000_000)
    assert run["tags"] == {
        "mlflow.runName": RECORD.name, "edgeloop_training": RECORD.training, "edgeloop_state": "FINISHED",
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


def test_mirroring_the_same_again_writes_nothing(fake: Any, tell: Any) -> None:
    """One look, and the run says it already."""
    memory = Remembered()
    first = tell(RECORD, memory)
    fake.asked.clear()
    assert tell(RECORD, memory) == first
    assert fake.asked == ["runs/get"]


@pytest.mark.parametrize("memory", [Remembered, NoMemory])
def test_a_mirror_that_dies_before_any_of_its_requests_is_finished_by_the_next_try(
    fake: Any, tell: Any, memory: Any
) -> None:
    """Wherever it is killed there is one run in the end, and it says everything."""
    tell(RECORD, memory())
    steps, whole = len(fake.asked), fake.runs["run-0"]
    for dies in range(steps):
        fake.runs.clear()
        fake.experiments.clear()
        kept, count = memory(), iter(range(steps))

        def kill(_: str, dies: int = dies, count: Any = count) -> None:
            if next(count, None) == dies:
                raise Died

        fake.before = kill
        with pytest.raises(Died):
            tell(RECORD, kept)
        fake.before = None
        tell(RECORD, kept)
        assert [fake.runs[one] for one in fake.active] == [whole]


@pytest.mark.parametrize("late", [False, True])
def test_two_mirrors_at_once_end_with_one_run(
    fake: Any, tell: Any, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second runs as a whole between the first one's search and its creation, whether or not a search sees it."""
    memory = Remembered()
    if late:
        monkeypatch.setattr(Mlflow, "_runs_search", lambda *_: (200, {}))

    def other(what: str) -> None:
        if what == "runs/create":
            fake.before = None
            tell(RECORD, memory)

    fake.before = other
    kept = tell(RECORD, memory)
    assert fake.active == [kept] == [memory.run_id]
    assert len(fake.runs) == 2


def test_a_training_that_runs_says_what_it_is(fake: Any, tell: Any) -> None:
    """A new run of MLflow is running before anybody said so; once it was told, nothing more is sent."""
    running = replace(RECORD, state=State.RUNNING, metrics=())
    memory = Remembered()
    run = fake.runs[tell(running, memory)]
    assert (run["status"], run["params"], run["tags"]["edgeloop_dataset"]) == ("RUNNING", {"depth": "3"}, "d1")
    fake.asked.clear()
    tell(running, memory)
    assert fake.asked == ["runs/get"]


def test_a_training_is_running_then_failed_then_finished(fake: Any, tell: Any) -> None:
    """One run follows the tries of one training; figures come with the last."""
    memory = Remembered()
    states = []
    for state in (State.RUNNING, State.FAILED, State.RUNNING, State.FINISHED, State.RUNNING):
        metrics = RECORD.metrics if state is State.FINISHED else ()
        run_id = tell(replace(RECORD, state=state, metrics=metrics), memory)
        states.append(fake.runs[run_id]["status"])
    # What is finished stays so: a late word about its start changes nothing.
    assert states == ["RUNNING", "FAILED", "RUNNING", "FINISHED", "FINISHED"]
    assert fake.active == [run_id]


def test_a_run_that_somebody_deleted_is_made_anew(fake: Any, tell: Any) -> None:
    """What was decided in the store cannot be taken back, and traps nobody."""
    memory = Remembered()
    first = tell(RECORD, memory)
    fake.runs[first]["stage"] = "deleted"
    second = tell(RECORD, memory)
    assert second != first
    assert fake.active == [second]
    assert tell(RECORD, memory) == second


@pytest.mark.parametrize("memory", [Remembered, NoMemory])
def test_runs_that_were_made_once_too_often_are_removed(fake: Any, tell: Any, memory: Any) -> None:
    """A creation whose answer was lost is asked again; of three runs on three pages the earliest stays."""
    fake.answer("experiments/create", {"name": "wind_power"})
    tags = [{"key": "edgeloop_training", "value": RECORD.training}]
    for start in (3, 1, 2):
        fake.answer("runs/create", {"experiment_id": "e0", "start_time": start, "tags": tags})
    assert tell(RECORD, memory()) == "run-1"
    assert fake.active == ["run-1"]


def test_many_parameters_and_figures_travel_in_the_sizes_that_the_service_takes(fake: Any, tell: Any) -> None:
    """250 parameters and 2500 figures are six requests."""
    record = replace(
        RECORD,
        parameters=tuple((f"p{n}", "1") for n in range(250)),
        metrics=tuple((f"m{n}", 1.0) for n in range(2500)),
    )
    run = fake.runs[tell(record, Remembered())]
    assert (len(run["params"]), len(run["metrics"])) == (250, 2500)
    assert fake.asked.count("runs/log-batch") == 3 + 3 + 1


def test_a_tracking_address_outside_the_cloud_gets_no_token(
    azure: Any, wired: Any, workspace: WorkspaceEndpoint
) -> None:
    """The address comes from an answer; nothing is sent to a host that is not the cloud's."""
    where = f"azureml://evil.example/mlflow/v1.0{workspace.id}"
    body = {"id": workspace.id, "location": "westeurope", "properties": {"mlFlowTrackingUri": where}}
    azure.faults({"match": "GET .*/workspaces/edge-ws$", "status": 200, "times": 1, "body": body})
    with pytest.raises(ConfigurationError, match=r"not below api\.azureml\.ms"):
        wired(RECORD, Remembered())
    assert azure.log(part="/mlflow/") == []


def test_an_answer_that_is_not_mlflows_is_told_as_that(azure: Any, wired: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract server itself answers with an empty object, as a proxy might."""
    monkeypatch.setattr(Mlflow, "answer", lambda *_: (200, {}))
    with pytest.raises(CloudError, match="answered without 'experiment'"):
        wired(RECORD, Remembered())


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_tracking_is_asked_again(azure: Any, mlflow: Mlflow, wired: Any, status: int) -> None:
    """Every second request is refused once, and there is one finished run all the same."""
    headers = {"Retry-After": "2"}
    names = ("experiments/create", "runs/create", "runs/log-batch", "runs/update")
    azure.faults(*({"match": name, "status": status, "times": 2, "headers": headers} for name in names))
    run_id = wired(RECORD, Remembered())
    assert (mlflow.active, mlflow.runs[run_id]["status"]) == ([run_id], "FINISHED")
    assert azure.slept.count(2) == 8


def test_the_fake_tracking_keeps_mlflows_rules(fake: Any) -> None:
    """A second experiment of a name and a changed parameter are refused, as MLflow refuses them."""
    assert fake.answer("experiments/create", {"name": "a"}) == (200, {"experiment_id": "e0"})
    assert fake.answer("experiments/create", {"name": "a"})[0] == 400
    assert fake.answer("experiments/get-by-name", {"experiment_name": "b"})[0] == 404
    assert fake.answer("runs/create", {"experiment_id": "e9", "start_time": 1, "tags": []})[0] == 404
    run = fake.answer("runs/create", {"experiment_id": "e0", "start_time": 1, "tags": []})[1]["run"]["info"]["run_id"]
    batch = {"run_id": run, "params": [{"key": "k", "value": "1"}]}
    assert fake.answer("runs/log-batch", batch)[0] == 200
    assert fake.answer("runs/log-batch", batch)[0] == 200
    batch["params"] = [{"key": "k", "value": "2"}]
    assert fake.answer("runs/log-batch", batch)[0] == 400
    assert fake.answer("runs/get", {"run_id": "none"})[0] == 404
