"""Which devices an image was shown to, and what served there before: written before anything is changed.

A ledger of its own for every image: ``{"event": "exposed|restored|settled|overtaken", "site", "before", "at", "by"}``.
The first entry wins until the device is restored, the image is promoted, or another is found to run there; so a switch
that died halfway and is run again cannot take its own remains for what served before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgeloop.records import ModelImage
    from edgeloop.store import Entry, Store

EXPOSED, RESTORED, SETTLED, OVERTAKEN = "exposed", "restored", "settled", "overtaken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """A device that an image is on; ``before`` is the reference that served, empty if none did; ``seq`` its entry.

    ``at`` is when it was written down, ISO 8601 UTC.
    """

    site: str
    before: str
    seq: int
    at: str = ""


def fold(entries: Iterable[Entry]) -> dict[str, Exposure]:
    """The open exposures by site, oldest entry first. Pure."""
    found: dict[str, Exposure] = {}
    for entry in entries:
        site = entry.body["site"]
        if entry.body["event"] == EXPOSED:
            exposed = Exposure(site=site, before=entry.body["before"], seq=entry.seq, at=entry.body.get("at", ""))
            found.setdefault(site, exposed)
        else:
            found.pop(site, None)
    return found


def taken_back(entries: Iterable[Entry], site: str, since: str) -> Exposure | None:
    """The exposure that ended with the device being restored, at ``since`` or later; else None. Pure.

    None too if the image came there again.
    """
    told = [entry for entry in entries if entry.body["site"] == site]
    if not told or told[-1].body["event"] != RESTORED or told[-1].body.get("at", "") < since:
        return None
    return fold(told[:-1]).get(site)


def way_back(store: Store, one: Exposure, bad: str, images: Callable[[str], Iterable[ModelImage]]) -> Exposure:
    """``one`` with what a restore of ``bad`` goes back to: not an image that its own rollout took back meanwhile.

    ``images`` are the images of a reference.
    """
    seen, now = {"", bad}, one
    while now.before not in seen:
        seen.add(now.before)
        found = (taken_back(store.ledger(_ledger(image)), one.site, now.at) for image in images(now.before))
        now = next((before for before in found if before is not None), now)
    return one if now.before == bad else replace(one, before=now.before)


def exposures(store: Store, image: ModelImage) -> dict[str, Exposure]:
    """The devices that ``image`` is on and not yet settled, by site."""
    return fold(store.ledger(_ledger(image)))


def expose(store: Store, image: ModelImage, site: str, before: str, *, by: str, runs: str = "") -> Exposure:
    """Write down what serves at ``site`` before ``image`` does; an earlier open entry wins.

    Unless another reference was seen to run there by now (``runs``): then another rollout came in between, and what
    served before that one is nothing to go back to.
    """
    known = exposures(store, image).get(site)
    if known is not None and runs not in ("", known.before):
        close(store, image, site, OVERTAKEN, by=by)
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
