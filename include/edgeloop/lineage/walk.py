"""The whole chain of one thing: back to the files on the share, and on to the devices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from edgeloop.errors import NotFoundError
from edgeloop.lineage import tell, upward
from edgeloop.lineage.chain import Check, Lineage, Node, State
from edgeloop.lineage.downward import Downward
from edgeloop.lineage.links import deployed, short
from edgeloop.records import KINDS, ModelImage
from edgeloop.rollout import history

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeloop.lineage.find import Subject
    from edgeloop.lineage.reader import Reader
    from edgeloop.rollout.history import Served

UPWARD = {
    "image": upward.image,
    "model": upward.model,
    "training_run": upward.training,
    "dataset": upward.dataset,
    "certificate": upward.certificate,
    "batch": upward.batch,
}
LIVE = "the device says so itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a device itself says that it runs: ``digests`` its image was pulled under, or why it cannot be asked."""

    reference: str = ""
    digests: tuple[str, ...] = ()
    unreachable: str = ""

    @property
    def digest(self) -> str:
        """The digest to look for in the records."""
        return self.reference.partition("@")[2] or next(iter(self.digests), "")


def of_record(reader: Reader, subject: Subject, sites: Sequence[str]) -> Lineage:
    """The chain of a record both ways."""
    kind = KINDS[subject.kind]
    node = UPWARD[subject.kind](reader, subject.id)
    down = Downward(reader=reader, sites=tuple(sites)).of(reader.record(kind, subject.id))
    return Lineage(subject=replace(node, links=()), made_of=node.links, made_into=down)


def of_device(reader: Reader, site: str, *, day: str = "", live: Running | None = None) -> Lineage:
    """The chain of what a device serves now, or of everything that it served on a day (UTC).

    Raises ``NotFoundError`` where nothing was noted of that time and nobody asked the device.
    """
    known = history.history(reader.store, site)
    spans = history.during(known, *history.day(day)) if day else known[-1:]
    if not spans and (live is None or not live.digest):
        raise _nothing_known(site, day, known, live)
    checks = () if live is None else (_said(live, spans[-1] if spans else None),)
    facts = tuple(fact for one in (spans if day else reversed(known)) for fact in _told(one))
    links = tuple(_served(reader, one) for one in spans if one.what)
    if not spans and live is not None:
        links = (_of_digest(reader, live.digest, live.reference),)
    name = f"{site} on {day}" if day else site
    return Lineage(subject=Node(kind="device", id=site, name=name, facts=facts, checks=checks), made_of=links)


def _told(one: Served) -> tuple[str, ...]:
    served, by = tell.device(one).facts
    return (f"{served}, {by}",)


def _served(reader: Reader, one: Served) -> Node:
    """The image that a device was seen to serve."""
    record_id = one.image or find_image(reader, one.digest)
    if not record_id:
        return _unknown(one.what)
    image = reader.record(ModelImage, record_id).record
    return upward.image(reader, record_id, *(() if image is None else (deployed(one, cast("ModelImage", image)),)))


def _of_digest(reader: Reader, digest: str, reference: str) -> Node:
    record_id = find_image(reader, digest)
    return upward.image(reader, record_id) if record_id else _unknown(digest or reference)


def _unknown(what: str) -> Node:
    check = Check.of("is an image of ours", "no record names it; somebody else put it there")
    return Node(kind="image", id=what, name=short(what), checks=(check,))


def find_image(reader: Reader, digest: str) -> str:
    """The id of the image's record with that manifest digest, empty if there is none.

    Records that Edgeloop 0.2.0 wrote have no edge from their digest, so all of them are looked through.
    """
    if not digest:
        return ""
    known = reader.made_of(digest.removeprefix("sha256:")).get(ModelImage.kind, ())
    if known:
        return known[0]
    found = reader.records(ModelImage, reader.store.ids(ModelImage))
    return next((one.id for one in found if isinstance(one.record, ModelImage) and one.record.digest == digest), "")


def _said(live: Running, served: Served | None) -> Check:
    """What the device says of itself, held against what was noted."""
    if live.unreachable:
        return Check(what=LIVE, state=State.UNPROVEN, found=live.unreachable)
    runs = short(live.digest or live.reference) or "nothing"
    if served is None:
        return Check.of(LIVE, f"it runs {runs}, of which nothing was noted")
    same = served.digest in live.digests if served.digest else served.reference == live.reference
    return Check.of(LIVE, "" if same else f"it runs {runs}; last seen there was {short(served.what) or 'nothing'}")


def _nothing_known(site: str, day: str, known: Sequence[Served], live: Running | None) -> NotFoundError:
    when = f" on {day}" if day else ""
    first = f"; the first time was {known[0].since}" if known else ""
    if live is not None and live.unreachable:
        return NotFoundError(
            f"Nothing was noted of {site}, and the device cannot be asked: {live.unreachable}",
            next="See that the device is on and reachable.",
        )
    return NotFoundError(
        f"Nobody saw {site} serve anything{when}{first}.",
        next=f"Ask the device itself: edgeloop lineage {site} --live"
        if not day
        else f"Ask for all that is known of it: edgeloop lineage {site}",
    )
