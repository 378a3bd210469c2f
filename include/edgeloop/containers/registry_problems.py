"""What a registry's refusals and silences mean, in the house's errors: who has to do something, and what.

A registry says why it refused as ``{"errors": [{"code", "message", "detail"}]}`` (OCI distribution specification); a
proxy before it says it in HTML, or not at all.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigurationError, ConflictError, IntegrityError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    from edgeloop.containers.endpoint import RegistryEndpoint
    from edgeloop.errors import EdgeloopError

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, NOT_ALLOWED, TOO_LARGE, TOO_MANY = 401, 403, 404, 405, 413, 429
RETRYABLE = (408, TOO_MANY, 500, 502, 503, 504)
MOST_WORDS = 300
FULL = ("no space left", "quota exceeded", '"err":28')
PUSHED = "blobs that arrived stay and are not sent again; the tag is as it was"


def told(body: bytes) -> str:
    """The registry's own words, short."""
    try:
        errors: list[dict[str, Any]] = json.loads(body)["errors"]
        words = "; ".join(
            f"{one.get('code', '')}: {one.get('message', '')}"
            f"{' ' + json.dumps(one['detail']) if one.get('detail') else ''}"
            for one in errors
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        words = body.decode(errors="replace")
    line = " ".join(words.split())
    return line if len(line) <= MOST_WORDS else f"{line[:MOST_WORDS]}..."


def answered(endpoint: RegistryEndpoint, doing: str, status: int, body: bytes) -> EdgeloopError:
    """The registry answered that it does not do what was asked of it."""
    words = told(body)
    said = f"{status}{f' ({words})' if words else ''}"
    where = f"connection {endpoint.connection!r} at {endpoint.host}"
    if status == UNAUTHORIZED:
        return refused_login(endpoint, f"{doing}: {said}")
    if full(body):
        return UnreachableError(
            f"The registry of {where} is full ({doing}): {said}.",
            left=PUSHED,
            next="Make room there (delete old images, then its garbage collection; or a larger disk), then clear.",
        )
    if status in RETRYABLE:
        return silent(endpoint, doing, f"it answered {said}, again and again")
    if status == NOT_FOUND:
        return NotFoundError(
            f"The registry of {where} knows nothing of it ({doing}): {said}.",
            left=PUSHED,
            next="Check the host of the connection and image.repository; then clear the task.",
        )
    kind, why, advice = _REFUSALS.get(status, _OTHER)
    return kind(f"The registry of {where} {why} ({doing}, as {_name(endpoint)}): {said}.", left=PUSHED, next=advice)


_REFUSALS: dict[int, tuple[type[EdgeloopError], str, str]] = {
    FORBIDDEN: (
        ConfigurationError,
        "knows the login, which may not do that",
        "Give it the right to pull and push (Azure: AcrPull and AcrPush; or the registry is locked), then clear.",
    ),
    NOT_ALLOWED: (
        ConfigurationError,
        "takes no pushes: it is read-only",
        "End its maintenance mode (`storage.maintenance.readonly`), or name a registry that takes pushes; then clear.",
    ),
    TOO_LARGE: (
        ConfigurationError,
        "is behind something that takes no blob of that size",
        "Raise its limit (nginx: `client_max_body_size 0`), then clear the task.",
    ),
}
_OTHER: tuple[type[EdgeloopError], str, str] = (
    ConflictError,
    "refused",
    "Read its words; if it misses blobs, its garbage collection ran meanwhile: clear the task.",
)


def full(body: bytes) -> bool:
    """Whether a registry's words are those of one without room."""
    words = body.decode(errors="replace").lower()
    return any(one in words for one in FULL)


def refused_login(endpoint: RegistryEndpoint, why: str) -> ConfigurationError:
    """Who asks is not let in."""
    if endpoint.identity is not None:
        how = f"Check `extra.azure` of {endpoint.connection!r}: has that identity the roles AcrPush and AcrPull there?"
    elif endpoint.user:
        how = f"Correct login and password of {endpoint.connection!r}: try them with `docker login {endpoint.host}`."
    else:
        how = f"Give {endpoint.connection!r} a login and a password, or `extra.azure` for a registry of Azure."
    return ConfigurationError(
        f"The registry at {endpoint.host} did not let connection {endpoint.connection!r} in "
        f"as {_name(endpoint)}: {why}.",
        left=PUSHED,
        next=f"{how} Then clear the task.",
    )


def silent(endpoint: RegistryEndpoint, doing: str, why: str) -> UnreachableError:
    """Nobody answered, or only half."""
    return UnreachableError(
        f"The registry of connection {endpoint.connection!r} at {endpoint.host} did not answer ({doing}): {why}",
        left=PUSHED,
        next=f"Check `curl {endpoint.url}/v2/` from the worker, then clear the task.",
    )


def untrusted(endpoint: RegistryEndpoint, why: str) -> ConfigurationError:
    """TLS, and the certificate is not one that we trust."""
    trusted = f"the authorities in {endpoint.ca_file}" if endpoint.ca_file else "the machine's authorities"
    return ConfigurationError(
        f"The registry at {endpoint.host} shows a certificate that {trusted} did not sign, or speaks no TLS: {why}",
        left="nothing was sent",
        next=f"Set `extra.ca_file` of {endpoint.connection!r} to the registry's own authority (PEM); or, for one that "
        "speaks plain HTTP on a network of your own, `extra.insecure`.",
    )


def unusable(endpoint: RegistryEndpoint, why: str) -> ConfigurationError:
    """The connection's own fields cannot be used."""
    return ConfigurationError(
        f"Connection {endpoint.connection!r} cannot be used: {why}.",
        left="nothing was sent",
        next="Correct `host`, or `extra.ca_file`: the file must be there on every worker.",
    )


def leaves_tls(endpoint: RegistryEndpoint, url: str) -> ConfigurationError:
    """A registry with TLS goes on without."""
    return ConfigurationError(
        f"The registry of connection {endpoint.connection!r} at {endpoint.host} leads on to {url[:MOST_WORDS]}, "
        "which has no TLS.",
        left=PUSHED,
        next="Make it answer with relative addresses (`http.relativeurls: true`), or its proxy send X-Forwarded-Proto; "
        "then clear the task.",
    )


def late(endpoint: RegistryEndpoint, doing: str, seconds: float) -> UnreachableError:
    """It goes on and on."""
    return silent(endpoint, doing, f"not done after {seconds:.0f} s")


def other_bytes(endpoint: RegistryEndpoint, wanted: str, got: str, what: str) -> IntegrityError:
    """A digest that is not what it should be."""
    return IntegrityError(
        f"The registry of connection {endpoint.connection!r} answers {got} where {wanted} belongs ({what}).",
        left="the devices serve what they served",
        next="See who else pushes there, or delete that manifest; then clear the push task.",
    )


def _name(endpoint: RegistryEndpoint) -> str:
    if endpoint.identity is not None:
        return f"the identity of connection {endpoint.identity.connection!r}"
    return f"user {endpoint.user!r}" if endpoint.user else "nobody (it has no login)"


def short(error: BaseException) -> str:
    """An error's words in one line."""
    return " ".join(str(error).split())[:MOST_WORDS]
