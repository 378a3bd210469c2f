"""What a device is found to run, and the next thing to do about it. Pure.

A switch is never a script: one looks, does one step, and looks again. So a switch that was killed anywhere goes on from
what is there, and a switch that is done finds nothing to do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.containers.stream import seconds
from edgeloop.rollout import commands

if TYPE_CHECKING:
    from edgeloop.rollout.commands import Scorer

UP = ("running", "restarting", "paused")
HELD_UP = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container on a device; ``reference`` is what it was started from, ``image_id`` what it really runs."""

    reference: str
    image_id: str
    status: str
    exit_code: int
    restarts: int
    started_at: float

    @property
    def up(self) -> bool:
        """Whether it holds the port or will come back to it by itself."""
        return self.status in UP

    @property
    def serving(self) -> bool:
        """Whether it is up and not held."""
        return self.up and self.status != HELD_UP

    @property
    def running(self) -> bool:
        """Whether its process runs now."""
        return self.status == "running"

    @property
    def failed(self) -> bool:
        """Whether it never ran, or ended by itself: what served is then the one before it."""
        return self.status == "created" or self.restarts > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a device has under the scorer's two names; None where there is nothing."""

    current: Container | None = None
    previous: Container | None = None

    @property
    def serves(self) -> str:
        """The reference that serves, or served until a switch was cut off; empty on a device that never had one."""
        current, previous = self.current, self.previous
        if current is not None and (current.running or not current.failed):
            return current.reference
        return previous.reference if previous is not None else ""


def digest_of(reference: str) -> str:
    """``sha256:...`` of a reference by digest; empty for one by tag."""
    return reference.partition("@")[2]


def read(text: str, scorer: Scorer) -> Found:
    """Read the answer to :func:`edgeloop.rollout.commands.inspect`."""
    bodies = [json.loads(line) for line in text.splitlines() if line.strip()]
    by_name = {body["Name"].removeprefix("/"): _container(body) for body in bodies}
    return Found(current=by_name.get(scorer.name), previous=by_name.get(scorer.previous))


def _container(body: dict[str, Any]) -> Container:
    state = body["State"]
    return Container(
        reference=body["Config"]["Image"],
        image_id=body["Image"],
        status=state["Status"],
        exit_code=state["ExitCode"],
        restarts=body.get("RestartCount", 0),
        started_at=seconds(state["StartedAt"]),
    )


def switch_step(found: Found, scorer: Scorer, reference: str) -> str:
    """The next command on the way to ``reference`` serving, the one before it kept stopped; empty when it is so.

    At no moment do two scorers run: the old one is stopped before the new one is made.
    """
    current, previous = found.current, found.previous
    if current is not None and current.reference != reference:
        return _set_aside(current, previous, scorer)
    if current is not None and current.serving:
        return ""
    if previous is not None and previous.up:
        return commands.stop(scorer.previous)
    return _bring_up(current, scorer, reference)


def _set_aside(current: Container, previous: Container | None, scorer: Scorer) -> str:
    # Stopped before it is renamed, so that only a container known to be stopped is ever called previous.
    if current.up:
        return commands.stop(scorer.name)
    if previous is not None:
        return commands.remove(scorer.previous)
    return commands.rename(scorer.name, scorer.previous)


def _bring_up(current: Container | None, scorer: Scorer, reference: str) -> str:
    if current is None:
        return commands.run(scorer, reference)
    return commands.remove(scorer.name) if current.status == HELD_UP else commands.start(scorer.name)


def restore_step(found: Found, scorer: Scorer, bad: str, before: str) -> str:
    """The next command on the way from ``bad`` back to ``before`` (empty: nothing served); empty when it is so.

    A device that serves neither by now belongs to somebody else's rollout and is left alone.
    """
    current, previous = found.current, found.previous
    if current is not None and current.reference == bad != before:
        return commands.remove(scorer.name)
    if not before or (current is not None and (current.serving or current.reference != before)):
        return ""
    if current is None and previous is not None and previous.reference == before:
        return commands.rename(scorer.previous, scorer.name)
    if previous is not None and previous.up:
        return commands.stop(scorer.previous)
    return _bring_up(current, scorer, before)
