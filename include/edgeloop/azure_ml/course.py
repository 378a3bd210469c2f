"""The course of a training in Azure ML: get it going or find it going, and tell how it ended.

Every step may be the last one of a process that dies: the next one looks at the workspace and goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop.azure_ml import job_body, pipelines
from edgeloop.azure_ml.job_body import DataInput, JobPlan
from edgeloop.azure_ml.job_code import ensure_code, ensure_environment, files_of
from edgeloop.azure_ml.jobs import API_VERSION, CANCELED, Action, FoundJob, Jobs, decide, job_name
from edgeloop.errors import ConfigurationError, ConflictError, TrainingFailedError, TrainingInterruptedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.azure_ml.job_log import LastWords
    from edgeloop.catalog import Snapshot
    from edgeloop.pipeline_training import Workspace
    from edgeloop.records import Dataset, ModelVersion, TrainingRun

ROUNDS = 8
BLOB_STORE = "AzureBlob"
DATA_FOLDER = "data"


def engage(
    jobs: Jobs,
    run_id: str,
    submit: Callable[[int], FoundJob],
    say: Callable[[str], None],
    unfit: Callable[[int], bool] = lambda _: False,
) -> FoundJob:
    """See to it that a job of the training runs or has completed, asking for one only when none does.

    Args:
        jobs: The workspace's jobs.
        run_id: The training.
        submit: Asks for the job of an attempt.
        say: Takes one line of the task's log.
        unfit: Whether the outputs of an attempt that completed would not do.

    Returns what was found last: under way, completed, or whatever became of a job that this call asked for: one that
    fails at once is not asked for again by the same try.

    Raises:
        ConflictError: The name belongs to something else, or the job is paused; nothing was touched.
    """
    asked = False
    for _ in range(ROUNDS):
        found = jobs.newest(run_id, unfit)
        decision = decide(found, run_id)
        say(f"{found.name}: {decision.action.value}, {decision.why}")
        if decision.action in {Action.ATTACH, Action.COLLECT} or (asked and decision.action is Action.RESUBMIT):
            return found
        if decision.action is Action.REFUSE:
            raise _refused(found, decision.why)
        if decision.action is Action.WAIT:
            jobs.wait_gone(found.name)
            continue
        submit(found.attempt + (decision.action is Action.RESUBMIT))
        asked = True
    raise _refused(jobs.newest(run_id, unfit), f"it changed {ROUNDS} times while this task looked at it")


def _refused(found: FoundJob, why: str) -> ConflictError:
    return ConflictError(
        f"Job {found.name} cannot be used: {why}.",
        left="the job as it is",
        next=f"Look at it in the studio ({found.studio or found.name}), resume or cancel it, then clear the task.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a job is asked for with.

    Args:
        snapshot: The pinned pipeline.
        dataset: What it trains on.
        champion: The model it is measured against, if there is one.
        run: The training; its id names the job.
        blobs: The pipeline's container, which the workspace's datastore must lead to.
        asset: What the workspace calls the dataset: ``azureml:<name>:<version>``.
    """

    snapshot: Snapshot
    dataset: Dataset
    champion: ModelVersion | None
    run: TrainingRun
    blobs: BlobContainer
    asset: str = ""


def submit(jobs: Jobs, order: Order, attempt: int) -> FoundJob:
    """Ask for the job of an attempt, with everything it needs; each step finds what an earlier try made.

    Raises:
        ConfigurationError: The datastore or the compute is not what it must be; nothing was submitted.
    """
    plan = prepare(jobs, order, attempt)
    spec = order.snapshot.spec
    if spec.training.backend == "azure_ml_pipeline":
        evaluates = any(name == pipelines.EVALUATE_SCRIPT for name, _ in order.snapshot.files)
        components = pipelines.ensure_components(jobs.arm, plan, evaluates=evaluates)
        body = pipelines.pipeline_job(plan, components)
    else:
        body = job_body.command_job(plan)
    return jobs.submit(job_name(order.run.id, attempt), body, attempt)


