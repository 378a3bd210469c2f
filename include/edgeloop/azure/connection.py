"""A storage account from the fields of an Airflow connection of type ``wasb``, in the forms of Azure's own provider.

    extra.connection_string                        key or SAS, as the portal gives it
    host (account URL), login (account), password  the account's key
    host (account URL), extra.sas_token            a SAS; or the whole URL with the SAS in extra.sas_token
    extra.api_version, extra.connection_verify     with any of them: x-ms-version, the CA's certificates (PEM)

The same connection works with the provider's own hook, but for ``host`` with ``password``: that one needs
``extra.account_key`` for a host that is not Azure's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop.azure.account import BlobAccount
from edgeloop.azure.features import features_of, lacking
from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

ENTRA = ("tenant_id", "client_secret_auth_config", "managed_identity_client_id", "workload_identity_tenant_id")
PUBLIC = "https://{login}.blob.core.windows.net"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What a connection holds; ``connection`` is its id."""

    connection: str
    host: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def account(self, preset: str = "azure") -> BlobAccount:
        """The account behind it; raises ``ConfigurationError`` naming connection and field."""
        text, secret = self._connection_string(preset)
        return BlobAccount(
            connection=self.connection,
            connection_string=text,
            api_version=str(self._option("api_version")),
            preset=preset,
            ca_file=self._ca_file(),
            secret_field=secret,
        )

    def _option(self, name: str) -> Any:
        """An extra field, also under the name that older forms of the UI gave it; "" if there is none."""
        return self.extra.get(name) or self.extra.get(f"extra__wasb__{name}") or ""

    def _connection_string(self, preset: str) -> tuple[str, str]:
        """The account as a connection string, and the field that its secret comes from."""
        if text := self._option("connection_string"):
            return str(text), "extra.connection_string"
        for name in ENTRA:
            if self._option(name):
                raise self._no_login(name, preset)
        if sas := str(self._option("sas_token")):
            return self._with_sas(sas)
        return self._with_key()

    def _with_key(self) -> tuple[str, str]:
        secret = "password" if self.password else "extra.account_key"
        key = self.password or self._option("account_key") or self._option("shared_access_key")
        if not key:
            raise self._lacks(
                "a key or SAS: extra.connection_string of the storage account; or host, login (the account) and "
                "password (its key); or host and extra.sas_token"
            )
        if not self.login:
            raise self._lacks("login, the name of the storage account")
        url = self._url()
        scheme = urlsplit(url).scheme
        text = f"DefaultEndpointsProtocol={scheme};AccountName={self.login};AccountKey={key};BlobEndpoint={url}"
        return text, secret

    def _with_sas(self, sas: str) -> tuple[str, str]:
        url, _, token = sas.partition("?") if "://" in sas else (self._url(), "", sas.lstrip("?"))
        if "sig=" not in token:
            raise self._lacks("the SAS itself in extra.sas_token: the text that begins with sv= and holds sig=")
        return f"BlobEndpoint={url};SharedAccessSignature={token}", "extra.sas_token"

    def _url(self) -> str:
        if not self.host and not self.login:
            raise self._lacks("host, the URL of the blob service: https://<account>.blob.<region>.<domain>")
        url = self.host or PUBLIC.format(login=self.login)
        return url if "://" in url else f"https://{url}"

    def _ca_file(self) -> str:
        verify = self.extra.get("connection_verify", "")
        if isinstance(verify, str):
            return verify
        raise ConfigurationError(
            f"extra.connection_verify of connection {self.connection!r} is {verify!r}; it is the path of a file.",
            left="nothing was started",
            next="Name the PEM file with the certificate of the CA that signed the storage account's.",
        )

    def _no_login(self, name: str, preset: str) -> ConfigurationError:
        features = features_of(preset, "", self.connection)
        if features.stack:
            return lacking(features, f"Entra ID login (extra.{name} of connection {self.connection!r})")
        return ConfigurationError(
            f"Connection {self.connection!r} logs in with Entra ID (extra.{name}); Edgeloop signs with the account's "
            "key or a SAS, which every blob service takes.",
            left="nothing was started",
            next="Put extra.connection_string there, or host and extra.sas_token.",
        )

    def _lacks(self, missing: str) -> ConfigurationError:
        return ConfigurationError(
            f"Connection {self.connection!r} lacks {missing}.",
            left="nothing was started",
            next=f"Edit it under Admin > Connections or `airflow connections delete {self.connection}` and add it "
            "again.",
        )
