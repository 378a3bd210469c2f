"""Azure's events about blobs, read from a queue's messages: what is a reason to look at a source. Pure.

Both schemas of Event Grid are read, Event Grid's own and CloudEvents 1.0, one event or a list of them, as plain text or
in base64 (which is how Event Grid writes to a storage queue). Nothing of an event is believed but that something may
have arrived: intake looks for itself.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.share.revision import counts

if TYPE_CHECKING:
    from edgeloop.pipeline import Source

CREATED = "Microsoft.Storage.BlobCreated"
SUBJECT = re.compile(r"/blobServices/[^/]+/containers/([^/]+)/blobs/(.+)", re.DOTALL)


class PoisonError(ValueError):
    """A message that is no event of Event Grid; it says why, without the message's content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A blob that an event says was created."""

    container: str
    path: str


def read(body: str) -> tuple[Arrival, ...]:
    """The arrivals a message tells of; empty for events of other kinds. Raises ``PoisonError``."""
    events = _json(body)
    return tuple(
        found for one in (events if isinstance(events, list) else [events]) if (found := _arrival(one)) is not None
    )


def concerns(arrival: Arrival, section: Source) -> bool:
    """Whether the arrival is one of the source's files or markers; any is, where the source is no container."""
    if section.kind != "blob":
        return True
    prefix = section.folder.strip("/").removeprefix(section.container).strip("/")
    lead = f"{prefix}/" if prefix else ""
    if arrival.container != section.container or not arrival.path.startswith(lead):
        return False
    path = arrival.path.removeprefix(lead)
    if section.marker and counts(path, section.marker, ()):
        return True
    return counts(path, section.pattern, section.exclude)


def _json(body: str) -> Any:
    text = body.strip()
    if not text.startswith(("{", "[")):
        try:
            text = base64.b64decode(text, validate=True).decode("utf-8-sig").strip()
        except (binascii.Error, ValueError):
            raise PoisonError("it is neither JSON nor JSON in base64") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise PoisonError("it is no JSON") from None


def _arrival(event: object) -> Arrival | None:
    if not isinstance(event, dict):
        raise PoisonError("it holds something that is no event")
    kind = event.get("type") if "specversion" in event else event.get("eventType")
    if not isinstance(kind, str) or not kind:
        raise PoisonError("it is of neither schema: no eventType, and no specversion with a type")
    if kind != CREATED:
        return None
    subject = event.get("subject")
    found = SUBJECT.fullmatch(subject) if isinstance(subject, str) else None
    if found is None:
        raise PoisonError("its subject names no blob")
    return Arrival(container=found[1], path=found[2])