def prepare(jobs: Jobs, order: Order, attempt: int) -> JobPlan:
    """The plan of a job, its datastore and compute checked, its code and environment in the workspace."""
    spec = order.snapshot.spec
    section = workspace_of(order.snapshot)
    require_datastore(jobs, section, order.blobs)
    require_compute(jobs, section)
    store = job_body.store_uri(jobs.workspace, section.datastore)
    files = files_of(order.snapshot, order.dataset, order.champion)
    return JobPlan(
        run=order.run,
        spec=spec,
        workspace=jobs.workspace,
        code=ensure_code(jobs.arm, jobs.workspace, files),
        environment=ensure_environment(jobs.arm, jobs.workspace, job_body.image_of(spec)),
        # By the datastore and not by the data asset, whose addresses are those of the blobs: a Stack Hub's account
        # takes no identity of Entra ID, and the datastore holds the key to it.
        data=DataInput(kind="uri_folder", uri=f"{store}/{DATA_FOLDER}/"),
        asset=order.asset,
        store=store,
        champion=order.champion.blob if order.champion else "",
        attempt=attempt,
    )


def workspace_of(snapshot: Snapshot) -> Workspace:
    """The section azure_ml; raises ``ConfigurationError`` if a pinned pipeline has none."""
    section = snapshot.spec.azure_ml
    if section is None:
        raise ConfigurationError(
            f"Pipeline {snapshot.spec.name} trains with {snapshot.spec.training.backend} but names no workspace.",
            left="nothing was started",
            next="Add the section azure_ml to pipeline.yaml, then trigger the DAG with a force reason.",
        )
    return section


def require_datastore(jobs: Jobs, section: Workspace, blobs: BlobContainer) -> None:
    """Raise ``ConfigurationError`` unless the datastore is the pipeline's own container: there is one copy of the data.

    An account that is named by an address (Azurite) is compared by account and container alone.
    """
    found = jobs.arm.find(f"{jobs.workspace}/datastores/{section.datastore}", API_VERSION)
    properties: dict[str, Any] = (found or {}).get("properties") or {}
    kind, account = str(properties.get("datastoreType") or ""), str(properties.get("accountName") or "")
    there = f"{account}/{properties.get('containerName') or ''}"
    url = urlsplit(blobs.account.client(blobs.name).url)
    *by_path, container = url.path.strip("/").split("/")
    host = url.hostname or ""
    here = f"{by_path[0] if by_path else host.partition('.')[0]}/{container}"
    leads = f"{account}.blob.{properties.get('endpoint') or ''}"
    if kind == BLOB_STORE and there == here and (by_path or leads == host):
        return
    what = f"leads to {there} ({leads})" if kind == BLOB_STORE else f"is of kind {kind}" if found else "is not there"
    raise ConfigurationError(
        f"Datastore {section.datastore!r} of workspace {section.workspace!r} {what}; the data of the pipeline is in "
        f"{here} ({host}).",
        left="nothing was submitted",
        next=f"Make one that leads there (`az ml datastore create -w {section.workspace} -g {section.resource_group} "
        "--file datastore.yml`, docs/runbooks/azure-ml-jobs.md has one) and name it in azure_ml.datastore.",
    )


def require_compute(jobs: Jobs, section: Workspace) -> None:
    """Raise ``ConfigurationError`` unless the compute is there: a job for one that is not waits for ever."""
    if jobs.arm.find(f"{jobs.workspace}/computes/{section.compute}", API_VERSION) is None:
        raise ConfigurationError(
            f"Workspace {section.workspace!r} has no compute {section.compute!r}.",
            left="nothing was submitted",
            next="Attach it (the VM is attached by the attach_compute task), or name another in azure_ml.compute.",
        )


def failure(found: FoundJob, words: LastWords) -> TrainingFailedError:
    """The error for a job that ended badly: its last lines first, then how it ended.

    It is a ``TrainingInterruptedError`` for one that was cancelled: the next try goes on from the checkpoint.
    """
    kind = TrainingInterruptedError if found.status == CANCELED else TrainingFailedError
    lines = "".join(f"  {line}\n" for line in words.lines) or f"  ({words.missing or 'it wrote nothing'})\n"
    because = f": {words.error}" if words.error else ""
    return kind(
        f"The training's last lines:\n{lines}Job {found.name} is {found.status}{because}.",
        left=f"the job and its whole log in the workspace: {found.studio or found.name}",
        next="Correct the cause; changed code trains anew. A plain clear asks for attempt "
        f"{found.attempt + 1}, which begins with the checkpoint.",
    )
