"""The walk through a large mounted folder, by GNU find: it stats in C on one core while we sort out on another.

100,000 files take Python 1.5 times as long as `find`, for building each stat result alone costs as much as the call to
the kernel (benchmarks/scan.py). Small folders are walked by :mod:`edgeloop.share.walk`, which starts no process.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, TYPE_CHECKING

from edgeloop.share.names import DEEPEST, is_plain, no_entry, refused, shown, speakable, too_deep
from edgeloop.share.source import Broken, Listing, Seen
from edgeloop.share.walk import BY_PATH, reached

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgeloop.share.names import Matching

FIELDS = 3
FILE = "%s\\0%T@\\0%P\\0"
"""What find prints for a file: size, mtime, path. No more than that: find is who everybody waits for."""
CLOSED = re.compile(r"^\S*find: '(?:\./)?(.*)': Permission denied$", re.MULTILINE)
TIMES = re.compile(rb"(?:[0-9]+\.[0-9]{9}0\n)+")
TOLD_BYTES = 1024 * 1024
PIPE_BYTES = 1024 * 1024
CHUNK_BYTES = 64 * 1024


@lru_cache(maxsize=1)
def program() -> str | None:
    """GNU find, or None where there is none."""
    found = shutil.which("find")
    if found is None:
        return None
    answer = subprocess.run([found, "--version"], capture_output=True, check=False, timeout=10)
    return found if b"GNU findutils" in answer.stdout else None


def command(find: str, exclude: Sequence[str]) -> list[str]:
    """The command that prints every regular file below the working folder.

    Folders with a plainly excluded name (``.snapshot`` holds the whole share once more) are not entered; what takes
    more to tell is left to :class:`Matching`, for find's globs count bytes.
    """
    hidden = [
        part for glob in exclude if is_plain(glob.strip("*")) for part in ("-o", "-name", glob.replace("\\", "\\\\"))
    ]
    # Files first: find compares names before types, and would compare those of all files with the globs for folders.
    prune = ["-o", "-type", "d", "(", *hidden[1:], ")", "-prune"] if hidden else []
    return [find, ".", "-ignore_readdir_race", "-mindepth", "1", "-type", "f", "-printf", FILE, *prune]


class Find:
    """One walk."""

    def __init__(self, find: str, matching: Matching) -> None:
        self.argv, self.matching = command(find, matching.exclude), matching
        self.files: list[Seen] = []
        self.marked: list[Seen] = []
        self.broken: set[Broken] = set()
        self._taken = 0
        self._process: subprocess.Popen[bytes] | None = None

    def progress(self) -> int:
        """Grows while the walk gets on."""
        return self._taken

    def stop(self) -> None:
        """End a walk that does not get on."""
        if self._process is not None:
            self._process.kill()

    def over(self, root: Path, below: str) -> Listing:
        """Walk through the folder ``below`` in ``root``; ``OSError`` if it is not there or find gave up."""
        top = reached(root, below)
        try:
            with tempfile.TemporaryFile() as told, self._started(top, told) as process, _uncollected():
                for records in _chunks(process):
                    self._sort_out(records, top)
                process.wait()
                told.seek(0)
                trouble = told.read(TOLD_BYTES).decode(errors="replace")
        finally:
            os.close(top)
        closed = CLOSED.findall(trouble)
        self.broken.update(no_entry(path) for path in closed if not self.matching.hides(path))
        if rest := CLOSED.sub("", trouble).strip() or ("" if closed or not process.returncode else "find failed"):
            raise OSError(errno.EIO, shown(rest))
        self.files.sort(key=BY_PATH)
        return Listing(tuple(self.files), tuple(sorted(self.marked)), tuple(sorted(self.broken)))

    @contextmanager
    def _started(self, top: int, told: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
        # Through the descriptor: a path could lead elsewhere by the time that find goes there.
        process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=told, cwd=f"/proc/self/fd/{top}",
            pass_fds=(top,), env={"LC_ALL": "C"}, bufsize=0,
        )  # fmt: skip
        self._process = process
        try:
            with process:
                yield process
        finally:
            process.kill()

    def _sort_out(self, records: list[bytes], top: int) -> None:
        matching = self.matching
        wanted, excluded, marks = matching.wanted, matching.excluded, matching.marks
        paths = _texts(records[2::FIELDS])
        names = [path[path.rfind("/") + 1 :] for path in paths]
        odd = not speakable("".join(paths))
        tricky = odd or not matching.is_plain or max(path.count("/") for path in paths) > DEEPEST
        self._taken += len(paths)
        rows = zip(records[0::FIELDS], _times(records[1::FIELDS]), names, paths, strict=True)
        if marks is None and not tricky:
            found = [
                tuple.__new__(Seen, (path, int(size), at if at is not None else _asked(path, top), ""))
                for size, at, name, path in rows
                if wanted(name, path) and not excluded(name, path)
            ]
            # In order already while find goes on: what is left for the end are a few merges.
            found.sort(key=BY_PATH)
            self.files += found
            return
        for size, at, name, path in rows:
            if marks is not None and marks(name, path):
                into = self.marked
            elif wanted(name, path) and not excluded(name, path):
                into = self.files
            else:
                continue
            if tricky and not self._is_fit(path):
                continue
            mtime_ns = at if at is not None else _asked(path, top)
            into.append(tuple.__new__(Seen, (path, int(size), mtime_ns, "")))

    def _is_fit(self, path: str) -> bool:
        """Whether a file counts whose path needs a closer look; what is wrong with a folder is told once."""
        parts = path.split("/")
        if len(parts) > 1 and self.matching.hides("/".join(parts[:-1])):
            return False
        wrong = next((at for at, part in enumerate(parts) if not speakable(part)), None)
        if wrong is not None:
            self.broken.add(refused("/".join(parts[: wrong + 1])))
        elif len(parts) > DEEPEST + 1:
            self.broken.add(too_deep("/".join(parts[: DEEPEST + 1])))
        else:
            return True
        return False


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the cycle collector: in a process with a large heap it went through all of it again and again meanwhile.

    100,000 new tuples without a cycle among them took twice as long as the listing.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _texts(fields: list[bytes]) -> list[str]:
    return b"\0".join(fields).decode(errors="surrogateescape").split("\0")


def _asked(path: str, top: int) -> int:
    try:
        return os.stat(path, dir_fd=top, follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return 0  # gone since; the next listing shows what became of it


def _times(fields: list[bytes]) -> list[int] | list[None]:
    """Nanoseconds since 1970; None for all where one is older, or find writes them otherwise."""
    joined = b"\n".join(fields) + b"\n"
    if not TIMES.fullmatch(joined):
        return [None] * len(fields)
    return [int(tenths) // 10 for tenths in joined.replace(b".", b"").split()]


def _chunks(process: subprocess.Popen[bytes]) -> Iterator[list[bytes]]:
    """What find printed, in whole records."""
    if process.stdout is None:
        return
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    waiting: list[bytes] = []
    size, ended = 0, False
    while not ended:
        more = process.stdout.read(PIPE_BYTES)
        ended = not more
        waiting.append(more)
        size += len(more)
        if size < CHUNK_BYTES and not ended:
            continue
        fields = b"".join(waiting).split(b"\0")
        whole = (len(fields) - 1) // FIELDS * FIELDS
        waiting = [b"\0".join(fields[whole:])]
        size = len(waiting[0])
        if whole:
            yield fields[:whole]
