"""Whether a verdict asks for a retraining, and under which key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop import registry
from edgeloop.drift.judge import FALLEN

if TYPE_CHECKING:
    from edgeloop.origin import Origin
    from edgeloop.records import DriftVerdict
    from edgeloop.store import Store

PREFIX = "drift-"


def request_key(verdict: DriftVerdict) -> str:
    """The partition key of the retraining that ``verdict`` asks for; the same verdict always asks for the same one."""
    return f"{PREFIX}{verdict.id[:16]}"


def unasked(origin: Origin) -> str:
    """Why a run of this origin asks for no retraining, in one sentence; empty if it may.

    A rerun or backfill judges and leaves it there. The next live sweep finds the fall unheard and asks, so that the
    training is a live one, whose model may go to the devices.
    """
    if origin.live:
        return ""
    return f"a {origin.kind} only judges; the next sweep asks, or trigger this DAG with a reason as 'force'"


def refusal(store: Store, verdict: DriftVerdict) -> str:
    """Why ``verdict`` asks for no retraining now, in one sentence; empty if it does.

    A fall of a model that is champion no more was answered by its successor. While a candidate is on its way nothing is
    asked: two retrainings in flight would both be measured against the same champion. The sweep asks again if the
    candidate does not make it.
    """
    if verdict.verdict != FALLEN:
        return f"the verdict on {verdict.interval} is {verdict.verdict}: {verdict.reason}"
    now = registry.current(store)
    if verdict.model != now.champion:
        version = now.versions.get(verdict.model, 0)
        return f"the model that fell in {verdict.interval}, version {version}, is champion no more"
    if dataset := store.fixed("datasets", request_key(verdict)):
        return f"the retraining {request_key(verdict)} was asked for already; its dataset is {dataset[:16]}"
    if now.on_its_way:
        version = now.versions.get(now.on_its_way, 0)
        return f"version {version} is on its way to the devices; the sweep asks again if it is not promoted"
    return ""
