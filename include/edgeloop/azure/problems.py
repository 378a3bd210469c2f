"""What went wrong between us and a storage account, told by the connection and the field to look at."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop.azure.turn import waiting
from edgeloop.errors import (
    ConfigurationError,
    ConflictError,
    EdgeloopError,
    IntegrityError,
    NotFoundError,
    ResidencyError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure.account import BlobAccount

UNAUTHORIZED = 401
REFUSED = (UNAUTHORIZED, 403)
REDIRECTS = (301, 302, 303, 307, 308)
BUSY = (429, 500, 502, 503, 504)
NO_ROLE, FIREWALL, KEYLESS = (
    "AuthorizationPermissionMismatch", "AuthorizationFailure", "KeyBasedAuthenticationNotPermitted",
)  # fmt: skip
BLOB_ROLE = "Storage Blob Data Contributor"
"""What an identity of Entra ID needs on the account or the container."""
NOT_FOUND, EXISTS, CHANGED = 404, 409, 412
CORRUPTED = "Md5Mismatch"
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
QUERY = re.compile(r"\?[^\s'\")]+")
"""What follows a URL's question mark: with a SAS it is the signature, and libraries quote the URL that failed."""


def refuses_token(status: int, code: str) -> bool:
    """Whether an answer to a request with a token of Entra ID says that it is no good, and not what it lacks."""
    # Azurite answers 403 with a code that Azure gives a wrong signature.
    return status == UNAUTHORIZED or (status in REFUSED and code == "AuthenticationFailed")


def not_found(account: BlobAccount, blob: str) -> NotFoundError:
    """A blob that must be there is not."""
    return NotFoundError(
        f"There is no blob {blob} in the account behind connection {account.connection!r}.",
        next="Rerun the task that writes it.",
    )


def taken(blob: str) -> ConflictError:
    """A conditional write found the name taken."""
    return ConflictError(f"Blob {blob} is already there.", left="the blob that is there")


def silent(account: BlobAccount, cause: Exception) -> EdgeloopError:
    """Nobody answered, or not with a certificate that we trust."""
    if UNTRUSTED in str(cause):
        return ConfigurationError(
            f"The certificate of the storage account behind connection {account.connection!r} is signed by no CA that "
            "is trusted here.",
            left="nothing was sent",
            next=f"Put the file with the CA's certificate into the extra of {account.connection!r}: "
            '{"connection_verify": "<path on the workers>.pem"}.',
        )
    return UnreachableError(
        f"The storage account behind connection {account.connection!r} did not answer: {QUERY.sub('?...', str(cause))}",
        left="everything already stored",
        next=f"Check the endpoint in `airflow connections get {account.connection}`, then clear the task.",
    )


def redirected(account: BlobAccount, status: int, location: str) -> ResidencyError:
    """The service named another host; nobody follows."""
    to = urlsplit(location).hostname or "another place"
    return ResidencyError(
        f"The storage account behind connection {account.connection!r} answered {status}: go to {to}. Redirects are "
        "not followed: whatever is written would leave the account that pipeline.yaml names.",
        left="everything already stored; nothing was sent there",
        next=f"Find out who answers for the endpoint in `airflow connections get {account.connection}`, then clear "
        "the task.",
    )


def answered(account: BlobAccount, blob: str, status: int, reason: str, *, role: str = BLOB_ROLE) -> EdgeloopError:
    """The service answered with an error; ``reason`` is its code or phrase, ``role`` what an identity needs for it."""
    if status == NOT_FOUND:
        return not_found(account, blob)
    if status in {EXISTS, CHANGED}:
        return taken(blob)
    if status in BUSY:
        return UnreachableError(
            f"The storage account behind connection {account.connection!r} answered {status} ({reason}) again and "
            "again.",
            left="everything already stored",
            next="Look at the account's health and its limits, then clear the task.",
        )
    if status in REFUSED:
        return refused(account, reason, role)
    if reason == CORRUPTED:
        return IntegrityError(
            f"What was sent of blob {blob} arrived with another MD5 again and again.",
            left="everything already stored",
            next="Look for a proxy or a card that changes bytes between the worker and the account.",
        )
    return ConfigurationError(
        f"The storage account behind connection {account.connection!r} answered {status} ({reason}) to blob {blob}.",
        left="everything already stored",
        next=f"Look the code up in Azure's documentation and check connection {account.connection!r}.",
    )


def refused(account: BlobAccount, reason: str, role: str) -> ConfigurationError:
    """The service let nobody in, or not to what was asked for: what lacks depends on who asked."""
    entra, whose = account.entra, f"The storage account behind connection {account.connection!r}"
    let_in = "et the workers in under the account's Networking: its firewall, or a private endpoint"
    if reason == KEYLESS:
        what = f"{whose} takes neither keys nor a SAS made with one ({reason})"
        fix = f"Log in with Entra ID: docs/connections.md says which fields of {account.connection!r} do that"
    elif entra is None:
        what = f"{whose} refused the key or SAS ({reason})"
        fix = f"Correct {account.secret_field} of {account.connection!r}"
        fix += f", or if that is right l{let_in}" if reason == FIREWALL else ""
    elif reason == FIREWALL:
        what, fix = f"{whose} takes no request from this network ({reason})", f"L{let_in}"
    elif reason == NO_ROLE:
        what = f"{whose} knows {entra.who}, which lacks the role {role!r} there ({reason})"
        fix = (
            f"Give it that role on the account: az role assignment create --role {role!r} --assignee "
            f"{entra.client or entra.managed_identity or '<its client id>'} --scope <the account's resource id>. Some "
            "minutes later it holds"
        )
    else:
        what = f"{whose} refused the token of {entra.who} ({reason})"
        fix = (
            f"Compare the tenant that {account.connection!r} logs in to with that of the account's subscription, "
            "extra.audience if there is one, and this machine's clock"
        )
    return ConfigurationError(f"{what}.", left="everything already stored", next=f"{fix}; then clear the task.")


@contextmanager
def translated(account: BlobAccount, blob: str, *, role: str = BLOB_ROLE) -> Iterator[None]:
    """The SDK's errors as ours; ``role`` is what an identity of Entra ID needs for what is done."""
    from azure.core import exceptions

    try:
        with waiting:
            yield
    except exceptions.ResourceNotFoundError as error:
        raise not_found(account, blob) from error
    except (exceptions.ResourceExistsError, exceptions.ResourceModifiedError) as error:
        raise taken(blob) from error
    except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as error:
        raise silent(account, error) from None  # the chain would be logged, with the URL
    except exceptions.HttpResponseError as error:
        if isinstance(error.__cause__, (exceptions.ServiceResponseError, exceptions.IncompleteReadError)):
            # The SDK's word for an answer that broke off in its body, again and again; it has no status.
            raise silent(account, error) from None
        status = error.status_code or 0
        if status in REDIRECTS:
            response: Any = error.response
            raise redirected(account, status, response.headers.get("location") or "") from error
        if status not in BUSY and status not in REFUSED:
            raise
        raise answered(account, blob, status, _code(error) or error.reason or "", role=role) from error


def _code(error: Any) -> str:
    """The service's code for an error, where the SDK found one."""
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))
