"""One blob on its way into a registry: whole if it is small, else in pieces that an interruption does not lose.

Pieces hold PIECE_BYTES at most in memory. After a cut the registry is asked how far it got; one that cannot say, or
that forgot the upload when it was restarted, gets the blob from its first byte. Only the last request gives the blob
its name, and the registry compares the bytes with the digest then: half a blob is never there.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeloop.containers import registry_problems as problems
from edgeloop.containers.registry_wire import BACKOFF_SECONDS, RETRIES, Call, CutError
from edgeloop.errors import EdgeloopError, IntegrityError

if TYPE_CHECKING:
    from typing import BinaryIO

    from edgeloop.containers.content import Content
    from edgeloop.containers.registry_wire import Answer, Deadline, Wire

PIECE_BYTES = 4 * 1024 * 1024
"""As the SDK of Azure's registries sends; a registry may ask for larger ones (``OCI-Chunk-Min-Length``)."""
MOST_PIECE_BYTES = 64 * 1024 * 1024
TELL_SECONDS = 10.0
LOG = logging.getLogger(__name__)
OK, CREATED, ACCEPTED, NO_CONTENT = 200, 201, 202, 204
FORGOTTEN = ("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID")


@dataclass(slots=True)
class Upload:
    """Brings ``content`` into ``repository``; ``sent`` counts the bytes of it that were sent, again and again too."""

    wire: Wire
    repository: str
    content: Content
    deadline: Deadline
    sent: int = 0
    vouched: bool = False
    """Whether the registry named the digest of what it took."""
    _at: str = ""
    _offset: int = 0
    _piece: int = field(default_factory=lambda: PIECE_BYTES)
    _told: float = field(default_factory=time.monotonic)

    @property
    def doing(self) -> str:
        """What it does, in the words of an error."""
        return f"take blob {self.content.descriptor.digest} of {self.repository}"

    def run(self) -> None:
        """Send it; an interruption is waited out ``RETRIES`` times for as long as no byte gets through."""
        failures = 0
        while True:
            before = self._offset
            try:
                self._through()
            except CutError as cut:
                failures = 1 if self._offset > before else failures + 1
                if failures == RETRIES or self.deadline.passed:
                    raise cut.error from cut
                time.sleep(BACKOFF_SECONDS * 2 ** (failures - 1))
                # It may be the answer alone that was lost.
                if self._arrived():
                    return
                self._find_place()
            else:
                return

    def _through(self) -> None:
        size = self.content.descriptor.size
        if not self._at:
            self._begin()
        with self.content.open() as source:
            seen = _skip(source, self._offset)
            while size > self._piece and self._offset < size:
                self._send_piece(source, seen)
            rest = source.read(self._piece + 1) if self._offset < size else b""
            seen.update(rest)
            self._require_same(seen, self._offset + len(rest) + len(source.read(1)))
        self._finish(rest)

    def _begin(self) -> None:
        answer = self._once("POST", f"/v2/{self.repository}/blobs/uploads/", (ACCEPTED,))
        self._at, self._offset = self._next(answer), 0
        asked = answer.headers.get("OCI-Chunk-Min-Length", "")
        if asked.isdigit():
            self._piece = min(max(PIECE_BYTES, int(asked)), MOST_PIECE_BYTES)

    def _send_piece(self, source: BinaryIO, seen: hashlib._Hash) -> None:
        piece = source.read(min(self._piece, self.content.descriptor.size - self._offset))
        if not piece:
            raise self._changed(self._offset)
        seen.update(piece)
        span = f"{self._offset}-{self._offset + len(piece) - 1}"
        self.sent += len(piece)
        answer = self._once("PATCH", self._at, (ACCEPTED, NO_CONTENT), span, piece)
        self._at = self._next(answer)
        self._offset += len(piece)
        self._tell()

    def _finish(self, rest: bytes) -> None:
        from urllib.parse import quote

        joint = "&" if "?" in self._at else "?"
        where = f"{self._at}{joint}digest={quote(self.content.descriptor.digest, safe='')}"
        self.sent += len(rest)
        answer = self._once("PUT", where, (CREATED, NO_CONTENT), data=rest)
        told = answer.headers.get("Docker-Content-Digest", "")
        if told not in {"", self.content.descriptor.digest}:
            raise problems.other_bytes(self.wire.endpoint, self.content.descriptor.digest, told, self.repository)
        self.vouched = bool(told)
        self._offset = self.content.descriptor.size

    def _arrived(self) -> bool:
        path = f"/v2/{self.repository}/blobs/{self.content.descriptor.digest}"
        try:
            return self._once("HEAD", path, (OK, problems.NOT_FOUND)).status == OK
        except CutError:
            return False

    def _find_place(self) -> None:
        """Where the registry is after a cut; from the beginning if it cannot say."""
        place, self._offset = self._offset, 0
        if not self._at or not place:
            self._at = ""
            return
        try:
            answer = self._once("GET", self._at, (NO_CONTENT,))
        except (CutError, EdgeloopError) as error:
            LOG.info("The registry knows no more of the upload of %s: %s", self.content.descriptor.digest, error)
            self._at = ""
            return
        first, _, last = answer.headers.get("Range", "").partition("-")
        if first in {"0", "bytes=0"} and last.isdigit() and int(last) < self.content.descriptor.size:
            self._at, self._offset = self._next(answer), int(last) + 1
            LOG.info("Going on at byte %d of %s", self._offset, self.content.descriptor.digest)
        else:
            self._at = ""

    def _once(self, method: str, path: str, good: tuple[int, ...], span: str = "", data: bytes = b"") -> Answer:
        if self.deadline.passed:
            raise problems.late(self.wire.endpoint, self.doing, self.deadline.seconds)
        octets = {"Content-Type": "application/octet-stream"} if method in {"PATCH", "PUT"} else {}
        call = Call(
            method=method, path=path, doing=self.doing, repository=self.repository, push=True, good=good,
            headers=octets | ({"Content-Range": span} if span else {}), data=data,
        )  # fmt: skip
        try:
            return self.wire.once(call, self.deadline)
        except EdgeloopError as error:
            if method in {"PATCH", "PUT"} and any(one in error.what for one in FORGOTTEN):
                # A registry that was restarted without its uploads' state answers so to the next piece, or the first.
                raise CutError(error) from error
            raise

    def _next(self, answer: Answer) -> str:
        location = answer.headers.get("Location")
        if not location:
            raise problems.silent(self.wire.endpoint, self.doing, "it named no place to go on (Location)")
        return self.wire.resolve(location)

    def _require_same(self, seen: hashlib._Hash, size: int) -> None:
        wanted = self.content.descriptor
        if size != wanted.size or f"sha256:{seen.hexdigest()}" != wanted.digest:
            raise self._changed(size)

    def _changed(self, size: int) -> IntegrityError:
        wanted = self.content.descriptor
        return IntegrityError(
            f"What should be blob {wanted.digest} of {wanted.size} bytes ({self.content.file or 'in memory'}) has "
            f"{size} or other bytes now.",
            left=problems.PUSHED,
            next="See who changes that file, and make the image anew: clear the build task.",
        )

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told > TELL_SECONDS:
            self._told = now
            LOG.info(
                "%.0f of %.0f MB of %s are in the registry of connection %r",
                self._offset / 1e6,
                self.content.descriptor.size / 1e6,
                self.content.descriptor.digest[:19],
                self.wire.endpoint.connection,
            )


def _skip(source: BinaryIO, size: int) -> hashlib._Hash:
    """Go on at ``size``, with the digest of what stands before it."""
    seen = hashlib.sha256()
    while size > 0:
        piece = source.read(min(size, PIECE_BYTES))
        if not piece:
            break
        seen.update(piece)
        size -= len(piece)
    return seen
