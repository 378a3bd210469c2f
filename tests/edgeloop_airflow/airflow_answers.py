"""A server that answers like Airflow's REST API what a test tells it to, and remembers what it was asked to change."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator


class Airflow:
    """What it answers, by path below /api/v2, and what it was asked to change."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.patched: list[tuple[str, dict[str, Any]]] = []
        self.refuses = 0
        self.port = 0

    def connection(self) -> str:
        """A connection to it, as an environment variable says it."""
        where = {"host": f"http://127.0.0.1:{self.port}", "login": "oncall", "password": "x"}
        return json.dumps({"conn_type": "edgeloop_airflow", **where})

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and body."""
        if path == "/auth/token":
            return 201, {"access_token": "t"}
        if self.refuses:
            return self.refuses, {"detail": "no"}
        place = path.removeprefix("/api/v2")
        if place not in self.known:
            return 404, {"detail": f"{place} was not found"}
        if method == "PATCH":
            self.patched.append((place, body))
            self.known[place] |= body
        return 200, self.known[place]


def _handler(airflow: Airflow) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._do()

        def do_POST(self) -> None:
            self._do()

        def do_PATCH(self) -> None:
            self._do()

        def _do(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = airflow.answer(self.command, urlsplit(self.path).path, json.loads(sent or b"null"))
            raw = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            pass

    return Handler


@contextmanager
def answering() -> Iterator[Airflow]:
    """The server, while the block runs."""
    one = Airflow()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(one))
    one.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield one
    finally:
        server.shutdown()
        server.server_close()
