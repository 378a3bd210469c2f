"""Questions that tell whether a server answers, each with a short time-out and a plain yes or no."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING

from lab.errors import UnhealthyError
from lab.processes import wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TIMEOUT_S = 3.0
_POLL_S = 0.05
_LAST_WORDS = 600


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


def http_status(host: str, port: int, path: str) -> int | None:
    """The status with which GET `path` is answered, None when it is not."""
    return _status(http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S), path)


def engine_answers(socket_path: Path) -> bool:
    """Whether a Docker engine answers on `socket_path`."""
    return _status(_UnixConnection(socket_path), "/_ping") == http.HTTPStatus.OK


def banner(host: str, port: int) -> bytes:
    """The first bytes a server sends by itself, b"" when it does not."""
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection:
            return connection.recv(64)
    except OSError:
        return b""


def await_health(part: str, healthy: Callable[[], bool], log: Path, deadline: float) -> None:
    """Poll `healthy` for up to `deadline` seconds; raises UnhealthyError with the end of `log`."""
    if wait(healthy, deadline, poll=_POLL_S):
        return
    words = log.read_text(errors="replace")[-_LAST_WORDS:].strip() if log.exists() else "(it wrote nothing)"
    what = f"{part} did not answer within {deadline:.0f} s. Its last words:\n{words}"
    raise UnhealthyError(what, left=f"{log}; the parts that are up run on", next=f"read {log}, then `up` again")


def _status(connection: http.client.HTTPConnection, path: str) -> int | None:
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
