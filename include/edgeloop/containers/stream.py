"""What a Docker engine's answers mean: time stamps, progress lines, and the framed streams of a command."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from edgeloop.errors import EngineError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

WHOLE_SECONDS = 600.0
STDOUT = 1


def seconds(stamp: str) -> float:
    """Docker's time stamp (nanoseconds, ``Z``) in seconds since 1970; 0.0 for its zero time."""
    from datetime import UTC, datetime

    if stamp.startswith("0001"):
        return 0.0
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")


def scan(lines: Iterator[dict[str, Any]], connection: str) -> None:
    """Read a progress stream to its end; raises for an error line: the engine answers 200 and goes on talking."""
    deadline = time.monotonic() + WHOLE_SECONDS
    for line in lines:
        if "error" in line:
            raise EngineError(
                f"Connection {connection!r}: {line['error'].strip()}",
                left="nothing that was there before was changed",
                next="Check that the engine reaches that host and may use it (plain HTTP needs --insecure-registry).",
            )
        if time.monotonic() > deadline:
            raise UnreachableError(
                f"Connection {connection!r} was not done after {WHOLE_SECONDS:.0f} s.",
                left="layers that arrived stay and are not sent again",
                next="Check the line between engine and registry; then clear the task.",
            )


def exchange(sock: Any, stdin: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Send ``stdin``, close that direction, and read the engine's framed answer to its end."""
    import socket

    sock.sendall(stdin)
    sock.shutdown(socket.SHUT_WR)
    streams: dict[int, bytearray] = {}
    while header := _exactly(sock, 8, deadline):
        size = int.from_bytes(header[4:8], "big")
        streams.setdefault(header[0], bytearray()).extend(_exactly(sock, size, deadline))
    return bytes(streams.pop(STDOUT, b"")), b"".join(bytes(one) for one in streams.values())


def _exactly(sock: Any, size: int, deadline: float) -> bytes:
    """``size`` bytes, or none when the other side has ended."""
    data = bytearray()
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer within the time given")
        sock.settimeout(left)
        chunk = sock.recv(size - len(data))
        if not chunk:
            return b""
        data.extend(chunk)
    return bytes(data)
