"""Where an image's golden rows are: made once, and when a person asks for new ones, beside the old under another name.

golden/<image id>.json              those of the first proof
golden/<image id>-<digest>.json     made again; the ledger ``golden/<image id>`` says why, and its last entry holds
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConflictError, NotFoundError
from edgeloop.packaging.golden import Golden
from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.records import ModelImage
    from edgeloop.store import Entry, Objects, Store


def blob_of(store: Store, image: ModelImage) -> str:
    """The blob whose rows hold for ``image``."""
    entries = store.ledger(f"golden/{image.id}")
    return str(entries[-1].body["blob"]) if entries else image.golden or f"golden/{image.id}.json"


def find(store: Store, blobs: Objects, image: ModelImage) -> Golden | None:
    """The rows that hold, or None while nobody made any."""
    try:
        return Golden.from_json(blobs.get(blob_of(store, image)))
    except NotFoundError:
        return None


def ensure(store: Store, blobs: Objects, image: ModelImage, make: Callable[[], Golden]) -> Golden:
    """The rows that hold; those of ``make`` if there are none. Of two that make them at once the first decides."""
    found = find(store, blobs, image)
    if found is None:
        found = make()
        with contextlib.suppress(ConflictError):
            blobs.put_new(blob_of(store, image), found.to_json())
            return found
        found = Golden.from_json(blobs.get(blob_of(store, image)))
    return found


def remake(store: Store, blobs: Objects, image: ModelImage, made: Golden, why: str) -> str:
    """Let ``made`` hold from now on, whatever there was; returns their blob. Again with the same rows is no harm."""
    raw = made.to_json()
    blob = f"golden/{image.id}-{sha256_hex(raw)[:16]}.json"
    with contextlib.suppress(ConflictError):
        blobs.put_new(blob, raw)

    def decide(entries: list[Entry]) -> dict[str, Any] | None:
        last = entries[-1].body["blob"] if entries else ""
        return None if last == blob else {"blob": blob, "why": why}

    store.append(f"golden/{image.id}", decide)
    return blob
