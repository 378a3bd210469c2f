"""A mounted folder as a source of files."""

from __future__ import annotations

import errno
import hashlib
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass
from stat import S_ISREG
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from edgeloop.errors import IntegrityError, NotFoundError, UnreachableError
from edgeloop.share.copy import Copy
from edgeloop.share.find import Find, program
from edgeloop.share.names import Matching, inner, shown
from edgeloop.share.patience import Patience
from edgeloop.share.source import EVERYTHING, ClosedError, Listing, Scope, Seen
from edgeloop.share.walk import TooManyError, Walk, descended, reached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["SCAN_SECONDS", "Folder", "Seen"]

T = TypeVar("T")
SCAN_SECONDS = 60.0
"""A hung mount blocks in the kernel; without progress for so many seconds it counts as unreachable."""
FEW = 2000
"""Up to this many files are walked through here; GNU find is quicker with more."""
LARGE: set[tuple[Path, str]] = set()
"""Folders that held more when they were listed last: nobody walks through 2,000 files again to find that out."""
READ_BYTES = 1024 * 1024
# Without O_NONBLOCK a named pipe that took a file's place would be waited on for ever.
OWN_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""What opening a file says that is not there, or is a link or a pipe now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The folder of a source. ``root`` is the connection's folder, ``connection`` what errors name."""

    connection: str
    root: Path
    below: str = ""
    pattern: str = "*"
    exclude: tuple[str, ...] = ()

    @property
    def appears_whole(self) -> bool:
        """A file can be seen while it is written."""
        return False

    @property
    def knows_writers(self) -> bool:
        """A file system does not tell who writes on another machine."""
        return False

    @property
    def path(self) -> Path:
        """Where the files are; raises ``ConfigurationError`` if ``below`` leads out of the share."""
        return self.root / inner(self.below, self.connection, "share")

    def listing(self, scope: Scope = EVERYTHING, marker: str = "") -> Listing:
        """Every regular file that matches and is not excluded, by path. Symbolic links are not followed.

        Raises:
            UnreachableError: The folder is not there, cannot be listed, or did not get on for ``SCAN_SECONDS``.
        """
        matching, below = Matching(self.pattern, self.exclude, marker), inner(self.below, self.connection, "share")
        find = program() if scope.folders is None else None
        if find is None or (self.root, below) not in LARGE:
            walk = Walk(matching, FEW if find else math.inf)
            try:
                return self._bounded(lambda: walk.over(self.root, below, scope), walk.progress)
            except TooManyError:
                LARGE.add((self.root, below))
        found = self._found(Find(find or "", matching), below)
        if len(found.files) <= FEW:
            LARGE.discard((self.root, below))
        return found

    def scan(self, scope: Scope = EVERYTHING) -> tuple[Seen, ...]:
        """The data of :meth:`listing`."""
        return self.listing(scope).files

    def markers(self, pattern: str, scope: Scope = EVERYTHING) -> tuple[Seen, ...]:
        """The markers of :meth:`listing`."""
        return self.listing(scope, pattern).markers

    def check(self) -> None:
        """Raise ``UnreachableError``, as :meth:`listing` does, if the folder is not there."""
        path = self.path
        self._bounded(lambda: os.scandir(path).close())

    def look(self, path: str) -> Seen | None:
        """One file as it is now, or None if it is gone."""
        return self._bounded(lambda: self._look(path))

    def busy(self, seen: Seen) -> bool:  # noqa: ARG002 - it cannot tell of any file
        """Never known."""
        return False

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of a small file; raises ``NotFoundError``, ``IntegrityError`` above ``limit``."""
        return self._bounded(lambda: self._read(path, limit))

    def digest(self, seen: Seen, copy_to: Path | None = None) -> str | None:
        """The sha256 of a file's bytes, copied to ``copy_to`` on the way; None if it is not the file that was seen.

        Looked at before and after: a file that is rewritten while it is read is somebody else's unfinished work.
        """
        if self.look(seen.path) != seen:
            return None
        sha256, done = hashlib.sha256(), [0]

        def read() -> None:
            with self._opened(seen.path) as source, Copy(copy_to) as target:
                while chunk := source.read(READ_BYTES):
                    sha256.update(chunk)
                    target.write(chunk)
                    done[0] += len(chunk)

        try:
            self._bounded(read, lambda: done[0])
        except NotFoundError:
            return None
        return sha256.hexdigest() if self.look(seen.path) == seen else None

    def unreachable(self, error: OSError) -> UnreachableError:
        """The error for a share that is not there."""
        return UnreachableError(
            f"The share behind connection {self.connection!r} is not there: {error.strerror or error} ({self.path}).",
            left="everything on the share and everything claimed so far",
            next=f"Check that {self.path} is mounted on this worker and readable, and extra.path in "
            f"`airflow connections get {self.connection}`; then clear the task.",
        )

    def _closed(self, path: str) -> ClosedError:
        return ClosedError(
            f"{shown(path)} on the share behind connection {self.connection!r} may not be read by this worker.",
            left="the file, and everything else on the share",
            next=f"Give user {os.geteuid()} of the worker the right to read it; then clear the task.",
        )

    def _bounded(self, work: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        what = f"The share behind connection {self.connection!r}"
        try:
            patience = Patience(what, seconds=SCAN_SECONDS, connection=self.connection)
            return patience.call(str(self.path), work, progress)
        except OSError as error:
            raise self.unreachable(error) from error

    def _found(self, find: Find, below: str) -> Listing:
        try:
            return self._bounded(lambda: find.over(self.root, below), find.progress)
        finally:
            find.stop()

    def _look(self, path: str) -> Seen | None:
        with self._beside(path) as (at, name):
            if at is None:
                return None
            try:
                info = os.stat(name, dir_fd=at, follow_symlinks=False)
            except FileNotFoundError:
                return None
        return Seen(path, info.st_size, info.st_mtime_ns) if S_ISREG(info.st_mode) else None

    def _read(self, path: str, limit: int) -> bytes:
        with self._opened(path) as source:
            content = source.read(limit + 1)
        if len(content) > limit:
            raise IntegrityError(f"{shown(path)} on the share behind {self.connection!r} is larger than {limit} bytes.")
        return content

    @contextmanager
    def _beside(self, path: str) -> Iterator[tuple[int | None, str]]:
        """The folder of a file (None if it is gone), reached from the share without following links, and its name."""
        folder, _, name = inner(path, self.connection, "share").rpartition("/")
        at = descended(reached(self.root, inner(self.below, self.connection, "share")), folder)
        try:
            yield at, name
        finally:
            if at is not None:
                os.close(at)

    @contextmanager
    def _opened(self, path: str) -> Iterator[BinaryIO]:
        gone = NotFoundError(f"There is no regular file {shown(path)} on the share behind {self.connection!r}.")
        with self._beside(path) as (at, name):
            if at is None:
                raise gone
            try:
                file = os.open(name, OWN_FILE, dir_fd=at)
            except OSError as error:
                if error.errno in GONE:
                    raise gone from None
                if isinstance(error, PermissionError):
                    raise self._closed(path) from None
                raise
        with os.fdopen(file, "rb", buffering=0) as source:
            if not S_ISREG(os.fstat(file).st_mode):
                raise gone
            yield source
