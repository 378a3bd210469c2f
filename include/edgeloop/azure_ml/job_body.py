"""What Azure ML is asked for, as REST bodies of api-version 2024-10-01; the same training gives the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.azure_ml.jobs import TAG_TRAINING
from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline
    from edgeloop.records import TrainingRun

DRIVER = "edgeloop_in_job.py"
FILES, CHAMPION, OUTPUTS, CHECKPOINT = "files", "champion", "outputs", "checkpoint"
ENVIRONMENT = "edgeloop-trainer"
CODE = "edgeloop-code"
VERSION_DIGITS = 32
VARIABLES = {"PYTHONUNBUFFERED": "1", "ORT_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInput:
    """Where a job finds the data: Azure ML's type of the input, its address, and how it is brought."""

    kind: str
    uri: str
    mode: str = "ReadOnlyMount"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """Everything a job's body is made of; ids are ARM ids, ``store`` is the address of the pipeline's own container.

    ``store`` ends without a slash: ``azureml://subscriptions/.../datastores/<name>/paths``.
    """

    run: TrainingRun
    spec: Pipeline
    workspace: str
    code: str
    environment: str
    data: DataInput
    store: str
    asset: str = ""
    """What the workspace calls the dataset; a tag of the job."""
    champion: str = ""
    """Blob of the champion's model in the pipeline's container, "" without one."""
    attempt: int = 1

    @property
    def experiment(self) -> str:
        """Where the studio files the job."""
        named = self.spec.azure_ml.experiment if self.spec.azure_ml else ""
        return named or self.spec.name

    @property
    def compute(self) -> str:
        """The ARM id of the compute it runs on."""
        name = self.spec.azure_ml.compute if self.spec.azure_ml else ""
        return f"{self.workspace}/computes/{name}"


def store_uri(workspace: str, datastore: str) -> str:
    """The address of a datastore's container, as job inputs and outputs name it."""
    _, _, subscription, _, group, _, _, _, name = workspace.split("/")
    return (
        f"azureml://subscriptions/{subscription}/resourcegroups/{group}/workspaces/{name}/datastores/{datastore}/paths"
    )


def outputs_folder(run_id: str, attempt: int) -> str:
    """Where an attempt writes in the pipeline's container: beside what is collected from there, never in its place."""
    return f"training/{run_id}/azure_ml/a{attempt}"


def checkpoint_folder(run_id: str) -> str:
    """Where all attempts at a training keep their checkpoints."""
    return f"training/{run_id}/azure_ml/checkpoint"


def image_of(spec: Pipeline) -> str:
    """The image the job runs in."""
    return (spec.azure_ml.environment if spec.azure_ml else "") or spec.training.image


def environment_path(workspace: str, image: str) -> str:
    """The environment version of an image: named by the reference, because a version may never change its image."""
    return f"{workspace}/environments/{ENVIRONMENT}/versions/{sha256_hex(image.encode())[:VERSION_DIGITS]}"


def environment_body(image: str) -> dict[str, Any]:
    """An environment that is an image and nothing besides."""
    return {"properties": {"image": image, "osType": "Linux", "description": "The trainer image of Edgeloop."}}


def code_path(workspace: str, digest: str) -> str:
    """The code version of a snapshot's files."""
    return f"{workspace}/codes/{CODE}-{digest[:VERSION_DIGITS]}/versions/1"


def code_body(uri: str, digest: str) -> dict[str, Any]:
    """A code version that is a folder of blobs."""
    return {
        "properties": {
            "codeUri": uri,
            "isAnonymous": False,
            "description": "train.py and its siblings, as pinned.",
            "properties": {"edgeloop.sha256": digest},
        }
    }


def command_line(*, champion: bool, script: str = "train.py", trained: bool = False) -> str:
    """What the job runs: the driver, with the places that Azure ML puts in the stead of ``${{...}}``."""
    words = ["python", DRIVER, "--script", script, "--files", "${{inputs.files}}"]
    words += ["--champion", "${{inputs.champion}}"] if champion else []
    words += ["--trained", "${{inputs.trained}}"] if trained else []
    words += ["--outputs", "${{outputs.outputs}}"]
    return " ".join(words if trained else [*words, "--checkpoint", "${{outputs.checkpoint}}"])


def inputs(plan: JobPlan) -> dict[str, Any]:
    """The data as one input, and the champion's model as another if there is one."""
    found: dict[str, Any] = {
        FILES: {"jobInputType": plan.data.kind, "uri": plan.data.uri, "mode": plan.data.mode},
    }
    if plan.champion:
        uri = f"{plan.store}/{plan.champion}"
        found[CHAMPION] = {"jobInputType": "uri_file", "uri": uri, "mode": "ReadOnlyMount"}
    return found


def outputs(plan: JobPlan) -> dict[str, Any]:
    """Two folders in the pipeline's own container: what the job puts out, and its checkpoint."""
    places = {OUTPUTS: outputs_folder(plan.run.id, plan.attempt), CHECKPOINT: checkpoint_folder(plan.run.id)}
    return {
        name: {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": f"{plan.store}/{folder}/"}
        for name, folder in places.items()
    }


def resources(spec: Pipeline) -> dict[str, Any]:
    """What the job may use on the compute; the limits reach Docker there as its own arguments."""
    wanted = spec.training
    words = [f"--cpus={wanted.cpus:g}", f"--memory={wanted.memory_mb}m", f"--memory-swap={wanted.memory_mb}m"]
    if wanted.gpus:
        words.append(f"--gpus={wanted.gpus}")
    return {"instanceCount": 1, "dockerArgs": " ".join(words)}


def limit(minutes: float) -> str:
    """A time limit as ISO 8601: whole seconds, at least one."""
    return f"PT{max(round(minutes * 60), 1)}S"


def limits(spec: Pipeline) -> dict[str, Any]:
    """The job's own time limit, kept by Azure ML even when nobody looks."""
    return {"jobLimitsType": "Command", "timeout": limit(spec.training.timeout_minutes)}


def tags(plan: JobPlan) -> dict[str, str]:
    """What the studio finds a job by, and what says whose it is."""
    run = plan.run
    named = {
        TAG_TRAINING: run.id,
        "edgeloop.pipeline": run.pipeline,
        "edgeloop.dataset": run.dataset,
        "edgeloop.data_asset": plan.asset,
        "edgeloop.code": run.code,
        "edgeloop.config": run.config,
        "edgeloop.champion": run.champion,
        "edgeloop.attempt": str(plan.attempt),
    }
    return {name: value for name, value in named.items() if value}


def about(plan: JobPlan) -> dict[str, Any]:
    """What every kind of job has in common."""
    run = plan.run
    return {
        "displayName": f"{run.pipeline} {run.id[:12]} attempt {plan.attempt}",
        "experimentName": plan.experiment,
        "description": f"Training {run.id[:24]} of dataset {run.dataset[:24]}.",
        "tags": tags(plan),
        "computeId": plan.compute,
        "isArchived": False,
    }


def command_job(plan: JobPlan) -> dict[str, Any]:
    """A job of one command."""
    return {
        "properties": {
            "jobType": "Command",
            **about(plan),
            "codeId": plan.code,
            "command": command_line(champion=bool(plan.champion)),
            "environmentId": plan.environment,
            "environmentVariables": dict(VARIABLES),
            "inputs": inputs(plan),
            "outputs": outputs(plan),
            "limits": limits(plan.spec),
            "resources": resources(plan.spec),
        }
    }
