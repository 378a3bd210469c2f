"""From the fields of a ``wasb`` connection to an account, and what a Stack service must not be asked: no server."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from edgeloop.azure.connection import Fields
from edgeloop.azure.features import AZURE, STACK, TIB, check_name, check_size, features_of, refuse_newer
from edgeloop.azure.problems import answered, translated
from edgeloop.azure.queue import MessageQueue
from edgeloop.errors import ConfigurationError, UnreachableError

KEY = "c2VjcmV0LWtleS1vZi10aGUtYWNjb3VudA=="
STRING = f"DefaultEndpointsProtocol=https;AccountName=hub;AccountKey={KEY};BlobEndpoint=https://hub.blob.site.example;"


def opened(preset: str = "azure", **values: Any) -> Any:
    """The account behind a connection."""
    return Fields(connection="mine", **values).account(preset)


def test_a_key_in_the_password_becomes_a_connection_string() -> None:
    """Host with or without scheme; without a host it is the public cloud's."""
    for host, url in (
        ("https://hub.blob.site.example", "https://hub.blob.site.example"),
        ("hub.blob.site.example", "https://hub.blob.site.example"),
        ("", "https://hub.blob.core.windows.net"),
    ):
        account = opened(host=host, login="hub", password=KEY)
        want = f"DefaultEndpointsProtocol=https;AccountName=hub;AccountKey={KEY};BlobEndpoint={url}"
        assert (account.connection_string, account.secret_field) == (want, "password")


def test_a_sas_becomes_a_connection_string() -> None:
    """As a token beside the host, or as the whole URL."""
    want = "BlobEndpoint=https://hub.example;SharedAccessSignature=sv=1&sig=x"
    for values in (
        {"host": "https://hub.example", "extra": {"sas_token": "?sv=1&sig=x"}},
        {"extra": {"sas_token": "https://hub.example?sv=1&sig=x"}},
        {"host": "https://hub.example", "extra": {"extra__wasb__sas_token": "sv=1&sig=x"}},
    ):
        account = opened(**values)
        assert (account.connection_string, account.secret_field) == (want, "extra.sas_token")
        assert account.shared_access


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({}, "a key or SAS: extra.connection_string"),
        ({}, "for an identity of Entra ID, host, the URL of the blob service"),
        ({"host": "https://hub.example", "password": KEY}, "login, the name of the storage account"),
        ({"extra": {"sas_token": "sv=1&sig=x"}}, "host, the URL of the blob service"),
        ({"host": "https://hub.example", "extra": {"sas_token": "sv=1"}}, "the SAS itself in extra.sas_token"),
        ({"extra": {"sas_token": "https://hub.example"}}, "the SAS itself in extra.sas_token"),
    ],
)
def test_what_is_missing_is_told_by_connection_and_field(values: dict[str, Any], missing: str) -> None:
    """And how to put it there; the secret is not shown."""
    with pytest.raises(ConfigurationError, match="Connection 'mine' lacks") as caught:
        opened(**values)
    assert missing in caught.value.what
    assert "airflow connections delete mine" in caught.value.next
    assert KEY not in str(caught.value)


def test_a_verify_flag_is_no_ca_file() -> None:
    """Switching the check off is not offered."""
    with pytest.raises(ConfigurationError, match=r"extra\.connection_verify of connection 'mine' is False"):
        opened(extra={"connection_string": STRING, "connection_verify": False})


@pytest.mark.parametrize("preset", ["stack_hub", "stack_edge"])
@pytest.mark.parametrize("field", ["tenant_id", "managed_identity_client_id", "workload_identity_tenant_id"])
def test_a_stack_refuses_entra_id_by_its_field(preset: str, field: str) -> None:
    """A Stack's blob service has no such login; one without any field asks for a key, never for the machine's."""
    values = {"host": "https://hub.example", "login": "app", "password": "x", "extra": {field: "t"}}
    with pytest.raises(ConfigurationError, match=rf"has no Entra ID login \(extra.{field} of connection 'mine'\)"):
        opened(preset, **values)
    with pytest.raises(ConfigurationError, match="lacks a key or SAS") as caught:
        opened(preset, host="https://hub.example", login="hub")
    assert "Entra" not in caught.value.what


