"""Manifests: lists of files with their digests, written last by whoever delivers them. Believed after a check only."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, Protocol

from edgeloop.errors import IntegrityError, NotFoundError
from edgeloop.share.complete import Verdict, folder_of
from edgeloop.share.names import shown, speakable, unreadable
from edgeloop.share.settle import NS, Rule
from edgeloop.share.source import Broken, ClosedError

if TYPE_CHECKING:
    from edgeloop.share.scan import Seen
    from edgeloop.share.source import Listing

LIMIT_BYTES = 32 * 1024 * 1024
"""A manifest of 250,000 files; anything larger is no manifest."""
LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class ManifestError(ValueError):
    """What is wrong with a manifest's text, for :class:`Broken`."""


class Entry(NamedTuple):
    """A file as its manifest promises it: path below the source's folder; ``size`` in bytes, None if it says none."""

    path: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The promises of one manifest. ``cut``: the last line has no line end, so more may follow."""

    entries: tuple[Entry, ...]
    cut: bool = False


def parse(text: bytes, folder: str) -> Manifest:
    """Read a manifest that lies in ``folder``: lines as sha256sum writes them, or JSON with ``files``.

    Raises:
        ManifestError: It is neither, or names a file that is not below its own folder.
    """
    try:
        plain = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ManifestError("is not UTF-8") from None
    entries = _from_json(plain) if plain.lstrip().startswith("{") else _from_lines(plain)
    if not entries:
        raise ManifestError("names no files")
    lead = f"{folder}/" if folder else ""
    placed = tuple(one._replace(path=lead + _inner(one.path), sha256=one.sha256.lower()) for one in entries)
    if len({one.path for one in placed}) < len(placed):
        raise ManifestError("names a file twice")
    return Manifest(entries=placed, cut=not plain.lstrip().startswith("{") and not plain.endswith("\n"))


def _from_lines(text: str) -> list[Entry]:
    entries = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if found is None:
            raise ManifestError(f"line {number} is not '<sha256>  <path>'")
        entries.append(Entry(path=found[2], sha256=found[1]))
    return entries


def _from_json(text: str) -> list[Entry]:
    try:
        files = json.loads(text)["files"]
    except (ValueError, RecursionError):
        raise ManifestError("is no whole JSON") from None
    except KeyError:
        raise ManifestError("has no 'files'") from None
    if not isinstance(files, list):
        raise ManifestError("'files' is no list")
    return [_entry(one, number) for number, one in enumerate(files)]


def _entry(one: object, number: int) -> Entry:
    if isinstance(one, dict):
        path, size, sha256 = one.get("path"), one.get("size"), one.get("sha256")
        sized = size is None or (type(size) is int and size >= 0)
        if isinstance(path, str) and sized and isinstance(sha256, str) and SHA256.fullmatch(sha256):
            return Entry(path=path, sha256=sha256, size=size)
    raise ManifestError(f"files[{number}] needs path, sha256 (64 hexadecimal digits) and, if it says it, size in bytes")


def _inner(path: str) -> str:
    plain = PurePosixPath(path)
    if not plain.name or plain.is_absolute() or ".." in plain.parts or "\\" in path or not speakable(path):
        raise ManifestError(f"names '{shown(path)}', which is no path below its own folder")
    return str(plain)


class Delivery(NamedTuple):
    """What lies there of one manifest: the manifest, and its files, None for one that is missing."""

    marker: Seen
    files: tuple[Seen | None, ...]


class Standing(NamedTuple):
    """Since when (ns), and over how many looks, a delivery has been the same."""

    delivery: Delivery
    since_ns: int
    looks: int


class Files(Protocol):
    """What a judge of manifests must ask of the source."""

    def text(self, path: str) -> bytes:
        """The text of a manifest; raises ``NotFoundError``, ``IntegrityError`` above ``LIMIT_BYTES``."""
        ...

    def there(self, path: str) -> bool:
        """Whether a file is there that the listing does not show, because it is no data of this source."""
        ...

    def sha256(self, seen: Seen) -> str | None:
        """The digest of a file as it was seen, or None if it changed meanwhile."""
        ...

    def trusted(self, seen: Seen) -> bool:
        """Whether the file was found complete before, in this state."""
        ...


class Manifests:
    """Complete is what a manifest names and what has the size and the sha256 that it says.

    A delivery is taken whole. One that stays wrong for as long as a file takes to settle is told as broken, file by
    file, and its good files go on.

    Args:
        rule: How long a delivery must stay wrong.
        files: Where manifests and files are read.
    """

    def __init__(self, rule: Rule, files: Files) -> None:
        self.rule, self.files = rule, files
        self._parsed: dict[Seen, Manifest | str] = {}
        self._digests: dict[Seen, str] = {}
        self._standing: dict[str, Standing] = {}
        self._alike: dict[str, str] = {}

    def judge(self, found: Listing, now_ns: int) -> Verdict:
        """The verdict over ``found``; reads manifests and files that are new."""
        files = {one.path: one for one in found.files}
        self._alike = {path.casefold(): path for path in files}
        manifests = {one: parsed for one in found.markers if (parsed := self._manifest(one)) is not None}
        newest = {
            entry.path: marker
            for marker in sorted(manifests, key=lambda one: (one.mtime_ns, one.path))
            for entry in _entries(manifests[marker])
        }
        ready: set[str] = set()
        broken: list[Broken] = []
        moving = len(manifests) < len(found.markers)
        for marker, parsed in manifests.items():
            mine = tuple(one for one in _entries(parsed) if newest[one.path] is marker)
            persists = self._persists(Delivery(marker, tuple(files.get(one.path) for one in mine)), now_ns)
            wrong, good = self._checked(marker, parsed, mine, files, persists=persists)
            ready |= good
            broken += wrong if persists else []
            moving = moving or (bool(wrong) and not persists)
        self._forget(found, manifests)
        told = {one.path for one in broken}
        return Verdict(
            tuple(one for one in found.files if one.path in ready),
            tuple(one for one in found.files if one.path not in ready and one.path not in told),
            tuple(sorted(broken)),
            pause=self.rule.poll_seconds if moving else None,
        )

    def _manifest(self, marker: Seen) -> Manifest | str | None:
        """The manifest, what is wrong with it, or None if it is gone."""
        if marker not in self._parsed:
            try:
                self._parsed[marker] = parse(self.files.text(marker.path), folder_of(marker.path))
            except NotFoundError:
                return None
            except ClosedError:
                return unreadable(marker.path).reason  # asked again: a right that is given changes no file
            except IntegrityError:
                self._parsed[marker] = f"is larger than {LIMIT_BYTES} bytes"
            except ManifestError as error:
                self._parsed[marker] = str(error)
        return self._parsed[marker]

    def _checked(
        self, marker: Seen, parsed: Manifest | str, mine: tuple[Entry, ...], files: dict[str, Seen], *, persists: bool
    ) -> tuple[list[Broken], set[str]]:
        """What is wrong with a delivery, and its good files. A digest is taken only when nothing cheaper is wrong."""
        if isinstance(parsed, str):
            return [Broken(marker.path, f"the manifest {parsed}")], set()
        wrong = {one.path: why for one in mine if (why := self._cheap(one, files.get(one.path), marker))}
        if parsed.cut and not persists:
            return [Broken(marker.path, "the manifest's last line has no line end")], set()
        if wrong and not persists:
            return [Broken(*one) for one in wrong.items()], set()
        for one in mine:
            if one.path in files and one.path not in wrong and (why := self._costly(one, files[one.path], marker)):
                wrong[one.path] = why
        good = {one.path for one in mine if one.path in files and one.path not in wrong}
        return [Broken(*one) for one in wrong.items()], good if persists or not wrong else set()

    def _cheap(self, entry: Entry, seen: Seen | None, marker: Seen) -> str:
        if seen is None:
            return self._missing(entry, marker)
        if entry.size is not None and entry.size != seen.size:
            return f"has {seen.size} bytes; the manifest {marker.path} says {entry.size}"
        return ""

    def _missing(self, entry: Entry, marker: Seen) -> str:
        alike = self._alike.get(entry.path.casefold())
        if alike is not None:  # an SMB server would find it by either name
            return f"is there as {alike}; the manifest {marker.path} spells it otherwise"
        return "" if self.files.there(entry.path) else f"is missing; the manifest {marker.path} names it"

    def _costly(self, entry: Entry, seen: Seen, marker: Seen) -> str:
        if self.files.trusted(seen):
            return ""
        try:
            sha256 = self._digests.get(seen) or self.files.sha256(seen)
        except ClosedError:
            return unreadable(seen.path).reason
        if sha256 is None:
            return "changed while it was read"
        self._digests[seen] = sha256
        return "" if sha256 == entry.sha256 else f"has sha256 {sha256}; the manifest {marker.path} says {entry.sha256}"

    def _persists(self, delivery: Delivery, now_ns: int) -> bool:
        before = self._standing.get(delivery.marker.path)
        same = before is not None and before.delivery == delivery
        now = (
            Standing(delivery, before.since_ns, before.looks + 1) if before and same else Standing(delivery, now_ns, 1)
        )
        self._standing[delivery.marker.path] = now
        seconds = max(self.rule.quiet_seconds, self.rule.poll_seconds * (self.rule.polls - 1))
        return now.looks >= self.rule.polls and now_ns - now.since_ns >= round(seconds * NS)

    def _forget(self, found: Listing, manifests: dict[Seen, Manifest | str]) -> None:
        files, markers = set(found.files), {one.path for one in manifests}
        self._parsed = {one: parsed for one, parsed in self._parsed.items() if one in manifests}
        self._digests = {one: sha256 for one, sha256 in self._digests.items() if one in files}
        self._standing = {path: one for path, one in self._standing.items() if path in markers}


def _entries(parsed: Manifest | str) -> tuple[Entry, ...]:
    return () if isinstance(parsed, str) else parsed.entries
