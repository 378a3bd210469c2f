"""Train where the pinned configuration says: on the VM over SSH, or as a job that Azure ML runs."""

from __future__ import annotations

import dataclasses
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import TaskInstanceState
from airflow.sdk.exceptions import AirflowFailException

import edgeloop
from edgeloop.azure_ml import course
from edgeloop.azure_ml.job_log import last_words
from edgeloop.azure_ml.jobs import LEAVING, Action, Jobs, deadline_of, decide, job_name
from edgeloop.errors import EdgeloopError, UnreachableError
from edgeloop_airflow import hooks
from edgeloop_airflow.azure_ml_order import JobOrder, ensure_compute, workspace_for
from edgeloop_airflow.azure_ml_reap import sign
from edgeloop_airflow.azure_ml_trigger import DEADLINE, FOLLOWERS, UNREACHABLE, AzureMLTrigger, follower_key
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.origin import origin
from edgeloop_airflow.task_state import signature, state_of
from edgeloop_airflow.training import TrainOnVMOperator
from edgeloop_airflow.training_compute import AttachComputeOperator
from edgeloop_airflow.training_dataset import forced_key, pinned_desk

if TYPE_CHECKING:
    from airflow.sdk import Context

    from edgeloop.azure_ml.jobs import FoundJob
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

VM = "vm"
DEFER_SPARE = timedelta(hours=1)


