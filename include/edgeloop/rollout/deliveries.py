"""What bringing an image to devices cost, written down by run: a retry finds the image there and the bytes here.

A ledger for every image, ``pulls/<image>``: ``{"site", "predicted", "pulled", "at", "by"}``, bytes both.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgeloop.rollout.bytes_ahead import Delivery

if TYPE_CHECKING:
    from edgeloop.records import ModelImage
    from edgeloop.store import Entry, Store


def note(store: Store, image: ModelImage, one: Delivery, *, by: str) -> None:
    """Write down what a device pulled in the run ``by``; a device that had the image pulled nothing."""
    if one.found:
        return

    def decide(_: list[Entry]) -> dict[str, Any]:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return {"site": one.site, "predicted": one.predicted, "pulled": one.pulled, "at": at, "by": by}

    store.append(_ledger(image), decide)


def deliveries(store: Store, image: ModelImage, *, by: str) -> dict[str, Delivery]:
    """What devices pulled of ``image`` in the run ``by``, by site; the last word where one pulled it again."""
    return {
        body["site"]: Delivery(site=body["site"], found=False, predicted=body["predicted"], pulled=body["pulled"])
        for body in (entry.body for entry in store.ledger(_ledger(image)))
        if body["by"] == by
    }


def _ledger(image: ModelImage) -> str:
    return f"pulls/{image.id}"
