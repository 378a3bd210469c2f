"""Sessions with SMB servers: made once, kept for the next question, made anew when the server was restarted.

Every answer is waited for ``IDLE_SECONDS`` at most, and every piece of work has an end. smbprotocol's own waits have
none: a server that hangs in the middle of a login would hold a task for ever.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from edgeloop.errors import ConfigurationError, EdgeloopError, UnreachableError
from edgeloop.share import smb_wire as wire

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0
CREDITS = 512
"""What a link asks to have in flight, in units of 64 KiB: several directories or reads at once."""
SPEAKERS = ("connection", "open", "session", "transport", "tree")
"""Each by its own name: they tell every request at INFO, and the end of a kept session in a thread, to a stream that
may be closed by then. Airflow's namespace_levels, applied later, let ``smbprotocol`` itself speak again."""
SPARE_LINKS = 2
SPARE_SECONDS = 300.0
"""An unused session older than this is not trusted; servers close them without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A share, and who asks for it. ``connection`` is the Airflow connection id that errors name."""

    connection: str
    host: str
    port: int
    share: str
    user: str
    password: str = field(repr=False)
    encrypt: bool = True

    @property
    def place(self) -> str:
        """The share, for a message."""
        return f"\\\\{self.host}:{self.port}\\{self.share}"


class Reply(NamedTuple):
    """A server's answer: its NT status, and the message after the header."""

    status: int
    data: bytes


class LostError(Exception):
    """The session is gone, or the server does not answer; the cause says which."""


class Link:
    """One session with one share, for one thread at a time.

    Raises ``LostError`` when the server is gone, from every method.
    """

    def __init__(self, address: Address) -> None:
        from smbprotocol.session import Session
        from smbprotocol.tree import TreeConnect

        self.address, self.owner, self.used_at = address, os.getpid(), time.monotonic()
        self.deadline = time.monotonic() + CONNECT_SECONDS
        self._made = _bounded()(uuid.uuid4(), address.host, address.port, require_signing=True)
        try:
            self._made.idle = CONNECT_SECONDS
            self._made.connect(timeout=CONNECT_SECONDS)
            self._watch_the_peer()
            self._session = Session(self._made, address.user, address.password, require_encryption=address.encrypt)
            self._session.connect()
            self._tree = TreeConnect(self._session, f"\\\\{address.host}\\{address.share}")
            self._tree.connect()
            self._made.echo(sid=self._session.session_id, timeout=CONNECT_SECONDS, credit_request=CREDITS)
        except BaseException:
            self.close()
            raise
        self._made.idle = IDLE_SECONDS

    @property
    def fit(self) -> bool:
        """Whether the session may still be there, and belongs to this process."""
        fresh = time.monotonic() - self.used_at < SPARE_SECONDS
        return fresh and self.owner == os.getpid() and self._made.transport.connected and self._made._t_exc is None  # noqa: SLF001 - nothing public tells

    @property
    def credits(self) -> int:
        """How much may be asked for now, in units of 64 KiB."""
        window = self._made.sequence_window
        return int(window["high"] - window["low"])

    @property
    def largest_read(self) -> int:
        """How many bytes one read may ask for."""
        return int(self._made.max_read_size)

    @property
    def largest_listing(self) -> int:
        """How many bytes one answer about a directory may have."""
        return int(self._made.max_transact_size)

    def send(self, *messages: Any) -> list[Any]:
        """Send a message, or several of which each is about what the first opens; what :meth:`answer` takes."""
        made, sid, tid = self._made, self._session.session_id, self._tree.tree_connect_id
        if len(messages) == 1:
            return [made.send(messages[0], sid=sid, tid=tid)]
        return list(made.send_compound(list(messages), sid=sid, tid=tid, related=True))

    def answer(self, request: Any) -> Reply:
        """The answer to what was sent."""
        from smbprotocol.exceptions import SMBResponseException

        if time.monotonic() > self.deadline:
            raise LostError("it took longer than it may take in all")
        try:
            header = self._made.receive(request)
        except SMBResponseException as error:
            if error.status in (wire.SESSION_GONE, wire.CONNECTION_GONE):
                raise LostError("the server ended the session") from error
            return Reply(error.status, error.header["data"].get_value())
        return Reply(wire.SUCCESS, header["data"].get_value())

    def ask(self, *messages: Any) -> list[Reply]:
        """Send, and await the answers."""
        return [self.answer(one) for one in self.send(*messages)]

    def close(self) -> None:
        """End the connection. The server forgets what was open."""
        transport = self._made.transport
        if transport is None:
            return
        if self.owner != os.getpid():
            # A process forked since: to disconnect would end the session of the one that made it, and wait for ever
            # for a lock that its reading thread held.
            transport._sock.close()  # noqa: SLF001 - there is no other way to its socket
            return
        self._made.disconnect(close=False)

    def _watch_the_peer(self) -> None:
        # A peer without power never closes anything: what is sent to it must be acknowledged, or the socket ends.
        made = self._made.transport._sock  # noqa: SLF001 - there is no other way to its socket
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(IDLE_SECONDS * 1000))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


