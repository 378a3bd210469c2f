"""A ``wasb`` connection means the same to us and to the Azure provider's own hook."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.microsoft.azure.hooks.wasb import WasbHook
from azure.core.credentials import AzureSasCredential
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from tests.edgeloop.azure.conftest import authority, entra, token_hub  # noqa: F401 - fixtures of the library's tests
from tests.edgeloop.azure.entra_id import CLIENT, SECRET
from tests.edgeloop.azure.hub import DOMAIN

from edgeloop.errors import ConfigurationError
from edgeloop_airflow import hooks

if TYPE_CHECKING:
    from tests.edgeloop.azure.entra_id import EntraId
    from tests.edgeloop.azure.hub import Hub
    from tests.edgeloop_airflow.conftest import Floor

    from edgeloop.azure.account import BlobAccount
    from edgeloop.azure.connection import Fields

HOST = "https://hub.blob.core.windows.net"
KEYS = {name: f"{name[:8]:_<8}" for name in ("connection_string", "shared_access_key", "password", "account_key")}
"""Four keys, in base64."""
EXTRA = {
    "connection_string": f"DefaultEndpointsProtocol=https;AccountName=hub;AccountKey={KEYS['connection_string']};"
    "EndpointSuffix=core.windows.net",
    "tenant_id": "22222222-2222-2222-2222-222222222222",
    "shared_access_key": KEYS["shared_access_key"],
    "sas_token": "sv=1&sig=x",
    "account_key": KEYS["account_key"],
}
REFUSED = re.compile("has no Entra ID login|lacks a key or SAS")
FORMS = [
    named for size in range(len(EXTRA) + 2) for named in itertools.combinations([*EXTRA, "password"], size)
]  # every choice of fields


def connect(monkeypatch: pytest.MonkeyPatch, fields: Fields) -> None:
    """Make it an Airflow connection."""
    made = {"host": fields.host, "login": fields.login, "password": fields.password, "extra": dict(fields.extra)}
    monkeypatch.setenv("AIRFLOW_CONN_CLOUD", json.dumps({"conn_type": "wasb", **made}))


def theirs() -> str:
    """What the provider's hook opens the account with."""
    credential: Any = WasbHook("cloud").get_conn().credential
    if isinstance(credential, ClientSecretCredential):
        return "principal"
    if isinstance(credential, DefaultAzureCredential):
        return "machine"
    return "sas" if isinstance(credential, AzureSasCredential) else str(credential.account_key)


def ours(account: BlobAccount) -> str:
    """What we open it with."""
    if account.entra is not None:
        return "principal" if account.entra.tenant else "machine"
    if account.shared_access:
        return "sas"
    return next(key for key in KEYS.values() if key in account.connection_string)


@pytest.mark.parametrize("named", FORMS, ids="+".join)
def test_of_several_fields_the_providers_counts(monkeypatch: pytest.MonkeyPatch, named: tuple[str, ...]) -> None:
    """Whatever a connection holds, both open the account with the same of it."""
    extra = {name: EXTRA[name] for name in named if name in EXTRA}
    password = KEYS["password"] if "password" in named else ""
    fields = {"conn_type": "wasb", "host": HOST, "login": "hub", "password": password, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CLOUD", json.dumps(fields))
    if "tenant_id" in named and not password and "connection_string" not in named:
        # A service principal without secret: azure-identity raises a ValueError that names no connection.
        with pytest.raises(ConfigurationError, match=r"password \(its secret\) beside extra\.tenant_id"):
            hooks.blob_account("cloud")
        return
    assert ours(hooks.blob_account("cloud")) == theirs()


@pytest.mark.system
def test_one_connection_opens_the_account_for_both(
    entra: EntraId,  # noqa: F811 - it is that fixture
    token_hub: Hub,  # noqa: F811 - it is that fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`airflow connections test` is the provider's; a wrong secret fails there as it does here."""
    fields = entra.fields(f"https://hub.blob.{DOMAIN}:{token_hub.port}", token_hub.ca)
    connect(monkeypatch, fields)
    container = hooks.blob_account("cloud").container("both")
    container.put_new("a", b"rows")
    assert container.fetch("a", 0, 9).data == b"rows"
    assert WasbHook("cloud").check_for_blob("both", "a")
    assert WasbHook("cloud").test_connection() == (True, "Successfully connected to Azure Blob Storage.")
    assert [form["client_id"] for form in entra.forms] == [CLIENT] * len(entra.forms)
    # The SDK tries a wrong secret four times more, for more than a minute.
    connect(monkeypatch, entra.fields(fields.host, token_hub.ca, secret="wrong", retry_total=0))
    assert WasbHook("cloud").test_connection()[0] is False
    with pytest.raises(ConfigurationError, match="AADSTS7000215"):
        hooks.blob_account("cloud").container("both").get("a")


@pytest.mark.parametrize("extra", [{}, {"tenant_id": "t"}, {"managed_identity_client_id": "m"}])
def test_entra_id_is_no_way_around_residency(
    floor: Floor,
    entra: EntraId,  # noqa: F811 - it is that fixture
    monkeypatch: pytest.MonkeyPatch,
    extra: dict[str, str],
) -> None:
    """A private account that was edited to an identity is refused before anybody is asked for a token."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{entra.url}/msi/token")
    fields = {"conn_type": "wasb", "host": HOST, "login": CLIENT, "extra": extra}
    fields |= {"password": SECRET} if "tenant_id" in extra else {}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_PRIVATE", json.dumps(fields))
    with pytest.raises(ConfigurationError, match=REFUSED):
        hooks.desk("tiny_power")
    floor.edit("pipeline.yaml", "preset: stack_hub", "preset: azure")
    with pytest.raises(ConfigurationError, match=REFUSED):
        hooks.desk("tiny_power")
    assert entra.door.asked == []
