"""Who asks Azure: a service principal or a managed identity, in one of Azure's clouds or at a Stack Hub."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.core.credentials import TokenCredential


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Where one of Azure's clouds answers; ``ml_hosts`` is how its data plane's hosts end.

    ``storage`` is how addresses of its storage accounts end, after ``<account>.blob.``.
    """

    authority: str
    arm: str
    ml_hosts: str
    storage: str


CLOUDS = {
    "AzurePublicCloud": Cloud(
        authority="https://login.microsoftonline.com",
        arm="https://management.azure.com",
        ml_hosts=".api.azureml.ms",
        storage="core.windows.net",
    ),
    "AzureUSGovernment": Cloud(
        authority="https://login.microsoftonline.us",
        arm="https://management.usgovcloudapi.net",
        ml_hosts=".api.ml.azure.us",
        storage="core.usgovcloudapi.net",
    ),
    "AzureChinaCloud": Cloud(
        authority="https://login.chinacloudapi.cn",
        arm="https://management.chinacloudapi.cn",
        ml_hosts=".api.ml.azure.cn",
        storage="core.chinacloudapi.cn",
    ),
}
"""By the names that the Azure provider's connections use (``extra.cloud_environment``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What an Airflow connection of type ``azure`` says about who asks.

    Without ``client``, ``secret`` and ``tenant`` it is the machine's own: a workload or managed identity.
    ``authority`` is where tokens are made; "" is the cloud's own.
    """

    connection: str
    tenant: str = ""
    client: str = ""
    secret: str = field(default="", repr=False)
    managed_identity: str = ""
    workload_tenant: str = ""
    cloud: str = "AzurePublicCloud"
    authority: str = ""

    @classmethod
    def of(cls, connection: str, login: str, password: str, extra: Mapping[str, Any]) -> Identity:
        """From a connection's fields; raises ``ConfigurationError`` that names the one that is missing or unknown."""
        cloud = str(extra.get("cloud_environment") or "AzurePublicCloud")
        if cloud not in CLOUDS:
            raise _wrong(connection, f"extra.cloud_environment is {cloud!r}; it may be {', '.join(CLOUDS)}")
        if extra.get("key_path") or extra.get("key_json"):
            raise _wrong(connection, "extra.key_path and key_json are not read; write login, password, extra.tenantId")
        tenant = str(extra.get("tenantId") or "")
        given = {"login (client id)": login, "password (client secret)": password, "extra.tenantId": tenant}
        missing = [name for name, value in given.items() if not value]
        if (login or password) and missing:
            raise _wrong(connection, f"a service principal needs {' and '.join(missing)} too")
        return cls(
            connection=connection,
            tenant=tenant,
            client=login,
            secret=password,
            managed_identity=str(extra.get("managed_identity_client_id") or ""),
            workload_tenant=str(extra.get("workload_identity_tenant_id") or ""),
            cloud=cloud,
        )

    @property
    def where(self) -> Cloud:
        """The cloud's addresses."""
        return CLOUDS[self.cloud]

    def credential(self) -> TokenCredential:
        """A credential of azure-identity; makes no request yet."""
        from azure.identity import ClientSecretCredential, DefaultAzureCredential

        authority = self.authority or self.where.authority
        if self.secret:
            return ClientSecretCredential(
                self.tenant,
                self.client,
                self.secret,
                authority=authority,
                # Entra ID knows its own authorities only, and would be asked about a Stack Hub's first.
                disable_instance_discovery=bool(self.authority),
                connection_timeout=CONNECT_SECONDS,
                read_timeout=IDLE_SECONDS,
                retry_total=TOKEN_RETRIES,
            )
        options: dict[str, Any] = {"managed_identity_client_id": self.managed_identity} if self.managed_identity else {}
        if self.workload_tenant:
            options |= {
                "workload_identity_tenant_id": self.workload_tenant,
                "additionally_allowed_tenants": [self.workload_tenant],
            }
        return DefaultAzureCredential(authority=authority, **options)


CONNECT_SECONDS = 10.0
"""Until a TCP connection to Azure stands."""
IDLE_SECONDS = 60.0
"""Between two bytes of an answer."""
TOKEN_RETRIES = 2


def _wrong(connection: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"Connection {connection!r}: {what}.",
        left="nothing was asked of Azure",
        next=f"Edit it under Admin > Connections (`airflow connections get {connection}` shows what it is), "
        "then clear the task.",
    )
