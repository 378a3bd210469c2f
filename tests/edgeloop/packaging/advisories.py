"""Vulnerability databases of a test's own, which answer in the shapes that the real ones answer in."""

from __future__ import annotations

import json
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.registries import Authority

WHEN = "2024-05-01T10:00:00Z"


def advisory(name: str, fixed: str, *aliases: str, withdrawn: str | None = None) -> dict[str, Any]:
    """As the index answers it; ``withdrawn`` is when somebody took it back."""
    return {
        "aliases": list(aliases), "details": f"{name} in two\nlines", "fixed_in": [fixed], "id": name,
        "link": f"https://advisories.example/{name}", "source": "osv", "summary": None, "withdrawn": withdrawn,
    }  # fmt: skip


def osv(name: str, package: str, fixed: str, *aliases: str) -> dict[str, Any]:
    """As a database of OSV's schema answers it."""
    events = [{"introduced": "0"}, {"fixed": fixed}]
    affected = {
        "package": {"name": package, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }  # fmt: skip
    return {
        "id": name, "aliases": list(aliases), "details": name, "modified": WHEN, "published": WHEN,
        "schema_version": "1.6.0", "affected": [affected],
    }  # fmt: skip


@dataclass
class Database:
    """Answers by what is asked: an index's path, or OSV's ``name==version``; 404 for what is not there.

    With ``tls`` it is a proxy that answers in the place of whatever host it is told to lead to.
    """

    answers: dict[str, Any]
    tls: Authority | None = None
    asked: list[str] = field(default_factory=list)

    def serve(self) -> Iterator[str]:
        """Its address, while it answers."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, what: str) -> tuple[int, bytes]:
        """Status and body; an answer that is a number is a status, one that is bytes is sent as it is."""
        self.asked.append(what)
        found = self.answers.get(what, 404)
        if isinstance(found, int):
            return found, b"no"
        return 200, found if isinstance(found, bytes) else json.dumps(found).encode()


def _handler(database: Database) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            """Go on with TLS, as the host that was asked for."""
            assert database.tls
            self.send_response(200)
            self.end_headers()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(database.tls.cert, database.tls.key)
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
            self.handle_one_request()
            self.close_connection = True

        def do_GET(self) -> None:
            """An index's or a file's path."""
            self._say(self.path)

        def do_POST(self) -> None:
            """OSV's question."""
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._say(f"{told['package']['name']}=={told['version']}")

        def _say(self, what: str) -> None:
            status, body = database.answer(what)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    return Handler
