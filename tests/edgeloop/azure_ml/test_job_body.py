"""What Azure ML is asked for, word by word, and that azure-ai-ml would ask for the same pipeline."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeloop.azure_ml import job_body, pipelines
from edgeloop.azure_ml.job_body import DataInput, JobPlan
from edgeloop.azure_ml.jobs import FoundJob, deadline_of, decide, job_name, parse_job
from edgeloop.problems import parse_spec
from edgeloop.records import TrainingRun

TINY = Path(__file__).parents[2] / "data" / "pipelines" / "tiny_power" / "pipeline.yaml"
WS = (
    "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/edge-rg"
    "/providers/Microsoft.MachineLearningServices/workspaces/edge-ws"
)
STORE = (
    "azureml://subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/edge-rg/workspaces/edge-ws"
    "/datastores/edge_data/paths"
)
SECTION = """
training: {backend: azure_ml, cpus: 2, memory_mb: 4096, gpus: 1, timeout_minutes: 30}
azure_ml:
  subscription: 11111111-1111-1111-1111-111111111111
  resource_group: edge-rg
  workspace: edge-ws
  environment: registry.local/trainer:1
"""


def plan(**changes: Any) -> JobPlan:
    """The plan of a first attempt, changed."""
    spec, problems = parse_spec(TINY.read_text().replace("on_premises", "cloud") + SECTION, "pipeline.yaml")
    assert spec is not None, problems
    run = TrainingRun(
        pipeline="tiny_power", dataset="d" * 64, code="c" * 64, image="i", parameters="{}", config="f" * 64
    )
    given: dict[str, Any] = {
        "run": run,
        "spec": spec,
        "workspace": WS,
        "code": f"{WS}/codes/c/versions/1",
        "environment": f"{WS}/environments/e/versions/1",
        "data": DataInput(kind="uri_folder", uri=f"{STORE}/data/"),
        "store": job_body.store_uri(WS, "edge_data"),
    }
    return JobPlan(**{**given, **changes})


def test_the_body_of_a_job_word_by_word() -> None:
    """Everything that a job says to Azure ML; no time and no secret is in it, so twice is the same bytes."""
    one = plan(champion="models/m.onnx", asset="azureml:tiny_power:1")
    run = one.run.id
    assert job_body.command_job(one) == job_body.command_job(one)
    assert job_body.command_job(one)["properties"] == {
        "jobType": "Command",
        "displayName": f"tiny_power {run[:12]} attempt 1",
        "experimentName": "tiny_power",
        "description": f"Training {run[:24]} of dataset {'d' * 24}.",
        "tags": {
            "edgeloop.training": run,
            "edgeloop.pipeline": "tiny_power",
            "edgeloop.dataset": "d" * 64,
            "edgeloop.data_asset": "azureml:tiny_power:1",
            "edgeloop.code": "c" * 64,
            "edgeloop.config": "f" * 64,
            "edgeloop.attempt": "1",
        },
        "computeId": f"{WS}/computes/edge-vm",
        "isArchived": False,
        "codeId": f"{WS}/codes/c/versions/1",
        "command": "python edgeloop_in_job.py --script train.py --files ${{inputs.files}}"
        " --champion ${{inputs.champion}} --outputs ${{outputs.outputs}} --checkpoint ${{outputs.checkpoint}}",
        "environmentId": f"{WS}/environments/e/versions/1",
        "environmentVariables": {"PYTHONUNBUFFERED": "1", "ORT_DISABLE_TELEMETRY": "1"},
        "inputs": {
            "files": {"jobInputType": "uri_folder", "uri": f"{STORE}/data/", "mode": "ReadOnlyMount"},
            "champion": {"jobInputType": "uri_file", "uri": f"{STORE}/models/m.onnx", "mode": "ReadOnlyMount"},
        },
        "outputs": {
            "outputs": {
                "jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": f"{STORE}/training/{run}/azure_ml/a1/",
            },
            "checkpoint": {
                "jobOutputType": "uri_folder", "mode": "ReadWriteMount",
                "uri": f"{STORE}/training/{run}/azure_ml/checkpoint/",
            },
        },
        "limits": {"jobLimitsType": "Command", "timeout": "PT1800S"},
        "resources": {
            "instanceCount": 1, "dockerArgs": "--cpus=2 --memory=4096m --memory-swap=4096m --gpus=1",
        },
    }  # fmt: skip


def test_names_are_safe_and_tell_attempts_apart() -> None:
    """Of the characters that Microsoft's file allows; the first attempt has the plain name."""
    assert job_name("a" * 64) == f"edgeloop-{'a' * 24}"
    assert job_name("a" * 64, 12) == f"edgeloop-{'a' * 24}-a12"


