"""From the fields of a ``wasb`` connection to an account, and what a Stack service must not be asked: no server."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from edgeloop.azure.connection import Fields
from edgeloop.azure.features import AZURE, STACK, TIB, check_name, check_size, features_of, refuse_newer
from edgeloop.azure.problems import translated
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
        ({"host": "https://hub.example", "login": "hub"}, "a key or SAS"),
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
def test_entra_id_is_refused_by_its_field(preset: str) -> None:
    """A Stack's blob service has no such login; on Azure the error says what to put there."""
    values = {"host": "https://hub.example", "login": "app", "password": "x", "extra": {"tenant_id": "t"}}
    with pytest.raises(ConfigurationError, match=r"has no Entra ID login \(extra.tenant_id of connection 'mine'\)"):
        opened(preset, **values)
    with pytest.raises(ConfigurationError, match="logs in with Entra ID"):
        opened(**values)


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
