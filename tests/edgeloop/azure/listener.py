"""What services of these tests have in common: HTTP read off a socket, and an end at any moment."""

from __future__ import annotations

import socket
from contextlib import suppress


def head_of(link: socket.socket) -> bytes:
    """The next request's line and headers, with the blank line behind them; nothing when the other side has gone."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = link.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def length_of(head: bytes) -> int:
    """How many bytes of a body follow."""
    return next((int(one[15:]) for one in head.split(b"\r\n") if one.startswith(b"Content-Length:")), 0)


def shut(server: socket.socket) -> None:
    """Let nobody wait for a connection any more."""
    with suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)
    server.close()
