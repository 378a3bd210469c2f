"""What is told of each thing in a chain: from a record to a node. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from edgeloop.lineage.chain import Node
from edgeloop.lineage.links import short

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.lineage.chain import Check
    from edgeloop.records import Batch, Certificate, Dataset, ModelImage, ModelVersion, Record, Rollout, TrainingRun
    from edgeloop.rollout.history import Served


def image(one: ModelImage, record_id: str) -> Node:
    """An image: what it is pulled by and what was measured when it was proven."""
    facts = (f"pulled as {one.reference}", f"proof {one.proof}" if one.proof else "", _origin(one.origin))
    return _node("image", record_id, one.key, facts)


def model(one: ModelVersion, record_id: str) -> Node:
    """A model: its number, its bytes, its accuracy."""
    facts = (
        f"sha256 {one.sha256}, {one.size} bytes",
        _accuracy(one.metrics),
        f"data until {one.window_end}" if one.window_end else "",
        ", ".join(one.tags),
        _origin(one.origin),
    )
    return _node("model", record_id, f"v{one.version}", facts)


def training(one: TrainingRun, record_id: str) -> Node:
    """A training: why, with what, how long."""
    facts = (
        one.reason,
        f"image {one.image}, parameters {one.parameters}, {one.seconds:.0f} s",
        f"measured against the model {short(one.champion)}" if one.champion else "",
        f"forced: {one.forced}" if one.forced else "",
        _origin(one.origin),
    )
    return _node("training_run", record_id, short(record_id), facts)


def dataset(one: Dataset, record_id: str) -> Node:
    """A dataset: its window of event time."""
    facts = (
        f"{one.window_start} to {one.window_end}, held out from {one.holdout_start}",
        f"{len(one.files)} files of {len(one.certificates)} certificates",
        one.reason,
        _origin(one.origin),
    )
    return _node("dataset", record_id, short(record_id), facts)


def certificate(one: Certificate, record_id: str) -> Node:
    """A certificate: what was let through and what was not."""
    facts = (
        f"{one.group}: {one.rows} rows in {len(one.files)} files, {one.quarantined} quarantined",
        f"set aside: {', '.join(one.set_aside)}" if one.set_aside else "",
        _origin(one.origin),
    )
    return _node("certificate", record_id, short(record_id), facts)


def batch(one: Batch, record_id: str) -> Node:
    """A batch: when it was claimed and what it replaced."""
    facts = (
        f"{len(one.files)} files, claimed {one.claimed_at}",
        f"replaces {short(one.replaces)}" if one.replaces else "",
        _origin(one.origin),
    )
    return _node("batch", record_id, one.key, facts)


def files(one: Batch, checks: tuple[Check, ...] = ()) -> tuple[Node, ...]:
    """The files of a batch as they were on the share; ``checks`` are of each of them, or none were made."""
    unseen = "" if checks else ", not looked at"
    nodes = (
        Node(kind="file", id=file.sha256, name=file.path, facts=(f"{file.size} bytes, sha256 {file.sha256}{unseen}",))
        for file in one.files
    )
    return tuple(nodes) if unseen else tuple(node.having((check,)) for node, check in zip(nodes, checks, strict=True))


def rollout(one: Rollout, record_id: str) -> Node:
    """What a ring did with an image."""
    facts = (
        one.reason,
        f"approved by {one.approved_by}" if one.approved_by else "",
        *one.devices,
    )
    return _node("rollout", record_id, f"ring {one.ring} {one.outcome}", facts)


def device(one: Served) -> Node:
    """A device for the time it served something."""
    what = short(one.what) if one.what else "nothing"
    until = f"until {one.until}" if one.until else "until now"
    facts = (f"served {what} from {one.since} {until}", f"brought by {one.by}")
    return _node("device", one.site, one.site, facts)


TOLD: dict[str, Callable[[Any, str], Node]] = {
    "batch": batch,
    "certificate": certificate,
    "dataset": dataset,
    "training_run": training,
    "model": model,
    "image": image,
    "rollout": rollout,
}


def record(one: Record, record_id: str) -> Node:
    """Any record that stands in a chain."""
    return TOLD[one.kind](one, record_id)


def _node(kind: str, node_id: str, name: str, facts: tuple[str, ...]) -> Node:
    return Node(kind=kind, id=node_id, name=name, facts=tuple(one for one in facts if one))


def _origin(origin: str) -> str:
    return "" if origin == "live" else f"of a {origin}"


def _accuracy(metrics: str) -> str:
    try:
        found = json.loads(metrics)["accuracy"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f"accuracy {found}"
