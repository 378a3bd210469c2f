"""A training as an Azure ML pipeline job: a step that trains and, if the pipeline brings evaluate.py, one that judges.

The steps are components, whose versions are named by what they consist of. The body is what azure-ai-ml's own pipeline
DSL makes of the same two steps (a test compares them); it is written by hand because that import costs 4 to 6 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeloop.azure_ml import job_body
from edgeloop.azure_ml.job_body import CHAMPION, CHECKPOINT, FILES, OUTPUTS, JobPlan
from edgeloop.azure_ml.jobs import API_VERSION
from edgeloop.errors import ConflictError
from edgeloop.records import canonical_json, sha256_hex

if TYPE_CHECKING:
    from edgeloop.azure_ml.arm import ArmClient

TRAIN, EVALUATE = "train", "evaluate"
TRAINED = "trained"
EVALUATE_SCRIPT = "evaluate.py"
COMPONENT_DIGITS = 32


def steps(*, evaluates: bool) -> tuple[str, ...]:
    """The names of the steps, in their order."""
    return (TRAIN, EVALUATE) if evaluates else (TRAIN,)


def component_name(step: str) -> str:
    """What a step's component is called in the workspace."""
    return f"edgeloop_{step}"


def component_spec(plan: JobPlan, step: str) -> dict[str, Any]:
    """A step as a component: what it runs in, with what it begins, and what it puts out; no time, no attempt."""
    judges, champion = step == EVALUATE, bool(plan.champion)
    script = EVALUATE_SCRIPT if judges else "train.py"
    inputs: dict[str, Any] = {FILES: {"type": plan.data.kind, "mode": MODES[plan.data.mode]}}
    if champion:
        inputs[CHAMPION] = {"type": "uri_file", "mode": "ro_mount"}
    if judges:
        inputs[TRAINED] = {"type": "uri_folder", "mode": "ro_mount"}
    folders = (OUTPUTS,) if judges else (OUTPUTS, CHECKPOINT)
    return {
        "type": "command",
        "name": component_name(step),
        "command": job_body.command_line(champion=champion, script=script, trained=judges),
        "code": f"azureml:{plan.code}",
        "environment": f"azureml:{plan.environment}",
        "is_deterministic": False,
        "inputs": inputs,
        "outputs": {name: {"type": "uri_folder", "mode": "rw_mount"} for name in folders},
    }


MODES = {"ReadOnlyMount": "ro_mount", "EvalMount": "eval_mount", "Download": "download"}
"""The same way to bring data, as job bodies and as components call it."""


def component_path(workspace: str, spec: dict[str, Any]) -> str:
    """Where ARM has a component's version, named by what it consists of: a version never changes."""
    version = sha256_hex(canonical_json(spec))[:COMPONENT_DIGITS]
    return f"{workspace}/components/{spec['name']}/versions/{version}"


def component_body(spec: dict[str, Any], path: str) -> dict[str, Any]:
    """A component version."""
    return {"properties": {"componentSpec": {**spec, "version": path.rpartition("/")[2]}, "isAnonymous": False}}


def ensure_components(arm: ArmClient, plan: JobPlan, *, evaluates: bool) -> dict[str, str]:
    """See to it that the workspace has a component for each step; returns their ARM ids by step."""
    ids: dict[str, str] = {}
    for step in steps(evaluates=evaluates):
        spec = component_spec(plan, step)
        path = ids[step] = component_path(plan.workspace, spec)
        if arm.find(path, API_VERSION) is not None:
            continue
        try:
            arm.put(path, API_VERSION, component_body(spec, path))
        except ConflictError:
            # Another run made the same one at the same time.
            if arm.find(path, API_VERSION) is None:
                raise
    return ids


def pipeline_job(plan: JobPlan, components: dict[str, str]) -> dict[str, Any]:
    """The body of the job. Its outputs are in the same place as those of a job of one command."""
    places = job_body.outputs(plan)
    if EVALUATE in components:
        folder = f"{plan.store}/{job_body.outputs_folder(plan.run.id, plan.attempt)}-trained/"
        places[TRAINED] = {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": folder}
    return {
        "properties": {
            "jobType": "Pipeline",
            **job_body.about(plan),
            "inputs": job_body.inputs(plan),
            "outputs": places,
            "jobs": {step: _node(plan, step, component, components) for step, component in components.items()},
            # A step that Azure ML takes from an earlier run would put nothing into this attempt's folder.
            "settings": {"force_rerun": True, "continue_on_step_failure": False, "_source": "DSL"},
        }
    }


def _node(plan: JobPlan, step: str, component: str, components: dict[str, str]) -> dict[str, Any]:
    judges = step == EVALUATE
    given = {FILES: "${{parent.inputs.files}}"}
    if plan.champion:
        given[CHAMPION] = "${{parent.inputs.champion}}"
    if judges:
        given[TRAINED] = f"${{{{parent.jobs.{TRAIN}.outputs.{OUTPUTS}}}}}"
    last = judges or EVALUATE not in components
    put_out = {OUTPUTS: f"${{{{parent.outputs.{OUTPUTS if last else TRAINED}}}}}"}
    if not judges:
        put_out[CHECKPOINT] = f"${{{{parent.outputs.{CHECKPOINT}}}}}"
    resources, limits = job_body.resources(plan.spec), job_body.limits(plan.spec)
    return {
        "name": step,
        "type": "command",
        "componentId": component,
        "computeId": plan.compute,
        "inputs": {name: {"job_input_type": "literal", "value": value} for name, value in given.items()},
        "outputs": {name: {"type": "literal", "value": value} for name, value in put_out.items()},
        "resources": {"instance_count": resources["instanceCount"], "docker_args": resources["dockerArgs"]},
        "limits": {"job_limits_type": "Command", "timeout": limits["timeout"]},
        "environment_variables": dict(job_body.VARIABLES),
        "_source": "CLASS",
    }
