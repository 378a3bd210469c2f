"""One training as a job of Azure ML: how it is named, what may be found under that name, and what to do about it.

A job's name is derived from the training's id, so a PUT of it is the lock: the same name is the same job, whoever asks
and how often. A job that ended badly keeps its name and its logs; the next attempt gets a name of its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from edgeloop.errors import CloudError, ConflictError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeloop.azure_ml.arm import ArmClient

API_VERSION = "2024-10-01"
"""Of every request about jobs, their code and environments: the newest stable one whose OpenAPI file is there."""
TAG_TRAINING = "edgeloop.training"
MOST_ATTEMPTS = 50
START_MINUTES = 60.0
"""What a job may take to start: a queue on the compute, an image that is pulled. Its own limit counts from there."""
GONE_SECONDS = 180.0
LOOK_SECONDS = 5.0
ALREADY = "already exist"

RUNS = frozenset({
    "NotStarted", "Starting", "Provisioning", "Preparing", "Queued", "Running", "Finalizing", "NotResponding",
    "Unknown", "Scheduled",
})  # fmt: skip
"""Words for a job that has not ended; Microsoft's OpenAPI file of 2024-10-01, JobStatus."""
DONE, FAILED, CANCELED, LEAVING = "Completed", "Failed", "Canceled", "CancelRequested"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundJob:
    """What the workspace holds under a job's name; ``status`` is Azure ML's word, or ``absent``.

    ``created`` is when it was asked for, seconds since 1970; ``owner`` the training id on its tag.
    """

    name: str
    attempt: int = 1
    status: str = "absent"
    owner: str = ""
    created: float = 0.0
    modified: float = 0.0
    studio: str = ""
    outputs: tuple[tuple[str, str], ...] = ()
    """Name and address of each of its outputs."""

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.status in {DONE, FAILED, CANCELED, "absent"}

    @property
    def seconds(self) -> float:
        """From its creation to its last change, the queue included: the job itself tells no more."""
        return max(self.modified - self.created, 0.0)


class Action(StrEnum):
    """What to do next."""

    SUBMIT = "submit"
    ATTACH = "attach"
    WAIT = "wait"
    COLLECT = "collect"
    RESUBMIT = "resubmit"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An action and why, in words for the task's log."""

    action: Action
    why: str


BY_STATUS = {
    DONE: (Action.COLLECT, "it completed"),
    FAILED: (Action.RESUBMIT, "it failed"),
    CANCELED: (Action.RESUBMIT, "it was cancelled"),
    LEAVING: (Action.WAIT, "it is being cancelled"),
    "Paused": (Action.REFUSE, "somebody paused it"),
}


def job_name(run_id: str, attempt: int = 1) -> str:
    """The name of an attempt at a training; letters, digits and dashes, far below the 255 that are allowed."""
    stem = f"edgeloop-{run_id[:24]}"
    return stem if attempt == 1 else f"{stem}-a{attempt}"


def job_path(workspace: str, name: str) -> str:
    """Where ARM has a job; ``workspace`` is the workspace's ARM id."""
    return f"{workspace}/jobs/{name}"


def parse_job(name: str, attempt: int, body: Mapping[str, Any] | None) -> FoundJob:
    """Read a job resource, or the absence of one."""
    if body is None:
        return FoundJob(name=name, attempt=attempt)
    properties = body.get("properties") or {}
    system = body.get("systemData") or {}
    services = properties.get("services") or {}
    outputs = properties.get("outputs") or {}
    return FoundJob(
        name=name,
        attempt=attempt,
        status=str(properties.get("status") or "Unknown"),
        owner=str((properties.get("tags") or {}).get(TAG_TRAINING) or ""),
        created=_seconds(system.get("createdAt")),
        modified=_seconds(system.get("lastModifiedAt")),
        studio=str((services.get("Studio") or {}).get("endpoint") or ""),
        outputs=tuple(sorted((one, str(value.get("uri") or "")) for one, value in outputs.items())),
    )