class PrepareComputeOperator(AttachComputeOperator):
    """Makes sure of what trains, by the pipeline's pinned configuration: the VM, or a compute of its workspace.

    The arguments are those of ``AttachComputeOperator``. Returns the VM's connection, or the compute's name.
    """

    @discreet
    def execute(self, context: Context) -> str:
        """Check and record; raises what names the connection, or the field of pipeline.yaml, to correct."""
        desk = pinned_desk(hooks.desk(self.pipeline), self.key, forced_key(self.key, self.force, self.run))
        if desk.snapshot.spec.training.backend == VM:
            return super().execute(context)
        place = workspace_for(desk)
        with place.connect() as arm:
            name = ensure_compute(desk, arm, place, self.log.info)
            course.require_datastore(Jobs(arm, place.id), course.workspace_of(desk.snapshot), desk.blobs)
        self.log.info("Workspace %s trains on its compute %s", place.workspace, name)
        return name


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
            return super().execute(context)
        self._ti = context["ti"]
        order = JobOrder(
            desk=desk,
            dataset=self.dataset,
            key=self.key,
            forced=self._forced(),
            mine=f"{self.key} {self.run}",
            why=origin(context).kind,
            say=self.log.info,
        )
        return self._ask(order, workspace_for(desk))

    def _ask(self, order: JobOrder, place: WorkspaceEndpoint) -> str:
        with place.connect() as arm:
            jobs = Jobs(arm, place.id)
            run = order.decide(jobs)
            self.log.info("Training %s of dataset %s, job %s", run.id, run.dataset, job_name(run.id))
            if done := order.finished():
                self.log.info("It finished before")
                return done

            def submit(attempt: int) -> FoundJob:
                self._asked = (place, job_name(run.id, attempt))
                return order.submit(jobs, place, attempt)

            found = course.engage(jobs, run.id, submit, self.log.info, order.unfit)
        return self._go_on(order, place, found)

    def _go_on(self, order: JobOrder, place: WorkspaceEndpoint, found: FoundJob) -> str:
        """Collect what completed, tell what failed, wait for what goes on."""
        self._asked = (place, found.name)
        action = decide(found, order.wanted.id).action
        if action is Action.COLLECT:
            return order.bring_home(found)
        if action in {Action.ATTACH, Action.WAIT}:
            self._park(order, place, found)
        raise course.failure(found, last_words(place, found.name))

    def _park(self, order: JobOrder, place: WorkspaceEndpoint, found: FoundJob) -> NoReturn:
        ti, spec = self._ti, order.desk.snapshot.spec
        deadline = deadline_of(found, spec.training.timeout_minutes)
        left = max(deadline - time.time(), 0.0)
        sign(order.desk, found.name, signature(ti))
        order.desk.store.fix(f"{FOLLOWERS}/{found.name}", follower_key(ti.dag_id, ti.run_id, ti.try_number), "")
        self.log.info("Azure ML has the job (%s); %.0f s until its deadline", found.studio or found.name, left)
        self.defer(
            trigger=AzureMLTrigger(
                pipeline=self.pipeline,
                connection=place.identity.connection,
                subscription=place.subscription,
                resource_group=place.resource_group,
                workspace=place.workspace,
                job=found.name,
                deadline=deadline,
                attempt=ti.try_number,
                poll_seconds=self.job_poll_seconds,
                link_seconds=self.job_link_seconds,
                version=edgeloop.__version__,
            ),
            method_name="job_complete",
            kwargs={"wanted": order.token(), "attempt": found.attempt},
            # Only a backstop: it calls neither the completion method nor on_kill (tried on 3.3.2).
            timeout=timedelta(seconds=left) + DEFER_SPARE,
        )
        raise AssertionError("unreachable: defer always raises")

    @discreet
    def job_complete(self, context: Context, event: dict[str, Any], wanted: str, attempt: int) -> str:
        """Look at the job again, whatever the event says, and collect, fail with the last lines, or wait on."""
        self._ti = context["ti"]
        order = JobOrder.resumed(hooks.desk(self.pipeline), wanted)
        order.say = self.log.info
        name = job_name(order.wanted.id, attempt)
        if event["ending"] == UNREACHABLE:
            raise UnreachableError(
                f"Azure did not say what became of job {name} for {self.job_link_seconds:g} s.",
                left=f"job {name}, which goes on in the workspace",
                next="Check the network from the triggerer to Azure. The next try attaches to the job or collects it.",
            )
        if done := order.finished():
            return done
        place = workspace_for(order.desk)
        self._asked = (place, name)
        with place.connect() as arm:
            jobs = Jobs(arm, place.id)
            found = jobs.look(name, attempt)
            if event["ending"] == DEADLINE and not found.ended:
                self._end_late(jobs, place, found, order.desk.snapshot.spec.training.timeout_minutes)
        return self._go_on(order, place, found)

    def _end_late(self, jobs: Jobs, place: WorkspaceEndpoint, found: FoundJob, minutes: float) -> NoReturn:
        jobs.cancel(found.name)
        try:
            status = jobs.wait_gone(found.name)
        except UnreachableError as error:
            # A retry would wait for its end, and then ask for the same job anew.
            self.log.warning("%s", error.what)
            status = LEAVING
        failure = course.failure(dataclasses.replace(found, status=status), last_words(place, found.name))
        # No retry: the same job would take as long again.
        raise AirflowFailException(
            f"{failure.what}\nIt was cancelled: training.timeout_minutes is {minutes:g}, and an hour for the queue was "
            "over too.\nNext: raise it in pipeline.yaml, or let train.py do less, then clear the run."
        )

    def on_kill(self) -> None:
        """Marked failed or cleared while on the worker: end the work; while deferred it is the trigger that does.

        A worker that is shut down, or a time-out of this phase, ends here too: the task is still running then by
        Airflow's word, and its next try attaches.
        """
        if self._asked is None:
            super().on_kill()
            return
        place, name = self._asked
        if state_of(self._ti) == TaskInstanceState.RUNNING:
            self.log.info("The task was not given up: job %s goes on", name)
            return
        try:
            with place.connect() as arm:
                Jobs(arm, place.id).cancel(name)
            self.log.info("Asked Azure ML to cancel job %s: the task was given up on its worker", name)
        except EdgeloopError as error:
            self.log.warning("Job %s may still run: %s", name, error)
