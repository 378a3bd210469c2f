"""The trigger behind ``TrainOnVMOperator``: follows the job, and stops it only when its task was really given up."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

import edgeloop
from edgeloop.errors import ConfigurationError, UnreachableError
from edgeloop.records import sha256_hex
from edgeloop.ssh import kept
from edgeloop.training import commands
from edgeloop.training.follow import Follower, Patience
from edgeloop.training.job import Job
from edgeloop_airflow import hooks, task_log
from edgeloop_airflow.giveup import GivesUp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from edgeloop.ssh.endpoint import Endpoint

ARGUMENTS = (
    "connection",
    "run_id",
    "pipeline",
    "image",
    "deadline",
    "attempt",
    "number",
    "poll_seconds",
    "link_seconds",
    "version",
)
ANSWER_SECONDS = 20.0
GONE_SECONDS = 60.0
"""How long it is watched; the VM carries the stop out whether it is or not."""
GONE_POLL_SECONDS = 0.5
STOP_AGAIN_SECONDS = 10.0


def follower_name(dag_id: str, run_id: str) -> str:
    """How a task of one run signs on the VM; the same for each of its tries."""
    return sha256_hex(f"{dag_id} {run_id}".encode())[:16]


class TrainingTrigger(GivesUp):
    """Follows one job on a VM and fires once: ended, past its deadline, or out of reach for too long.

    Its lines reach the task's log while it runs. A triggerer that restarts goes on after the last line.

    Args:
        connection: The VM's Airflow connection.
        run_id: The training's id; names the container.
        pipeline: Whose it is.
        image: The job's image; needed to tidy up after a kill.
        deadline: When the job must have ended, seconds since 1970.
        attempt: The task's try that deferred.
        number: The job's attempt that is followed; no other is ever stopped by this trigger.
        poll_seconds: How often to look.
        link_seconds: How long a VM may be silent.
        version: Of the operator; another version here means a component was not restarted.
    """

    def __init__(
        self,
        *,
        connection: str,
        run_id: str,
        pipeline: str,
        image: str,
        deadline: int,
        attempt: int = 1,
        number: int = 1,
        poll_seconds: float = 1.0,
        link_seconds: float = 120.0,
        version: str = edgeloop.__version__,
    ) -> None:
        super().__init__()
        self.connection = connection
        self.run_id = run_id
        self.pipeline = pipeline
        self.image = image
        self.deadline = deadline
        self.attempt = attempt
        self.number = number
        self.poll_seconds = poll_seconds
        self.link_seconds = link_seconds
        self.version = version

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments; none of them is a secret."""
        return "edgeloop_airflow.training_trigger.TrainingTrigger", {name: getattr(self, name) for name in ARGUMENTS}

    @property
    def job(self) -> Job:
        """The job that is followed."""
        return Job(
            run_id=self.run_id,
            pipeline=self.pipeline,
            image=self.image,
            deadline=self.deadline,
            attempt=self.number,
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow, then fire once."""
        if self.version != edgeloop.__version__:
            raise ConfigurationError(
                f"The operator is of Edgeloop {self.version}, this triggerer of {edgeloop.__version__}.",
                left=f"container {self.job.name}, which goes on",
                next="Restart the triggerer, then clear the task: it attaches.",
            )
        follower = Follower(
            job=self.job,
            connection=self.connection,
            endpoint=self._endpoint,
            say=lambda line: self.log.info("%s", line),
            quote=task_log.quote,
            patience=Patience(poll=self.poll_seconds, link=self.link_seconds),
            who=self._who,
            host=socket.gethostname(),
            logged=lambda: task_log.last_stamp(self.task_instance),
        )
        ending = await follower.run()
        await task_log.settled(self.task_instance, follower.place)
        yield TriggerEvent({"ending": ending.value})

    @property
    def _who(self) -> str:
        one = self.task_instance
        return follower_name(one.dag_id, one.run_id) if one is not None else ""

    async def _endpoint(self) -> Endpoint:
        return await hooks.ssh_endpoint_async(self.connection)

    @property
    def work(self) -> str:
        """The job, as the log names it."""
        return f"job {self.job.name}"

    async def succeeded(self) -> bool:
        """Whether a later try of this very task follows the job by now; it signed on the VM."""
        if self.task_instance is None:
            return False
        link = kept.hold(self.connection, self._endpoint)
        try:
            said = (await link.run(commands.follower(self.job, self._who), timeout=ANSWER_SECONDS)).text.strip()
        finally:
            link.close()
        return said.isdigit() and int(said) > self.attempt

    async def stop(self, reason: str) -> None:
        """Leave word on the VM, where the stop is carried out, and see the job go.

        A VM that is out of reach is asked again, for as long as the job may run: its task is gone, and nobody else
        would. A later try that attached meanwhile keeps the job.
        """
        while True:
            try:
                return await self._ask(reason)
            except UnreachableError as error:
                if time.time() + STOP_AGAIN_SECONDS > self.deadline:
                    raise
                self.log.warning("%s is not told to stop yet, trying until its deadline: %s", self.job.name, error.what)
            while True:
                await asyncio.sleep(STOP_AGAIN_SECONDS)
                with suppress(UnreachableError):
                    if await self.succeeded():
                        self.log.info("A later try follows %s: it goes on", self.job.name)
                        return None
                    break

    async def _ask(self, reason: str) -> None:
        job = self.job
        link = kept.hold(self.connection, self._endpoint)
        try:
            await link.run(commands.cancel(job, reason=f"try {self.attempt}: {reason}"), timeout=ANSWER_SECONDS)
            self.log.info("Asked the VM to stop %s: %s", job.name, reason)
            async with asyncio.timeout(GONE_SECONDS):
                while (await link.run(commands.present(job), timeout=ANSWER_SECONDS)).text:  # noqa: ASYNC110 - remote
                    await asyncio.sleep(GONE_POLL_SECONDS)
        except TimeoutError:
            self.log.info("%s still writes its last; the VM stops it when its grace is over", job.name)
        else:
            self.log.info("%s is gone", job.name)
        finally:
            link.close()
