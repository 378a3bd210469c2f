"""A registry of Azure as its data plane logs people in, in front of a real registry: no specification plays that part.

It speaks TLS and the distribution project's token protocol, with Azure's two steps before it: ``/oauth2/exchange``
takes a token of Entra ID for a refresh token, ``/oauth2/token`` gives access tokens, each for one repository and what
may be done there, and each good for so many requests.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.registries import PASSWORD, USER, free_port

if TYPE_CHECKING:
    from tests.registries import Authority, RegistryServer

PASSED_ON = ("Location", "Range", "Content-Type", "Docker-Content-Digest", "Content-Length", "Link")


@dataclass
class Token:
    """An access token: where, what for, and for how many more requests."""

    scope: str
    left: int

    def allows(self, repository: str, *, push: bool) -> bool:
        """Whether it is for that."""
        if not repository:
            return True
        kind, _, rest = self.scope.partition(":")
        name, _, actions = rest.rpartition(":")
        return kind == "repository" and name == repository and ("push" if push else "pull") in actions.split(",")


@dataclass
class TokenFront:
    """Listens on ``host`` with the certificate of ``tls``; ``registry`` is behind it, without TLS or login."""

    registry: RegistryServer
    tls: Authority
    host: str = "127.0.0.1"
    entra: str = "contract-token."
    """How a good token of Entra ID begins."""
    may: str = "pull,push"
    """What the identity may do."""
    uses: int = 1000
    """For how many requests a token is good."""
    issued: list[str] = field(default_factory=list)
    """The scopes of all access tokens so far."""
    exchanged: int = 0
    tokens: dict[str, Token] = field(default_factory=dict)
    refresh: set[str] = field(default_factory=set)
    seen: list[tuple[str, str]] = field(default_factory=list)

    def start(self) -> TokenFront:
        """Serve."""
        front = self

        class Handler(_Handler):
            one = front

        self._server = ThreadingHTTPServer((self.host, free_port(self.host)), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.tls.cert, self.tls.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"{self.host}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    one: TokenFront

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing."""

    def do_GET(self) -> None:
        """Everything."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path)
        self.one.seen.append((self.command, path.path))
        if path.path.startswith("/oauth2/"):
            self._oauth(path.path, {key: value[0] for key, value in parse_qs(body.decode() or path.query).items()})
        elif self._known(path.path):
            self._pass_on(body)
        else:
            self._challenge(path.path)

    do_POST = do_PUT = do_PATCH = do_HEAD = do_GET  # noqa: N815 - the base class asks for them

    def _known(self, path: str) -> bool:
        kind, _, secret = (self.headers.get("Authorization") or "").partition(" ")
        token = self.one.tokens.get(secret) if kind == "Bearer" else None
        if token is None or token.left <= 0 or not token.allows(_repository(path), push=self._pushes):
            return False
        token.left -= 1
        return True

    @property
    def _pushes(self) -> bool:
        return self.command in {"POST", "PUT", "PATCH"}

    def _challenge(self, path: str) -> None:
        repository = _repository(path)
        scope = f',scope="repository:{repository}:{"pull,push" if self._pushes else "pull"}"' if repository else ""
        address = self.one.address
        said = f'Bearer realm="https://{address}/oauth2/token",service="{address}"{scope}'
        self._say(401, {"errors": [{"code": "UNAUTHORIZED", "message": "who is it?"}]}, {"WWW-Authenticate": said})

    def _oauth(self, path: str, asked: dict[str, str]) -> None:
        if path == "/oauth2/exchange":
            good = asked["grant_type"] == "access_token" and asked["access_token"].startswith(self.one.entra)
            if not good or asked["service"] != self.one.address:
                self._say(401, {"errors": [{"code": "UNAUTHORIZED", "message": "AADSTS: token is not for us"}]})
                return
            self.one.exchanged += 1
            fresh = secrets.token_hex(8)
            self.one.refresh.add(fresh)
            self._say(200, {"refresh_token": fresh})
        elif self._may_have(asked):
            scope = asked.get("scope", "")
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            granted = ",".join(one for one in actions.split(",") if one in self.one.may.split(","))
            secret = secrets.token_hex(8)
            self.one.tokens[secret] = Token(scope=f"{kind}:{name}:{granted}", left=self.one.uses)
            self.one.issued.append(scope)
            self._say(200, {"access_token": secret})
        else:
            self._say(401, {"errors": [{"code": "UNAUTHORIZED", "message": "invalid username or password"}]})

    def _may_have(self, asked: dict[str, str]) -> bool:
        if asked.get("grant_type") == "refresh_token":
            return asked["refresh_token"] in self.one.refresh
        kind, _, secret = (self.headers.get("Authorization") or "").partition(" ")
        return kind == "Basic" and base64.b64decode(secret).decode() == f"{USER}:{PASSWORD}"

    def _pass_on(self, body: bytes) -> None:
        behind = http.client.HTTPConnection(self.one.registry.address, timeout=20)
        names = {key.lower() for key in self.headers} - {"host", "authorization"}
        # Docker sends an Accept for each form of a manifest.
        kept = {key: ", ".join(self.headers.get_all(key) or ()) for key in names}
        behind.request(self.command, self.path, body=body or None, headers=kept)
        reply = behind.getresponse()
        data = reply.read()
        self.send_response(reply.status)
        told = {key: reply.headers[key] for key in PASSED_ON if reply.headers[key]}
        for key, value in {**told, "Content-Length": told.get("Content-Length", str(len(data)))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)
        behind.close()

    def _say(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _repository(path: str) -> str:
    for part in ("/blobs/", "/manifests/", "/tags/", "/referrers/"):
        if path.startswith("/v2/") and part in path:
            return path.removeprefix("/v2/").partition(part)[0]
    return ""
