"""Whether a ring passes: pure, three-valued, decided on what the devices themselves were found to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Outcome(StrEnum):
    """``inconclusive`` is for what may still come right: a device out of reach, a scorer that is starting."""

    PASS = "pass"  # noqa: S105 - an outcome
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One device, seen from outside.

    ``unreachable`` says why the device could not be asked, ``wrong`` why its golden answers are not the model's; both
    are empty when there is nothing to say. ``digest`` tells whether the running container's image was pulled under the
    rollout's digest. ``started_at`` in seconds since 1970.
    """

    site: str
    unreachable: str = ""
    status: str = ""
    digest: bool = False
    restarts: int = 0
    started_at: float = 0.0
    ready: bool = False
    wrong: str = ""

    @property
    def serving(self) -> bool:
        """Whether the image of this digest runs there, well or badly."""
        return self.digest and self.status == "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An outcome and the sentence that explains it."""

    outcome: Outcome
    reason: str


def judge(one: Observation) -> Verdict:
    """What one device says about the image."""
    down = bool(one.restarts) or one.status != "running"
    findings = (
        (bool(one.unreachable), Outcome.INCONCLUSIVE, f"cannot be asked: {one.unreachable}"),
        (not one.status, Outcome.FAIL, "has no scorer"),
        (not one.digest, Outcome.FAIL, "runs another image"),
        (down, Outcome.FAIL, f"has a scorer that does not stay up ({one.status}, {one.restarts} restarts)"),
        (not one.ready, Outcome.INCONCLUSIVE, "has a scorer that is not ready"),
        (bool(one.wrong), Outcome.FAIL, one.wrong),
        (True, Outcome.PASS, "answers as the model does"),
    )
    outcome, reason = next((outcome, reason) for so, outcome, reason in findings if so)
    return Verdict(outcome=outcome, reason=f"{one.site} {reason}")


def since(one: Observation, restarts: int) -> Observation:
    """An observation that counts only the restarts after the first ``restarts``."""
    return replace(one, restarts=max(one.restarts - restarts, 0))


def decide(observations: Sequence[Observation]) -> Verdict:
    """One failing device fails the ring; one that cannot be judged leaves it open; an empty ring does not pass."""
    verdicts = [judge(one) for one in observations]
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS):
        reasons = [one.reason for one in verdicts if one.outcome is outcome]
        if reasons:
            return Verdict(outcome=outcome, reason="; ".join(reasons))
    return Verdict(outcome=Outcome.FAIL, reason="the ring has no devices")


def steady(before: Sequence[Observation], now: Sequence[Observation]) -> bool:
    """Whether the same processes run as before: a scorer that died and came back starts its soak anew."""
    return [(one.site, one.started_at) for one in before] == [(one.site, one.started_at) for one in now]
