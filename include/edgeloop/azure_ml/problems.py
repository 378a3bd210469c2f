"""What went wrong between us and Azure, told by the connection, the role or the field to look at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop.errors import (
    CloudError,
    ConfigurationError,
    ConflictError,
    EdgeloopError,
    NotFoundError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.core.exceptions import AzureError
    from azure.core.rest import HttpResponse

    from edgeloop.azure_ml.arm import ArmEndpoint

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, CHANGED = 401, 403, 404, 409, 412
BUSY = (408, 429, 500, 502, 503, 504)
REDIRECTS = range(300, 400)
MSAL_STATUS = re.compile(r"HTTP Error: (\d{3})")
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
MOST_WORDS = 600
"""How much of Azure's own words is repeated."""


def silent(endpoint: ArmEndpoint, error: AzureError) -> EdgeloopError:
    """No answer, no token, or a certificate that nobody here trusts."""
    from azure.core.exceptions import ClientAuthenticationError

    connection, words = endpoint.identity.connection, _short(str(error))
    if UNTRUSTED in words:
        return ConfigurationError(
            f"The certificate of {urlsplit(endpoint.base).hostname} is signed by no CA that is trusted here.",
            left="nothing was sent",
            next="Set REQUESTS_CA_BUNDLE to a file with the CA's certificate on the workers (a Stack Hub's, or that of "
            "a proxy in between).",
        )
    # azure-identity says ClientAuthenticationError to a dead network too (seen), and a retry would help that.
    if isinstance(error, ClientAuthenticationError) and not _unheard(error):
        return ConfigurationError(
            f"Azure gave no token to the identity of connection {connection!r}: {words}",
            left="nothing was changed in Azure",
            next=f"Correct login (client id), password (client secret) and extra.tenantId of {connection!r}; an "
            "expired secret is renewed with `az ad app credential reset --id <client id>`. For a managed identity "
            "leave them empty and give the machine one. Then clear the task.",
        )
    return UnreachableError(
        f"Azure did not answer connection {connection!r} at {urlsplit(endpoint.base).hostname}: {words}",
        left="whatever was begun in Azure; the next try looks first",
        next="Check the network from the worker (HTTPS_PROXY, DNS, port 443), then clear the task.",
    )


def _unheard(error: BaseException) -> bool:
    """Whether what failed is that nobody answered, somewhere down the chain of causes."""
    from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

    one: BaseException | None = error
    while one is not None:
        if isinstance(one, (ServiceRequestError, ServiceResponseError)):
            return True
        if isinstance(one, HttpResponseError) and (one.status_code or 0) in BUSY:
            return True
        # msal keeps no more of a 503 than these words.
        said = MSAL_STATUS.search(str(one))
        if said and int(said[1]) in BUSY:
            return True
        one = one.__cause__ or one.__context__
    return False


def answered(endpoint: ArmEndpoint, method: str, url: str, reply: HttpResponse) -> EdgeloopError:
    """Azure answered with an error, after all retries."""
    code, words = _told(reply)
    connection, what = endpoint.identity.connection, f"{method} {urlsplit(url).path}"
    said = f"{reply.status_code} ({': '.join(one for one in (code, words) if one) or reply.reason})"
    if reply.status_code == NOT_FOUND:
        return NotFoundError(f"Azure knows nothing at {urlsplit(url).path}: {said}.", left="nothing was changed")
    if reply.status_code == UNAUTHORIZED:
        return ConfigurationError(
            f"Azure did not accept the token of connection {connection!r} for {what}: {said}.",
            left="nothing was changed in Azure",
            next=f"Is extra.tenantId of {connection!r} the tenant of the subscription? Correct it, then clear.",
        )
    if reply.status_code == FORBIDDEN:
        scope = urlsplit(url).path.partition("/computes/")[0]
        return ConfigurationError(
            f"The identity of connection {connection!r} may not {what}: {said}.",
            left="nothing was changed in Azure",
            next="Give it a role there, for example `az role assignment create --assignee "
            f"{endpoint.identity.client or '<client id>'} --role 'AzureML Data Scientist' --scope {scope}` (attaching "
            "compute needs 'AzureML Compute Operator' too), wait a few minutes, then clear the task.",
        )
    if reply.status_code in {CONFLICT, CHANGED}:
        return ConflictError(
            f"Azure refused {what}: {said}.",
            left="what is there, as it is",
            next="Look at it in the studio; if something else changes it at this moment, clear the task later.",
        )
    return _refused(what, said, connection, reply)


def _refused(what: str, said: str, connection: str, reply: HttpResponse) -> EdgeloopError:
    if reply.status_code in REDIRECTS:
        to = urlsplit(reply.headers.get("Location") or "").hostname or "another place"
        return CloudError(
            f"Azure answered {what} with {reply.status_code}: go to {to}. Redirects are not followed: the token would "
            "go there.",
            left="nothing was changed",
            next="Look for a proxy that answers for Azure, then clear the task.",
        )
    if reply.status_code in BUSY:
        asked = reply.headers.get("Retry-After")
        wait = f" and asks to wait {asked} s" if asked else " again and again"
        return UnreachableError(
            f"Azure answered {what} with {said}{wait} (connection {connection!r}).",
            left="what is there, as it is",
            next="Look at the service's health and at the subscription's limits; the task's next try asks again.",
        )
    return CloudError(
        f"Azure refused {what}: {said}.",
        left="what is there, as it is",
        next="Correct what it names (the azure_ml section of pipeline.yaml, or the operator's arguments), then clear.",
    )


def failed(path: str, status: str, error: Mapping[str, Any]) -> CloudError:
    """A long-running operation ended badly."""
    words = ": ".join(_short(str(error[one])) for one in ("code", "message") if error.get(one))
    return CloudError(
        f"Azure began {path} and it ended as {status}{f' ({words})' if words else ''}.",
        left="what Azure made of it so far; the next try looks at it first",
        next="Look at the resource and the activity log in the portal, correct the cause, then clear the task.",
    )


def _told(reply: HttpResponse) -> tuple[str, str]:
    try:
        body = reply.json()
    except ValueError:
        return "", ""
    error = body.get("error", body) if isinstance(body, dict) else {}
    if not isinstance(error, dict):
        return _short(str(error)), ""
    return str(error.get("code") or error.get("error_code") or ""), _short(str(error.get("message") or ""))


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= MOST_WORDS else f"{line[:MOST_WORDS]}..."
