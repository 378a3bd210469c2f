"""One file to one blob: conditional, checked on the way, read back afterwards, each byte of the file read once.

Blocks are named by their number and content, so an upload that was interrupted goes on with what the service already
holds. The blob appears only when all of its blocks are there, and only if nobody else made it meanwhile. A file that
fits into one block is one request.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, BinaryIO

from edgeloop.azure.features import check_name, check_size
from edgeloop.errors import ConflictError, IntegrityError, NotFoundError
from edgeloop.records import FileRef
from edgeloop.tidy import RIGHT, tidy
from edgeloop.transfer.crew import work_through
from edgeloop.transfer.plan import Plan, Terms, plan
from edgeloop.transfer.progress import Meter, Report
from edgeloop.transfer.proof import block_id, there, verify
from edgeloop.transfer.stamp import lasting, read
from edgeloop.transfer.target import Transferred
from edgeloop.transfer.throttle import throttle_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeloop.transfer.target import Log, Target


def upload(
    container: Target,
    name: str,
    path: Path,
    *,
    known: FileRef | None = None,
    terms: Terms | None = None,
    report: Report | None = None,
    log: Log | None = None,
) -> Transferred:
    """Put the file at ``path`` into the blob ``name`` and prove that it arrived.

    The same content under that name is found and left; nothing is sent.

    Args:
        container: Where to.
        name: The blob's name.
        path: The file.
        known: Size and sha256 that the file must have, if they are known.
        terms: How the pipeline's files travel.
        report: Told after every block.
        log: Told rate and time left every ten seconds.

    Raises:
        ConflictError: Other content has that name; it stays.
        IntegrityError: The file changed while it was sent (no blob was made), or what was read back is not what was
            sent (the blob was removed again).
        ConfigurationError: The service takes no such name or size.
        UnreachableError: The account did not answer; blocks that arrived are used by the next try.
    """
    return Courier(container, terms, report=report, log=log).upload(name, path, known)


class Courier:
    """Takes files to one container under the same terms; its methods may be called by several threads."""

    def __init__(
        self, container: Target, terms: Terms | None = None, *, report: Report | None = None, log: Log | None = None
    ) -> None:
        self.container, self.terms = container, terms or Terms()
        self.throttle = throttle_of(self.terms)
        self._block_bytes = plan(0, self.terms, container.features).block_bytes
        self._report, self._log = report, log

    def upload(self, name: str, path: Path, known: FileRef | None = None, *, new: bool = False) -> Transferred:
        """Send and read back; ``new`` spares the question whether the blob is there, which the write asks as well."""
        sent = self.send(name, path, known, new=new)
        return sent if sent.proof else self.proven(sent)

    def send(self, name: str, path: Path, known: FileRef | None = None, *, new: bool = False) -> Transferred:
        """Send without reading back; what is there already is proven all the same."""
        with path.open("rb") as stream:
            seen, now_ns = os.fstat(stream.fileno()), time.time_ns()
            source = _Source(
                name=name,
                path=path,
                stream=stream,
                times=_times(seen),
                size=seen.st_size,
                known=known,
                stamp=lasting(seen, now_ns),
            )
            check_name(self.container.features, name)
            check_size(self.container.features, name, source.size)
            if known is not None and known.size != source.size:
                raise _changed(path)
            if not new and (found := self._found(source)):
                return found
            if source.size <= self._block_bytes:
                return self._whole(source)
            return self._in_blocks(source, plan(source.size, self.terms, self.container.features))

    def proven(self, sent: Transferred) -> Transferred:
        """Read back what was sent; a blob that is wrong is removed again."""
        try:
            proof = verify(self.container, sent.file, self.terms, self.throttle)
        except IntegrityError as error:
            # Ours alone (the write was conditional) and wrong: left in place it would block every retry.
            left, fix = "no blob; it was removed again", "Clear the task."
            if not tidy(self.container, [sent.file.path]):
                left = "the wrong blob, which the connection may not remove"
                fix = f"Delete blob {self.container.name}/{sent.file.path}, then clear the task; with the {RIGHT} the "
                fix += "connection does that itself."
            raise IntegrityError(error.what, left=left, next=fix) from error
        return replace(sent, etag=proof.etag, proof=proof.how)

    def _found(self, source: _Source) -> Transferred | None:
        try:
            self.container.look(source.name)
        except NotFoundError:
            return None
        file, stamp = (source.known, "") if source.known else read(source.name, source.path)
        return self._same(file, 0, stamp)

    def _same(self, file: FileRef, sent: int, stamp: str) -> Transferred:
        """The name is taken: the same content is as good as ours, other content raises."""
        proof = there(self.container, file, self.terms, self.throttle)
        return Transferred(file=file, found=True, sent=sent, etag=proof.etag, proof=proof.how, stamp=stamp)

    def _meter(self, source: _Source) -> Meter:
        return Meter(source.name, source.size, report=self._report, log=self._log)

    def _whole(self, source: _Source) -> Transferred:
        data = source.stream.read(source.size + 1)
        file = source.read_as(len(data), hashlib.sha256(data).hexdigest())
        self.throttle.take(file.size)
        try:
            self.container.put_whole(file.path, data, metadata=_metadata(file))
        except ConflictError:
            return self._same(file, file.size, source.stamp)
        if self._report:
            self._meter(source).add(file.size)
        return Transferred(file=file, found=False, sent=file.size, stamp=source.stamp)

    def _in_blocks(self, source: _Source, way: Plan) -> Transferred:
        waiting, meter, ids = self.container.staged(source.name), self._meter(source), dict[int, str]()

        sha256 = hashlib.sha256()

        def read() -> Iterator[tuple[int, bytes]]:
            for number in count():
                data = source.stream.read(way.block_bytes)
                if not data:
                    return
                sha256.update(data)
                yield number, data

        def send(block: tuple[int, bytes]) -> None:
            number, data = block
            name = ids[number] = block_id(number, data)
            resumed = waiting.get(name) == len(data)
            if not resumed:
                self.throttle.take(len(data))
                self.container.stage(source.name, name, data)
            meter.add(len(data), resumed=resumed)

        work_through(way.workers, read(), send)
        file = source.read_as(source.stream.tell(), sha256.hexdigest())
        try:
            self.container.commit(file.path, [ids[number] for number in sorted(ids)], metadata=_metadata(file))
        except ConflictError:
            return self._same(file, meter.sent, source.stamp)
        return Transferred(file=file, found=False, sent=meter.sent, stamp=source.stamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """An open file and what was seen of it when it was opened."""

    name: str
    path: Path
    stream: BinaryIO
    times: tuple[int, int]
    size: int
    known: FileRef | None
    stamp: str

    def read_as(self, size: int, sha256: str) -> FileRef:
        """What was read; raises ``IntegrityError`` if the file was written to meanwhile, or is not the known one."""
        file = FileRef(path=self.name, size=size, sha256=sha256)
        expected = self.known.sha256 if self.known else sha256
        if size != self.size or sha256 != expected or _times(os.fstat(self.stream.fileno())) != self.times:
            raise _changed(self.path)
        return file


def _times(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _changed(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path.name} changed while it was uploaded.", left="no blob was made", next="Clear the task."
    )


def _metadata(file: FileRef) -> dict[str, str]:
    return {"sha256": file.sha256, "sha256_base64": base64.b64encode(bytes.fromhex(file.sha256)).decode()}
