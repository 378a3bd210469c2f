"""Train where the pinned configuration says: on the VM over SSH, or as a job that Azure ML runs."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import AirflowFailException

import edgeloop
from edgeloop import registry
from edgeloop.azure_ml import course, job_body
from edgeloop.azure_ml.job_log import last_words
from edgeloop.azure_ml.job_outputs import JobOutputs
from edgeloop.azure_ml.jobs import Action, Jobs, deadline_of, decide, job_name
from edgeloop.errors import EdgeloopError, UnreachableError
from edgeloop.records import Certificate, Dataset, ModelVersion, TrainingRun, canonical_json, sha256_hex
from edgeloop.residency_guard import require_configuration, require_local_logs
from edgeloop.training import session
from edgeloop.training.dataset import require_certified
from edgeloop.training.leaks import leak_check
from edgeloop.training.plan import job_of, plan
from edgeloop_airflow import hooks
from edgeloop_airflow.azure_ml import azure_ml_workspace
from edgeloop_airflow.azure_ml_trigger import DEADLINE, FOLLOWERS, UNREACHABLE, AzureMLTrigger, follower_key
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.origin import origin
from edgeloop_airflow.residency import remote_logs
from edgeloop_airflow.training import TrainOnVMOperator
from edgeloop_airflow.training_dataset import forced_key, pinned_desk

if TYPE_CHECKING:
    from airflow.sdk import Context

    from edgeloop.azure_ml.jobs import FoundJob
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint
    from edgeloop_airflow.hooks import Desk

VM = "vm"
DEFER_SPARE = timedelta(hours=1)


class TrainOperator(TrainOnVMOperator):
    """Trains a dataset, once, where the pipeline's pinned configuration says: ``training.backend``.

    Args:
        job_poll_seconds: How often a job of Azure ML is looked at.
        job_link_seconds: For how long an Azure that does not answer is only a line in the log.

    The other arguments are those of ``TrainOnVMOperator``. Deferrable. Returns the id of the finished training run.
    Which backend it is does not change the shape of the DAG: a batch claimed under one configuration keeps it.
    """

    def __init__(self, *, job_poll_seconds: float = 15.0, job_link_seconds: float = 1800.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_poll_seconds = job_poll_seconds
        self.job_link_seconds = job_link_seconds
        self._asked: tuple[WorkspaceEndpoint, str] | None = None

    @discreet
    def execute(self, context: Context) -> str:
        """Return what is finished, collect what has ended, or start or find the job and defer."""
        desk = pinned_desk(hooks.desk(self.pipeline), self.key, forced_key(self.key, self.force, self.run))
        if desk.snapshot.spec.training.backend == VM:
            done: str = super().execute(context)
            return done
        return self._train(desk, context)

    def _train(self, desk: Desk, context: Context) -> str:
        data = desk.store.get(Dataset, self.dataset)
        require_certified(data, [desk.store.find(Certificate, one) for one in data.certificates])
        spec = desk.snapshot.spec
        require_configuration(spec)
        require_local_logs(spec, remote=remote_logs())
        endpoint = azure_ml_workspace(course.workspace_of(desk.snapshot))
        with endpoint.connect() as arm:
            jobs = Jobs(arm, endpoint.id)
            wanted, champion = self._decided(desk, jobs, data, origin(context).kind)
            self.log.info("Training %s of dataset %s, job %s", wanted.id, data.id, job_name(wanted.id))
            done = desk.store.find(TrainingRun, wanted.id)
            if done is not None:
                self.log.info("It finished before, after %.0f s", done.seconds)
                return done.id
            order = course.Order(snapshot=desk.snapshot, dataset=data, champion=champion, run=wanted, blobs=desk.blobs)
            self._asked = (endpoint, job_name(wanted.id))

            def submit(attempt: int) -> FoundJob:
                self._asked = (endpoint, job_name(wanted.id, attempt))
                return course.submit(jobs, order, attempt)

            found = course.engage(jobs, wanted.id, submit, self.log.info)
        self._asked = (endpoint, found.name)
        return self._go_on(desk, endpoint, found, wanted, context)

    def _decided(self, desk: Desk, jobs: Jobs, data: Dataset, why: str) -> tuple[TrainingRun, ModelVersion | None]:
        """The training against today's champion, or the one that an earlier try of this run began and left there."""
        champion = registry.champion(desk.store)
        image = job_body.image_of(desk.snapshot.spec)
        wanted = plan(desk.snapshot, data, image=image, champion=champion, forced=self._reason(), origin=why)
        mine = sha256_hex(f"{self.key} {self.run}".encode())[:32]
        begun = desk.store.fix("trainings", mine, canonical_json(wanted.to_dict()).decode())
        earlier = TrainingRun.from_dict(json.loads(begun))
        if earlier.id == wanted.id or jobs.look(job_name(earlier.id)).status == "absent":
            return wanted, champion
        self.log.info("An earlier try began training %s, before the champion changed; it goes on", earlier.id)
        return earlier, desk.store.get(ModelVersion, earlier.champion) if earlier.champion else None

    def _reason(self) -> str:
        return f"{self.force} ({self.run})" if self.force else ""

    def _go_on(
        self, desk: Desk, endpoint: WorkspaceEndpoint, found: FoundJob, run: TrainingRun, context: Context
    ) -> str:
        """Collect what completed, tell what failed, wait for what goes on."""
        action = decide(found, run.id).action
        if action is Action.COLLECT:
            return self._collect(desk, found, run).id
        if action in {Action.ATTACH, Action.WAIT}:
            self._park(desk, endpoint, found, run, context)
        raise course.failure(found, last_words(endpoint, found.name))

    def _collect(self, desk: Desk, found: FoundJob, run: TrainingRun) -> TrainingRun:
        spare = (f"{job_body.outputs_folder(run.id, found.attempt)}-trained", job_body.checkpoint_folder(run.id))
        written = JobOutputs(desk.blobs, job_body.outputs_folder(run.id, found.attempt), spare=spare)
        stored = session.harvest(
            written,  # type: ignore[arg-type]  # it has what a VM's outputs are collected by
            job_of(run, desk.snapshot.spec, now=time.time()),
            run,
            found=found,  # type: ignore[arg-type]  # its seconds are all that is asked
            blobs=desk.blobs,
            store=desk.store,
            say=self.log.info,
            check=leak_check(desk.snapshot.spec, desk.store.get(Dataset, run.dataset), desk.blobs, self.log.info),
        )
        self.log.info("Collected %s", ", ".join(f"{one.path} ({one.size} bytes)" for one in stored.outputs))
        return stored

    def _park(
        self, desk: Desk, endpoint: WorkspaceEndpoint, found: FoundJob, run: TrainingRun, context: Context
    ) -> NoReturn:
        ti = context["ti"]
        spec = desk.snapshot.spec
        deadline = deadline_of(found, spec.training.timeout_minutes)
        left = max(deadline - time.time(), 0.0)
        desk.store.fix(f"{FOLLOWERS}/{found.name}", follower_key(ti.dag_id, ti.run_id, ti.try_number), "")
        self.log.info("Azure ML has the job (%s); %.0f s until its deadline", found.studio or found.name, left)
        self.defer(
            trigger=AzureMLTrigger(
                pipeline=self.pipeline,
                connection=endpoint.identity.connection,
                subscription=endpoint.subscription,
                resource_group=endpoint.resource_group,
                workspace=endpoint.workspace,
                job=found.name,
                deadline=deadline,
                attempt=ti.try_number,
                poll_seconds=self.job_poll_seconds,
                link_seconds=self.job_link_seconds,
                version=edgeloop.__version__,
            ),
            method_name="job_complete",
            kwargs={"wanted": canonical_json(run.to_dict()).decode(), "attempt": found.attempt},
            # Only a backstop: it calls neither the completion method nor on_kill (tried on 3.3.2).
            timeout=timedelta(seconds=left) + DEFER_SPARE,
        )
        raise AssertionError("unreachable: defer always raises")

    @discreet
    def job_complete(self, context: Context, event: dict[str, Any], wanted: str, attempt: int) -> str:
        """Look at the job again, whatever the event says, and collect, fail with the last lines, or wait on."""
        run = TrainingRun.from_dict(json.loads(wanted))
        desk = hooks.desk(self.pipeline).at(run.config)
        name = job_name(run.id, attempt)
        if event["ending"] == UNREACHABLE:
            raise UnreachableError(
                f"Azure did not say what became of job {name} for {self.job_link_seconds:g} s.",
                left=f"job {name}, which goes on in the workspace",
                next="Check the network from the triggerer to Azure. The next try attaches to the job or collects it.",
            )
        done = desk.store.find(TrainingRun, run.id)
        if done is not None:
            return done.id
        endpoint = azure_ml_workspace(course.workspace_of(desk.snapshot))
        self._asked = (endpoint, name)
        with endpoint.connect() as arm:
            jobs = Jobs(arm, endpoint.id)
            found = jobs.look(name, attempt)
            if event["ending"] == DEADLINE and not found.ended:
                self._end_late(jobs, endpoint, found, desk.snapshot.spec.training.timeout_minutes)
        return self._go_on(desk, endpoint, found, run, context)

    def _end_late(self, jobs: Jobs, endpoint: WorkspaceEndpoint, found: FoundJob, minutes: float) -> NoReturn:
        jobs.cancel(found.name)
        status = jobs.wait_gone(found.name)
        failure = course.failure(dataclasses.replace(found, status=status), last_words(endpoint, found.name))
        # No retry: the same job would take as long again.
        raise AirflowFailException(
            f"{failure.what}\nIt was cancelled: training.timeout_minutes is {minutes:g}, and an hour for the queue was "
            "over too.\nNext: raise it in pipeline.yaml, or let train.py do less, then clear the run."
        )

    def on_kill(self) -> None:
        """Marked failed or cleared while on the worker: end the work; while deferred it is the trigger that does."""
        if self._asked is None:
            super().on_kill()
            return
        endpoint, name = self._asked
        try:
            with endpoint.connect() as arm:
                Jobs(arm, endpoint.id).cancel(name)
            self.log.info("Asked Azure ML to cancel job %s: the task was killed on its worker", name)
        except EdgeloopError as error:
            self.log.warning("Job %s may still run: %s", name, error)
