"""A prefix of a blob container as a source of files: what a Stack Edge cloud share, or anybody, uploads there."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError, IntegrityError, NotFoundError, UnreachableError
from edgeloop.share.copy import Copy
from edgeloop.share.names import Matching, inner, refused, shown, speakable
from edgeloop.share.source import EVERYTHING, Broken, Listing, Scope, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeloop.azure.blob import BlobContainer, BlobItem
    from edgeloop.azure.wire import Ranged

WHOLE_SECONDS = 1800.0
"""How long one listing may take in all; each request has its own time-outs."""
MANY_FOLDERS = 32
"""Up to this many folders are listed one by one; for more, one listing of what they have in common is quicker."""
BLOCK = "BlockBlob"


class ChangedError(Exception):
    """The blob is another version than the one that was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobPrefix:
    """The blobs of ``container`` below ``prefix``; ``connection`` is what errors name.

    A block blob appears with its last byte and changes its etag with every upload, so one look shows all of it. Append
    and page blobs grow in place and are told as broken.
    """

    connection: str
    container: BlobContainer
    prefix: str = ""
    pattern: str = "*"
    exclude: tuple[str, ...] = ()

    @property
    def appears_whole(self) -> bool:
        """Committing a block blob is one step."""
        return True

    @property
    def knows_writers(self) -> bool:
        """Nobody sees an upload before it is committed."""
        return False

    def listing(self, scope: Scope = EVERYTHING, marker: str = "") -> Listing:
        """Every block blob that matches and is not excluded, by path below the prefix.

        Raises:
            UnreachableError: The account does not answer.
            ConfigurationError: It refuses the key or SAS, or there is no such container.
        """
        sorting = Sorting(Matching(self.pattern, self.exclude, marker))
        lead = self._lead
        for one in self._items(scope):
            sorting.add(one.name[len(lead) :], one)
        return sorting.listing()

    def scan(self, scope: Scope = EVERYTHING) -> tuple[Seen, ...]:
        """The data of :meth:`listing`."""
        return self.listing(scope).files

    def markers(self, pattern: str, scope: Scope = EVERYTHING) -> tuple[Seen, ...]:
        """The markers of :meth:`listing`."""
        return self.listing(scope, pattern).markers

    def check(self) -> None:
        """Raise as :meth:`listing` does if the container is not there. A prefix without blobs is none the worse."""
        try:
            for _ in self.container.list(self._lead, make=False):
                return
        except NotFoundError as error:
            raise self._no_container() from error

    def look(self, path: str) -> Seen | None:
        """One blob as it is now, or None if it is gone."""
        try:
            found = self.container.look(self._name(path))
        except NotFoundError:
            return None
        return Seen(path, found.size, found.modified_ns, found.etag)

    def busy(self, seen: Seen) -> bool:  # noqa: ARG002 - it holds for every blob
        """Never: what is being written is not there yet."""
        return False

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of a small blob; raises ``NotFoundError``, ``IntegrityError`` above ``limit``."""
        content = bytearray()
        for chunk in self.container.chunks(self._name(path)):
            content += chunk
            if len(content) > limit:
                raise IntegrityError(
                    f"{shown(path)} behind connection {self.connection!r} is larger than {limit} bytes."
                )
        return bytes(content)

    def digest(self, seen: Seen, copy_to: Path | None = None) -> str | None:
        """The sha256 of a blob's bytes, copied to ``copy_to`` on the way; None if it is not the blob that was seen.

        Every piece is asked for by etag, so what was read is one version of the blob, and the one that was seen.
        """
        sha256 = hashlib.sha256()

        def is_it(first: Ranged) -> None:
            if (first.size, first.etag) != (seen.size, seen.etag):
                raise ChangedError

        try:
            with Copy(copy_to) as target:
                if not seen.size:  # of an empty blob no range can be asked, and no etag is told
                    return sha256.hexdigest() if self.look(seen.path) == seen else None
                for chunk in self.container.chunks(self._name(seen.path), seen=is_it):
                    sha256.update(chunk)
                    target.write(chunk)
        except (ChangedError, NotFoundError, IntegrityError):
            return None
        return sha256.hexdigest()

    @property
    def _lead(self) -> str:
        folder = inner(self.prefix, self.connection, "container")
        return f"{folder}/" if folder else ""

    def _name(self, path: str) -> str:
        return self._lead + inner(path, self.connection, "container")

    def _items(self, scope: Scope) -> Iterator[BlobItem]:
        until, lead = time.monotonic() + WHOLE_SECONDS, self._lead
        folders = [f"{lead}{one}/" for one in scope.folders] if scope.folders is not None else None
        common = [lead] if folders is None else folders
        if folders is not None and len(folders) > MANY_FOLDERS:
            common = [os.path.commonprefix(folders)]  # noqa: RUF071 - a listing takes any prefix, whole folders or not
        inside = Inside(folders) if folders is not None else None
        try:
            for prefix in common:
                for one in self.container.list(prefix, make=False):
                    if inside is None or one.name in inside:
                        yield one
                    if time.monotonic() > until:
                        raise self._slow()
        except NotFoundError as error:
            raise self._no_container() from error

    def _no_container(self) -> ConfigurationError:
        name = self.container.name
        return ConfigurationError(
            f"There is no container {name!r} in the account behind connection {self.connection!r}.",
            left="everything claimed so far; the container was not made",
            next="Correct source.folder in pipeline.yaml (the container, then a prefix after '/'), or make the "
            "container that files are uploaded to; then clear the task.",
        )

    def _slow(self) -> UnreachableError:
        return UnreachableError(
            f"Container {self.container.name!r} behind connection {self.connection!r} was not listed within "
            f"{WHOLE_SECONDS:g} s.",
            left="everything claimed so far",
            next="Sort the uploads into folders by date and name them in source.partitions; then clear the task.",
        )


class Inside:
    """Whether a name lies in one of many folders."""

    def __init__(self, folders: list[str]) -> None:
        self.folders, self.lengths = set(folders), sorted({len(one) for one in folders})

    def __contains__(self, name: str) -> bool:
        """Whether ``name`` begins with one of the folders."""
        return any(name[:length] in self.folders for length in self.lengths)


class Sorting:
    """What a listing of blobs means to a source of files."""

    def __init__(self, matching: Matching) -> None:
        self.matching = matching
        self.files: list[Seen] = []
        self.marked: list[Seen] = []
        self.broken: list[Broken] = []
        self._hidden: dict[str, bool] = {"": False}

    def add(self, path: str, blob: BlobItem) -> None:
        """Sort in the blob at ``path`` below the prefix."""
        folder, _, name = path.rpartition("/")
        if not name or self._is_hidden(folder):
            return  # the empty blob that stands for a folder in a hierarchical namespace; or nothing of ours
        matching = self.matching
        if matching.marks is not None and matching.marks(name, path):
            into = self.marked
        elif matching.wanted(name, path) and not matching.excluded(name, path):
            into = self.files
        else:
            return
        if not speakable(path):
            self.broken.append(refused(path))
        elif not {"", ".", ".."}.isdisjoint(path.split("/")):
            self.broken.append(Broken(shown(path), "its name is no path; upload it without '.', '..' and '//'"))
        elif blob.kind != BLOCK:
            self.broken.append(
                Broken(path, f"is no block blob but a {blob.kind}, which grows in place; upload it whole")
            )
        else:
            into.append(Seen(path, blob.size, blob.modified_ns, blob.etag))

    def listing(self) -> Listing:
        """All of it, by path."""
        self.files.sort(key=itemgetter(0))
        return Listing(tuple(self.files), tuple(sorted(self.marked)), tuple(sorted(self.broken)))

    def _is_hidden(self, folder: str) -> bool:
        if folder not in self._hidden:
            self._hidden[folder] = self.matching.hides(folder)
        return self._hidden[folder]
