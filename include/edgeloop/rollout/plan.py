"""Which devices change in which order: rings, and the partition keys that stand for them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline, Ring

KEY = re.compile(r"^(?P<image>[0-9a-f]{8,64})@ring(?P<ring>\d{1,3})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One ring of one image: ``image`` is the image's key, ``ring`` counts from 0."""

    image: str
    ring: int

    @property
    def key(self) -> str:
        """The partition key of the run."""
        return f"{self.image}@ring{self.ring}"

    @classmethod
    def parse(cls, key: str | None) -> Step:
        """Read a partition key; raises ``ConfigurationError`` if it is none of a ring."""
        match = KEY.match(key or "")
        if match is None:
            raise ConfigurationError(
                f"{key!r} is no ring: a rollout's partition key reads '<image key>@ring<number>'.",
                left="every device",
                next="Trigger the run with the key that the push task logged, or clear that task.",
            )
        return cls(image=match["image"], ring=int(match["ring"]))


def ring_of(spec: Pipeline, step: Step) -> Ring:
    """The ring of a step; raises ``ConfigurationError`` if the pipeline has no such ring."""
    rings = spec.rollout.rings
    if step.ring >= len(rings):
        raise ConfigurationError(
            f"Pipeline {spec.name} has {len(rings)} rings, so there is no ring {step.ring}.",
            left="every device",
            next=f"Rings are numbered from 0: {', '.join(f'{n} {one.name}' for n, one in enumerate(rings))}.",
        )
    return rings[step.ring]


def following(spec: Pipeline, step: Step) -> Step | None:
    """The step after this one, or None after the last ring."""
    after = Step(image=step.image, ring=step.ring + 1)
    return after if after.ring < len(spec.rollout.rings) else None
