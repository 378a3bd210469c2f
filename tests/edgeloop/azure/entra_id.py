"""Entra ID played on this machine for real azure-identity credentials, and accounts that refuse as Azurite cannot.

Tokens have the form of Azure's. Nobody here checks their signature: Azurite looks at audience, issuer and times, and
knows no roles.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import jwt
from tests.edgeloop.azure.hub import DOMAIN, certificates

from edgeloop.azure.connection import Fields
from edgeloop.azure.entra import tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TENANT = "22222222-2222-2222-2222-222222222222"
CLIENT, SECRET = "33333333-3333-3333-3333-333333333333", "s3cret~of~the~application"
ISSUER = f"https://sts.windows.net/{TENANT}/"
API_VERSION = "2026-06-06"
"""The newest x-ms-version that this Azurite knows."""
SIGNED_WITH = "nobody looks at what this signature was made with"


@dataclass(kw_only=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def token(self) -> str:
        """The token it carries."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass(kw_only=True)
class Said:
    """An answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Door:
    """A server with TLS that answers each request as ``judge`` says; ``asked`` are those so far."""

    def __init__(self, folder: Path, judge: Callable[[Asked], Said], *, at: str = "127.0.0.1") -> None:
        self.ca, cert, key = certificates(folder)
        self.asked: list[Asked] = []
        self.judge = judge
        self._server = ThreadingHTTPServer((at, 0), _handler(self))
        self.port = self._server.server_port
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(door: Door) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            one = Asked(method=self.command, path=self.path, headers=headers, body=body)
            door.asked.append(one)
            said = door.judge(one)
            self.send_response(said.status)
            for name, value in {**said.headers, "Content-Length": str(len(said.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


class EntraId:
    """A tenant with one application, a workload identity, and managed identities of Azure's App Service.

    What the next tokens are may be set at any time: ``lasts`` is for how many seconds they are good, ``says`` for how
    many the client is told, ``issuer`` who made them. ``issued`` are those so far.
    """

    def __init__(self, folder: Path) -> None:
        self.door = Door(folder, self._judge)
        self.issued: list[str] = []
        self.reset()

    def reset(self) -> None:
        """As at the start; nobody keeps a token."""
        self.lasts, self.says, self.issuer = 3600, 3600, ISSUER
        self.issued.clear()
        self.door.asked.clear()
        tokens.cache_clear()

    @property
    def url(self) -> str:
        """The authority's address."""
        return f"https://127.0.0.1:{self.door.port}"

    @property
    def forms(self) -> list[dict[str, str]]:
        """What tokens were asked for with."""
        bodies = [one.body.decode() or urlsplit(one.path).query for one in self.door.asked if "token" in one.path]
        return [{name: values[0] for name, values in parse_qs(body).items()} for body in bodies]

    def fields(self, host: str, ca: Path, *, secret: str = SECRET, **extra: Any) -> Fields:
        """The connection of a service principal, as the Azure provider reads one."""
        config = {
            "authority": self.url,
            "disable_instance_discovery": True,
            "connection_verify": str(self.door.ca),
            "retry_total": 0,
        }
        own = {"tenant_id": TENANT, "client_secret_auth_config": config, "connection_verify": str(ca)}
        made = {**own, "api_version": API_VERSION, **extra}
        return Fields(connection="cloud", host=host, login=CLIENT, password=secret, extra=made)

    def _judge(self, asked: Asked) -> Said:
        at = f"{self.url}/{TENANT}"
        if asked.path.startswith("/msi/token"):
            token = self._token(parse_qs(urlsplit(asked.path).query)["resource"][0])
            return _json(200, {"access_token": token, "expires_on": str(int(time.time()) + self.says)})
        if asked.method == "GET":
            named = {f"{name}_endpoint": f"{at}/oauth2/v2.0/{name[:9]}" for name in ("token", "authorization")}
            return _json(200, {**named, "issuer": f"{at}/v2.0"})
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        if form.get("client_secret", SECRET) != SECRET:
            said = "AADSTS7000215: Invalid client secret provided. Trace ID: 0 Correlation ID: 1"
            return _json(401, {"error": "invalid_client", "error_description": said})
        token = self._token(form["scope"].removesuffix("/.default"))
        return _json(200, {"token_type": "Bearer", "expires_in": self.says, "access_token": token})

    def _token(self, audience: str) -> str:
        now = int(time.time())
        claims = {"aud": audience, "iss": self.issuer, "iat": now - 60, "nbf": now - 60, "exp": now + self.lasts}
        claims |= {"tid": TENANT, "oid": CLIENT, "jti": str(len(self.issued))}
        self.issued.append(jwt.encode(claims, SIGNED_WITH, "HS256"))
        return self.issued[-1]


def _json(status: int, body: dict[str, Any]) -> Said:
    return Said(status=status, body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


def refusal(status: int, code: str, **headers: str) -> Said:
    """How a storage account refuses."""
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>No.</Message></Error>'
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Said(
        status=status,
        body=body.encode(),
        headers={"x-ms-error-code": code, "Content-Type": "application/xml", **named},
    )


def to_this_machine(host: object, *rest: Any, **how: Any) -> Any:
    """``socket.getaddrinfo`` that finds accounts below DOMAIN here: blobs on 127.0.0.1, queues on 127.0.0.2."""
    if isinstance(host, str) and host.endswith(DOMAIN):
        host = "127.0.0.1" if ".blob." in host else "127.0.0.2"
    return REALLY(host, *rest, **how)  # type: ignore[arg-type]


REALLY = socket.getaddrinfo
