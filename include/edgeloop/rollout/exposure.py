"""Which devices an image was shown to, and what served there before: written before anything is changed.

A ledger of its own for every image: ``{"event": "exposed|restored|settled", "site", "before", "at", "by"}``. The first
entry wins until the device is restored or the image is promoted, so a switch that died halfway and is run again cannot
take its own remains for what served before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.records import ModelImage
    from edgeloop.store import Entry, Store

EXPOSED, RESTORED, SETTLED = "exposed", "restored", "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """A device that an image is on; ``before`` is the reference that served, empty if none did; ``seq`` its entry."""

    site: str
    before: str
    seq: int


def fold(entries: Iterable[Entry]) -> dict[str, Exposure]:
    """The open exposures by site, oldest entry first. Pure."""
    found: dict[str, Exposure] = {}
    for entry in entries:
        site = entry.body["site"]
        if entry.body["event"] == EXPOSED:
            found.setdefault(site, Exposure(site=site, before=entry.body["before"], seq=entry.seq))
        else:
            found.pop(site, None)
    return found


def exposures(store: Store, image: ModelImage) -> dict[str, Exposure]:
    """The devices that ``image`` is on and not yet settled, by site."""
    return fold(store.ledger(_ledger(image)))


def expose(store: Store, image: ModelImage, site: str, before: str, *, by: str) -> Exposure:
    """Write down what serves at ``site`` before ``image`` does; an earlier open entry wins."""
    _append(store, image, {"event": EXPOSED, "site": site, "before": before, "by": by}, unless_open=True)
    return exposures(store, image)[site]


def close(store: Store, image: ModelImage, site: str, event: str, *, by: str) -> None:
    """Close the exposure of ``site``: its device was restored, or the image is there to stay."""
    _append(store, image, {"event": event, "site": site, "before": "", "by": by}, unless_open=False)


def _append(store: Store, image: ModelImage, body: dict[str, Any], *, unless_open: bool) -> None:
    def decide(entries: list[Entry]) -> dict[str, Any] | None:
        if (body["site"] in fold(entries)) is unless_open:
            return None
        return {**body, "at": datetime.now(UTC).isoformat(timespec="seconds")}

    store.append(_ledger(image), decide)


def _ledger(image: ModelImage) -> str:
    return f"exposures/{image.id}"
