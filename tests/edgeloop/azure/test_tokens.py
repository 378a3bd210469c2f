"""Tokens of Entra ID from real azure-identity credentials: kept, renewed, shared, and told of when there are none."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from tests.edgeloop.azure.entra_id import CLIENT, SECRET, TENANT
from tests.edgeloop.azure.hub import free_port

from edgeloop.azure.connection import Fields
from edgeloop.azure.entra import EARLY_SECONDS, Tokens, no_token, tokens
from edgeloop.errors import ConfigurationError, UnreachableError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.edgeloop.azure.entra_id import EntraId

    from edgeloop.azure.account import BlobAccount

HOST = "https://hub.blob.test.example"
THREADS = 16


def account(entra: EntraId, **extra: Any) -> BlobAccount:
    """The account behind the connection of a service principal."""
    return entra.fields(HOST, entra.door.ca, **extra).account()


def kept(entra: EntraId, **extra: Any) -> Tokens:
    """The tokens behind it."""
    one = account(entra, **extra).entra
    assert one is not None
    return tokens(one)


def at_once(do: Any) -> set[Any]:
    """What many threads get that start together."""
    start = threading.Barrier(THREADS)

    def one(_: int) -> Any:
        start.wait()
        return do()

    with ThreadPoolExecutor(THREADS) as pool:
        return set(pool.map(one, range(THREADS)))


def test_threads_and_containers_share_one_token(entra: EntraId) -> None:
    """However many ask at once; the same fields read again find it too."""
    assert at_once(lambda: kept(entra).header()) == {f"Bearer {entra.issued[0]}"}
    assert kept(entra).header() == f"Bearer {entra.issued[0]}"
    assert len(entra.issued) == 1
    assert entra.forms[0]["scope"] == "https://storage.azure.com/.default"
    assert (entra.forms[0]["client_id"], entra.forms[0]["client_secret"]) == (CLIENT, SECRET)


def test_a_token_is_renewed_before_it_ends(entra: EntraId) -> None:
    """One that has only minutes left is not used again; one that lasts is."""
    entra.says = EARLY_SECONDS - 10
    one = kept(entra)
    first = one.header()
    entra.says = 3600
    second = one.header()
    assert first != second
    assert one.header() == second
    assert len(entra.issued) == 2


def test_a_refused_token_is_renewed_once_for_all_threads(entra: EntraId) -> None:
    """azure-identity's own cache would give the same token again; who comes late with the old one forgets nothing."""
    one = kept(entra)
    stale = one.header()

    def again() -> str:
        one.refused(stale)
        return one.header()

    assert at_once(again) == {f"Bearer {entra.issued[1]}"}
    assert len(entra.issued) == 2


def test_nobody_talks_a_token_for_something_else_out_of_us(entra: EntraId) -> None:
    """The SDK asks for the scope and tenant that an account's refusal names."""
    one = kept(entra)
    one.get_token_info("https://management.azure.com/.default", options={"tenant_id": "another"})
    one.refused(one.header())
    one.get_token("https://management.azure.com/.default", tenant_id="another")
    assert {form["scope"] for form in entra.forms} == {"https://storage.azure.com/.default"}
    assert all(TENANT in asked.path for asked in entra.door.asked)


def test_another_audience_is_the_connections_choice(entra: EntraId) -> None:
    """``extra.audience``, as the provider hands it to the SDK."""
    kept(entra, audience="https://hub.blob.core.windows.net/").header()
    assert entra.forms[0]["scope"] == "https://hub.blob.core.windows.net/.default"


def test_a_wrong_secret_is_told_without_it(entra: EntraId, caplog: pytest.LogCaptureFixture) -> None:
    """By connection and field with Entra ID's code, neither secret nor token in message or log."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError) as caught:
        tokens(entra.fields(HOST, entra.door.ca, secret="wr0ng~secret").account().entra).header()  # type: ignore[arg-type]
    text = str(caught.value)
    assert f"Connection 'cloud': Entra ID gave service principal {CLIENT} no token" in text
    assert "AADSTS7000215: Invalid client secret provided." in text
    assert "Correct login (client id), password (client secret) or extra.tenant_id of 'cloud'" in text
    kept(entra).header()
    told = text + caplog.text + repr(account(entra))
    assert not any(secret in told for secret in ("wr0ng~secret", SECRET, entra.issued[0]))


def test_an_authority_that_does_not_answer_is_no_matter_of_the_login(entra: EntraId) -> None:
    """It is tried again by the task's next try."""
    one = account(entra).entra
    assert one is not None
    dead = replace(one, options=one.options.replace(str(entra.door.port), str(free_port())))
    with pytest.raises(UnreachableError, match="Entra ID did not answer service principal") as caught:
        tokens(dead).header()
    assert "client_secret_auth_config" in caught.value.next


