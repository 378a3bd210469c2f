"""Reading what a chain is made of: each thing once, several at a time, and what is wrong with it told, not raised."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edgeloop.errors import ConfigurationError, EdgeloopError, IntegrityError, NotFoundError
from edgeloop.lineage.chain import Check, Node, State
from edgeloop.lineage.fields import unreadable
from edgeloop.lineage.links import labelled, short
from edgeloop.lineage.stored import Blobs, Stored, restore
from edgeloop.record_base import sha256_hex
from edgeloop.rollout import history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from edgeloop.containers.registry import Manifest
    from edgeloop.lineage.shared import Shared
    from edgeloop.records import Batch, Certificate, ModelImage, ModelVersion, Record
    from edgeloop.rollout.history import Served
    from edgeloop.store import Store

AT_ONCE = 8


class Images(Protocol):
    """The registry that images were pushed to; :class:`edgeloop.containers.registry.Registry` is one."""

    def find(self, repository: str, reference: str) -> Manifest | None:
        """The manifest of a digest, or None."""
        ...

    def config(self, repository: str, manifest: Manifest) -> dict[str, Any]:
        """The image's configuration."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A record as it reads now, None where there is none, and whether it is what was written."""

    id: str
    kind: type[Record]
    record: Record | None
    check: Check

    def missing(self) -> Node:
        """What stands in the chain where the record should be."""
        return Node(kind=self.kind.kind, id=self.id, name=short(self.id), checks=(self.check,))


@dataclass(slots=True)
class Reader:
    """Of one pipeline's store, blobs and registry; ``whole`` reads every byte of data files, ``shared`` the share's.

    ``say`` is told how far such reading is.
    """

    store: Store
    blobs: Blobs
    images: Images
    whole: bool = False
    shared: Shared | None = None
    say: Callable[[str], None] = lambda _: None
    _known: dict[tuple[str, str], Read] = field(default_factory=dict)
    _histories: dict[str, tuple[Served, ...]] = field(default_factory=dict)
    _stored: Stored = field(init=False)

    def __post_init__(self) -> None:
        """Of the same storage."""
        self._stored = Stored(self.blobs, self.whole, self.say)

    def record(self, kind: type[Record], record_id: str) -> Read:
        """One record and whether it hashes to its id."""
        key = kind.kind, record_id
        if key not in self._known:
            self._known[key] = self._read(kind, record_id)
        return self._known[key]

    def records(self, kind: type[Record], ids: Iterable[str]) -> tuple[Read, ...]:
        """Several, read at once."""
        wanted = tuple(dict.fromkeys(ids))
        if len(wanted) < 2:  # noqa: PLR2004 - one alone needs no thread
            return tuple(self.record(kind, one) for one in wanted)
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            return tuple(pool.map(lambda one: self.record(kind, one), wanted))

    def made_of(self, record_id: str) -> dict[str, tuple[str, ...]]:
        """What was made of a record: ids by kind."""
        return self.store.made_of(record_id)

    def histories(self, sites: Sequence[str]) -> tuple[Served, ...]:
        """What the devices of some sites were seen serving."""
        for one in sites:
            if one not in self._histories:
                self._histories[one] = history.history(self.store, one)
        return tuple(span for one in sites for span in self._histories[one])

    def blob(self, name: str, sha256: str, what: str) -> tuple[Check, bytes]:
        """Whether a blob holds the bytes of its digest; the bytes, or none."""
        try:
            data = self.blobs.get(name)
        except NotFoundError:
            return Check.of(what, f"there is no blob {name}", restore(self.blobs.name, name)), b""
        found = sha256_hex(data)
        wrong = "" if found == sha256 else f"blob {name} hashes to {short(found)}"
        return Check.of(what, wrong, restore(self.blobs.name, name)), data

    def look(self, certificates: Sequence[Certificate]) -> None:
        """Try the data files of several certificates at once, which :meth:`data` tells of each."""
        self._stored.look(certificates)

    def data(self, certificate: Certificate) -> tuple[Check, ...]:
        """Whether each data file is stored as it was certified."""
        return self._stored.checks(certificate)

    def sources(self, batch: Batch) -> tuple[Check, ...]:
        """Whether each file is on the share as it was claimed; nothing where nobody asked for it."""
        return self.shared.checks(batch) if self.shared else ()

    def pushed(self, image: ModelImage, model: ModelVersion | None) -> tuple[Check, ...]:
        """Whether the registry holds the image under the digest of its record, and what its labels say."""
        what = "the registry holds its manifest"
        repository = image.reference.partition("@")[0].partition("/")[2]
        if not repository or not image.digest:
            return (Check.of(what, "the record names no reference; it was never pushed"),)
        try:
            manifest = self.images.find(repository, image.digest)
            if manifest is None:
                return (Check.of(what, f"it has no {repository}@{short(image.digest)}"),)
            labels = self.images.config(repository, manifest).get("config", {}).get("Labels") or {}
        except (IntegrityError, NotFoundError) as error:
            return (Check.of(what, error.what),)
        except EdgeloopError as error:
            # Whatever keeps it from answering: a proxy's 400 took the whole chain with it.
            return (Check(what=what, state=State.UNPROVEN, found=error.what),)
        return Check.of(what, ""), labelled(labels, image, model)

    def _read(self, kind: type[Record], record_id: str) -> Read:
        what = "hashes to its id"
        try:
            record = self.store.unchecked(kind, record_id)
        except NotFoundError:
            check = Check.of(what, f"there is no record {kind.kind}/{short(record_id)}")
        except IntegrityError as error:
            check = Check.of(what, error.what)
        except ConfigurationError as error:
            check = Check(what=what, state=State.UNPROVEN, found=error.what)
        else:
            if not isinstance(record, kind):
                check = Check.of(what, f"it is a {record.kind}")
                return Read(id=record_id, kind=kind, record=None, check=check)
            if wrong := unreadable(record):
                check = Check.of(what, f"it was changed: {', '.join(wrong)} cannot be what was written")
                return Read(id=record_id, kind=kind, record=None, check=check)
            check = Check.of(what, "" if record.id == record_id else f"it was changed: it hashes to {short(record.id)}")
            return Read(id=record_id, kind=kind, record=record, check=check)
        return Read(id=record_id, kind=kind, record=None, check=check)
