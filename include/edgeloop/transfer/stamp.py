"""By what a file is known to be unchanged without reading it: inode, time of change of content, and of anything.

A file's content may change within one tick of its file system's clock and keep its time: git calls an entry that was
noted so soon "racily clean" and reads the file again (git-scm.com/docs/racy-git). Here a stamp is only noted of a file
whose times were settled when it was opened to be read, so that whatever is written to it later gives it other times.
Nobody can set the time of change of the inode, so a time of content that was put back does not hide a change.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from edgeloop.records import FileRef
from edgeloop.transfer.target import digest_of

if TYPE_CHECKING:
    from pathlib import Path

SETTLED_NS = 10_000_000_000
"""FAT counts in 2 s; the rest is for a share whose server's clock is behind ours."""


def stamp_of(found: os.stat_result) -> str:
    """What changes with every change of the file, its size apart."""
    return f"{found.st_ino}-{found.st_mtime_ns}-{found.st_ctime_ns}"


def lasting(found: os.stat_result, now_ns: int) -> str:
    """The stamp of a file that is about to be read; "" where a change could go unseen by it."""
    settled = max(found.st_mtime_ns, found.st_ctime_ns) + SETTLED_NS < now_ns
    return stamp_of(found) if settled else ""


def read(name: str, path: Path) -> tuple[FileRef, str]:
    """The file under the blob's name, read once, and its stamp; "" if it cannot be trusted."""
    with path.open("rb", buffering=0) as stream:
        before, now_ns = os.fstat(stream.fileno()), time.time_ns()
        size, sha256 = digest_of(stream, before.st_size)
        same = stamp_of(os.fstat(stream.fileno())) == stamp_of(before)
    return FileRef(path=name, size=size, sha256=sha256), lasting(before, now_ns) if same else ""
