"""Where a Stack Hub answers and who makes its tokens: what its ARM says of itself, never guessed."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop.azure_ml import problems
from edgeloop.azure_ml.arm import ArmEndpoint
from edgeloop.azure_ml.identity import CONNECT_SECONDS, IDLE_SECONDS, Identity
from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

METADATA_VERSION = "2015-01-01"
"""Of GET /metadata/endpoints, which needs no token; Azure Stack Hub's own profile documents it."""
ADFS = "adfs"
GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackHub:
    """A Stack Hub as an Airflow connection of type ``azure`` names it.

    ``arm`` is ``https://management.<region>.<fqdn>`` (extra.arm_endpoint), ``subscription`` extra.subscriptionId.
    """

    identity: Identity
    arm: str
    subscription: str

    @classmethod
    def of(cls, connection: str, login: str, password: str, extra: Mapping[str, Any]) -> StackHub:
        """From a connection's fields; raises ``ConfigurationError`` naming the one that is missing or wrong."""
        arm, subscription = str(extra.get("arm_endpoint") or ""), str(extra.get("subscriptionId") or "")
        if urlsplit(arm).scheme != "https" or not urlsplit(arm).hostname:
            raise _wrong(
                connection,
                f"extra.arm_endpoint is {arm!r}",
                "Write the address of the Stack Hub's user ARM there: https://management.<region>.<fqdn>.",
            )
        if not GUID.fullmatch(subscription):
            raise _wrong(
                connection,
                f"extra.subscriptionId is {subscription!r}",
                "Write the id of your subscription at the Stack Hub there (portal > Subscriptions).",
            )
        if not (login and password):
            raise _wrong(
                connection,
                "a Stack Hub takes a service principal",
                "Write login (client id), password (client secret) and extra.tenantId; with AD FS that is 'adfs'.",
            )
        return cls(
            identity=Identity.of(connection, login, password, extra), arm=arm.rstrip("/"), subscription=subscription
        )

    def discover(self) -> ArmEndpoint:
        """Ask ARM who makes its tokens and for whom; raises ``UnreachableError`` or ``ConfigurationError``."""
        return endpoint_of(self, self._metadata())

    def _metadata(self) -> dict[str, Any]:
        from azure.core import PipelineClient
        from azure.core.exceptions import AzureError
        from azure.core.pipeline.policies import ProxyPolicy, RetryPolicy, UserAgentPolicy
        from azure.core.rest import HttpRequest

        client: PipelineClient[Any, Any] = PipelineClient(
            self.arm, policies=[UserAgentPolicy(base_user_agent="edgeloop"), ProxyPolicy(), RetryPolicy(retry_total=4)]
        )
        request = HttpRequest("GET", f"{self.arm}/metadata/endpoints", params={"api-version": METADATA_VERSION})
        plain = ArmEndpoint(identity=self.identity, url=self.arm)
        try:
            with client:
                reply = client.send_request(request, connection_timeout=CONNECT_SECONDS, read_timeout=IDLE_SECONDS)
        except AzureError as error:
            raise problems.silent(plain, error) from error
        if reply.status_code != OK:
            raise problems.answered(plain, "GET", f"{self.arm}/metadata/endpoints", reply)
        try:
            return dict(reply.json())
        except ValueError as error:
            raise self._no_stack("it answers with something else than JSON") from error

    def _no_stack(self, why: str) -> ConfigurationError:
        return _wrong(
            self.identity.connection,
            f"{urlsplit(self.arm).hostname} is no ARM of a Stack Hub: {why}",
            f"Look at `curl {self.arm}/metadata/endpoints?api-version={METADATA_VERSION}` from a worker and correct "
            "extra.arm_endpoint.",
        )


OK = 200


def endpoint_of(stack: StackHub, metadata: Mapping[str, Any]) -> ArmEndpoint:
    """The endpoint with the authority and the audience of its tokens; raises ``ConfigurationError``.

    AD FS says ``https://adfs.<region>.<fqdn>/adfs``: its tenant is ``adfs``. Entra ID's tenant is the connection's.
    """
    told = metadata.get("authentication") or {}
    login, audiences = str(told.get("loginEndpoint") or ""), list(told.get("audiences") or ())
    where = urlsplit(login)
    if where.scheme != "https" or not where.hostname or not audiences:
        raise stack._no_stack("it names no https address for tokens")  # noqa: SLF001 - of this module
    identity = stack.identity
    by_adfs = where.path.strip("/").casefold() == ADFS
    identity = dataclasses.replace(
        identity, authority=f"https://{where.netloc}", tenant=ADFS if by_adfs else identity.tenant
    )
    return ArmEndpoint(identity=identity, url=stack.arm, scope=f"{str(audiences[0]).rstrip('/')}/.default")


def _wrong(connection: str, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"Connection {connection!r}: {what}.", left="nothing was asked of Azure", next=remedy)
