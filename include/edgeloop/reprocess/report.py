"""The plan in lines for the task's log: what would run again, what is left alone and why, and what follows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgeloop.reprocess.plan import Plan
    from edgeloop.reprocess.request import Request
    from edgeloop.reprocess.units import Unit

MOST_LINES = 200
AFTER = {
    "ingest": "train and drift hear of each batch as they would have without the failure",
    "train": "a model that may go out is packaged",
    "package": "an image that may go out starts its first ring",
    "rollout": "the next ring starts after this one, with its gate and its approval",
    "drift": "a fall asks for a retraining when the run is live, else at the next sweep",
}


def lines(request: Request, plan: Plan, errors: Mapping[str, str], serving: str) -> Iterator[str]:
    """The listing.

    Args:
        request: What was asked for.
        plan: What came of it.
        errors: The last error of a failed run, by run id.
        serving: The champion in words, or empty.
    """
    verb = "Would run" if request.dry_run else "Runs"
    yield f"{request.pipeline}, stage {request.stage}, {request.range}:"
    yield f"{verb} again, failed tasks of the same run: {len(plan.clear)} partitions"
    yield from _units(plan.clear, errors)
    yield f"{verb} in a run of their own{_given(request)}: {len(plan.start)} partitions"
    yield from _units(plan.start, errors)
    yield f"Not touched, in the range: {len(plan.left)} partitions"
    for left in plan.left[:MOST_LINES]:
        yield f"  {left.unit.key}  {left.unit.span}  {left.why}"
    yield from _more(len(plan.left))
    yield f"Not touched, outside of the range: {plan.outside} partitions; every other stage and pipeline"
    yield f"Follows by itself: {AFTER[request.stage]}"
    yield f"Devices: {_devices(request, serving)}"
    if request.dry_run and not plan.empty:
        yield "This was a dry run: nothing was changed. Trigger it again with dry_run false."


def tally(plan: Plan) -> str:
    """The reasons of what is left, counted, for one line."""
    counted = Counter(left.why for left in plan.left)
    return "; ".join(f"{count} x {why}" for why, count in counted.most_common())


def _units(units: tuple[Unit, ...], errors: Mapping[str, str]) -> Iterator[str]:
    for unit in units[:MOST_LINES]:
        error = errors.get(unit.attempt.run_id, "") if unit.attempt else ""
        ran = f"run {unit.attempt.run_id}, {unit.attempt.at:%Y-%m-%d %H:%M} UTC" if unit.attempt else "no run here"
        said = f": {error}" if error else ""
        yield f"  {unit.key}  {unit.span} ({unit.span.source})  {unit.state.value}, {ran}{said}"
    yield from _more(len(units))


def _more(count: int) -> Iterator[str]:
    if count > MOST_LINES:
        yield f"  ... and {count - MOST_LINES} more"


def _given(request: Request) -> str:
    wanted = [name for name, value in (("force", request.force), ("promote", request.promote)) if value]
    return f" ({' and '.join(wanted)}: {request.reason})" if wanted else ""


def _devices(request: Request, serving: str) -> str:
    keeps = f"{serving} serves on" if serving else "nothing serves yet"
    if request.promote:
        return f"{keeps} until a model of these runs has passed every ring, because promote is on"
    return (
        f"{keeps}; a run that is started here sends no model out, one that goes on does what it would have done, and "
        "older data never replaces newer"
    )
