"""Who asks a storage account by Entra ID, and the tokens that requests carry: kept, renewed before they end, shared.

The SDK's clients and our own requests ask the same ``Tokens``, so an identity asks for one token an hour, however many
containers and threads there are.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from edgeloop.azure.problems import UNTRUSTED
from edgeloop.errors import ConfigurationError, EdgeloopError, UnreachableError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, AccessTokenInfo, SupportsTokenInfo

AUDIENCE = "https://storage.azure.com"
"""What a token for blobs and queues is for, in every cloud."""
EARLY_SECONDS = 300
"""A token is renewed so long before it ends, as the SDK does it."""
CONNECT_SECONDS, IDLE_SECONDS, TOKEN_RETRIES = 10.0, 60.0, 2
HINT = re.compile(
    r"(Visit|See the troubleshooting guide|To mitigate this issue)[^\n]*?https?://\S+( to troubleshoot this issue\.)?"
)
"""Where azure-identity sends its readers after each sentence: what lacks would drown in it."""
LONGEST_REASON = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class Entra:
    """Who asks: a service principal, or without ``tenant`` whatever identity the machine has.

    Args:
        connection: The Airflow connection id that errors name.
        tenant: The service principal's.
        client: Its application (client) id.
        secret: Its client secret.
        options: More arguments of ``ClientSecretCredential``, as JSON.
        managed_identity: Client id of a user-assigned managed identity, "" for the machine's own.
        workload_tenant: The tenant of a workload identity.
        audience: What tokens are asked for.
    """

    connection: str
    tenant: str = ""
    client: str = ""
    secret: str = field(default="", repr=False)
    options: str = field(default="{}", repr=False)
    managed_identity: str = ""
    workload_tenant: str = ""
    audience: str = AUDIENCE

    @property
    def who(self) -> str:
        """Who asks, for errors."""
        if self.tenant:
            return f"service principal {self.client}"
        return f"managed identity {self.managed_identity}" if self.managed_identity else "this machine's identity"

    def credential(self) -> SupportsTokenInfo:
        """A new credential of azure-identity, with an empty cache; asks nobody."""
        from azure.identity import ClientSecretCredential, DefaultAzureCredential

        options: dict[str, Any] = {
            "connection_timeout": CONNECT_SECONDS,
            "read_timeout": IDLE_SECONDS,
            "retry_total": TOKEN_RETRIES,
        }
        if self.tenant:
            return ClientSecretCredential(self.tenant, self.client, self.secret, **options | json.loads(self.options))
        if self.managed_identity:
            options["managed_identity_client_id"] = self.managed_identity
        if self.workload_tenant:
            options["workload_identity_tenant_id"] = self.workload_tenant
            options["additionally_allowed_tenants"] = [self.workload_tenant]
        return DefaultAzureCredential(**options)


class Tokens:
    """The tokens of one identity for storage accounts; safe to use from several threads.

    It is a credential for the SDK's clients, which ask it for scopes that the account's answers name: those are not
    listened to, a token for anything else is never given out.
    """

    def __init__(self, entra: Entra) -> None:
        self.entra = entra
        self._lock = threading.Lock()
        self._credential: SupportsTokenInfo | None = None
        self._kept: AccessTokenInfo | None = None

    def header(self) -> str:
        """The Authorization header of a request.

        Raises ``ConfigurationError`` or ``UnreachableError`` when there is no token to be had.
        """
        return _header(self.get_token_info())

    def refused(self, header: str) -> None:
        """Forget the token of a request that the account refused: it may have ended early, or by another clock."""
        with self._lock:
            if self._kept is not None and header == _header(self._kept):
                # azure-identity keeps tokens as well, and would give the same one until it ends by this clock.
                self._kept = self._credential = None

    def get_token_info(self, *_: object, **__: object) -> AccessTokenInfo:
        """The token, asked for when there is none that lasts for another EARLY_SECONDS."""
        kept = self._kept
        if kept is not None and not _ends_soon(kept):
            return kept
        with self._lock:
            if self._kept is None or _ends_soon(self._kept):
                self._kept = self._ask()
            return self._kept

    def get_token(self, *_: object, **__: object) -> AccessToken:
        """As :meth:`get_token_info`, in the older form by which the SDK knows a credential of Entra ID."""
        from azure.core.credentials import AccessToken

        token = self.get_token_info()
        return AccessToken(token.token, token.expires_on)

    def _ask(self) -> AccessTokenInfo:
        from azure.core.exceptions import AzureError

        try:
            if self._credential is None:
                self._credential = self.entra.credential()
            return self._credential.get_token_info(f"{self.entra.audience.rstrip('/')}/.default")
        except (AzureError, TypeError, ValueError) as error:
            raise no_token(self.entra, error) from None  # the chain would be logged, with whatever it quotes


@lru_cache(maxsize=64)
def tokens(entra: Entra) -> Tokens:
    """The tokens of an identity, one for all that ask in this process; asks nobody yet."""
    return Tokens(entra)


def no_token(entra: Entra, error: Exception) -> EdgeloopError:
    """The error for an identity that got no token: nobody trusted answered, nobody did, or the answer was no."""
    cause = error.__cause__ or error.__context__
    if UNTRUSTED in str(error):
        return _strange(entra, error)
    if _silent(error) or _silent(cause):
        return _unanswered(entra, cause or error)
    if entra.tenant:
        fix = f"Correct login (client id), password (client secret) or extra.tenant_id of {entra.connection!r}"
    else:
        fix = (
            "Give this machine an identity (managed identity, workload identity, or AZURE_CLIENT_ID, AZURE_TENANT_ID "
            f"and AZURE_CLIENT_SECRET on the workers), or put a login into {entra.connection!r} (docs/connections.md)"
        )
    return ConfigurationError(
        f"Connection {entra.connection!r}: Entra ID gave {entra.who} no token: {_reason(entra, error)}",
        left="everything already stored; nothing was sent to the account",
        next=f"{fix}, then clear the task.",
    )


def _strange(entra: Entra, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"Connection {entra.connection!r}: what answers in Entra ID's place shows a certificate that is signed by no "
        f"CA that is trusted here: {_reason(entra, error)}",
        left="everything already stored; neither secret nor token was sent",
        next="Name the CA's file (of a proxy that opens TLS, usually) in REQUESTS_CA_BUNDLE on the workers, or in "
        "connection_verify inside extra.client_secret_auth_config, then clear the task.",
    )


def _unanswered(entra: Entra, cause: BaseException) -> UnreachableError:
    return UnreachableError(
        f"Entra ID did not answer {entra.who} of connection {entra.connection!r}: {_reason(entra, cause)}",
        left="everything already stored",
        next="Open the way from the workers to login.microsoftonline.com (or to the authority in "
        f"extra.client_secret_auth_config, `airflow connections get {entra.connection}`), then clear the task.",
    )


def _silent(error: BaseException | None) -> bool:
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    return isinstance(error, (ServiceRequestError, ServiceResponseError))


def _reason(entra: Entra, error: BaseException) -> str:
    text = HINT.sub("", str(error))
    if entra.secret:
        text = text.replace(entra.secret, "***")
    return " ".join(text.split())[:LONGEST_REASON]


def _ends_soon(token: AccessTokenInfo) -> bool:
    return token.expires_on - time.time() < EARLY_SECONDS


def _header(token: AccessTokenInfo) -> str:
    return f"Bearer {token.token}"
