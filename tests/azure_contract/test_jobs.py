"""Jobs of Azure ML on the contract server: one per training, whoever asks, and told by their own last words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.azure_ml import course, job_body, pipelines
from edgeloop.azure_ml.job_code import digest_of, ensure_code, ensure_environment
from edgeloop.azure_ml.job_log import last_words
from edgeloop.azure_ml.jobs import Action, Jobs, decide, job_name
from edgeloop.catalog import Snapshot
from edgeloop.errors import CloudError, ConfigurationError, ConflictError, TrainingInterruptedError, UnreachableError
from edgeloop.problems import parse_spec
from edgeloop.records import FileRef, TrainingRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

TINY = Path(__file__).parents[1] / "data" / "pipelines" / "tiny_power" / "pipeline.yaml"
SECTION = """
training:
  backend: azure_ml
  cpus: 2
  timeout_minutes: 30
azure_ml:
  subscription: 11111111-1111-1111-1111-111111111111
  resource_group: edge-rg
  workspace: edge-ws
  datastore: edge_data
  environment: registry.local/trainer:1
"""
FILES = {"train.py": b"print('hello')\n", "more/util.py": b"x = 1\n"}


def snapshot(backend: str = "azure_ml", *extra: str) -> Snapshot:
    """The tiny pipeline, trained by Azure ML."""
    text = TINY.read_text(encoding="utf-8").replace("residency: on_premises", "residency: cloud")
    text += SECTION.replace("backend: azure_ml", f"backend: {backend}")
    spec, problems = parse_spec(text, "pipeline.yaml")
    assert spec is not None, problems
    return Snapshot(spec=spec, files=(("pipeline.yaml", text), ("train.py", "print(1)"), *((one, "") for one in extra)))


def training(champion: str = "") -> TrainingRun:
    """A training that nobody did."""
    return TrainingRun(
        pipeline="tiny_power", dataset="d" * 64, code="c" * 64, image="i", parameters="{}", champion=champion
    )


PLACE = {
    "match": "POST .*/startPendingUpload",
    "status": 200,
    "times": 99,
    "body": {
        "blobReferenceForConsumption": {
            "blobUri": "https://edgemlstore.blob.core.windows.net/code1",
            "credential": {
                "credentialType": "SAS",
                "sasUri": "https://edgemlstore.blob.core.windows.net/code1?sv=2022-11-02&sr=c&sp=racwl&sig=fake",
            },
        }
    },
}
"""The contract server leaves the SAS out of its answer: Microsoft's file marks it as a secret. Azure gives it."""


def trouble(azure: Any, *faults: dict[str, Any]) -> None:
    """Answer these requests with something else, and no others but the one whose answer lacks its SAS."""
    azure.faults(PLACE, *faults)


@pytest.fixture
def arm(azure: Any, workspace: WorkspaceEndpoint) -> Iterator[ArmClient]:
    """A client, and a place to upload code to."""
    azure.seed(blobs={"edgemlstore/code1/.keep": ""})
    trouble(azure)
    with workspace.connect() as client:
        yield client


@pytest.fixture
def jobs(arm: ArmClient, workspace: WorkspaceEndpoint) -> Jobs:
    """The workspace's jobs."""
    return Jobs(arm, workspace.id)


def plan(jobs: Jobs, *, backend: str = "azure_ml", attempt: int = 1, champion: str = "") -> job_body.JobPlan:
    """A plan with code and environment in the workspace."""
    spec = snapshot(backend).spec
    store = job_body.store_uri(jobs.workspace, "edge_data")
    return job_body.JobPlan(
        run=training(),
        spec=spec,
        workspace=jobs.workspace,
        code=ensure_code(jobs.arm, jobs.workspace, FILES),
        environment=ensure_environment(jobs.arm, jobs.workspace, job_body.image_of(spec)),
        data=job_body.DataInput(kind="uri_folder", uri=f"{store}/data/"),
        store=store,
        champion=champion,
        attempt=attempt,
    )


def ask(jobs: Jobs, attempt: int = 1) -> Any:
    """Ask for the job of an attempt."""
    one = plan(jobs, attempt=attempt)
    return jobs.submit(job_name(one.run.id, attempt), job_body.command_job(one), attempt)


def engage(jobs: Jobs, said: list[str] | None = None) -> Any:
    """What a try of the task does first."""
    return course.engage(jobs, training().id, lambda attempt: ask(jobs, attempt), (said or []).append)


