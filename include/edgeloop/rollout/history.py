"""What each device was seen serving, and since when: an append-only ledger ``devices/<site>``.

An entry is written when a device was found to serve an image, after a switch or a restore, never when it was asked to.
So the ledger says what a person standing in front of the device would have seen; a switch that died before anybody
looked is noted by the next look.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from edgeloop.ledger import Fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeloop.ledger import Entry, Ledger
    from edgeloop.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one device served for a while.

    ``image`` is the id of the image's record, empty for an image of somebody else's; ``digest`` its manifest's
    (``sha256:...``); both empty while nothing served. ``since`` is when it was first seen, ISO 8601 UTC, ``until`` when
    something else was, empty if it still serves; ``by`` the run that brought it.
    """

    site: str
    image: str
    digest: str
    since: str
    by: str
    reference: str = ""
    until: str = ""

    @property
    def what(self) -> str:
        """What tells it from others: its digest, or the name of an image that was not deployed by digest."""
        return self.digest or self.reference


def saw(
    store: Store, site: str, *, image: str, digest: str, at: datetime, by: str, reference: str = ""
) -> Entry | None:
    """Write down that ``site`` was seen serving ``digest`` at ``at``; None if that is what is known of that moment.

    An empty ``digest`` and ``reference`` say that nothing served. ``image`` may be left empty where the image's record
    is not at hand: an earlier entry of the same digest names it.
    """
    seen = Served(site=site, image=image, digest=digest, reference=reference, since=stamp(at), by=by)

    def decide(known: tuple[Served, ...]) -> dict[str, Any] | None:
        before = holding(known, seen.since)
        if (before.what if before else None) == seen.what:
            return None
        named = image or next((one.image for one in known if digest and one.digest == digest), "")
        return {"image": named, "digest": digest, "reference": reference, "at": seen.since, "by": by}

    return _ledger(store, site).append(decide)


def history(store: Store, site: str) -> tuple[Served, ...]:
    """Everything that ``site`` was seen serving, oldest first."""
    return _ledger(store, site).read()


def on(store: Store, site: str, when: datetime) -> Served | None:
    """What ``site`` served at a moment; None before anything was seen there."""
    return holding(history(store, site), stamp(when))


def during(known: Iterable[Served], start: datetime, end: datetime) -> tuple[Served, ...]:
    """What was served at any moment from ``start`` to before ``end``. Pure."""
    first, last = stamp(start), stamp(end)
    return tuple(one for one in known if one.since < last and (not one.until or one.until > first))


def day(text: str) -> tuple[datetime, datetime]:
    """A UTC day ``YYYY-MM-DD`` as its first moment and the first after it; raises ``ValueError``."""
    start = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    return start, start + timedelta(days=1)


def holding(known: Sequence[Served], when: str) -> Served | None:
    """What held at the moment ``when``, as :func:`stamp` writes it. Pure."""
    return next((one for one in reversed(known) if one.since <= when), None)


def spans(seen: Iterable[Served]) -> tuple[Served, ...]:
    """Looks at one device as spans of time: in order of the looks, which a slow writer's line need not be in. Pure."""
    found: list[Served] = []
    for one in sorted(seen, key=lambda one: one.since):
        if found and found[-1].what == one.what:
            continue
        if found:
            found[-1] = replace(found[-1], until=one.since)
        found.append(replace(one, until=""))
    return tuple(found)


def _ledger(store: Store, site: str) -> Ledger[tuple[Served, ...]]:
    def seen(entry: Entry) -> Served:
        body = {name: entry.body[name] for name in ("image", "digest", "reference", "by")}
        return Served(site=site, since=entry.body["at"], **body)

    fold = Fold(
        name="served",
        add=lambda before, entries: spans((*(before or ()), *map(seen, entries))),
        to_json=lambda known: [asdict(one) for one in known],
        from_json=lambda raw: tuple(Served(**one) for one in raw),
    )
    return store.folded(f"devices/{site}", fold)


def stamp(at: datetime) -> str:
    """A moment as the ledger writes it, so that text sorts as time does: ISO 8601, UTC, milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")
