"""The log of a job of Azure ML in the log of the task that waits for it, while it runs."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from edgeloop.azure_ml.job_stream import JobLog, Place
from edgeloop.errors import EdgeloopError, NotFoundError
from edgeloop.training.follow import AT_ONCE
from edgeloop_airflow import hooks, task_log
from edgeloop_airflow.training_trigger import follower_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.azure_ml.jobs import FoundJob
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint
    from edgeloop_airflow.hooks import Desk

WRITES = frozenset({"Running", "Finalizing", "NotResponding"})
"""States in which there may be a log."""
PLACES = "azure_ml_logs"
"""Below it in the pipeline's container stands how far each task's log got with each job's."""


class JobLines:
    """Passes a job's lines on, each once. Nothing it cannot read keeps anybody from following the job itself.

    A triggerer that restarts goes on after the last line that the task's log on its disk holds; one on another machine
    after the place that was kept in the store, one look late: a line may be told twice then, and none is lost.

    Args:
        pipeline: Whose job it is.
        job: Its name.
        task_instance: Whose log it is; without one, outside Airflow, every line counts as new.
        say: Takes a line of the task's log.
    """

    def __init__(self, pipeline: str, job: str, task_instance: Any, say: Callable[..., Any]) -> None:
        self.pipeline, self.job, self.task_instance, self.say = pipeline, job, task_instance, say
        self._log: JobLog | None = None
        self._desk: Desk | None = None
        self._kept = Place()
        self._trouble = ""

    async def pass_on(self, endpoint: WorkspaceEndpoint, found: FoundJob) -> None:
        """Pass on what is new; of a job that has ended all there is, down to where the disk holds it."""
        if not found.ended and found.status not in WRITES:
            return
        try:
            log = self._log = self._log or await self._open(endpoint)
            log.endpoint = endpoint
            await self._keep(log.place)
            while new := await asyncio.to_thread(log.read, ended=found.ended):
                for number, line in enumerate(new):
                    task_log.quote_from(line.text, f"{self.job} {line.place.text}")
                    if number % AT_ONCE == 0:
                        await asyncio.sleep(0)
            if found.ended:
                await task_log.placed(self.task_instance, f"{self.job} {log.place.text}")
                await self._keep(log.place)
        except Exception as error:  # noqa: BLE001 - a connection that nobody reads for a moment is among them
            # An address holds a SAS and is in no message.
            why = error.what if isinstance(error, EdgeloopError) else type(error).__name__
            if why != self._trouble:
                self.say("The log of job %s cannot be read now: %s", self.job, why)
            self._trouble = why

    async def _open(self, endpoint: WorkspaceEndpoint) -> JobLog:
        self._desk = await hooks.desk_async(self.pipeline)
        try:
            raw = await asyncio.to_thread(self._desk.blobs.get, self._name)
        except NotFoundError:
            raw = b""
        host, _, text = raw.decode().partition(" ")
        kept = Place.read(text)
        logged = Place.read((await task_log.last_place(self.task_instance, self.job)).partition(" ")[2])
        # What the log on this disk holds is what was passed on, down to the line at which a process was killed.
        here = logged.log and (host == socket.gethostname() or logged.log != kept.log or logged.at > kept.at)
        self._kept = kept
        return JobLog(endpoint, self.job, logged if here else kept)

    async def _keep(self, place: Place) -> None:
        if place == self._kept or self._desk is None:
            return
        text = f"{socket.gethostname()} {place.text}"
        await asyncio.to_thread(self._desk.blobs.put, self._name, text.encode())
        self._kept = place

    @property
    def _name(self) -> str:
        one = self.task_instance
        who = follower_name(one.dag_id, one.run_id) if one is not None else "nobody"
        return f"{PLACES}/{self.job}/{who}"