def test_a_training_is_one_job_whoever_asks(azure: Any, jobs: Jobs) -> None:
    """The name comes from the training's id; a second try, and a second asker, find it and send nothing."""
    said: list[str] = []
    first = engage(jobs, said)
    assert (first.name, first.owner) == (job_name(training().id), training().id)
    assert engage(jobs).name == first.name
    assert ask(jobs).name == first.name
    assert len(azure.log("PUT", "/jobs/")) == 1
    put = azure.log("PUT", "/jobs/")[0]
    assert (put["api_version"], put["exact"], put["request_valid"]) == ("2024-10-01", True, True)
    properties = put["request_body"]["properties"]
    assert properties["limits"] == {"jobLimitsType": "Command", "timeout": "PT1800S"}
    assert properties["computeId"].endswith("/computes/edge-vm")


def test_two_that_ask_at_once_get_one_job(azure: Any, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure refuses the second PUT with 400 or 409; the second asker takes the job that is there."""
    made = ask(jobs)
    for status, code in ((409, "Conflict"), (400, "UserError: A job with this name already exists.")):
        real, once = jobs.look, []

        def blind(name: str, attempt: int = 1, real: Any = real, once: list[int] = once) -> Any:
            once.append(1)
            return real(f"{name}-nobody" if len(once) == 1 else name, attempt)

        trouble(azure, {"match": "PUT .*/jobs/", "status": status, "body": {"error": {"code": code, "message": code}}})
        monkeypatch.setattr(jobs, "look", blind)
        assert ask(jobs).name == made.name
        monkeypatch.setattr(jobs, "look", real)


def test_a_refused_body_is_no_job_that_is_there(azure: Any, jobs: Jobs) -> None:
    """A 400 that says something else is an error with Azure's words."""
    trouble(
        azure,
        {"match": "PUT .*/jobs/", "status": 400, "body": {"error": {"code": "UserError", "message": "bad mount"}}},
    )
    with pytest.raises(CloudError, match="bad mount"):
        ask(jobs)


def test_a_job_that_failed_keeps_its_name_and_the_next_try_asks_again(azure: Any, jobs: Jobs) -> None:
    """Attempt 2 has a name, an outputs folder and a tag of its own, and the same checkpoint."""
    engage(jobs)
    azure.config(job_states=["Failed"])
    found = engage(jobs)
    assert (found.name, found.attempt) == (job_name(training().id, 2), 2)
    assert found.name.endswith("-a2")
    one, two = (put["request_body"]["properties"] for put in azure.log("PUT", "/jobs/"))
    assert one["outputs"]["checkpoint"] == two["outputs"]["checkpoint"]
    assert one["outputs"]["outputs"]["uri"].endswith("/azure_ml/a1/")
    assert two["outputs"]["outputs"]["uri"].endswith("/azure_ml/a2/")
    assert two["tags"]["edgeloop.attempt"] == "2"


def test_a_try_asks_once_even_if_the_job_fails_at_once(azure: Any, jobs: Jobs) -> None:
    """A job that fails as soon as it is looked at is told, not asked for again by the same try."""
    azure.config(job_states=["Failed"])
    assert engage(jobs).status == "Failed"
    assert len(azure.log("PUT", "/jobs/")) == 1


def test_a_cancelled_job_is_told_apart_from_a_failed_one(azure: Any, jobs: Jobs) -> None:
    """Cancelling twice, or what has ended, is no error; the failure is one that the next try goes on from."""
    name = engage(jobs).name
    jobs.cancel(name)
    jobs.cancel(name)
    jobs.cancel("nobody")
    assert jobs.wait_gone(name) == "Canceled"
    assert len(azure.log("POST", "/cancel")) == 1
    found = jobs.newest(training().id)
    assert decide(found, training().id).action is Action.RESUBMIT
    assert isinstance(course.failure(found, last_words_of()), TrainingInterruptedError)


def last_words_of() -> Any:
    """Nothing known."""
    from edgeloop.azure_ml.job_log import LastWords

    return LastWords()


def test_a_job_of_somebody_else_is_not_touched(azure: Any, jobs: Jobs) -> None:
    """The tag says whose it is; without ours it is refused and left."""
    engage(jobs)
    path = f"{jobs.workspace}/jobs/{job_name(training().id)}"
    azure.seed(arm={path: {"properties": {"jobType": "Command", "status": "Running", "tags": {}}}})
    with pytest.raises(ConflictError, match="belongs to nobody known"):
        engage(jobs)
    assert len(azure.log("PUT", "/jobs/")) == 1


def test_a_cancel_under_way_is_waited_for(azure: Any, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """CancelRequested is neither attached to nor asked for again until it has ended."""
    engage(jobs)
    azure.config(job_states=["CancelRequested", "CancelRequested", "Canceled"])
    monkeypatch.setattr("edgeloop.azure_ml.jobs.LOOK_SECONDS", 0.01)
    azure.seed(arm={f"{jobs.workspace}/jobs/x": {}})
    path = f"{jobs.workspace}/jobs/{job_name(training().id)}"
    tags = {"edgeloop.training": training().id}
    azure.seed(arm={path: {"properties": {"jobType": "Command", "status": "CancelRequested", "tags": tags}}})
    assert engage(jobs).attempt == 2
    azure.config(job_states=["CancelRequested"] * 9)
    with pytest.raises(UnreachableError, match="is CancelRequested still"):
        jobs.wait_gone(job_name(training().id, 2), timeout=0, sleep=lambda _: None)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_azure_is_asked_again_and_the_job_is_one(azure: Any, jobs: Jobs, status: int) -> None:
    """429 and 503 with Retry-After on the PUT, and on the GET before it, are borne."""
    fault = {"status": status, "times": 2, "headers": {"Retry-After": "0"}}
    trouble(azure, {**fault, "match": "PUT .*/jobs/"}, {**fault, "match": "GET .*/jobs/"})
    assert engage(jobs).name == job_name(training().id)
    assert [one["status"] for one in azure.log("PUT", "/jobs/")] == [status, status, 201]


def test_a_wrong_secret_names_the_connection(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """Entra ID's refusal comes with the field to correct, before anything is submitted."""
    from dataclasses import replace

    bad = replace(workspace, identity=replace(workspace.identity, secret="wrong"))
    with bad.connect() as client, pytest.raises(ConfigurationError, match="'azure_default'"):
        engage(Jobs(client, bad.id))
    assert azure.log("PUT") == []


def test_code_is_uploaded_once_and_whole(azure: Any, arm: ArmClient, workspace: WorkspaceEndpoint) -> None:
    """The version is written after its files, named by their digest; the second time nothing is sent."""
    path = ensure_code(arm, workspace.id, FILES)
    assert digest_of(FILES)[:32] in path
    blobs = sorted(name.split("/", 2)[2] for name in azure.control("state")["blobs"] if "code1" in name)
    assert blobs == [".keep", "more/util.py", "train.py"]
    puts = [one["path"] for one in azure.log("PUT")]
    assert puts[-1].casefold() == path.casefold()
    assert ensure_code(arm, workspace.id, FILES) == path
    assert [one["path"] for one in azure.log("PUT")] == puts
    assert "sig=" not in json.dumps([one["request_body"] for one in azure.log("PUT", "/codes/")])


def test_an_upload_that_died_is_done_again(azure: Any, arm: ArmClient, workspace: WorkspaceEndpoint) -> None:
    """Blobs without a version name nothing; the next try uploads anew and writes the version."""
    trouble(azure, {"match": "PUT .*/codes/", "status": 400})
    with pytest.raises(CloudError):
        ensure_code(arm, workspace.id, FILES)
    trouble(azure)
    assert azure.resource(ensure_code(arm, workspace.id, FILES))["properties"]["codeUri"].startswith("https://")


def test_a_workspace_without_a_place_for_code_says_so(azure: Any, arm: ArmClient, workspace: WorkspaceEndpoint) -> None:
    """The request for a place is valid; an answer without one is told with where to look."""
    azure.faults()
    with pytest.raises(CloudError, match="no place to upload"):
        ensure_code(arm, workspace.id, FILES)
    assert azure.log("POST", "startPendingUpload")[0]["exact"] is True


def test_storage_that_refuses_says_so_without_its_sas(azure: Any, arm: ArmClient, workspace: WorkspaceEndpoint) -> None:
    """The address that opens the storage stands in no message."""
    trouble(azure, {"match": "PUT edgemlstore", "status": 403, "times": 9, "body": {}})
    with pytest.raises(CloudError) as caught:
        ensure_code(arm, workspace.id, FILES)
    assert "edgemlstore.blob.core.windows.net" in str(caught.value)
    assert "sig" not in str(caught.value)


def test_an_image_is_one_environment(azure: Any, arm: ArmClient, workspace: WorkspaceEndpoint) -> None:
    """The same reference is the same version, found the second time; another is another, as versions never change."""
    one = ensure_environment(arm, workspace.id, "trainer:1")
    assert ensure_environment(arm, workspace.id, "trainer:1") == one
    assert ensure_environment(arm, workspace.id, "trainer:2") != one
    assert len(azure.log("PUT", "/environments/")) == 2


@pytest.mark.parametrize("what", ["discovery", "API"])
def test_a_run_history_outside_the_cloud_gets_no_token(azure: Any, workspace: WorkspaceEndpoint, what: str) -> None:
    """Both addresses come from answers; nothing is sent to a host that is not the cloud's."""
    evil = "https://evil.example/discovery"
    described = {"id": workspace.id, "location": "westeurope", "properties": {"discoveryUrl": evil}}
    azure.faults(
        {"match": "GET .*/workspaces/edge-ws$", "status": 200, "times": 1, "body": described}
        if what == "discovery"
        else {"match": "GET .*/discovery", "status": 200, "times": 1, "body": {"api": "https://evil.example"}}
    )
    assert f"{what} is at evil.example, not below api.azureml.ms" in last_words(workspace, "job").missing
    assert not [one for one in azure.log() if "evil" in one["host"]]


def test_the_last_words_of_a_failed_job(azure: Any, jobs: Jobs, workspace: WorkspaceEndpoint) -> None:
    """Run history gives the error and the end of the log; of a long one only the last lines are fetched."""
    lines = [f"epoch {n}" for n in range(20_000)]
    azure.config(job_logs="\n".join(lines), job_states=["Failed"])
    found = engage(jobs)
    words = last_words(workspace, found.name)
    assert words.error == "UserError: script failed"
    assert words.lines == tuple(lines[-40:])
    told = str(course.failure(found, words))
    assert told.startswith("The training's last lines:\n  epoch 19960\n")
    assert "is Failed: UserError: script failed" in told
    assert "attempt 2" in told


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"match": "GET .*/discovery", "status": 404}, "run history does not say"),
        ({"match": "GET .*/details", "status": 200, "body": {"logFiles": {}}}, "the job has written no log"),
        ({"match": "HEAD .*std_log", "status": 403}, "its log cannot be read"),
    ],
)
def test_a_log_that_cannot_be_had_hides_no_failure(
    azure: Any, jobs: Jobs, workspace: WorkspaceEndpoint, fault: dict[str, Any], why: str
) -> None:
    """The job's end is told in any case, and why its lines are not there."""
    azure.config(job_states=["Failed"])
    found = engage(jobs)
    trouble(azure, {"times": 9, "body": {}, **fault})
    words = last_words(workspace, found.name)
    assert why in words.missing
    assert why in str(course.failure(found, words))


