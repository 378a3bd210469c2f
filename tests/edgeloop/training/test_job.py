"""What is found under a job's name decides, and nothing else is ever touched."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeloop.training.job import (
    Action,
    Attempt,
    Found,
    Job,
    Stop,
    decide,
    describe_end,
    interrupted,
    parse_attempt,
    parse_state,
)

ME = "a" * 64
OTHER = "b" * 64
ASKED = Attempt(number=1, stop=Stop.CANCELLED, reason="cleared")
STOPPED = Attempt(number=1, stop=Stop.CANCELLED, reason="cleared", stopped=True)
LATE = Attempt(number=1, stop=Stop.DEADLINE, reason="its time was over", stopped=True)
UNFIT = Attempt(number=1, unfit=True)
STARVED = Attempt(number=1, peak=60 * 2**20, killed=1)
FRESH = Attempt(number=1, fresh=True)


def found(status: str, code: int = 0, last: Attempt | None = None, **more: Any) -> Found:
    """What the VM holds of this training's first attempt."""
    return Found(status=status, exit_code=code, owner=ME, attempt=1, attempts=(last or Attempt(number=1),), **more)


@pytest.mark.parametrize(
    ("there", "action"),
    [
        (Found(), Action.SUBMIT),
        (Found(staged=True), Action.SUBMIT),
        (Found(staged=True, attempts=(STOPPED,)), Action.SUBMIT),
        (found("created"), Action.START),
        (found("created", last=ASKED), Action.WAIT),
        (found("running"), Action.ATTACH),
        (found("restarting"), Action.ATTACH),
        (found("running", last=ASKED), Action.WAIT),
        (found("running", last=LATE), Action.WAIT),
        (found("removing"), Action.WAIT),
        (found("exited"), Action.COLLECT),
        (found("exited", last=ASKED), Action.COLLECT),
        (found("exited", last=STOPPED), Action.RESUBMIT),
        (found("exited", last=UNFIT), Action.RESUBMIT),
        (found("exited", 143, last=STOPPED), Action.RESUBMIT),
        (found("exited", 1), Action.RESUBMIT),
        (found("exited", 137, out_of_memory=True), Action.RESUBMIT),
        (found("dead"), Action.RESUBMIT),
        (found("paused"), Action.REFUSE),
        (found("strange"), Action.REFUSE),
        (Found(status="running", owner=OTHER), Action.REFUSE),
        (Found(status="exited", exit_code=0, owner=""), Action.REFUSE),
    ],
)
def test_what_is_found_decides(there: Found, action: Action) -> None:
    """Each state has one next action; a container of another owner is never touched.

    A script that hears SIGTERM, saves and exits with 0 has finished nothing; one that had ended before has.
    """
    assert decide(there, ME).action is action


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (found("exited", 3), "attempt 1: it ended with exit code 3"),
        (
            found("exited", 137, out_of_memory=True),
            "it ran out of its memory of 64 MiB, 64 MiB at its peak, and was killed",
        ),
        (found("exited", 5, last=STARVED), "out of its memory of 64 MiB, 64 MiB at its peak, and was killed"),
        (found("exited", 137), "it was ended by signal 9 (SIGKILL)"),
        (found("exited", 127, error="no such file"), "exit code 127: no such file"),
        (found("exited", 0, last=STOPPED), "it was stopped: cleared"),
        (found("exited", 0, last=UNFIT), "its outputs will not do"),
        (Found(attempts=(STOPPED,)), "attempt 1: it was stopped: cleared"),
        (Found(), "its container is gone: somebody removed it"),
    ],
)
def test_an_end_is_told_in_words(there: Found, words: str) -> None:
    """Out of memory is said as that with the peak, a signal by its name, a stop with its reason."""
    assert words in describe_end(there, 64)


@pytest.mark.parametrize(
    ("there", "again"),
    [
        (found("exited", 1), False),
        (found("exited", 1, last=FRESH), True),
        (found("exited", 139), False),
        (found("exited", 137), True),
        (found("exited", 255), True),
        (found("dead"), True),
        (Found(attempts=(Attempt(number=1),)), True),
        (found("exited", 0, last=STOPPED), True),
        (found("exited", 143, last=LATE), False),
        (found("exited", 137, out_of_memory=True, last=FRESH), False),
        (found("exited", 1, last=STARVED), False),
        (found("exited", 0, last=UNFIT), False),
    ],
)
def test_only_what_has_a_chance_is_tried_again(there: Found, *, again: bool) -> None:
    """Power, signals and stops are worth another attempt; a script's own error only if its checkpoint got further."""
    assert interrupted(there) is again


def test_what_is_kept_of_an_attempt_is_read() -> None:
    """A stop's reason may hold anything; nothing kept is nothing."""
    assert parse_attempt("attempt 3 1048576 2 -sf cancelled try 1 was given up") == Attempt(
        number=3, peak=1048576, killed=2, stopped=True, fresh=True, stop=Stop.CANCELLED, reason="try 1 was given up"
    )
    assert parse_attempt("attempt 1 0 0 -") == Attempt(number=1)
    assert parse_attempt("attempt 1 0 0 -u ") == Attempt(number=1, unfit=True)


def test_the_newest_attempt_speaks_when_there_is_no_container() -> None:
    """A container's own attempt comes before a newer folder, which a submission that failed may have left."""
    kept = (Attempt(number=1), Attempt(number=2, peak=5))
    assert Found(attempts=kept).last.peak == 5
    assert Found(status="running", attempt=1, attempts=kept).last.number == 1


def test_a_state_is_read_with_its_labels() -> None:
    """Owner and deadline come from the labels, the time it ran from the state."""
    state = {
        "Status": "exited", "ExitCode": 0, "OOMKilled": False, "Error": "",
        "StartedAt": "2026-01-01T00:00:00.123456789Z", "FinishedAt": "2026-01-01T00:01:30.5Z",
    }  # fmt: skip
    labels = {"edgeloop.training": ME, "edgeloop.deadline": "17", "edgeloop.attempt": "2"}
    there = parse_state(f"{json.dumps(state)} {json.dumps(labels)}\n")
    assert (there.status, there.owner, there.deadline, there.attempt, there.seconds) == ("exited", ME, 17, 2, 90.0)


def test_a_state_without_labels_has_no_owner() -> None:
    """Docker prints null where a container has none."""
    assert parse_state('{"Status":"running"} null').owner == ""


def test_names_follow_from_the_id() -> None:
    """Container and folder are known before anything is sent."""
    job = Job(run_id=ME, pipeline="p", image="i")
    assert (job.name, job.folder) == ("train-" + "a" * 24, "edgeloop/jobs/" + "a" * 24)
