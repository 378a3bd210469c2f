"""The verdict on one interval, pure: from matched rows and the accuracy the model had when it was registered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeloop.drift.join import Matched

Outcome = Literal["good", "fallen", "inconclusive"]
GOOD: Outcome = "good"
FALLEN: Outcome = "fallen"
INCONCLUSIVE: Outcome = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts of one model at one site. ``error`` is the sum of absolute errors of the answered rows, target's unit."""

    sha256: str
    site: str
    rows: int
    right: int
    unanswered: int
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """``fall``: how far below its hold-out accuracy a model may be; ``minimum_rows``: fewer decide nothing."""

    fall: float
    minimum_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found; ``accuracy``, ``reference``, ``per_site`` are shares of right rows, ``mae`` in target units."""

    outcome: Outcome
    reason: str
    rows: int
    accuracy: float
    reference: float
    mae: float
    per_site: tuple[tuple[str, float], ...]


def tally(matched: Iterable[Matched], tolerance: float) -> list[Tally]:
    """Count right rows, |prediction - label| < ``tolerance``; a row without a number is wrong and has no error."""
    import numpy as np

    counts = []
    for one in matched:
        error = np.abs(one.predicted - one.label)
        answered = np.isfinite(error)
        counts.append(
            Tally(
                sha256=one.sha256,
                site=one.site,
                rows=len(error),
                right=int((error < tolerance).sum()),
                unanswered=int((~answered).sum()),
                error=float(error[answered].sum()),
            )
        )
    return counts


def choose(tallies: Iterable[Tally], champion: str, minimum_rows: int) -> str:
    """The digest of the model to judge: the champion if it has ``minimum_rows``, else the one with the most rows.

    The champion too where nothing matched at all: that, too, is to be told.
    """
    rows: dict[str, int] = {}
    for one in tallies:
        rows[one.sha256] = rows.get(one.sha256, 0) + one.rows
    if not rows or rows.get(champion, 0) >= minimum_rows:
        return champion
    return max(rows, key=lambda sha256: (rows[sha256], sha256 == champion, sha256))


def judge(tallies: Sequence[Tally], reference: float | None, policy: Policy) -> Verdict:
    """Judge the tallies of one model; ``reference`` is its hold-out accuracy, None if it was never registered."""
    rows, right = sum(one.rows for one in tallies), sum(one.right for one in tallies)
    answered = rows - sum(one.unanswered for one in tallies)
    accuracy = right / rows if rows else 0.0
    per_site = tuple((one.site, round(one.right / one.rows, 6)) for one in tallies if one.rows)
    outcome, reason = _outcome(rows, accuracy, reference, policy)
    if outcome == FALLEN and reference is not None:
        low = [site for site, share in per_site if below(share, reference, policy.fall)]
        reason += f"; below the limit at {', '.join(low) if low else 'no single site'}"
    if unanswered := rows - answered:
        reason += f"; {unanswered} rows were answered without a number"
    return Verdict(
        outcome=outcome,
        reason=reason,
        rows=rows,
        accuracy=round(accuracy, 6),
        reference=round(reference or 0.0, 6),
        mae=round(sum(one.error for one in tallies) / answered, 6) if answered else 0.0,
        per_site=per_site,
    )


def below(accuracy: float, reference: float, fall: float) -> bool:
    """Whether ``accuracy`` is more than ``fall`` under ``reference``; exactly ``fall`` under it is not."""
    # In binary 0.9 - 0.8 - 0.1 is -2.8e-17 and 0.8 - 0.7 - 0.1 is 8.3e-17: exactly the limit must mean the same.
    return round(reference - accuracy - fall, 9) > 0


def _outcome(rows: int, accuracy: float, reference: float | None, policy: Policy) -> tuple[Outcome, str]:
    if rows < policy.minimum_rows:
        return INCONCLUSIVE, f"{rows} predictions found their label, {policy.minimum_rows} are needed"
    if reference is None:
        return INCONCLUSIVE, f"accuracy {accuracy:.4f} over {rows} rows of a model that was never registered"
    limit = f"{accuracy:.4f} over {rows} rows, {reference:.4f} on its hold-out, may fall by {policy.fall:.4f}"
    if below(accuracy, reference, policy.fall):
        return FALLEN, f"accuracy has fallen: {limit}"
    return GOOD, f"accuracy holds: {limit}"
