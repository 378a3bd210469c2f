"""What is found under a job's name decides, and nothing else is ever touched."""

from __future__ import annotations

import json

import pytest

from edgeloop.training.job import Action, Found, Job, decide, describe_end, parse_state

ME = "a" * 64
OTHER = "b" * 64


@pytest.mark.parametrize(
    ("found", "action"),
    [
        (Found(), Action.SUBMIT),
        (Found(staged=True), Action.SUBMIT),
        (Found(staged=True, cancelled="cleared"), Action.SUBMIT),
        (Found(status="created", owner=ME), Action.START),
        (Found(status="running", owner=ME), Action.ATTACH),
        (Found(status="restarting", owner=ME), Action.ATTACH),
        (Found(status="running", owner=ME, cancelled="cleared"), Action.WAIT),
        (Found(status="exited", exit_code=143, owner=ME, cancelled="cleared"), Action.WAIT),
        (Found(status="removing", owner=ME), Action.WAIT),
        (Found(status="exited", exit_code=0, owner=ME), Action.COLLECT),
        (Found(status="exited", exit_code=1, owner=ME), Action.RESUBMIT),
        (Found(status="exited", exit_code=137, out_of_memory=True, owner=ME), Action.RESUBMIT),
        (Found(status="dead", owner=ME), Action.RESUBMIT),
        (Found(status="paused", owner=ME), Action.REFUSE),
        (Found(status="strange", owner=ME), Action.REFUSE),
        (Found(status="running", owner=OTHER), Action.REFUSE),
        (Found(status="exited", exit_code=0, owner=""), Action.REFUSE),
    ],
)
def test_what_is_found_decides(found: Found, action: Action) -> None:
    """Each state has one next action; a container of another owner is never touched."""
    assert decide(found, ME).action is action


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Found(status="exited", exit_code=3), "it ended with exit code 3"),
        (Found(status="exited", exit_code=137, out_of_memory=True), "it ran out of its memory of 64 MiB"),
        (Found(status="exited", exit_code=137), "it was ended by signal 9 (SIGKILL)"),
        (Found(status="exited", exit_code=127, error="no such file"), "exit code 127: no such file"),
        (Found(), "its container is gone"),
    ],
)
def test_an_end_is_told_in_words(found: Found, words: str) -> None:
    """Out of memory is said as that, a signal by its name."""
    assert words in describe_end(found, 64)


def test_a_state_is_read_with_its_labels() -> None:
    """Owner and deadline come from the labels, the time it ran from the state."""
    state = {
        "Status": "exited", "ExitCode": 0, "OOMKilled": False, "Error": "",
        "StartedAt": "2026-01-01T00:00:00.123456789Z", "FinishedAt": "2026-01-01T00:01:30.5Z",
    }  # fmt: skip
    labels = {"edgeloop.training": ME, "edgeloop.deadline": "17"}
    found = parse_state(f"{json.dumps(state)} {json.dumps(labels)}\n")
    assert (found.status, found.owner, found.deadline, found.seconds) == ("exited", ME, 17, 90.0)


def test_a_state_without_labels_has_no_owner() -> None:
    """Docker prints null where a container has none."""
    assert parse_state('{"Status":"running"} null').owner == ""


def test_names_follow_from_the_id() -> None:
    """Container and folder are known before anything is sent."""
    job = Job(run_id=ME, pipeline="p", image="i")
    assert (job.name, job.folder) == ("train-" + "a" * 24, "edgeloop/jobs/" + "a" * 24)