def test_the_last_words_of_a_pipeline_job_are_those_of_the_step_that_failed(
    azure: Any, jobs: Jobs, workspace: WorkspaceEndpoint
) -> None:
    """The job itself writes no log; its steps are asked for, and the failed one is told."""
    azure.config(job_states=["Failed"], job_logs="the step's own words\n")
    name = engage(jobs).name
    steps = [{"runId": name, "status": "Failed"}, {"runId": "other", "status": "Completed"}]
    empty = {"logFiles": {"logs/azureml/executionlogs.txt": "https://nobody.invalid/x"}}
    trouble(
        azure,
        {"match": "GET .*/details", "status": 200, "body": empty},
        {"match": "GET .*/children", "status": 200, "body": {"value": steps}},
    )
    assert last_words(workspace, name).lines == ("the step's own words",)


def test_a_pipeline_job_is_two_steps(azure: Any, jobs: Jobs) -> None:
    """Components are made once, named by what they consist of; the job is valid and has the same outputs."""
    one = plan(jobs, backend="azure_ml_pipeline")
    for _ in range(2):
        components = pipelines.ensure_components(jobs.arm, one, evaluates=True)
        body = pipelines.pipeline_job(one, components)
        found = jobs.submit(job_name(one.run.id), body)
    assert len(azure.log("PUT", "/components/")) == 2
    assert len(azure.log("PUT", "/jobs/")) == 1
    assert {"checkpoint", "outputs", "trained"} <= {name for name, _ in found.outputs}
    command = job_body.command_job(plan(jobs))["properties"]["outputs"]
    assert body["properties"]["outputs"]["outputs"] == command["outputs"]
    assert engage(jobs).name == found.name


def test_a_file_ref_reaches_the_job_by_name_size_and_digest(azure: Any) -> None:
    """What the driver compares is in the uploaded files; no row of the data is."""
    from edgeloop.azure_ml.job_code import files_of
    from edgeloop.records import Dataset

    data = Dataset(
        pipeline="tiny_power", files=(FileRef(path="data/b/one.parquet", size=3, sha256="a" * 64),), certificates=(),
        window_start="2014-01-01T00:00:00Z", window_end="2014-02-01T00:00:00Z", holdout_start="2014-01-20T00:00:00Z",
    )  # fmt: skip
    files = files_of(snapshot(), data, None)
    assert json.loads(files["edgeloop_files.json"]) == {
        "files": [{"name": "0000-one.parquet", "path": "data/b/one.parquet", "sha256": "a" * 64, "size": 3}]
    }
    assert {"dataset.json", "edgeloop_in_job.py", "train.py", "pipeline.yaml"} <= set(files)
