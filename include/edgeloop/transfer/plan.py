"""How a file is cut and how many pieces travel at once: a function of its size and the configuration, nothing else.

Were the size of a block to follow the measured speed, a resume at another speed would cut the file differently and
find nothing of what it sent before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeloop.azure.features import Features
    from edgeloop.pipeline_data import Transfer

KIB, MIB = 1024, 1024 * 1024
BYTES_PER_MBIT = 1_000_000 // 8
SMALLEST, LARGEST = 256 * KIB, 8 * MIB
SECONDS_PER_BLOCK = 0.5
"""A block on its way is what a cut loses: half a second of the whole link, shared by the workers."""
WORKERS = ((4.0, 1), (20.0, 2), (200.0, 4))
"""Up to so many Mbit/s, so many workers: more only cut a slow link into thinner slices."""
MOST_WORKERS = 8
OLD_BLOCK_LIMIT, BLOCKS = 100 * MIB, 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a pipeline's files travel; the ``transfer`` section of pipeline.yaml.

    Args:
        link_mbit: Speed of the link in Mbit/s.
        limit_mbit: No more than this is used of it; 0 for no limit.
        sampled: Whether large blobs are read back in part only.
        sample_above: From which size on, in bytes.
        pipeline: Everything on this machine that travels for the pipeline shares its limit.
    """

    link_mbit: float = 1000.0
    limit_mbit: float = 0.0
    sampled: bool = False
    sample_above: int = 1024 * MIB
    pipeline: str = ""

    @classmethod
    def of(cls, transfer: Transfer, pipeline: str) -> Terms:
        """The terms that a pipeline's section says."""
        return cls(
            link_mbit=transfer.link_mbit,
            limit_mbit=transfer.limit_mbit,
            sampled=transfer.verify == "sampled",
            sample_above=transfer.sample_above_mb * MIB,
            pipeline=pipeline,
        )

    @property
    def mbit(self) -> float:
        """What may be used of the link (Mbit/s)."""
        return min(self.link_mbit, self.limit_mbit) if self.limit_mbit else self.link_mbit


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Size of a block in bytes, and how many travel at once; memory is bounded by their product."""

    block_bytes: int
    workers: int


def plan(size: int, terms: Terms, features: Features | None = None) -> Plan:
    """The plan for a file of ``size`` bytes: few and small blocks on slow links, at most 50,000 of them."""
    block = SMALLEST
    while block * 2 <= min(LARGEST, terms.mbit * BYTES_PER_MBIT * SECONDS_PER_BLOCK):
        block *= 2
    most = features.blocks if features else BLOCKS
    limit = features.block_bytes if features else OLD_BLOCK_LIMIT
    while block * most < size and block < limit:
        block = min(block * 2, limit)
    workers = next((count for mbit, count in WORKERS if terms.mbit <= mbit), MOST_WORKERS)
    return Plan(block_bytes=block, workers=workers)
