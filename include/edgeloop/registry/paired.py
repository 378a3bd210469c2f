"""A paired test of challenger and champion on the same hold-out: who was right where the other was not. Pure.

Rows that lie close together err together: of ten-minute rows of real wind turbines, differences of neighbouring hours
correlate by 0.3 to 0.7, those of neighbouring days hardly. McNemar's test takes rows for independent and was a hundred
times too sure of such data (p 2e-4 where days say 0.03). So what is counted here are blocks of time, a day by default:
if the two were equally good, each block's difference would be as likely with the other sign. Of all 2^n ways to set the
signs, p is the share whose sum is at least the one that was seen: Fisher's randomisation test for matched pairs
(The Design of Experiments, 1935, section 21; Pitman 1937), with blocks as the pairs, as cluster versions of McNemar's
test have clusters (Durkalski et al., Statistics in Medicine 22:2417, 2003).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeloop.errors import TrainingFailedError

NAME = "paired"
COUNTS = ("both", "challenger", "champion", "neither")
ROUNDING = 1e-4
"""By how much an accuracy may differ from the counts it is a share of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """How many hold-out rows ``both``, only the ``challenger``, only the ``champion`` or ``neither`` predicted right.

    ``blocks`` are the rows that only the challenger and only the champion had right, for each stretch of
    ``block_hours`` in order of time.
    """

    both: int
    challenger: int
    champion: int
    neither: int
    block_hours: float
    blocks: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> int:
        """How many rows were compared."""
        return self.both + self.challenger + self.champion + self.neither

    @property
    def gain(self) -> float:
        """The challenger's share of right rows less the champion's."""
        return (self.challenger - self.champion) / self.rows

    @property
    def p_value(self) -> float:
        """How likely a gain at least as large is between two equally good models."""
        return sign_flip([ours - theirs for ours, theirs in self.blocks])

    @property
    def smallest_p(self) -> float:
        """What the p value would be if the challenger won every block."""
        return 0.5 ** len(self.blocks)

    def figures(self) -> dict[str, float]:
        """What travels with the model: figures only, and a fixed number of them."""
        return {
            "rows": self.rows,
            "only_challenger_right": self.challenger,
            "only_champion_right": self.champion,
            "gain": round(self.gain, 6),
            "blocks": len(self.blocks),
            "block_hours": self.block_hours,
            "p_value": float(f"{self.p_value:.4g}"),
        }


def sign_flip(differences: list[int]) -> float:
    """The share of all ways to set the signs whose sum is at least that of ``differences``: exact, for any number."""
    import numpy as np

    sizes = [abs(one) for one in differences]
    reach = sum(sizes)
    # chances[s + reach]: how likely the sum s is, built up one difference at a time.
    chances = np.zeros(2 * reach + 1)
    chances[reach] = 1.0
    for size in sizes:
        if size:
            moved = np.zeros_like(chances)
            moved[size:] += chances[:-size] / 2
            moved[:-size] += chances[size:] / 2
            chances = moved
    return min(float(chances[sum(differences) + reach :].sum()), 1.0)


def read(metrics: Mapping[str, Any]) -> Paired:
    """The paired counts of metrics.json.

    Raises:
        TrainingFailedError: They are not there, no whole numbers, or say otherwise than themselves or the accuracies.
    """
    raw = metrics.get(NAME)
    if not isinstance(raw, Mapping):
        raise _wrong("it holds none, so the challenger cannot be compared with the champion")
    counts = [raw.get(name) for name in COUNTS]
    if not all(map(_whole, counts)) or not sum(counts):  # type: ignore[arg-type]
        raise _wrong(f"{', '.join(COUNTS)} must be whole numbers of rows, 0 or more, and not all of them 0")
    blocks, hours = raw.get("blocks"), raw.get("block_hours")
    if not isinstance(blocks, list) or not all(
        isinstance(one, list) and len(one) == 2 and all(map(_whole, one))  # noqa: PLR2004 - challenger and champion
        for one in blocks
    ):
        raise _wrong("blocks must be a list of [rows only the challenger had right, rows only the champion had right]")
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not math.isfinite(hours) or hours <= 0:
        raise _wrong("block_hours must be a number above 0")
    found = Paired(**dict(zip(COUNTS, counts, strict=True)), block_hours=hours, blocks=tuple(map(tuple, blocks)))  # type: ignore[arg-type]
    _agree(found, metrics)
    return found


def _agree(found: Paired, metrics: Mapping[str, Any]) -> None:
    sums = tuple(sum(one[side] for one in found.blocks) for side in (0, 1))
    if sums != (found.challenger, found.champion):
        raise _wrong(f"the blocks add up to {sums}, the counts are {(found.challenger, found.champion)}")
    champion = metrics.get("champion")
    said = (metrics.get("accuracy"), champion.get("accuracy") if isinstance(champion, Mapping) else None)
    for who, share, alone in zip(("the challenger", "the champion"), said, sums, strict=True):
        counted = (found.both + alone) / found.rows
        if not isinstance(share, int | float) or abs(counted - share) > ROUNDING:
            raise _wrong(f"by the counts {who} has accuracy {counted:.4f}, by metrics.json {share!r}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _wrong(what: str) -> TrainingFailedError:
    return TrainingFailedError(
        f"The paired counts in metrics.json cannot be used: {what}.",
        left="the champion, which serves on; nothing was registered",
        next="Let train.py write 'paired' where there is a champion.onnx (docs/pipeline.md, train.py); the changed "
        "script is trained by itself at the next sweep.",
    )
