"""From a partition key to its batch, and from a batch to its certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.errors import NotFoundError
from edgeloop.records import Batch, Certificate

if TYPE_CHECKING:
    from edgeloop.store import Store


def batch_of(store: Store, key: str) -> Batch:
    """The batch that a partition key ``<group>@<id, 16 digits>`` names; raises ``NotFoundError`` if there is none."""
    group, _, prefix = key.rpartition("@")
    if group and prefix:
        batch = store.starting(Batch, prefix)
        if batch.key == key:
            return batch
    raise NotFoundError(
        f"Partition key {key!r} names no batch.",
        left="nothing was started",
        next="Give a key as intake minted it: <group>@<first 16 digits of the batch's id>.",
    )


def certificate_of(store: Store, batch: Batch) -> Certificate:
    """The latest certificate of a batch; raises ``NotFoundError`` if it has none."""
    found = store.children(batch.id, Certificate)
    if not found:
        raise NotFoundError(
            f"Batch {batch.key} has no certificate.", left="the batch", next="Clear the task that certifies it."
        )
    return max(found, key=lambda one: (one.certified_at, one.id))
