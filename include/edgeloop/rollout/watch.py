"""Watching a ring until it is known to be good or bad: the waiting around the gate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgeloop.rollout.gate import Outcome, Verdict, decide, steady

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeloop.rollout.gate import Observation

READY_SECONDS = 90.0
POLL_SECONDS = 1.0


def watch(
    look: Callable[[], Sequence[Observation]],
    *,
    soak_seconds: float,
    ready_seconds: float = READY_SECONDS,
    poll_seconds: float = POLL_SECONDS,
    report: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Look at a ring until it fails, or has passed every look for ``soak_seconds`` on end.

    It has ``ready_seconds`` beyond the soak time to get there; what is still open then is inconclusive.
    """
    deadline = time.monotonic() + ready_seconds + soak_seconds
    since: float | None = None
    first: Sequence[Observation] = ()
    told = ""
    while True:
        seen = look()
        now, verdict = time.monotonic(), decide(seen)
        if verdict.reason != told:
            told = verdict.reason
            report(f"{verdict.outcome}: {verdict.reason}")
        if verdict.outcome is Outcome.FAIL:
            return verdict
        if verdict.outcome is Outcome.PASS:
            if since is None or not steady(first, seen):
                since, first = now, seen
            if now - since >= soak_seconds:
                return verdict
        else:
            since = None
        if now > deadline:
            return Verdict(outcome=Outcome.INCONCLUSIVE, reason=f"{verdict.reason} (after {ready_seconds:.0f} s)")
        time.sleep(poll_seconds)
