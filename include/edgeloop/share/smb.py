"""An SMB share as a source of files, spoken to directly: no mount, no root, and the server says who is writing."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from edgeloop.errors import IntegrityError, NotFoundError, UnreachableError
from edgeloop.share import smb_wire as wire
from edgeloop.share.copy import Copy
from edgeloop.share.names import Matching, inner, shown
from edgeloop.share.smb_link import Address, Link, Reply, run
from edgeloop.share.smb_walk import Walk
from edgeloop.share.source import EVERYTHING, ClosedError, Listing, Scope, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")
WHOLE_SECONDS = 1800.0
"""How long one listing may take in all; a read may take longer, by its size."""
SLOWEST_BYTES_PER_SECOND = 64 * 1024
READ_BYTES = 1024 * 1024
READS_AHEAD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SmbShare:
    """A share on an SMB 3 server. ``connection`` is what errors name; ``below`` is a folder on the share.

    Sessions are encrypted, and signed in any case. With ``encrypt`` false a server without encryption is taken too.
    Links on the share are the server's: Samba resolves them itself, within the share unless told otherwise.
    """

    connection: str
    host: str
    share: str
    user: str
    password: str = field(repr=False)
    port: int = 445
    below: str = ""
    pattern: str = "*"
    exclude: tuple[str, ...] = ()
    encrypt: bool = True

    @property
    def appears_whole(self) -> bool:
        """A file can be seen while it is written."""
        return False

    @property
    def knows_writers(self) -> bool:
        """The server refuses an open that would shut out a writer."""
        return True

    def listing(self, scope: Scope = EVERYTHING, marker: str = "") -> Listing:
        """Every file that matches and is not excluded, by path; several directories are asked for at once.

        Raises:
            UnreachableError: The server does not answer, or the folder is not there.
            ConfigurationError: The server refuses the user, has no such share, or cannot encrypt.
        """
        folder, matching = self._folder, Matching(self.pattern, self.exclude, marker)

        def work(link: Link) -> Listing:
            return Walk(link, self, matching).over(folder, scope)

        return self._run(work)

    def scan(self, scope: Scope = EVERYTHING) -> tuple[Seen, ...]:
        """The data of :meth:`listing`."""
        return self.listing(scope).files

    def markers(self, pattern: str, scope: Scope = EVERYTHING) -> tuple[Seen, ...]:
        """The markers of :meth:`listing`."""
        return self.listing(scope, pattern).markers

    def check(self) -> None:
        """Raise as :meth:`listing` does if the folder is not there."""
        request = wire.create(self._folder, wire.LOOK_ACCESS, wire.SHARE_ALL, wire.AS_FOLDER)
        reply = self._run(lambda link: link.ask(request, wire.close(wire.RELATED))[0])
        if reply.status in wire.GONE:
            raise self.missing()
        self.refuse(reply, self._folder)

    def look(self, path: str) -> Seen | None:
        """One file as it is now, or None if it is gone."""
        where = self._where(path)
        return self._run(lambda link: self._look(link, path, where))

    def busy(self, seen: Seen) -> bool:
        """Whether a writer holds the file open: an open that shares reading alone is then a sharing violation."""
        where = self._where(seen.path)
        return self._run(lambda link: _is_busy(link, where))

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of a small file; raises ``NotFoundError``, ``IntegrityError`` above ``limit``."""
        where, parts = self._where(path), list[bytes]()

        def work(link: Link) -> None:
            parts.clear()
            for chunk in self._chunks(link, path, where):
                parts.append(chunk)
                if sum(map(len, parts)) > limit:
                    raise IntegrityError(
                        f"{shown(path)} on the share behind {self.connection!r} is larger than {limit} bytes."
                    )

        self._run(work, more=limit)
        return b"".join(parts)

    def digest(self, seen: Seen, copy_to: Path | None = None) -> str | None:
        """The sha256 of a file's bytes, copied to ``copy_to`` on the way; None if it is not the file that was seen.

        Looked at before and after, and probed for a writer both times; others may write meanwhile, for a producer that
        cannot open its own file would be our fault.
        """
        where = self._where(seen.path)

        def same(link: Link) -> bool:
            return not _is_busy(link, where) and self._look(link, seen.path, where) == seen

        def work(link: Link) -> str | None:
            sha256 = hashlib.sha256()
            if not same(link):
                return None
            with Copy(copy_to) as target:
                for chunk in self._chunks(link, seen.path, where):
                    sha256.update(chunk)
                    target.write(chunk)
            return sha256.hexdigest() if same(link) else None

        try:
            return self._run(work, more=seen.size)
        except NotFoundError:
            return None

    def refuse(self, reply: Reply, path: str) -> None:
        """Raise what an answer other than success means for ``path``."""
        if reply.status == wire.SUCCESS:
            return
        where = f"{shown(path) or 'the folder'} on {self.host}:{self.port} behind connection {self.connection!r}"
        if reply.status == wire.ACCESS_DENIED:
            raise ClosedError(
                f"User {self.user!r} may not read {where}.",
                left="everything on the share and everything claimed so far",
                next="Give that user the right to read it, then clear the task.",
            )
        raise UnreachableError(
            f"The server cannot open {where}: NT status 0x{reply.status:08x}.",
            left="everything on the share and everything claimed so far",
            next="Look up the status in the server's log, then clear the task.",
        )

    def missing(self) -> UnreachableError:
        """The error for a folder that is not there."""
        return UnreachableError(
            f"There is no folder {self.below!r} on the share {self.share!r} behind connection {self.connection!r}.",
            left="everything on the share and everything claimed so far",
            next="Make the folder, or correct source.folder in pipeline.yaml; then clear the task.",
        )

    @property
    def _folder(self) -> str:
        return inner(self.below, self.connection, "share")

    def _where(self, path: str) -> str:
        return "/".join(one for one in (self._folder, inner(path, self.connection, "share")) if one)

    def _run(self, work: Callable[[Link], T], more: int = 0) -> T:
        address = Address(
            connection=self.connection, host=self.host, port=self.port, share=self.share, user=self.user,
            password=self.password, encrypt=self.encrypt,
        )  # fmt: skip
        return run(address, work, seconds=WHOLE_SECONDS + more / SLOWEST_BYTES_PER_SECOND)

    def _look(self, link: Link, path: str, where: str) -> Seen | None:
        request = wire.create(where, wire.LOOK_ACCESS, wire.SHARE_ALL, wire.AS_FILE)
        reply = link.ask(request, wire.close(wire.RELATED))[0]
        if reply.status in wire.GONE:
            return None
        self.refuse(reply, path)
        found = wire.opened(reply.data)
        return Seen(path, found.size, found.mtime_ns)

    def _chunks(self, link: Link, path: str, where: str) -> Iterator[bytes]:
        """The bytes of a file, some reads ahead of whoever takes them."""
        (reply,) = link.ask(wire.create(where, wire.READ_ACCESS, wire.SHARE_ALL, wire.AS_FILE))
        if reply.status in wire.GONE:
            raise NotFoundError(f"There is no file {shown(path)} on the share behind {self.connection!r}.")
        self.refuse(reply, path)
        found = wire.opened(reply.data)
        step, at = min(READ_BYTES, link.largest_read), 0
        ahead: deque[Any] = deque()
        while ahead or at < found.size:
            while at < found.size and len(ahead) < READS_AHEAD:
                ahead += link.send(wire.read(found.id, at, min(step, found.size - at)))
                at += step
            reply = link.answer(ahead.popleft())
            if reply.status == wire.END_OF_FILE:
                at = found.size  # it was cut short meanwhile, as the look afterwards will show
                continue
            self.refuse(reply, path)
            yield wire.content(reply.data)
        link.ask(wire.close(found.id))


def _is_busy(link: Link, where: str) -> bool:
    request = wire.create(where, wire.READ_ACCESS, wire.SHARE_READ, wire.AS_FILE)
    return link.ask(request, wire.close(wire.RELATED))[0].status == wire.SHARING_VIOLATION