_spare: dict[Address, list[Link]] = {}


def run(address: Address, work: Callable[[Link], T], *, seconds: float) -> T:
    """What ``work`` makes of a link to the share; asked again on a new one if a kept session turned out to be gone.

    Args:
        address: The share.
        work: May be called twice.
        seconds: How long it may take in all.

    Raises:
        UnreachableError: The host is gone, does not answer in time, or speaks no SMB that we accept.
        ConfigurationError: It refuses the user or has no such share.
    """
    for one in SPEAKERS:
        logging.getLogger(f"smbprotocol.{one}").setLevel(logging.CRITICAL)
    kept = _spare.get(address, [])
    while kept:
        link = kept.pop()
        if not link.fit:
            link.close()
            continue
        try:
            return _work(link, work, seconds)
        except _lost():
            break
    with_errors = _Told(address)
    return with_errors(lambda: _work(Link(address), work, seconds))


def _work(link: Link, work: Callable[[Link], T], seconds: float) -> T:
    link.deadline = time.monotonic() + seconds
    try:
        result = work(link)
    except BaseException:
        link.close()
        raise
    link.used_at = time.monotonic()
    spare = _spare.setdefault(link.address, [])
    if len(spare) < SPARE_LINKS:
        spare.append(link)
    else:
        link.close()
    return result


def _lost() -> tuple[type[Exception], ...]:
    from smbprotocol.exceptions import SMBException

    return LostError, SMBException, OSError, struct.error, ValueError  # the last is how it says that nobody listens


@lru_cache(maxsize=1)
def _bounded() -> Any:
    """Smbprotocol's connection with an end to every wait, and without going where a link leads."""
    from smbprotocol.connection import Connection

    class Bounded(Connection):  # type: ignore[misc]
        idle = CONNECT_SECONDS

        def receive(self, request: Any, *_: Any, timeout: float | None = None, **__: Any) -> Any:
            return super().receive(request, timeout=timeout or self.idle, resolve_symlinks=False)

    return Bounded


class _Told:
    """Says what a failed call means for whoever reads the task's log."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def __call__(self, work: Callable[[], T]) -> T:
        from smbprotocol.exceptions import SMBAuthenticationError, SMBResponseException

        try:
            return work()
        except EdgeloopError:
            raise
        except SMBAuthenticationError as error:
            raise self._refused() from error
        except SMBResponseException as error:
            if error.status == wire.LOGON_FAILURE:
                raise self._refused() from error
            if error.status == wire.BAD_NETWORK_NAME:
                raise self._no_share() from error
            if error.status == wire.ACCESS_DENIED:
                raise self._refused() from error
            raise self._unreachable(str(error)) from error
        except _lost() as error:
            if "encryption" in str(error):
                raise self._too_weak(str(error)) from error
            raise self._unreachable(str(error)) from error

    def _refused(self) -> ConfigurationError:
        one = self.address
        return ConfigurationError(
            f"{one.place} behind connection {one.connection!r} refused user {one.user!r}.",
            left="everything on the share and everything claimed so far",
            next=f"Correct login and password in `airflow connections get {one.connection}`, or give that user the "
            "right to read the share; then clear the task.",
        )

    def _no_share(self) -> ConfigurationError:
        one = self.address
        return ConfigurationError(
            f"The server {one.host}:{one.port} behind connection {one.connection!r} has no share {one.share!r}.",
            left="everything claimed so far",
            next=f"Correct schema (the share's name) in `airflow connections get {one.connection}`; "
            "then clear the task.",
        )

    def _too_weak(self, why: str) -> ConfigurationError:
        one = self.address
        return ConfigurationError(
            f"{one.place} behind connection {one.connection!r} offers no encrypted and authenticated session: {why}",
            left="everything on the share and everything claimed so far",
            next="Turn on SMB 3 encryption on the server. If it has none and the network may be trusted, set "
            f'{{"encrypt": false}} in the extra of connection {one.connection!r}: messages are then signed only.',
        )

    def _unreachable(self, why: str) -> UnreachableError:
        one = self.address
        return UnreachableError(
            f"{one.place} behind connection {one.connection!r} did not answer: {why}",
            left="everything on the share and everything claimed so far",
            next=f"Check that the server is up and lets this worker in on port {one.port}, and host and port in "
            f"`airflow connections get {one.connection}`; then clear the task.",
        )