def _seconds(stamp: Any) -> float:
    """Azure writes up to seven digits of a second, datetime reads six."""
    if not stamp:
        return 0.0
    return datetime.strptime(str(stamp)[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()


def decide(found: FoundJob, run_id: str) -> Decision:
    """What the next try does about what it finds; only the training's own job is ever touched."""
    if found.status == "absent":
        return Decision(action=Action.SUBMIT, why=f"the workspace has no job {found.name}")
    if found.owner != run_id:
        return Decision(
            action=Action.REFUSE,
            why=f"a job of that name belongs to {found.owner or 'nobody known'}, not to this training",
        )
    if found.status in RUNS:
        return Decision(action=Action.ATTACH, why=f"it is {found.status}")
    action, why = BY_STATUS.get(
        found.status, (Action.REFUSE, f"Azure ML calls it {found.status!r}, which is not known here")
    )
    return Decision(action=action, why=why)


def deadline_of(found: FoundJob, minutes: float) -> int:
    """When a job must have ended, seconds since 1970: from its creation, so that every try means the same moment."""
    return int((found.created or time.time()) + (minutes + START_MINUTES) * 60)


class Jobs:
    """The jobs of one workspace, each kept by its name. Every method is one or a few requests and never waits long.

    Args:
        arm: Where ARM answers.
        workspace: The workspace's ARM id.
    """

    def __init__(self, arm: ArmClient, workspace: str) -> None:
        self.arm, self.workspace = arm, workspace

    def look(self, name: str, attempt: int = 1) -> FoundJob:
        """What is there under a name."""
        return parse_job(name, attempt, self.arm.find(job_path(self.workspace, name), API_VERSION))

    def newest(self, run_id: str, unfit: Callable[[int], bool] = lambda _: False) -> FoundJob:
        """The last attempt at a training, or what stands where the first one would.

        One that completed counts as failed if its outputs would not do: ``unfit`` says so of an attempt.
        Raises ``CloudError`` after ``MOST_ATTEMPTS``: something keeps it from ever ending well.
        """
        last = self._judged(job_name(run_id), 1, unfit)
        for attempt in range(2, MOST_ATTEMPTS + 1):
            if decide(last, run_id).action is not Action.RESUBMIT:
                return last
            later = self._judged(job_name(run_id, attempt), attempt, unfit)
            if later.status == "absent":
                return last
            last = later
        raise CloudError(
            f"{MOST_ATTEMPTS} jobs of training {run_id[:24]} ended badly.",
            left="the jobs and their logs in the workspace",
            next="Read the logs in the studio, correct the cause, then trigger the DAG with a force reason.",
        )

    def _judged(self, name: str, attempt: int, unfit: Callable[[int], bool]) -> FoundJob:
        found = self.look(name, attempt)
        return replace(found, status=FAILED) if found.status == DONE and unfit(attempt) else found

    def submit(self, name: str, body: Mapping[str, Any], attempt: int = 1) -> FoundJob:
        """Ask for a job, once: one that is there by now, asked for by somebody else at the same time, is that job."""
        found = self.look(name, attempt)
        if found.status != "absent":
            return found
        try:
            made = self.arm.put(job_path(self.workspace, name), API_VERSION, body)
        except (ConflictError, CloudError) as error:
            # Azure ML refuses to change a job; two PUTs at once can be answered with 400 or 409.
            if isinstance(error, CloudError) and ALREADY not in error.what:
                raise
            return self.look(name, attempt)
        return parse_job(name, attempt, made)

    def cancel(self, name: str) -> None:
        """Ask for the end of a job; one that is not there or has ended is left as it is."""
        found = self.look(name)
        if found.ended or found.status == LEAVING:
            return
        try:
            # Azure answers 202 and an operation; what is awaited is the job's own status, by :meth:`wait_gone`.
            self.arm.send("POST", f"{job_path(self.workspace, name)}/cancel", API_VERSION)
        except NotFoundError:
            return
        except (ConflictError, CloudError):
            # It may have ended between the look and the request.
            if not self.look(name).ended:
                raise

    def wait_gone(
        self, name: str, *, timeout: float = GONE_SECONDS, sleep: Callable[[float], None] = time.sleep
    ) -> str:
        """Wait until a cancelled job has ended; returns its status, raises ``UnreachableError`` after ``timeout``."""
        until = time.monotonic() + timeout
        while not (found := self.look(name)).ended:
            if time.monotonic() > until:
                raise UnreachableError(
                    f"Job {name} is {found.status} still, {timeout:g} s after it was cancelled.",
                    left="the job, which Azure ML is ending",
                    next=f"Look at it in the studio ({found.studio or self.workspace}); the next try waits again.",
                )
            sleep(LOOK_SECONDS)
        return found.status
