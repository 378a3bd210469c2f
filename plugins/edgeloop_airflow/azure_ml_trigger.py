"""The trigger that follows a job of Azure ML, and cancels it only when its task was really given up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

import edgeloop
from edgeloop.azure_ml.jobs import Jobs
from edgeloop.azure_ml.workspace import WorkspaceEndpoint
from edgeloop.errors import ConfigurationError, UnreachableError
from edgeloop_airflow import hooks
from edgeloop_airflow.azure_ml import azure_identity_async
from edgeloop_airflow.azure_ml_log import JobLines
from edgeloop_airflow.giveup import GivesUp
from edgeloop_airflow.training_trigger import follower_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.azure_ml.jobs import FoundJob

ARGUMENTS = (
    "pipeline", "connection", "subscription", "resource_group", "workspace", "job", "deadline", "attempt",
    "poll_seconds", "link_seconds", "version",
)  # fmt: skip
ENDED, DEADLINE, UNREACHABLE = "ended", "deadline", "unreachable"
HEARTBEAT_SECONDS = 300.0
FOLLOWERS = "azure_ml_followers"


def follower_key(dag_id: str, run_id: str, attempt: int) -> str:
    """How a try of a task signs that it follows a job; the tries of one task sort by their number."""
    return f"{follower_name(dag_id, run_id)}-{attempt:06d}"


class AzureMLTrigger(GivesUp):
    """Follows one job and fires once: ended, past its deadline, or Azure out of reach for too long.

    What the job's script says is in the task's log with the next look.

    A look is one GET of the job in a thread, with azure-core's own retries; the event loop never waits for it.

    Args:
        pipeline: Whose training it is.
        connection: The Airflow connection of type ``azure``.
        subscription: Of the workspace.
        resource_group: Of the workspace.
        workspace: Its name.
        job: The job's name.
        deadline: When the job must have ended, seconds since 1970.
        attempt: The task's try that deferred.
        poll_seconds: How often to look.
        link_seconds: How long Azure may be silent.
        version: Of the operator; another version here means a component was not restarted.
    """

    def __init__(
        self,
        *,
        pipeline: str,
        connection: str,
        subscription: str,
        resource_group: str,
        workspace: str,
        job: str,
        deadline: int,
        attempt: int = 1,
        poll_seconds: float = 15.0,
        link_seconds: float = 1800.0,
        version: str = edgeloop.__version__,
    ) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.connection = connection
        self.subscription = subscription
        self.resource_group = resource_group
        self.workspace = workspace
        self.job = job
        self.deadline = deadline
        self.attempt = attempt
        self.poll_seconds = poll_seconds
        self.link_seconds = link_seconds
        self.version = version
        self._arm: ArmClient | None = None
        self._known: WorkspaceEndpoint | None = None
        self._stale = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments; none of them is a secret."""
        return "edgeloop_airflow.azure_ml_trigger.AzureMLTrigger", {name: getattr(self, name) for name in ARGUMENTS}

    @property
    def work(self) -> str:
        """The job, as the log names it."""
        return f"job {self.job}"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow, then fire once."""
        if self.version != edgeloop.__version__:
            raise ConfigurationError(
                f"The operator is of Edgeloop {self.version}, this triggerer of {edgeloop.__version__}.",
                left=f"job {self.job}, which goes on",
                next="Restart the triggerer, then clear the task: it attaches.",
            )
        try:
            ending = await self._follow()
        finally:
            self._drop()
        yield TriggerEvent({"ending": ending, "job": self.job})

    async def _follow(self) -> str:
        status, contact, beat, silent = "", time.monotonic(), time.monotonic(), False
        lines = JobLines(self.pipeline, self.job, self.task_instance, self.log.info)
        while True:
            try:
                endpoint = await self._endpoint()
                found = await self._look(endpoint)
            except UnreachableError as error:
                self._drop()
                if not silent:
                    self.log.info("%s; the job goes on, trying for %g s", error.what, self.link_seconds)
                silent = True
                if time.monotonic() - contact > self.link_seconds:
                    return UNREACHABLE
            else:
                if silent:
                    self.log.info("Azure answers again after %.0f s", time.monotonic() - contact)
                silent, contact = False, time.monotonic()
                if found.status != status or contact - beat > HEARTBEAT_SECONDS:
                    self.log.info("Job %s is %s", self.job, found.status)
                    status, beat = found.status, contact
                await lines.pass_on(endpoint, found)
                if found.ended:
                    return ENDED
            if time.time() > self.deadline:
                return DEADLINE
            await asyncio.sleep(self.poll_seconds)

    async def _endpoint(self) -> WorkspaceEndpoint:
        """The workspace as the connection says, or as it said last: Airflow calls one that it cannot read undefined."""
        try:
            identity = await azure_identity_async(self.connection)
        except Exception as error:
            if self._known is None:
                raise
            if not self._stale:
                self.log.warning("Connection %r cannot be read, its last state is used: %s", self.connection, error)
            self._stale = True
            return self._known
        self._stale = False
        self._known = WorkspaceEndpoint(
            identity=identity,
            subscription=self.subscription,
            resource_group=self.resource_group,
            workspace=self.workspace,
        )
        return self._known

    async def _look(self, endpoint: WorkspaceEndpoint) -> FoundJob:
        if self._arm is None:
            # Kept: every client asks for a token of its own.
            self._arm = await asyncio.to_thread(endpoint.connect)
        try:
            return await asyncio.to_thread(Jobs(self._arm, endpoint.id).look, self.job)
        except ConfigurationError:
            # The secret may have been renewed: the kept client has the old one until its last token ends.
            if self._arm.endpoint.identity == endpoint.identity:
                raise
        self._drop()
        return await self._look(endpoint)

    def _drop(self) -> None:
        if self._arm is not None:
            arm, self._arm = self._arm, None
            arm.__exit__(None, None, None)

    async def succeeded(self) -> bool:
        """Whether a later try of this very task follows the job by now: each signs in the pipeline's store."""
        one = self.task_instance
        if one is None:
            return False
        desk = await hooks.desk_async(self.pipeline)
        signed = await asyncio.to_thread(desk.store.keys, f"{FOLLOWERS}/{self.job}")
        mine = follower_key(one.dag_id, one.run_id, self.attempt)
        return any(key > mine and key[: -len("000000")] == mine[: -len("000000")] for key in signed)

    async def stop(self, reason: str) -> None:
        """Ask Azure ML to cancel the job; what ends it there is Azure's, and the next try waits for it."""
        endpoint = await self._endpoint()

        def cancelled() -> None:
            with endpoint.connect() as arm:
                Jobs(arm, endpoint.id).cancel(self.job)

        await asyncio.to_thread(cancelled)
        self.log.info("Asked Azure ML to cancel job %s: %s", self.job, reason)
