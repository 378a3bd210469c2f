"""One training on the VM: how it is named, what may be found there under that name, and what to do about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

LABEL_TRAINING = "edgeloop.training"
LABEL_PIPELINE = "edgeloop.pipeline"
LABEL_DEADLINE = "edgeloop.deadline"
FOLDER = "edgeloop/jobs"
"""Below the home of the login user on the VM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What runs on the VM.

    Args:
        run_id: The id of the training run, 64 hexadecimal digits, known before anything is sent.
        pipeline: Whose it is.
        image: The image's id (``sha256:...``) or reference on the VM.
        cpus: Processors it may use.
        memory_mb: Memory it may use, swap included, in MiB.
        deadline: When it must have ended, seconds since 1970.
    """

    run_id: str
    pipeline: str
    image: str
    cpus: float = 1.0
    memory_mb: int = 2048
    deadline: int = 0

    @property
    def short(self) -> str:
        """The part of the id that names things on the VM."""
        return self.run_id[:24]

    @property
    def name(self) -> str:
        """The container's name; that Docker gives a name only once is the lock."""
        return f"train-{self.short}"

    @property
    def folder(self) -> str:
        """Its folder, relative to the login user's home."""
        return f"{FOLDER}/{self.short}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the VM holds under a job's name; ``status`` is Docker's word, or ``absent``."""

    status: str = "absent"
    exit_code: int = 0
    out_of_memory: bool = False
    error: str = ""
    started_at: str = ""
    finished_at: str = ""
    owner: str = ""
    """The training id on its label."""
    deadline: int = 0
    staged: bool = False
    folder: bool = False
    """Whether the job's folder is there at all."""
    cancelled: str = ""
    """Who asked for the end of it and why; the stop is under way."""

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.status in {"exited", "dead", "absent"}

    @property
    def seconds(self) -> float:
        """How long it ran."""
        from datetime import datetime

        if not self.started_at or not self.finished_at:
            return 0.0
        # Docker writes nanoseconds, datetime reads microseconds.
        start, end = (datetime.fromisoformat(one[:19] + "+00:00") for one in (self.started_at, self.finished_at))
        return max((end - start).total_seconds(), 0.0)


class Action(StrEnum):
    """What to do next."""

    SUBMIT = "submit"
    START = "start"
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


def parse_state(line: str) -> Found:
    """Read one line of ``docker container inspect``: State, then Labels, as JSON; labels may be missing."""
    decoder = json.JSONDecoder()
    state, end = decoder.raw_decode(line.strip())
    rest = line.strip()[end:].strip()
    labels: dict[str, Any] = (json.loads(rest) or {}) if rest else {}
    return Found(
        status=state["Status"],
        exit_code=int(state.get("ExitCode", 0)),
        out_of_memory=bool(state.get("OOMKilled", False)),
        error=state.get("Error", ""),
        started_at=state.get("StartedAt", ""),
        finished_at=state.get("FinishedAt", ""),
        owner=labels.get(LABEL_TRAINING, ""),
        deadline=int(labels.get(LABEL_DEADLINE) or 0),
    )


BY_STATUS = {
    "created": (Action.START, "it was made but not started"),
    "running": (Action.ATTACH, "it is running"),
    "restarting": (Action.ATTACH, "Docker is starting it"),
    "paused": (Action.REFUSE, "somebody paused it"),
}


def decide(found: Found, run_id: str) -> Decision:
    """What the next try does about what it finds; only the job's own container is ever touched."""
    if found.status == "absent":
        return Decision(action=Action.SUBMIT, why="nothing of it is on the VM")
    if found.owner != run_id:
        return Decision(
            action=Action.REFUSE,
            why=f"a container of that name belongs to {found.owner or 'nobody known'}, not to this training",
        )
    if found.cancelled or found.status == "removing":
        return Decision(action=Action.WAIT, why=f"it is being stopped: {found.cancelled or 'it is being removed'}")
    if found.status in {"exited", "dead"}:
        well = found.status == "exited" and found.exit_code == 0
        return Decision(action=Action.COLLECT if well else Action.RESUBMIT, why=describe_end(found))
    action, why = BY_STATUS.get(
        found.status, (Action.REFUSE, f"Docker calls it {found.status!r}, which is not known here")
    )
    return Decision(action=action, why=why)


SIGNAL_BASE = 128
SIGNALS = {1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}


def describe_end(found: Found, memory_mb: int = 0) -> str:
    """How a job ended, in words."""
    if found.status == "absent":
        return "its container is gone: somebody removed it"
    if found.out_of_memory:
        limit = f" of {memory_mb} MiB" if memory_mb else ""
        return f"it ran out of its memory{limit} and was killed (exit code {found.exit_code})"
    if found.exit_code > SIGNAL_BASE:
        number = found.exit_code - SIGNAL_BASE
        return f"it was ended by signal {number} ({SIGNALS.get(number, 'no common one')}), exit code {found.exit_code}"
    because = f": {found.error}" if found.error else ""
    return f"it ended with exit code {found.exit_code}{because}"
