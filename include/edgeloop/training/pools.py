"""How jobs queue for a VM: a pool per VM whose slots are hundredths of it, and what share of them a job takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.pipeline import Pipeline

SLOTS = 100
"""A whole VM, whatever it has: so the pool never changes with the pipelines that share it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool as Airflow keeps it; deferred tasks keep their slots, since a parked training keeps the VM busy."""

    name: str
    slots: int = SLOTS
    description: str = ""


def pool_name(connection: str) -> str:
    """The pool of the VM behind a connection."""
    return f"vm_{connection}"


def pool_slots(spec: Pipeline) -> int:
    """How many hundredths of its VM one training of a pipeline takes: those of the resource it takes most of.

    A pipeline that does not say what the VM has takes all of it, so that its jobs run one after the other.
    """
    training, vm = spec.training, spec.training.vm
    if vm is None:
        return SLOTS
    shares = [training.cpus / vm.cpus, training.memory_mb / vm.memory_mb]
    if training.gpus:
        shares.append(training.gpus / vm.gpus)
    return min(SLOTS, max(1, math.ceil(SLOTS * max(shares))))


def pools(specs: Iterable[Pipeline]) -> tuple[Pool, ...]:
    """The pools that a set of pipelines needs, by name."""
    users: dict[str, list[str]] = {}
    for spec in specs:
        if spec.training.backend == "vm":
            users.setdefault(spec.training.connection, []).append(spec.name)
    return tuple(
        Pool(name=pool_name(one), description=f"Hundredths of the VM of {one}; trains {', '.join(sorted(names))}")
        for one, names in sorted(users.items())
    )
