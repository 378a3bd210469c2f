"""Asking a scorer over the SSH connection to its device, at the port that the plant uses.

The port need not be open to the network: the device itself connects to it, on our behalf.
"""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeloop.ssh.shell import Shell

IDLE_SECONDS = 10.0
MOST_BYTES = 16 * 1024 * 1024
OK = 200


class AskError(Exception):
    """The scorer did not answer (``status`` 0), or not with 200; internal to the rollout, never raised to a caller."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


def ask(shell: Shell, port: int, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """GET ``path``, or POST ``body`` to it, on the device's own 127.0.0.1; returns the JSON answer.

    Raises ``AskError`` if the scorer is not there or says no, ``UnreachableError`` if the device is not.
    """
    data = None if body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=IDLE_SECONDS)
    try:
        channel = shell.dial("127.0.0.1", port)
        channel.settimeout(IDLE_SECONDS)
        connection.sock = channel
        connection.request("GET" if data is None else "POST", path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read(MOST_BYTES)
        if answer.status != OK:
            raise AskError(f"{answer.status} {content[:200].decode(errors='replace')}", answer.status)
        found: dict[str, Any] = json.loads(content)
    except (http.client.HTTPException, OSError, EOFError, ValueError) as error:
        raise AskError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    return found
