"""One blob to one file, as careful as the upload: resumed after a cut, proven by sha256, in place by rename."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from edgeloop.errors import IntegrityError
from edgeloop.transfer.plan import Terms, plan
from edgeloop.transfer.progress import Meter, Report
from edgeloop.transfer.target import READ_BYTES, file_digest
from edgeloop.transfer.throttle import throttle_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeloop.azure.wire import Ranged
    from edgeloop.records import FileRef
    from edgeloop.transfer.target import Log, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A file that is here; ``found`` if it was before, ``received`` and ``resumed`` in bytes."""

    found: bool
    received: int
    resumed: int


def download(
    container: Target,
    file: FileRef,
    path: Path,
    *,
    terms: Terms | None = None,
    report: Report | None = None,
    log: Log | None = None,
) -> Fetched:
    """Bring the blob ``file`` to ``path``; what is there with the same content is found and left.

    What arrived before a cut stays beside it as ``.<name>.<digest>.part`` and is used by the next try. Two downloads of
    one file at once are one: the second waits.

    Raises:
        NotFoundError: There is no such blob.
        IntegrityError: The blob is not the file that is meant; nothing is at ``path``, or what was.
        UnreachableError: The account did not answer; what arrived is used by the next try.
    """
    part = path.with_name(f".{path.name}.{file.sha256[:12]}.part")
    with _locked(part) as stream:
        if _is(path, file):
            part.unlink()
            return Fetched(found=True, received=0, resumed=0)
        resumed = stream.seek(0, os.SEEK_END)
        meter = partial(Meter, file.path, file.size, report=report, log=log)
        received = _fill(container, file, stream, terms or Terms(), meter())
        if received is None and resumed:
            # The part may be what is wrong: a machine that lost power keeps a file's length and not its bytes.
            resumed, received = 0, _fill(container, file, stream, terms or Terms(), meter())
        if received is None:
            part.unlink()
            raise IntegrityError(
                f"Blob {container.name}/{file.path} is not the file that is meant: other bytes than sha256 "
                f"{file.sha256[:16]} in {file.size} bytes.",
                left=f"whatever was at {path.name} before",
                next="Restore the blob from a backup, or rerun the task that writes it.",
            )
        os.fsync(stream.fileno())
        part.replace(path)
        return Fetched(found=False, received=received, resumed=resumed)


def stream(container: Target, file: FileRef, *, terms: Terms | None = None, start: int = 0) -> Iterator[bytes]:
    """The bytes of the blob ``file`` in order, for a reader that keeps none of them on disk.

    Raises ``IntegrityError`` before the last piece is given if they are not the file's: no reader can take a wrong
    file for whole. From ``start`` on, for a reader that has what comes before and checks the whole, only the size is.
    """
    terms = terms or Terms()
    throttle, way = throttle_of(terms), plan(file.size, terms, container.features)
    size, sha256, held = start, hashlib.sha256(), b""
    if 0 < start == file.size:
        return
    pieces = container.chunks(file.path, block=way.block_bytes, workers=way.workers, start=start, seen=lambda _: None)
    for chunk in pieces:
        throttle.take(len(chunk))
        size += len(chunk)
        sha256.update(chunk)
        if held:
            yield held
        held = chunk
    if size != file.size or (not start and sha256.hexdigest() != file.sha256):
        raise IntegrityError(
            f"Blob {container.name}/{file.path} reads as {size} bytes with sha256 {sha256.hexdigest()}, not as "
            f"{file.size} bytes with sha256 {file.sha256}.",
            left="the blob as it is",
            next="Restore it from a backup, or rerun the task that writes it.",
        )
    if held:
        yield held


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    while True:
        with part.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            # Who held it before may have put it in place, and this lock is then on a file that has another name.
            if part.exists() and part.stat().st_ino == os.fstat(stream.fileno()).st_ino:
                yield stream
                return


def _is(path: Path, file: FileRef) -> bool:
    return path.is_file() and path.stat().st_size == file.size and file_digest(path)[1] == file.sha256


def _fill(container: Target, file: FileRef, part: BinaryIO, terms: Terms, meter: Meter) -> int | None:
    """Append what is missing; bytes received, or None (and an empty part) if the whole is not the file."""
    throttle, way = throttle_of(terms), plan(file.size, terms, container.features)
    done, sha256, right = 0, hashlib.sha256(), [True]
    part.seek(0)
    while data := part.read(READ_BYTES):
        sha256.update(data)
        done += len(data)
    meter.add(done, resumed=True)

    def seen(piece: Ranged) -> None:
        right[0] = piece.size == file.size

    resumed = done
    if done < file.size or not file.size:
        pieces = container.chunks(file.path, block=way.block_bytes, workers=way.workers, start=done, seen=seen)
        try:
            for data in pieces:
                if not right[0]:
                    break
                throttle.take(len(data))
                part.write(data)
                sha256.update(data)
                done += len(data)
                meter.add(len(data))
        except IntegrityError:
            # Replaced meanwhile, or shorter than the part: kept, that part would end every further try the same way.
            right[0] = False
    part.flush()
    if not right[0] or (done, sha256.hexdigest()) != (file.size, file.sha256):
        part.truncate(0)
        return None
    return done - resumed
