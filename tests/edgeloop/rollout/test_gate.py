"""The gate's decisions, and the watch around it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeloop.rollout.gate import Observation, Outcome, decide, judge
from edgeloop.rollout.watch import watch

GOOD = Observation(site="R1", status="running", digest=True, started_at=5.0, ready=True)
FAIL, PASS, OPEN = Outcome.FAIL, Outcome.PASS, Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("seen", "outcome", "reason"),
    [
        (GOOD, PASS, "R1 answers as the model does"),
        (replace(GOOD, wrong="gave 1 of 2"), FAIL, "R1 gave 1 of 2"),
        (replace(GOOD, ready=False), OPEN, "R1 has a scorer that is not ready"),
        (replace(GOOD, restarts=1), FAIL, "R1 has a scorer that does not stay up (running, 1 restarts)"),
        (replace(GOOD, status="restarting"), FAIL, "R1 has a scorer that does not stay up (restarting, 0 restarts)"),
        (replace(GOOD, status="exited"), FAIL, "R1 has a scorer that does not stay up (exited, 0 restarts)"),
        (replace(GOOD, digest=False), FAIL, "R1 runs another image"),
        (Observation(site="R1"), FAIL, "R1 has no scorer"),
        (Observation(site="R1", unreachable="no route"), OPEN, "R1 cannot be asked: no route"),
    ],
)
def test_one_device_is_judged_by_what_it_was_found_to_do(seen: Observation, outcome: Outcome, reason: str) -> None:
    """What cannot come right fails; what still may leaves it open."""
    verdict = judge(seen)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        ([GOOD, GOOD], PASS),
        ([GOOD, replace(GOOD, ready=False)], OPEN),
        ([replace(GOOD, ready=False), replace(GOOD, wrong="x")], FAIL),
        ([Observation(site="R1", unreachable="x"), GOOD], OPEN),
        ([], FAIL),
    ],
)
def test_a_ring_is_as_good_as_its_worst_device(seen: list[Observation], outcome: Outcome) -> None:
    """One failure fails it, one open question leaves it open, and nothing at all is no success."""
    assert decide(seen).outcome is outcome


def watched(looks: list[Observation], **options: float) -> tuple[Outcome, int]:
    """Watch through ``looks`` (the last repeats); the outcome and how many were needed."""
    count = 0

    def look() -> list[Observation]:
        nonlocal count
        count += 1
        return [looks[min(count, len(looks)) - 1]]

    wanted = {"soak_seconds": 0.0, "ready_seconds": 30.0, **options}
    return watch(look, poll_seconds=0.001, **wanted).outcome, count


def test_a_watch_waits_for_what_may_come_right() -> None:
    """Two looks find it starting, the third passes it."""
    starting = replace(GOOD, ready=False)
    assert watched([starting, starting, GOOD]) == (PASS, 3)


def test_a_watch_ends_at_the_first_failure() -> None:
    """A wrong answer ends the soak at once."""
    assert watched([GOOD, replace(GOOD, wrong="x")], soak_seconds=30.0) == (FAIL, 2)


def test_a_soak_starts_anew_when_the_process_is_another_one() -> None:
    """A scorer that died and came back between two looks has to last the whole soak again."""
    reborn = [replace(GOOD, started_at=float(n)) for n in range(50)]
    outcome, count = watched([*reborn, GOOD], soak_seconds=0.01)
    assert outcome is PASS
    assert count > 50


def test_what_never_comes_right_stays_inconclusive() -> None:
    """The time given is up: neither pass nor fail."""
    assert watched([replace(GOOD, ready=False)], ready_seconds=0.0)[0] is OPEN
