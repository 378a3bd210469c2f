"""What a fleet makes of a device whose engine is away for a single command: never "there is nothing"."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.shipyard import linear

from edgeloop.errors import RemoteCommandError
from edgeloop.rollout import commands
from edgeloop.rollout.gate import Outcome, judge
from edgeloop.rollout.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.shipyard import Shipyard

SITE = "R80711"
SCORER = 10001
AWAY = "docker --host unix:///nowhere.sock "
KILLED = "sh -c 'kill -9 $$'"


def away(command: Callable[..., str]) -> Callable[..., str]:
    """The same command to an engine that is not there."""
    return lambda *asked: command(*asked).replace("docker ", AWAY)


@pytest.fixture
def small(shipyard: Shipyard) -> str:
    """The reference of a good image, which one device serves."""
    reference = shipyard.ship(linear(1.0, 2.0), 1).reference
    shipyard.fleet.switch(SITE, reference)
    return reference


def test_an_engine_away_between_two_commands_of_a_look_leaves_the_gate_open(
    shipyard: Shipyard, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container was seen, its digests could not be asked: that is no other image, and fails no model."""
    wanted = shipyard.wanted(small)
    monkeypatch.setattr(commands, "digests", away(commands.digests))
    verdict = judge(shipyard.fleet.observe(SITE, wanted))
    assert (verdict.outcome, "does not answer" in verdict.reason) == (Outcome.INCONCLUSIVE, True), verdict


@pytest.mark.parametrize("inspect", [KILLED, "false", AWAY + "inspect x"])
def test_a_look_that_was_told_nothing_is_not_an_empty_device(
    shipyard: Shipyard, inspect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed `docker inspect` says nothing; taken for an empty device, its restore would remove what serves."""
    monkeypatch.setattr(commands, "inspect", lambda _: inspect)
    with pytest.raises(RemoteCommandError, match="edgeloop_device_r80711"):
        shipyard.fleet.look(SITE)


def test_a_device_without_a_scorer_is_empty(shipyard: Shipyard) -> None:
    """Docker says of both names that there is no such container."""
    found = shipyard.fleet.look(SITE)
    assert (found.current, found.previous) == (None, None)


def test_an_engine_that_is_away_holds_images_all_the_same(shipyard: Shipyard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for its images it raises, instead of a prediction that everything must be pulled."""
    monkeypatch.setattr(commands, "held", away(commands.held))
    with pytest.raises(RemoteCommandError, match="does not answer"):
        shipyard.fleet.held(SITE)


def test_a_share_that_takes_no_log_fails_no_model(shipyard: Shipyard, small: str) -> None:
    """The scorer answers 503 while it cannot log what it predicts: the device's trouble, and it may come right."""
    wanted, logs = shipyard.wanted(small), shipyard.site.device(SITE).share / "predictions" / "undated"
    for folder in (logs.parent, logs):
        folder.mkdir(exist_ok=True)
        os.chown(folder, SCORER, SCORER)
    logs.chmod(0o500)
    try:
        verdict = watch(lambda: [shipyard.fleet.observe(SITE, wanted)], soak_seconds=0.0, ready_seconds=1.0)
    finally:
        logs.chmod(0o755)
    assert (verdict.outcome, "not ready" in verdict.reason) == (Outcome.INCONCLUSIVE, True), verdict
    assert watch(lambda: [shipyard.fleet.observe(SITE, wanted)], soak_seconds=0.0).outcome is Outcome.PASS