def test_an_authority_whose_certificate_nobody_here_trusts_is_told(entra: EntraId) -> None:
    """With the field that names its CA; nothing was sent."""
    one = account(entra).entra
    assert one is not None
    with pytest.raises(ConfigurationError, match="signed by no CA that is trusted here") as caught:
        tokens(replace(one, options=one.options.replace('"connection_verify"', '"unknown"'))).header()
    assert "connection_verify inside extra.client_secret_auth_config" in caught.value.next
    assert entra.door.asked == []


def test_a_wrong_argument_of_the_credential_is_told(entra: EntraId) -> None:
    """An authority without TLS is refused by azure-identity before anything is sent."""
    one = account(entra).entra
    assert one is not None
    with pytest.raises(ConfigurationError, match="https"):
        tokens(replace(one, options='{"authority": "http://login.test.example"}')).header()
    assert entra.door.asked == []


def test_a_machine_without_identity_says_how_to_get_one(entra: EntraId, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection with a host alone asks for the machine's; what was tried is told, and what can be done."""
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    one = Fields(connection="bare", host=HOST).account().entra
    assert one is not None
    with pytest.raises(ConfigurationError, match="gave this machine's identity no token: DefaultAzure") as caught:
        tokens(one).header()
    assert "EnvironmentCredential authentication unavailable" in caught.value.what
    assert "put a login into 'bare' (docs/connections.md)" in caught.value.next
    assert entra.door.asked == []


def test_everything_that_was_tried_is_told(entra: EntraId) -> None:
    """A chain of credentials says where its readers find help after each of them; what each lacks is what counts."""
    one = Fields(connection="bare", host=HOST).account().entra
    assert one is not None
    said = (
        "Attempted credentials:\n\tEnvironmentCredential: unavailable.\nVisit https://aka.example/env to troubleshoot "
        "this issue.\n\tWorkloadIdentityCredential: See the troubleshooting guide for more information: "
        "https://aka.example/w. Missing: 'tenant_id'.\n\tAzureCliCredential: not found on path\nTo mitigate this "
        "issue, please refer to the troubleshooting guidelines here at https://aka.example/all."
    )
    told = no_token(one, ClientAuthenticationError(message=said)).what
    assert told.endswith(
        "no token: Attempted credentials: EnvironmentCredential: unavailable. WorkloadIdentityCredential: "
        "Missing: 'tenant_id'. AzureCliCredential: not found on path"
    )
    assert entra.door.asked == []


def test_a_secret_that_somebody_quotes_is_not_passed_on(entra: EntraId) -> None:
    """Whatever answers in Entra ID's place may send the request's own words back."""
    one = account(entra).entra
    assert one is not None
    told = no_token(one, ClientAuthenticationError(message=f"client_secret={SECRET} is wrong"))
    assert "client_secret=*** is wrong" in told.what
    assert SECRET not in str(told)


def test_a_managed_identity_is_asked_for_by_its_client_id(entra: EntraId, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection holds no secret at all; the machine's own identity needs no field."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{entra.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "a header of App Service's")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(entra.door.ca))
    for extra, named in (({"managed_identity_client_id": "mi-1"}, "mi-1"), ({}, None)):
        one = Fields(connection="bare", login="hub", extra=extra).account()
        assert one.endpoint("blob") == "https://hub.blob.core.windows.net"
        assert one.entra is not None
        assert tokens(one.entra).header() == f"Bearer {entra.issued[-1]}"
        assert entra.forms[-1].get("client_id") == named
        assert entra.forms[-1]["resource"] == "https://storage.azure.com"


def test_a_workload_identity_trades_its_federated_token(
    entra: EntraId, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the tenant and for the client that the connection names, as the provider hands them on."""
    (tmp_path / "federated").write_text("the pod's own token")
    for name, value in {
        "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "federated"),
        "AZURE_AUTHORITY_HOST": entra.url,
        "REQUESTS_CA_BUNDLE": str(entra.door.ca),
    }.items():
        monkeypatch.setenv(name, value)
    extra = {"managed_identity_client_id": CLIENT, "workload_identity_tenant_id": TENANT}
    one = Fields(connection="pod", host=HOST, extra=extra).account()
    assert one.entra is not None
    assert tokens(one.entra).header() == f"Bearer {entra.issued[-1]}"
    assert (entra.forms[-1]["client_assertion"], entra.forms[-1]["client_id"]) == ("the pod's own token", CLIENT)
