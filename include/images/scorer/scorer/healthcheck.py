"""Exit 0 when the server here is ready; the image holds no curl, and urllib costs more than the answer."""

from __future__ import annotations

import os
import socket
import sys

SECONDS = 2.0


def ready(port: int) -> bool:
    """Whether /v2/health/ready says 200 within SECONDS."""
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            connection.settimeout(SECONDS)
            connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if ready(int(os.environ.get("PORT", "8080"))) else 1)