def test_a_service_principal_is_read_as_the_provider_reads_it() -> None:
    """Tenant, client id, secret, and what else its credential is made with; no secret shows."""
    config = {"authority": "login.microsoftonline.us"}
    extra = {"tenant_id": "t", "client_secret_auth_config": config, "account_key": KEY}
    account = opened(host="https://hub.example/", login="app", password="s3cret", extra=extra)
    assert account.entra is not None
    assert (account.entra.tenant, account.entra.client, account.entra.secret) == ("t", "app", "s3cret")
    assert json.loads(account.entra.options) == config
    assert account.endpoint("blob") == "https://hub.example"
    assert "s3cret" not in repr(account)


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"login": "app", "password": "x"}, "host, the URL of the blob service beside extra.tenant_id"),
        ({"host": "https://hub.example", "login": "app"}, "password (its secret) beside extra.tenant_id"),
        ({"host": "https://hub.example"}, "login (the client id) and password (its secret) beside"),
    ],
)
def test_a_service_principal_needs_all_its_fields(values: dict[str, Any], missing: str) -> None:
    """Without a host the provider would look for an account that is called as the application is."""
    with pytest.raises(ConfigurationError) as caught:
        opened(**values, extra={"tenant_id": "t"})
    assert missing in caught.value.what


def test_no_token_goes_where_there_is_no_tls() -> None:
    """Neither to the blobs nor to the queue, whoever logs in."""
    for values in ({"extra": {}}, {"login": "app", "password": "x", "extra": {"tenant_id": "t"}}):
        account = opened(host="http://hub.blob.site.example", **values)
        for use in (lambda one: one.container("abc"), lambda one: MessageQueue(one, "abc")):
            with pytest.raises(ConfigurationError, match="host of connection 'mine' is http://") as caught:
                use(account)
            assert caught.value.left == "nothing was sent"


def test_the_queue_of_an_account_has_its_name() -> None:
    """An address without the account's own name leads to no queue, least of all to one in the public cloud."""
    account = opened(host="https://hub.blob.core.usgovcloudapi.net")
    assert MessageQueue(account, "abc").hosts == ("hub.queue.core.usgovcloudapi.net",)
    with pytest.raises(ConfigurationError, match="where the account's queue service answers follows only"):
        MessageQueue(opened(host="https://10.0.0.4/hub"), "abc")


def test_a_version_that_the_sdk_does_not_know_is_told() -> None:
    """By its field."""
    with pytest.raises(ConfigurationError, match=r"extra\.api_version of connection 'mine' cannot be used: Unsup"):
        opened(host="https://hub.example", extra={"api_version": "2000-01-01"}).container("abc")


ASKED = {
    "key": {"host": "https://hub.example", "login": "hub", "password": KEY},
    "sas": {"host": "https://hub.example", "extra": {"sas_token": "sv=1&sig=x"}},
    "principal": {"host": "https://hub.example", "login": "app-1", "password": "x", "extra": {"tenant_id": "t"}},
    "machine": {"host": "https://hub.example", "extra": {"managed_identity_client_id": "mi-1"}},
}


