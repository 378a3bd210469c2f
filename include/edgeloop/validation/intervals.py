"""Which intervals of event time have labels from every site, told from certificates alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeloop.records import Batch, Certificate, canonical_json, sha256_hex
from edgeloop.store import Store

WIDTH = {"month": len("2014-01"), "day": len("2014-01-05")}
"""How much of an ISO date names the interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """One interval: which certificates cover it, and which sites have no rows in it yet."""

    interval: str
    certificates: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def watermark(self) -> str:
        """The sha256 of what the labels are made of; other data, other watermark."""
        return sha256_hex(canonical_json(sorted(self.certificates)))

    @property
    def key(self) -> str:
        """Names the interval with what it is made of: ``2014-01-<watermark, 16 digits>``."""
        return f"{self.interval}-{self.watermark[:16]}"


def newest(certificates: Iterable[Certificate]) -> dict[str, Certificate]:
    """The certificate that counts for each group: of the latest claim, and of that the latest certification."""
    found: dict[str, Certificate] = {}
    for one in sorted(certificates, key=lambda one: (one.claimed_at, one.certified_at, one.id)):
        found[one.group] = one
    return found


def intervals_of(certificate: Certificate, width: str) -> tuple[str, ...]:
    """The intervals (``month`` or ``day``) that a certificate has rows in, oldest first."""
    return tuple(sorted({entry[: WIDTH[width]] for entry in certificate.coverage}))


def labels_of(interval: str, certificates: Iterable[Certificate], sites: Iterable[str]) -> Labels:
    """What ``certificates`` (the newest of each group) hold of one interval."""
    present: set[str] = set()
    covering = []
    for one in certificates:
        inside = {entry.split(" ")[1] for entry in one.coverage if entry.startswith(interval)}
        if inside:
            covering.append(one.id)
            present |= inside
    return Labels(
        interval=interval,
        certificates=tuple(sorted(covering)),
        missing=tuple(site for site in sites if site not in present),
    )


def batch_of(store: Store, key: str) -> Batch:
    """The batch that a partition key ``<group>@<id, 16 digits>`` names; raises ``NotFoundError`` if there is none."""
    from edgeloop.errors import NotFoundError

    prefix = f"records/batch/{key.rpartition('@')[2]}"
    names = [one.name for one in store.objects.list(prefix)] if "@" in key else []
    if len(names) != 1:
        raise NotFoundError(
            f"Partition key {key!r} names {len(names)} batches.",
            left="nothing was started",
            next="Give a key as intake minted it: <group>@<first 16 digits of the batch's id>.",
        )
    return store.get(Batch, names[0].removeprefix("records/batch/").removesuffix(".json"))


def certificate_of(store: Store, batch: Batch) -> Certificate:
    """The latest certificate of a batch; raises ``NotFoundError`` if it has none."""
    from edgeloop.errors import NotFoundError

    found = store.children(batch.id, Certificate)
    if not found:
        raise NotFoundError(f"Batch {batch.key} has no certificate.", next="Clear the task that certifies it.")
    return max(found, key=lambda one: one.certified_at)
