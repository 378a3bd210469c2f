"""What a training is made of beside its data, so that a change of it can be noticed and told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.records import canonical_json, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeloop.catalog import Snapshot
    from edgeloop.pipeline import Pipeline

SCHEME = 1
"""Raise it when parts are named otherwise: then nothing has changed, and nothing is trained for it."""
SHOWN = 12
IMAGE_ID = "image:id"
IMAGE = "image:name"
ABSENT = "(none)"


def inputs_of(spec: Pipeline) -> dict[str, str]:
    """What pipeline.yaml says of the rows and columns that a training sees."""
    return {
        "target": spec.columns.target,
        "time": spec.columns.time,
        "site": spec.columns.site,
        "features": ", ".join(one.name for one in spec.model.features),
        "domain": spec.model.domain,
    }


def inputs_digest(spec: Pipeline) -> str:
    """Part of a training's identity: the same data under another domain or tolerance is another training."""
    return sha256_hex(canonical_json(inputs_of(spec) | {"tolerance": repr(spec.model.tolerance)}))


@dataclass(frozen=True, slots=True)
class Recipe:
    """``parts``: ``<group>:<name>``, as ``code:train.py`` or ``parameters:max_iter``, to a value or a digest's start.

    Rings, schedules, tolerances, resources and expectations are no part of it: editing them trains nothing.
    """

    parts: Mapping[str, str]

    @classmethod
    def of(cls, snapshot: Snapshot, image_id: str = "") -> Recipe:
        """That of a pipeline's folder; ``image_id`` says which image the name leads to, "" if nobody could look."""
        spec = snapshot.spec
        parts = {f"code:{name}": _digest(text) for name, text in snapshot.files if name.endswith(".py")}
        parts |= {
            f"parameters:{name}": canonical_json(value).decode() for name, value in spec.training.parameters.items()
        }
        parts |= {f"pipeline.yaml:{name}": value for name, value in inputs_of(spec).items()}
        parts |= {IMAGE: spec.training.image, "backend:training": spec.training.backend}
        if spec.training.requirements:
            parts[f"requirements:{spec.training.requirements}"] = _digest(snapshot.text(spec.training.requirements))
        if image_id:
            parts[IMAGE_ID] = image_id.removeprefix("sha256:")[:SHOWN]
        return cls(parts)

    def knowing(self, before: Recipe | None) -> Recipe:
        """This recipe with the image's id as it was ``before``, where nobody could look now."""
        if before is None or IMAGE_ID in self.parts or IMAGE_ID not in before.parts:
            return self
        if self.parts[IMAGE] != before.parts.get(IMAGE):
            return self
        return Recipe({**self.parts, IMAGE_ID: before.parts[IMAGE_ID]})

    @property
    def digest(self) -> str:
        """The sha256 of all parts."""
        return sha256_hex(canonical_json({"scheme": SCHEME, "parts": dict(self.parts)}))

    def changes(self, before: Recipe) -> str:
        """What changed since, in words: ``code changed: train.py 1f2e -> 90ab; parameters changed: ...``."""
        groups: dict[str, list[str]] = {}
        for part in sorted(self.parts.keys() | before.parts.keys()):
            was, now = before.parts.get(part, ABSENT), self.parts.get(part, ABSENT)
            if was == now or (part == IMAGE_ID and ABSENT in (was, now)):
                continue
            group, _, name = part.partition(":")
            groups.setdefault(group, []).append(f"{name} {was} -> {now}")
        return "; ".join(f"{group} changed: {', '.join(found)}" for group, found in groups.items())


def _digest(text: str) -> str:
    return sha256_hex(text.encode())[:SHOWN]