@pytest.mark.parametrize(
    ("who", "status", "code", "what", "fix"),
    [
        ("principal", 403, "AuthorizationPermissionMismatch", "principal app-1, which lacks the role 'Storage B",
         "--role 'Storage Blob Data Contributor' --assignee app-1 --scope"),
        ("machine", 403, "AuthorizationPermissionMismatch", "managed identity mi-1, which lacks", "--assignee mi-1"),
        ("principal", 403, "AuthorizationFailure", "takes no request from this network", "firewall, or a private endp"),
        ("key", 403, "AuthorizationFailure", "refused the key or SAS", "if that is right let the workers in under"),
        ("sas", 403, "AuthorizationFailure", "refused the key or SAS", "Correct extra.sas_token of 'mine'"),
        ("principal", 401, "InvalidAuthenticationInfo", "refused the token of service principal app-1", "the tenant"),
        ("key", 403, "KeyBasedAuthenticationNotPermitted", "takes neither keys nor", "Log in with Entra ID"),
        ("key", 403, "AuthenticationFailed", "refused the key or SAS", "Correct password of 'mine'"),
        ("sas", 403, "AuthorizationPermissionMismatch", "refused the key or SAS", "Correct extra.sas_token of 'mine'"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_lacks(who: str, status: int, code: str, what: str, fix: str) -> None:
    """A role, a way through the firewall, another login: it depends on who asked, and the code is there to look up."""
    told = answered(opened(**ASKED[who]), "abc/x", status, code)
    assert isinstance(told, ConfigurationError)
    assert what in told.what
    assert code in told.what
    assert fix in told.next
    assert "then clear the task" in told.next


@pytest.mark.parametrize("preset", ["stack_hub", "stack_edge"])
def test_a_version_that_a_stack_lacks_is_refused(preset: str) -> None:
    """The preset brings the right one; older ones the operator may ask for."""
    assert opened(preset, extra={"connection_string": STRING}).features.api_version == "2019-02-02"
    with pytest.raises(ConfigurationError, match=r"extra.api_version of connection 'mine' is 2021-12-02"):
        opened(preset, extra={"connection_string": STRING, "api_version": "2021-12-02"}).container("abc")
    assert opened(extra={"connection_string": STRING, "api_version": "2021-12-02"}).features.stack is False


@pytest.mark.parametrize(
    ("headers", "query", "feature"),
    [
        ({"x-ms-access-tier": "Cool"}, {}, "access tiers"),
        ({"X-Ms-Tags": "a=b"}, {}, "blob index tags"),
        ({"x-ms-encryption-scope": "s"}, {}, "encryption scopes"),
        ({}, {"comp": "tier"}, "access tiers"),
        ({}, {"comp": "tags"}, "blob index tags"),
        ({}, {"comp": "blobs"}, "blob index tags"),
        ({}, {"comp": "userdelegationkey"}, "Entra ID login"),
    ],
)
def test_what_a_stack_lacks_is_refused(headers: dict[str, str], query: dict[str, str | None], feature: str) -> None:
    """By name, before it is sent; Azure has it."""
    with pytest.raises(ConfigurationError, match=f"has no {feature}"):
        refuse_newer(features_of("stack_hub", "", "mine"), headers, query)
    refuse_newer(AZURE, headers, query)
    refuse_newer(STACK, {"x-ms-meta-tags": "1"}, {"comp": "block"})


def test_the_sdk_cannot_get_past_the_refusal() -> None:
    """Tags, tiers and scopes that a caller hands to the SDK's client end before the network."""
    from azure.storage.blob import StandardBlobTier

    client = opened("stack_hub", extra={"connection_string": STRING}).container("abc")._client
    for options in ({"tags": {"a": "b"}}, {"standard_blob_tier": StandardBlobTier.COOL}, {"encryption_scope": "s"}):
        with pytest.raises(ConfigurationError, match=r"Azure Stack Hub .* has no"):
            client.upload_blob("x", b"1", **options)


def test_limits_of_name_and_size_are_told() -> None:
    """880 characters and 4.75 TB on a Stack, more on Azure."""
    check_name(STACK, "x" * 880)
    with pytest.raises(ConfigurationError, match="has 881 characters; Azure Stack takes 880 at most"):
        check_name(STACK, "x" * 881)
    check_name(AZURE, "x" * 881)
    check_size(STACK, "a", int(4.75 * TIB))
    with pytest.raises(ConfigurationError, match="a blob of Azure Stack has"):
        check_size(STACK, "a", int(4.75 * TIB) + 1)
    check_size(AZURE, "a", int(4.75 * TIB) + 1)


def test_a_dead_endpoint_is_told_without_the_sas() -> None:
    """Libraries quote the URL that failed; what follows its question mark is left out, and so is their own error."""
    quoted = "Max retries exceeded with url: /abc/x?comp=block&sv=2019-02-02&sig=0ur%2Bsignature (Caused by OSError(9))"
    with pytest.raises(UnreachableError) as caught, translated(opened(host="hub", login="a", password=KEY), "x"):
        raise ServiceRequestError(quoted)
    told = "".join(traceback.format_exception(caught.value))
    assert "url: /abc/x?... (Caused by OSError(9))" in told
    assert "signature" not in told
