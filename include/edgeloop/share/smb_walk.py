"""The walk through an SMB share: several directories in flight, a megabyte of entries in each answer."""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from edgeloop.share import smb_wire as wire
from edgeloop.share.names import DEEPEST, no_entry, refused, speakable, too_deep
from edgeloop.share.source import Broken, Listing, Scope, Seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edgeloop.share.names import Matching
    from edgeloop.share.smb_link import Link, Reply

IN_FLIGHT = 6
ANSWER_BYTES = 1024 * 1024
CREDIT_BYTES = 64 * 1024
BY_PATH = itemgetter(0)


class Place(NamedTuple):
    """A directory to list: ``prefix`` begins the paths of what lies in it; ``above`` are the ids that led there."""

    where: str
    prefix: str
    above: tuple[int, ...] = ()


class Owner(Protocol):
    """Whoever asks for the walk, and knows what to tell when it ends early."""

    def missing(self) -> Exception:
        """The error for a source's folder that is not there."""
        ...

    def refuse(self, reply: Reply, path: str) -> None:
        """Raise what an answer other than success means for ``path``."""
        ...


class Walk:
    """One walk over one link."""

    def __init__(self, link: Link, owner: Owner, matching: Matching) -> None:
        self.link, self.owner, self.matching = link, owner, matching
        self.files: list[Seen] = []
        self.marked: list[Seen] = []
        self.broken: list[Broken] = []
        self.due: deque[Place] = deque()
        self.asked: deque[tuple[Place, list[Any]]] = deque()

    def over(self, folder: str, scope: Scope) -> Listing:
        """Walk through ``scope`` of ``folder``."""
        if scope.folders is None:
            self.due.append(Place(folder, ""))
        else:
            self._exists(folder)
            lead = f"{folder}/" if folder else ""
            inside = (one for one in scope.folders if not self.matching.hides(one))
            self.due.extend(Place(lead + one, f"{one}/") for one in inside)
        while self.due or self.asked:
            while self.due and len(self.asked) < IN_FLIGHT and self._ask():
                pass
            self._take(*self.asked.popleft())
        self.files.sort(key=BY_PATH)
        return Listing(tuple(self.files), tuple(sorted(self.marked)), tuple(sorted(self.broken)))

    def _exists(self, folder: str) -> None:
        request = wire.create(folder, wire.LOOK_ACCESS, wire.SHARE_ALL, wire.AS_FOLDER)
        reply = self.link.ask(request, wire.close(wire.RELATED))[0]
        if reply.status in wire.GONE:
            raise self.owner.missing()
        self.owner.refuse(reply, folder)

    def _ask(self) -> bool:
        """Ask for the next directory in one message, its end included; False while too much is in flight."""
        size = min(ANSWER_BYTES, self.link.largest_listing)
        if self.link.credits < size // CREDIT_BYTES + 3:
            if self.asked:
                return False
            size = CREDIT_BYTES
        place = self.due.popleft()
        requests = self.link.send(
            wire.create(place.where, wire.LIST_ACCESS, wire.SHARE_ALL, wire.AS_FOLDER),
            wire.query(wire.RELATED, size),
            wire.query(wire.RELATED, CREDIT_BYTES),
            wire.close(wire.RELATED),
        )
        self.asked.append((place, requests))
        return True

    def _take(self, place: Place, requests: list[Any]) -> None:
        opened, first, end, _ = [self.link.answer(one) for one in requests]
        if not self._is_open(opened, place):
            return
        if end.status == wire.NO_MORE_FILES:
            self._sort_out(place, [first.data] if first.status == wire.SUCCESS else [])
        else:
            self._sort_out(place, self._long(place))

    def _is_open(self, opened: Reply, place: Place) -> bool:
        if opened.status in wire.GONE:
            if not place.prefix:
                raise self.owner.missing()
            return False  # removed since its own directory was listed, or a day without files
        if opened.status == wire.ACCESS_DENIED and place.prefix:
            self.broken.append(no_entry(place.prefix.rstrip("/")))
            return False
        self.owner.refuse(opened, place.where)
        return True

    def _long(self, place: Place) -> Iterator[bytes]:
        """The answers about a directory that is larger than what was asked for; from the beginning."""
        (reply,) = self.link.ask(wire.create(place.where, wire.LIST_ACCESS, wire.SHARE_ALL, wire.AS_FOLDER))
        if not self._is_open(reply, place):
            return
        file_id = wire.opened(reply.data).id
        while True:
            size = min(ANSWER_BYTES, self.link.largest_listing, max(1, self.link.credits - 1) * CREDIT_BYTES)
            (reply,) = self.link.ask(wire.query(file_id, size))
            if reply.status == wire.NO_MORE_FILES:
                break
            self.owner.refuse(reply, place.where)
            yield reply.data
        self.link.ask(wire.close(file_id))

    def _sort_out(self, place: Place, answers: Iterable[bytes]) -> None:
        marks, excluded, wanted = self.matching.marks, self.matching.excluded, self.matching.wanted
        prefix, own = place.prefix, place.above
        for data in answers:
            for name, size, mtime_ns, attributes, tag, number in wire.entries(data):
                if attributes & wire.SPECIAL:
                    if name == ".":
                        own = (*place.above, number) if number else own
                    elif wire.is_folder(attributes, tag) and name != ".." and number not in own:
                        self._enter(place, name, own)
                    if not wire.is_file(attributes, tag):
                        continue
                path = prefix + name
                if marks is not None and marks(name, path):
                    into = self.marked
                elif wanted(name, path) and not excluded(name, path):
                    into = self.files
                else:
                    continue
                if speakable(name):
                    into.append(Seen(path, size, mtime_ns))
                else:
                    self.broken.append(refused(path))

    def _enter(self, place: Place, name: str, above: tuple[int, ...]) -> None:
        path = place.prefix + name
        if self.matching.excluded(name, path):
            return
        if not speakable(name):
            self.broken.append(refused(path))
        elif path.count("/") >= DEEPEST:
            self.broken.append(too_deep(path))
        else:
            self.due.append(Place(f"{place.where}/{name}" if place.where else name, f"{path}/", above))
