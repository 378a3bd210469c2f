"""Whether certified files are stored as they were proven: by a listing, or by reading every byte of them again.

The service gives a blob another etag with every write, so one that still has the etag under which it was read back
holds the bytes that were read then, and a listing gives the etags of thousands. Where the etag is another (a blob that
was restored) or none is known, only the bytes can tell.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from edgeloop.errors import IntegrityError, NotFoundError
from edgeloop.lineage.chain import Check, State
from edgeloop.lineage.links import short
from edgeloop.transfer.batch import manifest_name
from edgeloop.transfer.progress import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from edgeloop.records import Certificate, FileRef

AT_ONCE = 8
FEW_FOLDERS = 2
MOST_LISTED = 10_000
"""Blobs in two pages of a listing; a store that has more is asked for what is missing folder by folder."""
DOUBTED_BYTES = 64 * 1024 * 1024
"""What is read of doubtful files without being asked to; of a store that was restored that could be everything."""
DATA = "data/"
MIB = 1024 * 1024


class Blobs(Protocol):
    """The storage that all of a pipeline is in; :class:`edgeloop.azure.blob.BlobContainer` is one."""

    @property
    def name(self) -> str:
        """The container's."""
        ...

    def get(self, name: str) -> bytes:
        """Read, or raise ``NotFoundError``."""
        ...

    def list(self, prefix: str = "") -> Iterator[Any]:
        """Everything below a prefix, by name, each with ``size`` and ``etag``."""
        ...

    def chunks(self, name: str) -> Iterator[bytes]:
        """The blob in pieces; raises ``NotFoundError``, or ``IntegrityError`` when it is replaced meanwhile."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A certified file, and the etag under which it was read back; "" where that is not known."""

    file: FileRef
    etag: str


@dataclass(slots=True)
class Stored:
    """The certified files of one container; with ``whole`` each is read and hashed, and ``say`` is told of that."""

    blobs: Blobs
    whole: bool = False
    say: Callable[[str], None] = lambda _: None
    _proven: dict[str, tuple[Proven, ...]] = field(default_factory=dict)
    _known: dict[Proven, Check] = field(default_factory=dict)
    _doubted: int = 0

    def look(self, certificates: Sequence[Certificate]) -> None:
        """Try all files of several certificates at once: in few questions for all of them."""
        new = [one for one in certificates if one.id not in self._proven]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            self._proven |= dict(zip((one.id for one in new), pool.map(self._etags, new), strict=True))
        wanted = {pair for one in new for pair in self._proven[one.id] if pair not in self._known}
        there = self._listed({folder(one.file.path) for one in wanted})
        unread: list[Proven] = []
        for one in sorted(wanted, key=lambda one: one.file.path):
            check = _at_a_glance(one, there.get(one.file.path), self.blobs.name)
            if check is None or (self.whole and check.state is State.SOUND):
                unread.append(one)
            else:
                self._known[one] = check
        self._read(unread)

    def checks(self, certificate: Certificate) -> tuple[Check, ...]:
        """One for each of its files."""
        self.look([certificate])
        return tuple(self._known[one] for one in self._proven[certificate.id])

    def _etags(self, certificate: Certificate) -> tuple[Proven, ...]:
        known = dict(zip((one.path for one in certificate.files), certificate.etags, strict=False))
        if certificate.files and not known:
            known = self._of_manifest(certificate)
        return tuple(Proven(file=one, etag=known.get(one.path, "")) for one in certificate.files)

    def _of_manifest(self, certificate: Certificate) -> dict[str, str]:
        """Certificates of before there were etags in them: the batch's manifest has them, if it is there."""
        try:
            body = json.loads(self.blobs.get(manifest_name(f"{certificate.batch}/{certificate.id[:16]}")))
            return {one["path"]: one["etag"] for one in body["files"]}
        except (NotFoundError, ValueError, KeyError, TypeError):
            return {}

    def _listed(self, folders: set[str]) -> dict[str, Any]:
        """What is in these folders: of a few by one listing each, of many by one of everything, while that is short."""
        found: dict[str, Any] = {}
        if len(folders) > FEW_FOLDERS:
            found = {one.name: one for one in islice(self.blobs.list(DATA), MOST_LISTED)}
            reached = folder(max(found)) if len(found) == MOST_LISTED else ""
            folders = {one for one in folders if reached and one >= reached}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for listing in pool.map(lambda one: list(self.blobs.list(one)), sorted(folders)):
                found |= {one.name: one for one in listing}
        return found

    def _read(self, wanted: Sequence[Proven]) -> None:
        taken: list[FileRef] = []
        for one in wanted:
            if self.whole or self._doubted + one.file.size <= DOUBTED_BYTES:
                self._doubted += one.file.size
                taken.append(one.file)
            else:
                self._known[one] = _doubtful(one.file)
        size = sum(one.size for one in taken)
        if taken and self.whole:
            self.say(f"reading {len(taken)} data files, {size / MIB:.1f} MiB")
        meter = Meter(f"{len(taken)} data files", size, log=self.say)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            read = dict(zip(taken, pool.map(lambda file: self._hashed(file, meter), taken), strict=True))
        self._known |= {one: read[one.file] for one in wanted if one.file in read}

    def _hashed(self, file: FileRef, meter: Meter) -> Check:
        what, size, sha256 = _what(file), 0, hashlib.sha256()
        try:
            for chunk in self.blobs.chunks(file.path):
                size += len(chunk)
                sha256.update(chunk)
                meter.add(len(chunk))
        except NotFoundError:
            return _gone(file, self.blobs.name)
        except IntegrityError as error:
            return Check.of(what, error.what, restore(self.blobs.name, file.path))
        digest = sha256.hexdigest()
        found = f"it reads as {size} bytes with sha256 {short(digest)}" if digest != file.sha256 else ""
        return Check.of(what, found, restore(self.blobs.name, file.path))


def folder(path: str) -> str:
    """The first two parts of a blob's name, which are a batch's; the name itself where it has no more."""
    parts = path.split("/", 2)
    return path if len(parts) <= FEW_FOLDERS else f"{parts[0]}/{parts[1]}/"


def restore(container: str, name: str) -> str:
    """What to do for a blob that is not as it was."""
    return f"Put {container}/{name} back from a backup or an earlier version of it, then ask again."


def _at_a_glance(one: Proven, found: Any, container: str) -> Check | None:
    """What a listing tells of a file; None where only its bytes can tell."""
    if found is None:
        return _gone(one.file, container)
    if found.size != one.file.size:
        here = f"it has {found.size} bytes, {one.file.size} were certified"
        return Check.of(_what(one.file), here, restore(container, one.file.path))
    return Check.of(_what(one.file), "") if one.etag and found.etag == one.etag else None


def _gone(file: FileRef, container: str) -> Check:
    undelete = f"az storage blob undelete --container-name {container} --name '{file.path}'"
    doing = f"Where the account keeps what was deleted: {undelete}; else put it back from a backup. Then ask again."
    return Check.of(_what(file), "there is no such blob", doing)


def _doubtful(file: FileRef) -> Check:
    found = "it was written again since it was proven, or how it was proven is not known"
    return Check(what=_what(file), state=State.UNPROVEN, found=found, next="Ask again with --bytes, which reads it.")


def _what(file: FileRef) -> str:
    return f"{file.path} is stored as it was certified"
