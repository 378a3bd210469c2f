"""The walk through a mounted folder, or a part of it, that holds no more files than Python can look at quickly."""

from __future__ import annotations

import math
import os
from operator import itemgetter
from stat import S_ISREG
from typing import TYPE_CHECKING

from edgeloop.share.names import DEEPEST, no_entry, refused, speakable, too_deep
from edgeloop.share.source import Broken, Listing, Scope, Seen

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.share.names import Matching

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
OWN_FOLDER = FOLDER | os.O_NOFOLLOW
GONE = (FileNotFoundError, NotADirectoryError)
"""What opening a folder says that is not there, or is a file or a link now."""
BY_PATH = itemgetter(0)


def reached(root: Path, below: str) -> int:
    """A descriptor of the folder ``below`` in ``root``; ``OSError`` if it is not there or a link leads to it."""
    at = os.open(root, FOLDER)
    for part in below.split("/") if below else ():
        above = at
        try:
            at = os.open(part, OWN_FOLDER, dir_fd=above)
        finally:
            os.close(above)
    return at


def descended(at: int, below: str) -> int | None:
    """A descriptor of the folder ``below`` the open folder ``at``, which is closed; None if there is none or a link."""
    for part in below.split("/") if below else ():
        above = at
        try:
            at = os.open(part, OWN_FOLDER, dir_fd=above)
        except GONE:
            return None
        finally:
            os.close(above)
    return at


class TooManyError(Exception):
    """There are more files than this walk is for."""


class Walk:
    """One walk through a folder, given up after ``most`` files.

    Descriptors rather than paths: half the kernel's work, and nobody swaps in a link on the way.
    """

    def __init__(self, matching: Matching, most: float = math.inf) -> None:
        self.matching, self.most = matching, most
        self.files: list[Seen] = []
        self.marked: list[Seen] = []
        self.broken: list[Broken] = []
        self.folders = 0

    def progress(self) -> int:
        """Grows while the walk gets on."""
        return self.folders + len(self.files)

    def over(self, root: Path, below: str, scope: Scope) -> Listing:
        """Walk through ``scope`` of the folder ``below`` in ``root``."""
        top = reached(root, below)
        try:
            if scope.folders is None:
                self._walk(top, "", 0)
            for folder in scope.folders or ():
                self._part(top, folder)
        finally:
            os.close(top)
        self.files.sort(key=BY_PATH)
        return Listing(tuple(self.files), tuple(sorted(self.marked)), tuple(sorted(self.broken)))

    def _part(self, top: int, folder: str) -> None:
        if self.matching.hides(folder):
            return
        at = descended(os.dup(top), folder)
        if at is None:
            return
        try:
            self._walk(at, folder + "/", folder.count("/") + 1)
        finally:
            os.close(at)

    def _walk(self, at: int, prefix: str, depth: int) -> None:
        self.folders += 1
        inside: list[str] = []
        with os.scandir(at) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        inside.append(entry.name)
                    else:
                        self._keep(entry, prefix + entry.name)
                except FileNotFoundError:
                    continue  # renamed or removed since it was listed; the next listing shows what became of it
                except PermissionError:
                    self.broken.append(no_entry(prefix + entry.name))
                if len(self.files) > self.most:
                    raise TooManyError
        for name in inside:
            self._enter(at, name, prefix + name, depth + 1)

    def _keep(self, entry: os.DirEntry[str], path: str) -> None:
        matching, name = self.matching, entry.name
        if matching.marks is not None and matching.marks(name, path):
            into = self.marked
        elif matching.wanted(name, path) and not matching.excluded(name, path):
            into = self.files
        else:
            return
        info = entry.stat(follow_symlinks=False)
        if not S_ISREG(info.st_mode):
            return
        if speakable(name):
            into.append(Seen(path, info.st_size, info.st_mtime_ns))
        else:
            self.broken.append(refused(path))

    def _enter(self, above: int, name: str, path: str, depth: int) -> None:
        if self.matching.excluded(name, path):
            return
        if not speakable(name):
            self.broken.append(refused(path))
            return
        if depth > DEEPEST:
            self.broken.append(too_deep(path))
            return
        try:
            at = os.open(name, OWN_FOLDER, dir_fd=above)
        except GONE:
            return
        except PermissionError:
            self.broken.append(no_entry(path))
            return
        try:
            self._walk(at, path + "/", depth)
        finally:
            os.close(at)
