"""A storage account from the fields of an Airflow connection of type ``wasb``, in the forms of Azure's own provider.

What opens the account is found in the provider's order; the first that is there counts:

    extra.connection_string                        key or SAS, as the portal gives it
    extra.tenant_id, login, password               Entra ID: a service principal (client id, client secret)
    extra.shared_access_key                        the account's key
    extra.sas_token                                a SAS; or the whole URL with the SAS
    password                                       the account's key
    extra.account_key                              the account's key
    none of them                                   Entra ID: the identity that the machine has

``host`` is the URL of the blob service; without it the account is the public cloud's that ``login`` names.
extra.api_version (x-ms-version) and extra.connection_verify (the CA's certificates, PEM) go with any of them.

The same connection works with the provider's own hook, but for ``host`` with ``password``: that one needs
``extra.account_key`` for a host that is not Azure's. ``extra.managed_identity_client_id`` alone, which the provider
reads only beside ``extra.workload_identity_tenant_id``, names the identity here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop.azure.account import BlobAccount
from edgeloop.azure.entra import AUDIENCE, Entra
from edgeloop.azure.features import features_of, lacking
from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

ENTRA = ("tenant_id", "client_secret_auth_config", "managed_identity_client_id", "workload_identity_tenant_id")
HOST = "host, the URL of the blob service"
KEY_OR_SAS = (
    "a key or SAS: extra.connection_string of the storage account; or host, login (the account) and password (its "
    "key); or host and extra.sas_token"
)
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
        """The account behind it, asking nobody; raises ``ConfigurationError`` naming connection and field."""
        account = self._opened(preset)
        return replace(account, preset=preset, api_version=str(self._option("api_version")), ca_file=self._ca_file())

    def _opened(self, preset: str) -> BlobAccount:
        """The account by what opens it, looked for in the provider's order."""
        if text := self._option("connection_string"):
            return self._by_string(str(text), "extra.connection_string")
        stack = self._stack_without_entra(preset)
        if self._option("tenant_id"):
            return self._by_principal()
        if found := self._by_secret():
            return found
        if stack:
            raise self._lacks(KEY_OR_SAS)
        return self._by_machine()

    def _by_secret(self) -> BlobAccount | None:
        if key := self._option("shared_access_key"):
            return self._by_key(key, "extra.shared_access_key")
        if sas := str(self._option("sas_token")):
            return self._by_sas(sas)
        if self.password:
            return self._by_key(self.password, "password")
        if key := self._option("account_key"):
            return self._by_key(key, "extra.account_key")
        return None

    def _stack_without_entra(self, preset: str) -> bool:
        """Whether it is an Azure Stack; raises ``ConfigurationError`` for a login that its blob service has not."""
        features = features_of(preset, "", self.connection)
        for name in ENTRA:
            if features.stack and self._option(name):
                raise lacking(features, f"Entra ID login (extra.{name} of connection {self.connection!r})")
        return features.stack

    def _by_string(self, text: str, secret: str) -> BlobAccount:
        return BlobAccount(connection=self.connection, connection_string=text, secret_field=secret)

    def _by_key(self, key: str, secret: str) -> BlobAccount:
        if not self.login:
            raise self._lacks("login, the name of the storage account")
        url = self._url()
        scheme = urlsplit(url).scheme
        text = f"DefaultEndpointsProtocol={scheme};AccountName={self.login};AccountKey={key};BlobEndpoint={url}"
        return self._by_string(text, secret)

    def _by_sas(self, sas: str) -> BlobAccount:
        url, _, token = sas.partition("?") if "://" in sas else (self._url(), "", sas.lstrip("?"))
        if "sig=" not in token:
            raise self._lacks("the SAS itself in extra.sas_token: the text that begins with sv= and holds sig=")
        return self._by_string(f"BlobEndpoint={url};SharedAccessSignature={token}", "extra.sas_token")

    def _by_principal(self) -> BlobAccount:
        # Without host the provider takes login for the account's name; here it is the application's.
        needed = {HOST: self.host, "login (the client id)": self.login, "password (its secret)": self.password}
        if missing := [name for name, value in needed.items() if not value]:
            raise self._lacks(f"{' and '.join(missing)} beside extra.tenant_id")
        options = self.extra.get("client_secret_auth_config") or {}
        if not isinstance(options, dict):
            raise self._lacks('an object in extra.client_secret_auth_config: {"authority": ...}')
        entra = Entra(
            connection=self.connection,
            tenant=str(self._option("tenant_id")),
            client=self.login,
            secret=self.password,
            options=json.dumps(options, sort_keys=True),
            audience=self._audience(),
        )
        return self._by_entra(entra)

    def _by_machine(self) -> BlobAccount:
        if not self.host and not self.login:
            raise self._lacks(f"{KEY_OR_SAS}; or, for an identity of Entra ID, {HOST}")
        entra = Entra(
            connection=self.connection,
            managed_identity=str(self._option("managed_identity_client_id")),
            workload_tenant=str(self._option("workload_identity_tenant_id")),
            audience=self._audience(),
        )
        return self._by_entra(entra)

    def _by_entra(self, entra: Entra) -> BlobAccount:
        return BlobAccount(connection=self.connection, url=self._url().rstrip("/"), entra=entra)

    def _audience(self) -> str:
        return str(self._option("audience") or AUDIENCE)

    def _option(self, name: str) -> Any:
        """An extra field, also under the name that older forms of the UI gave it; "" if there is none."""
        return self.extra.get(name) or self.extra.get(f"extra__wasb__{name}") or ""

    def _url(self) -> str:
        if not self.host and not self.login:
            raise self._lacks(f"{HOST}: https://<account>.blob.<region>.<domain>")
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

    def _lacks(self, missing: str) -> ConfigurationError:
        return ConfigurationError(
            f"Connection {self.connection!r} lacks {missing}.",
            left="nothing was started",
            next=f"Edit it under Admin > Connections or `airflow connections delete {self.connection}` and add it "
            "again.",
        )
