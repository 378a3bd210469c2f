"""From what a device has to the next command: every situation, the finished ones included."""

from __future__ import annotations

import json

import pytest

from edgeloop.rollout import commands
from edgeloop.rollout.commands import Scorer
from edgeloop.rollout.device import Container, Found, read, restore_step, switch_step

SCORER = Scorer(pipeline="p", site="s", share="/share", port=8080)
NEW, OLD, OLDER = "reg/p@sha256:new", "reg/p@sha256:old", "reg/p@sha256:older"
NAME, PREVIOUS = SCORER.name, SCORER.previous


def container(reference: str, status: str = "running", restarts: int = 0) -> Container:
    """A container in a state."""
    return Container(
        reference=reference, image_id="sha256:1", status=status, exit_code=0, restarts=restarts, started_at=1.0
    )


UP, DOWN, MADE, LOOPING = "running", "exited", "created", "restarting"


@pytest.mark.parametrize(
    ("current", "previous", "command"),
    [
        (None, None, commands.run(SCORER, NEW)),
        ((OLD, UP), None, commands.stop(NAME)),
        ((OLD, UP), (OLDER, DOWN), commands.stop(NAME)),
        ((OLD, DOWN), (OLDER, DOWN), commands.remove(PREVIOUS)),
        ((OLD, DOWN), None, commands.rename(NAME, PREVIOUS)),
        (None, (OLD, DOWN), commands.run(SCORER, NEW)),
        (None, (OLD, UP), commands.stop(PREVIOUS)),
        ((NEW, MADE), (OLD, UP), commands.stop(PREVIOUS)),
        ((NEW, MADE), (OLD, DOWN), commands.start(NAME)),
        ((NEW, DOWN), None, commands.start(NAME)),
        ((NEW, "paused"), None, commands.remove(NAME)),
        ((NEW, UP), (OLD, DOWN), ""),
        ((NEW, UP), None, ""),
        ((NEW, LOOPING), (OLD, DOWN), ""),
    ],
)
def test_a_switch_goes_on_from_what_is_there(
    current: tuple[str, str] | None, previous: tuple[str, str] | None, command: str
) -> None:
    """One step at a time, the old one stopped before the new one is made, nothing to do when it serves."""
    found = Found(current=container(*current) if current else None, previous=container(*previous) if previous else None)
    assert switch_step(found, SCORER, NEW) == command


@pytest.mark.parametrize(
    ("current", "previous", "before", "command"),
    [
        ((NEW, UP), (OLD, DOWN), OLD, commands.remove(NAME)),
        ((NEW, LOOPING), (OLD, DOWN), OLD, commands.remove(NAME)),
        (None, (OLD, DOWN), OLD, commands.rename(PREVIOUS, NAME)),
        ((OLD, DOWN), None, OLD, commands.start(NAME)),
        ((OLD, UP), None, OLD, ""),
        ((OLD, UP), (OLDER, DOWN), OLD, ""),
        (None, (OLDER, DOWN), OLD, commands.run(SCORER, OLD)),
        (None, (OLDER, UP), OLD, commands.stop(PREVIOUS)),
        (None, None, OLD, commands.run(SCORER, OLD)),
        ((NEW, UP), None, "", commands.remove(NAME)),
        (None, None, "", ""),
        (None, (OLDER, DOWN), "", ""),
        (("reg/p@sha256:somebody", UP), (NEW, DOWN), OLD, ""),
    ],
)
def test_a_restore_goes_on_from_what_is_there(
    current: tuple[str, str] | None, previous: tuple[str, str] | None, before: str, command: str
) -> None:
    """The bad one goes, the one before it comes back; a device that somebody else switched is left alone."""
    found = Found(current=container(*current) if current else None, previous=container(*previous) if previous else None)
    assert restore_step(found, SCORER, NEW, before) == command


@pytest.mark.parametrize(
    ("current", "previous", "serves"),
    [
        (None, None, ""),
        (container(OLD), None, OLD),
        (container(OLD), container(OLDER, DOWN), OLD),
        (container(OLD, DOWN), container(OLDER, DOWN), OLD),
        (None, container(OLD, DOWN), OLD),
        (container(NEW, MADE), container(OLD, DOWN), OLD),
        (container(NEW, LOOPING, restarts=3), container(OLD, DOWN), OLD),
        (container(NEW, LOOPING, restarts=3), None, ""),
    ],
)
def test_what_serves_is_the_last_that_ran_well(
    current: Container | None, previous: Container | None, serves: str
) -> None:
    """A container that never ran, or fell over again and again, is not what a restore should go back to."""
    assert Found(current=current, previous=previous).serves == serves


def test_a_device_is_read_from_what_docker_says() -> None:
    """Two JSON lines by name; names that are not the scorer's are not there."""
    body = {
        "Name": f"/{PREVIOUS}",
        "Image": "sha256:2",
        "Config": {"Image": OLD},
        "State": {"Status": "exited", "ExitCode": 3, "StartedAt": "1970-01-01T00:00:02.5Z"},
        "RestartCount": 1,
    }
    found = read(json.dumps(body) + "\n\n", SCORER)
    assert found.current is None
    assert found.previous == Container(
        reference=OLD, image_id="sha256:2", status="exited", exit_code=3, restarts=1, started_at=2.5
    )
