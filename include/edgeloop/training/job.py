"""One training on the VM: how it is named, what may be found there under that name, and what to do about it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edgeloop.training.outputs import Allowance

LABEL_TRAINING = "edgeloop.training"
LABEL_PIPELINE = "edgeloop.pipeline"
LABEL_DEADLINE = "edgeloop.deadline"
LABEL_ATTEMPT = "edgeloop.attempt"
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
        deadline: When it must have ended, seconds since 1970; 0 never.
        gpus: How many of the VM's GPUs it gets.
        disk_mb: Free disk it needs beyond its data, in MiB, for outputs and checkpoints.
        grace_seconds: Between SIGTERM and SIGKILL when it is stopped.
        attempt: Which attempt is meant, counted from 1 on the VM; 0 while that is not known.
        reports: Glob patterns of what is collected beside model and metrics; ``reports_mb`` the most MiB of one.
    """

    run_id: str
    pipeline: str
    image: str
    cpus: float = 1.0
    memory_mb: int = 2048
    deadline: int = 0
    gpus: int = 0
    disk_mb: int = 0
    grace_seconds: float = 30.0
    attempt: int = 0
    reports: tuple[str, ...] = ()
    reports_mb: float = 16.0

    @property
    def allowance(self) -> Allowance:
        """Which of its outputs are reports."""
        return Allowance(reports=tuple(self.reports), each=int(self.reports_mb * MIB))

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

    @property
    def attempt_folder(self) -> str:
        """What is kept of this attempt: its terms, its memory, a stop that was asked for, and later its log."""
        return f"{self.folder}/attempt-{self.attempt}"

    def at(self, attempt: int) -> Job:
        """The same job, meaning that attempt."""
        return dataclasses.replace(self, attempt=attempt)


class Stop(StrEnum):
    """Why an attempt was asked to stop: the first word of its cancel intent on the VM."""

    NONE = ""
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    DISK = "disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What the VM keeps beside the container of an attempt.

    Args:
        number: Counted from 1.
        stop: What it was asked to stop for; ``reason`` says it in words.
        stopped: Whether it still ran when SIGTERM was sent, so that its end is not its own.
        fresh: Whether it wrote into its checkpoint folder.
        unfit: Whether it ended well with outputs that will not do.
        peak: The most memory it used, in bytes; 0 if that was never seen.
        killed: How many of its processes the kernel killed for want of memory.
    """

    number: int
    stop: Stop = Stop.NONE
    reason: str = ""
    stopped: bool = False
    fresh: bool = False
    unfit: bool = False
    peak: int = 0
    killed: int = 0


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
    attempt: int = 0
    """The attempt on its label; 0 if there is no container."""
    attempts: tuple[Attempt, ...] = ()
    """What is kept of every attempt, this one included, in their order."""

    @property
    def last(self) -> Attempt:
        """What is kept of the attempt of the container, or, if there is none, of the newest one."""
        mine = [one for one in self.attempts if not self.attempt or one.number == self.attempt]
        return mine[-1] if mine else Attempt(number=self.attempt)

    @property
    def starved(self) -> bool:
        """Whether it, or a process of it, was killed for want of memory."""
        return self.out_of_memory or self.last.killed > 0

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
        attempt=int(labels.get(LABEL_ATTEMPT) or 0),
    )


def parse_attempt(line: str) -> Attempt:
    """Read one line ``attempt <number> <peak> <killed> <flags> <stop> <reason>``; ``-`` stands for nothing."""
    _, number, peak, killed, flags, *rest = line.split(" ", 6)
    stop, reason = (*rest, "", "")[:2]
    return Attempt(
        number=int(number),
        peak=int(peak),
        killed=int(killed),
        stopped="s" in flags,
        fresh="f" in flags,
        unfit="u" in flags,
        stop=Stop(stop) if stop in set(Stop) else Stop.CANCELLED,
        reason=reason.strip(),
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
        before = f"; attempt {found.last.number} left its state there" if found.attempts else ""
        return Decision(action=Action.SUBMIT, why=f"no container of it is on the VM{before}")
    if found.owner != run_id:
        return Decision(
            action=Action.REFUSE,
            why=f"a container of that name belongs to {found.owner or 'nobody known'}, not to this training",
        )
    if found.status == "removing":
        return Decision(action=Action.WAIT, why="it is being removed")
    if found.status in {"exited", "dead"}:
        return Decision(action=Action.COLLECT if ended_well(found) else Action.RESUBMIT, why=describe_end(found))
    if found.last.stop:
        return Decision(action=Action.WAIT, why=f"it is being stopped: {found.last.reason}")
    action, why = BY_STATUS.get(
        found.status, (Action.REFUSE, f"Docker calls it {found.status!r}, which is not known here")
    )
    return Decision(action=action, why=f"attempt {found.attempt}: {why}")


def ended_well(found: Found) -> bool:
    """Whether it ended by itself with exit code 0 and outputs that nobody found unfit yet.

    A script that hears SIGTERM, saves a checkpoint and exits with 0 has not finished its training.
    """
    return found.status == "exited" and found.exit_code == 0 and not found.last.stopped and not found.last.unfit


SIGNAL_BASE = 128
SIGNALS = {1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}


INTERRUPTED = frozenset({129, 130, 137, 143, 255})
"""Exit codes of a job that somebody or something else ended: SIGHUP, SIGINT, SIGKILL, SIGTERM, and a VM that went."""
MIB = 1024 * 1024


def describe_end(found: Found, memory_mb: int = 0) -> str:
    """How a job ended, in words."""
    last = found.last
    which = f"attempt {last.number}: " if last.number else ""
    if last.stop and (last.stopped or found.status == "absent"):
        return f"{which}it was stopped: {last.reason}"
    if found.status == "absent":
        return f"{which}its container is gone: somebody removed it"
    peak = f", {last.peak // MIB} MiB at its peak" if last.peak else ""
    if found.starved and found.exit_code:
        limit = f" of {memory_mb} MiB" if memory_mb else ""
        # The kernel kills only at the limit; the last sample before it may be a second old.
        peak = f", {max(last.peak // MIB, memory_mb)} MiB at its peak" if last.peak or memory_mb else ""
        return f"{which}it ran out of its memory{limit}{peak}, and was killed (exit code {found.exit_code})"
    if last.unfit:
        return f"{which}it ended with exit code 0, but its outputs will not do"
    if found.exit_code > SIGNAL_BASE:
        number = found.exit_code - SIGNAL_BASE
        return (
            f"{which}it was ended by signal {number} ({SIGNALS.get(number, 'no common one')}), "
            f"exit code {found.exit_code}{peak}"
        )
    because = f": {found.error}" if found.error else ""
    return f"{which}it ended with exit code {found.exit_code}{because}{peak}"


def interrupted(found: Found) -> bool:
    """Whether the end was not the script's own, or it got further than before, so that another attempt has a chance."""
    last = found.last
    if last.stop is Stop.DEADLINE or last.stop is Stop.DISK or (found.starved and found.status != "absent"):
        return False
    if found.status in {"absent", "dead"} or last.stopped:
        return True
    return found.exit_code in INTERRUPTED or (last.fresh and found.exit_code != 0)