@pytest.mark.parametrize(
    ("status", "owner", "action"),
    [
        ("Running", "r", "attach"), ("Queued", "r", "attach"), ("Preparing", "r", "attach"), ("Unknown", "r", "attach"),
        ("Completed", "r", "collect"), ("Failed", "r", "resubmit"), ("Canceled", "r", "resubmit"),
        ("CancelRequested", "r", "wait"), ("Paused", "r", "refuse"), ("Dancing", "r", "refuse"),
        ("Completed", "other", "refuse"), ("Running", "", "refuse"), ("absent", "", "submit"),
    ],
)  # fmt: skip
def test_what_is_found_decides(status: str, owner: str, action: str) -> None:
    """Only the training's own job is used, and a word that is not known touches nothing."""
    assert decide(FoundJob(name="n", status=status, owner=owner), "r").action == action


def test_a_job_is_read_with_what_azure_leaves_out() -> None:
    """Times with seven digits, outputs, the studio's address; and a resource that has next to nothing."""
    body = {
        "systemData": {"createdAt": "2026-11-22T08:00:00.1234567Z", "lastModifiedAt": "2026-11-22T09:00:00Z"},
        "properties": {
            "status": "Completed",
            "tags": {"edgeloop.training": "r"},
            "services": {"Studio": {"endpoint": "https://studio"}},
            "outputs": {"default": {"uri": "azureml://x"}, "none": {}},
        },
    }
    found = parse_job("n", 2, body)
    assert (found.seconds, found.studio, found.outputs) == (
        3600.0,
        "https://studio",
        (("default", "azureml://x"), ("none", "")),
    )
    assert deadline_of(found, 30) == int(found.created) + 90 * 60
    assert parse_job("n", 1, {}).status == "Unknown"
    assert parse_job("n", 1, None).status == "absent"


DSL = r"""
import json, sys
from azure.ai.ml import Input, Output, dsl
from azure.ai.ml.entities import CommandComponent

given = json.loads(sys.stdin.read())

def component(spec):
    inputs = {name: Input(**one) for name, one in spec["inputs"].items()}
    outputs = {name: Output(**one) for name, one in spec["outputs"].items()}
    names = {"code": spec["code"].removeprefix("azureml:"), "environment": spec["environment"].removeprefix("azureml:")}
    return CommandComponent(
        name=spec["name"], version="1", command=spec["command"], inputs=inputs, outputs=outputs,
        is_deterministic=spec["is_deterministic"], **names,
    )

train, evaluate = (component(one) for one in given["specs"])

@dsl.pipeline()
def both(files, champion):
    first = train(files=files, champion=champion)
    second = evaluate(files=files, champion=champion, trained=first.outputs.outputs)
    for node in (first, second):
        node.compute = given["compute"]
        node.set_limits(timeout=1800)
        node.set_resources(instance_count=1, docker_args=given["docker"])
        node.environment_variables = {"PYTHONUNBUFFERED": "1", "ORT_DISABLE_TELEMETRY": "1"}
    first.name, second.name = "train", "evaluate"
    return {"outputs": second.outputs.outputs, "trained": first.outputs.outputs, "checkpoint": first.outputs.checkpoint}

job = both(**{
    name: Input(type=one["jobInputType"], path=one["uri"], mode="ro_mount") for name, one in given["inputs"].items()
})
for name, one in given["outputs"].items():
    setattr(job.outputs, name, Output(type="uri_folder", mode="rw_mount", path=one["uri"]))
job.settings.force_rerun = True
job.settings.continue_on_step_failure = False
job.compute = given["compute"]
made = job._to_rest_object().as_dict()["properties"]
specs = [one._to_rest_object().properties.component_spec for one in (train, evaluate)]
print(json.dumps({"job": made, "specs": specs}, default=str))
"""


def test_azure_ai_ml_would_ask_for_the_same_pipeline() -> None:
    """The SDK's own pipeline DSL, given the same two steps, makes the same nodes, inputs, outputs and settings."""
    one = plan(champion="models/m.onnx")
    specs = [pipelines.component_spec(one, step) for step in ("train", "evaluate")]
    components = {
        spec["name"].removeprefix("edgeloop_"): f"{WS}/components/{spec['name']}/versions/1" for spec in specs
    }
    body = pipelines.pipeline_job(one, components)["properties"]
    given = {
        "specs": specs, "compute": one.compute, "docker": job_body.resources(one.spec)["dockerArgs"],
        "inputs": body["inputs"], "outputs": body["outputs"],
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DSL], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    for name in ("inputs", "outputs", "settings", "jobType", "computeId", "isArchived"):
        assert body[name] == theirs["job"][name], name
    for step, node in theirs["job"]["jobs"].items():
        mine = dict(body["jobs"][step])
        # The DSL names a component by its whole text until it is sent; a mode says what the component says anyway.
        mine.pop("componentId")
        node.pop("componentId")
        for output in node["outputs"].values():
            output.pop("mode", None)
        node["limits"]["timeout"] = {"PT30M": "PT1800S"}.get(node["limits"]["timeout"], node["limits"]["timeout"])
        assert mine == node, step
    for spec, theirs_spec in zip(specs, theirs["specs"], strict=True):
        # A node's resources are written into the component it was made of.
        beside = {"version", "_source", "resources"}
        assert spec == {name: value for name, value in theirs_spec.items() if name not in beside}
