"""How a registry wants to be logged in to: not at all, by Basic, or by a token of its own (the challenge says which).

Tokens follow the distribution project's token specification. An Azure Container Registry trades a token of Entra ID for
a refresh token of its own (``/oauth2/exchange``), and that for an access token per repository (``/oauth2/token``).
Credentials go to the registry, and to the place it names for tokens; to that by TLS only, if the registry has TLS.
"""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from edgeloop.containers import registry_problems as problems
from edgeloop.errors import ConfigurationError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeloop.containers.endpoint import RegistryEndpoint

TOKEN_SCOPE = "https://containerregistry.azure.net/.default"  # noqa: S105 - an audience, no secret
"""What a token of Entra ID is for, in the public cloud; the others' registries take ARM's."""
DEFAULT_SECONDS = 60.0
"""A token that names no end lives so long, says the specification."""
MARGIN_SECONDS = 10.0
PARAMETER = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"([^"]*)"|([^\s,]+))')


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One ``WWW-Authenticate``: the scheme in small letters, and where and for whom tokens are made."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a token's place answered."""

    status: int
    body: bytes


class Ask(Protocol):
    """One small request: by GET, or by POST where there is a form; raises the house's errors for silence."""

    def __call__(
        self, url: str, *, query: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None, auth: str = ""
    ) -> Reply:
        """Ask ``url``; ``auth`` is the Authorization header."""
        ...


def challenge(header: str) -> Challenge:
    """Read a ``WWW-Authenticate`` header; of several, a token's place goes before Basic."""
    found = {}
    for part in re.split(r",?\s*(?=(?:Basic|Bearer)\s)", header, flags=re.IGNORECASE):
        scheme, _, rest = part.strip().partition(" ")
        values = {name.lower(): quoted or plain for name, quoted, plain in PARAMETER.findall(rest)}
        known = {name: values[name] for name in ("realm", "service", "scope") if name in values}
        found[scheme.lower()] = Challenge(scheme=scheme.lower(), **known)
    return found.get("bearer") or found.get("basic") or Challenge(scheme="")


def basic(user: str, password: str) -> str:
    """The header of Basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def scope_of(repository: str, *, push: bool) -> str:
    """What is asked for: ``repository:<name>:pull[,push]``; "" for no repository."""
    return f"repository:{repository}:{'pull,push' if push else 'pull'}" if repository else ""


@dataclass(slots=True)
class Login:
    """What is known of how to get in; ``ask`` makes the requests for tokens."""

    endpoint: RegistryEndpoint
    ask: Ask
    _basic: str = ""
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    _refresh: tuple[str, float] = ("", 0.0)

    def header(self, scope: str) -> str:
        """The Authorization header for ``scope`` by what is known, or "": the registry then says what it wants."""
        token, until = self._tokens.get(scope, ("", 0.0))
        return f"Bearer {token}" if until > time.monotonic() else self._basic

    def answer(self, header: str, scope: str) -> bool:
        """Learn from a challenge how to get in for ``scope``; False if there is no new way to try.

        Raises ``ConfigurationError`` where the registry's place for tokens refuses us.
        """
        said = challenge(header)
        if said.scheme == "bearer":
            self._tokens.pop(scope, None)
            self._tokens[scope] = self._token(said, scope or said.scope)
            return True
        if said.scheme == "basic" and not self._basic and self.endpoint.identity is None and self.endpoint.user:
            self._basic = basic(self.endpoint.user, self.endpoint.password)
            return True
        return False

    def _token(self, said: Challenge, scope: str) -> tuple[str, float]:
        self._require_safe(said.realm)
        asked = {"service": said.service, **({"scope": scope} if scope else {})}
        if self.endpoint.identity is not None:
            # Not where the challenge leads: what stands for the identity goes to the registry's own address alone.
            form = {**asked, "grant_type": "refresh_token", "refresh_token": self._exchanged(said.service)}
            reply = self.ask(f"{self.endpoint.url}/oauth2/token", form=form)
        elif self.endpoint.user:
            auth = basic(self.endpoint.user, self.endpoint.password)
            reply = self.ask(said.realm, query={**asked, "account": self.endpoint.user}, auth=auth)
        else:
            reply = self.ask(said.realm, query=asked)
        body = self._good(reply, f"asked for a token for {scope or 'itself'}")
        lasts = float(body.get("expires_in") or DEFAULT_SECONDS) - MARGIN_SECONDS
        return self._field(body, "access_token", "token"), time.monotonic() + max(lasts, 1.0)

    def _exchanged(self, service: str) -> str:
        """A refresh token of the registry for a token of Entra ID; one for a while, it lives for hours."""
        from azure.core.exceptions import AzureError

        from edgeloop.azure_ml import problems as azure_problems
        from edgeloop.azure_ml.arm import ArmEndpoint

        identity = self.endpoint.identity
        assert identity is not None
        token, until = self._refresh
        if until > time.monotonic():
            return token
        if self.endpoint.insecure:
            raise ConfigurationError(
                f"Connection {self.endpoint.connection!r} has extra.azure and extra.insecure: a token of Entra ID does "
                "not travel in the clear.",
                left="nothing was sent",
                next="Take `insecure` out; a registry with an authority of its own has `ca_file`.",
            )
        scope = TOKEN_SCOPE if identity.cloud == "AzurePublicCloud" else f"{identity.where.arm}/.default"
        try:
            entra = identity.credential().get_token(scope).token
        except AzureError as error:
            told = azure_problems.silent(ArmEndpoint(identity=identity), error)
            if isinstance(told, UnreachableError):
                raise told from error
            raise problems.refused_login(self.endpoint, f"Entra ID gave no token: {problems.short(error)}") from error
        form = {"grant_type": "access_token", "service": service, "access_token": entra}
        form |= {"tenant": identity.tenant} if identity.tenant else {}
        reply = self.ask(f"{self.endpoint.url}/oauth2/exchange", form=form)
        fresh = self._field(self._good(reply, "traded a token of Entra ID"), "refresh_token")
        self._refresh = (fresh, time.monotonic() + DEFAULT_SECONDS * 30)
        return fresh

    def _good(self, reply: Reply, what: str) -> dict[str, Any]:
        if reply.status in {400, problems.UNAUTHORIZED, problems.FORBIDDEN}:
            raise problems.refused_login(self.endpoint, f"{what}: {reply.status} {problems.told(reply.body)}")
        if reply.status >= 300:  # noqa: PLR2004 - no success
            raise problems.answered(self.endpoint, what, reply.status, reply.body)
        try:
            body = json.loads(reply.body)
        except ValueError:
            body = None
        return body if isinstance(body, dict) else {}

    def _field(self, body: dict[str, Any], *names: str) -> str:
        for name in names:
            if isinstance(body.get(name), str) and body[name]:
                return str(body[name])
        raise problems.silent(self.endpoint, "log in", f"its answer has no {' or '.join(names)}")

    def _require_safe(self, realm: str) -> None:
        where = urlsplit(realm)
        if where.scheme == "https" or (where.scheme == "http" and self.endpoint.insecure):
            return
        raise ConfigurationError(
            f"The registry at {self.endpoint.host} sends connection {self.endpoint.connection!r} to {realm!r} for its "
            "token; credentials are not sent there.",
            left="nothing was sent",
            next="Correct `auth.token.realm` in the registry's configuration; it must be an https address.",
        )
