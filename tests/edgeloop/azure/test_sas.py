"""Addresses that open one blob for minutes, and which SAS of a connection may be handed on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from edgeloop.azure import sas
from edgeloop.azure.account import BlobAccount
from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from edgeloop.azure.blob import BlobContainer

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = "a2V5"
STACK = f"DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={KEY};BlobEndpoint=https://acct.blob.hub.example"
GOOD = "sv=2019-02-02&sr=c&sp=rl&spr=https&se=2026-03-01T12:30:00Z&sig=c2ln"


def container(text: str) -> BlobContainer:
    """A container of the account."""
    return BlobAccount(connection="c", connection_string=text).container("data")


def test_what_is_signed_is_what_azure_documents() -> None:
    """Read, no start, an end, one blob; fifteen fields with a line end between them."""
    text = sas.text_to_sign("/blob/acct/data/a b", expiry="2026-03-01T12:15:00Z", protocol="https")
    assert text.split("\n") == [
        "r", "", "2026-03-01T12:15:00Z", "/blob/acct/data/a b", "", "", "https", "2019-02-02", "b", "", *[""] * 5,
    ]  # fmt: skip


def test_an_address_opens_one_blob_for_minutes_over_tls() -> None:
    """The name is encoded in the URL and not in what is signed; nothing but reading is granted."""
    address = sas.signer(container(STACK), now=NOW).address("x/ü b%?#.parquet", now=NOW)
    where, fields = urlsplit(address), {name: one[0] for name, one in parse_qs(urlsplit(address).query).items()}
    assert (where.scheme, where.netloc) == ("https", "acct.blob.hub.example")
    assert where.path == "/data/x/%C3%BC%20b%25%3F%23.parquet"
    signed = sas.text_to_sign("/blob/acct/data/x/ü b%?#.parquet", expiry="2026-03-01T12:15:00Z", protocol="https")
    assert fields == {
        "sv": "2019-02-02", "sr": "b", "sp": "r", "se": "2026-03-01T12:15:00Z", "spr": "https",
        "sig": sas.sign(KEY, signed),
    }  # fmt: skip


def test_the_signature_opens_the_blob_and_nothing_else(container: BlobContainer) -> None:
    """On a real service: reading that blob, and neither its neighbour, writing, listing nor later."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    for name in ("ü b%20#?&+.x", "other"):
        container.put(name, b"rows")
    now = datetime.now(UTC)
    signer = sas.signer(container, now=now)
    signer = signer if not signer.refusal else sas.Signer(url=signer.url, account=signer.account, key=signer.key)
    address = signer.address("ü b%20#?&+.x", now=now)

    def status(url: str, **how: Any) -> int:
        try:
            with urlopen(Request(url, **how), timeout=10) as reply:
                return int(reply.status)
        except HTTPError as error:
            return error.code

    query = address.partition("?")[2]
    assert status(address) == 200
    assert status(f"{signer.url}/other?{query}") == 403
    assert status(address, method="PUT", data=b"x", headers={"x-ms-blob-type": "BlockBlob"}) == 403
    assert status(address, method="DELETE") == 403
    assert status(f"{signer.url}?restype=container&comp=list&{query}") == 403
    assert status(signer.address("ü b%20#?&+.x", now=now - timedelta(hours=1))) == 403


def test_without_tls_the_address_says_so() -> None:
    """An account that only speaks HTTP can be read at all; one with TLS is read with TLS only."""
    plain = container(STACK.replace("https", "http"))
    assert "spr=https%2Chttp" in sas.signer(plain, now=NOW).address("a", now=NOW)


@pytest.mark.parametrize("host", ["127.0.0.1:10000", "localhost:10000", "[::1]:10000", "127.1.2.3"])
def test_an_account_on_this_machine_is_not_the_vms(host: str) -> None:
    """The address would lead to the VM itself, and give whoever listens there a signature."""
    text = STACK.replace("https://acct.blob.hub.example", f"http://{host}/acct").replace("=https;", "=http;")
    assert "is another machine" in sas.signer(container(text), now=NOW).refusal


def test_a_harmless_sas_is_handed_on() -> None:
    """It reads one container, over TLS, for half an hour."""
    one = sas.signer(container(f"BlobEndpoint=https://acct.blob.hub.example;SharedAccessSignature={GOOD}"), now=NOW)
    assert one.refusal == ""
    assert one.address("a b", now=NOW).startswith("https://acct.blob.hub.example/data/a%20b?")
    assert "sig=c2ln" in one.address("a b", now=NOW)
    assert "c2ln" not in repr(one)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("sp=rl", "sp=rwl"), "allows more than reading (sp=rwl)"),
        (("sp=rl", "sp="), "allows more than reading"),
        (("sr=c", "ss=b&srt=sco"), "opens more than one container"),
        (("12:30:00Z", "13:00:01Z"), "valid for more than an hour"),
        (("&se=2026-03-01T12:30:00Z", ""), "does not say when it ends"),
        (("spr=https", "spr=https,http"), "also good without TLS"),
        (("&sig=c2ln", ""), "neither a key nor a SAS"),
    ],
)
def test_any_other_sas_stays_here(changed: tuple[str, str], says: str) -> None:
    """Each of its freedoms is a reason of its own."""
    assert sas.why_not(GOOD, https=True, now=NOW) == ""
    assert says in sas.why_not(GOOD.replace(*changed), https=True, now=NOW)


def test_a_key_that_is_none_is_no_crash() -> None:
    """Its refusal says so; the SDK would raise."""
    broken = STACK.replace(KEY, "%%%")
    try:
        found = sas.signer(container(broken), now=NOW)
    except ConfigurationError:
        return
    assert found.refusal == "its key is not base64"
