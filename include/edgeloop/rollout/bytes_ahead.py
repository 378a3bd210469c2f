"""What a device has to pull for an image, predicted from manifests, and what its engine then really pulled. Pure.

The rule is Docker's (moby, distribution/xfer/download.go): from the base up, a layer is taken as there if the engine
knows which unpacked layer its digest is, and has that layer on top of all those below it; from the first one that is
not, everything is pulled. An engine learns what a digest is by pulling it, never by `docker load`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LINE = re.compile(
    r"^(?P<layer>[0-9a-f]{12}): (?P<what>Already exists|Pull complete|Download complete)\s*$", re.MULTILINE
)
THERE = "Already exists"
SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer as it travels: ``digest`` and ``size`` in bytes packed, ``diff_id`` the digest of what it unpacks to."""

    digest: str
    size: int
    diff_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """An image in a registry: its layers from the base up, and ``overhead`` bytes of manifest and configuration."""

    digest: str
    layers: tuple[Layer, ...]
    overhead: int

    @property
    def size(self) -> int:
        """Bytes that a device without any of it pulls; a layer that comes twice travels once."""
        return self.overhead + _size(self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An image on a device: the diff ids of its layers, and the references by digest under which it was pulled."""

    layers: tuple[str, ...]
    pulled_as: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What an engine said of a pull: ``found`` if it had the image; else the starts of the layers that came.

    ``layers`` is None where the engine's words name no layer at all.
    """

    found: bool = False
    layers: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What an image cost one device, in bytes; ``pulled`` is None where its engine does not tell."""

    site: str
    found: bool
    predicted: int
    pulled: int | None

    def __str__(self) -> str:
        """For a log."""
        if self.found and not self.predicted:
            return f"{self.site}: there already"
        got = "the engine does not tell how many came" if self.pulled is None else f"{self.pulled} pulled"
        return f"{self.site}: {self.predicted} bytes predicted, {got}"


def read_held(text: str) -> tuple[Held, ...]:
    """Read the answer to :func:`edgeloop.rollout.commands.held`."""
    bodies = [json.loads(line) for line in text.splitlines() if line.strip()]
    return tuple(Held(layers=tuple(one["layers"] or ()), pulled_as=tuple(one["digests"] or ())) for one in bodies)


def shared(wanted: Contents, held: Held) -> int:
    """How many layers, from the base up, a held image has in common with the wanted one."""
    count = 0
    for layer, diff_id in zip(wanted.layers, held.layers, strict=False):
        if layer.diff_id != diff_id:
            break
        count += 1
    return count


def missing(wanted: Contents, held: Sequence[Held], known: Iterable[str]) -> tuple[Layer, ...]:
    """The layers that a device has to pull; ``known`` are digests of layers that its engine pulled before."""
    digests = frozenset(known)
    depth = max((shared(wanted, one) for one in held), default=0)
    there = 0
    while there < depth and wanted.layers[there].digest in digests:
        there += 1
    return wanted.layers[there:]


def predicted(wanted: Contents, held: Sequence[Held], known: Iterable[str]) -> int:
    """The bytes that a device has to pull: 0 if it pulled this very image before."""
    if any(one.endswith(f"@{wanted.digest}") for image in held for one in image.pulled_as):
        return 0
    return wanted.overhead + _size(missing(wanted, held, known))


def read_pull(text: str) -> Fetched:
    """What `docker pull` said, layer by layer."""
    found = {match["layer"]: match["what"] for match in LINE.finditer(text)}
    if not found:
        return Fetched()
    return Fetched(layers=frozenset(layer for layer, what in found.items() if what != THERE))


def pulled(wanted: Contents, fetched: Fetched) -> int | None:
    """The bytes that came, by the sizes in the manifest of the layers that the engine names; None if it names none."""
    if fetched.found:
        return 0
    if fetched.layers is None:
        return None
    came = fetched.layers
    return wanted.overhead + _size(one for one in wanted.layers if one.digest.removeprefix("sha256:")[:SHOWN] in came)


def _size(layers: Iterable[Layer]) -> int:
    return sum({one.digest: one.size for one in layers}.values())
