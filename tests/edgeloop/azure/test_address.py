"""Where a container is and what opens it, read without the SDK exactly as the SDK reads it, or left to it."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from edgeloop.azure.account import BlobAccount
from edgeloop.azure.address import Address, plain
from edgeloop.errors import ConfigurationError

KEY = base64.b64encode(bytes(range(64))).decode()
END = f"AccountName=a;AccountKey={KEY};"
PORTAL = f"DefaultEndpointsProtocol=https;{END}"
HUB = "https://a.blob.local.azurestack.external"


def account(text: str, **how: str) -> BlobAccount:
    """A Stack Hub's, opened by a connection string."""
    return BlobAccount(connection="c", connection_string=text, **({"preset": "stack_hub"} | how))


@pytest.mark.parametrize("name", ["box", "$web", "a b"])
@pytest.mark.parametrize(
    "text",
    [
        f"{PORTAL}BlobEndpoint={HUB}/;",
        f"{PORTAL}BlobEndpoint={HUB};EndpointSuffix=local.azurestack.external",
        f"{PORTAL}BlobEndpoint={HUB}/;QueueEndpoint=https://q.example/;TableEndpoint=https://t.example/;",
        f"DefaultEndpointsProtocol=http;{END}BlobEndpoint=http://10.0.0.1:10000/a;",
        f"{END}BlobEndpoint=http://[fd00::1]:10000/a/b/",
        f"blobendpoint={HUB};accountname=a;ACCOUNTKEY={KEY}",
    ],
    ids=["slash", "suffix", "other services", "path", "IPv6", "any case"],
)
def test_a_plain_string_is_read_as_the_sdk_reads_it(text: str, name: str) -> None:
    """URL, key, version and container."""
    told = account(text)
    assert plain(told, name) == Address.of(told.client(name))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "UseDevelopmentStorage=true",
        f"BlobEndpoint={HUB};SharedAccessSignature=sv=2019-02-02&sig=x",
        f"{PORTAL}EndpointSuffix=local.azurestack.external",
        f"{PORTAL}BlobEndpoint=https://a.blob.core.windows.net/;",
        f"{PORTAL}BlobEndpoint={HUB}?sv=2019-02-02&sig=x;",
        f"{PORTAL}BlobEndpoint={HUB};BlobSecondaryEndpoint=https://b.example;",
        f"{PORTAL}BlobEndpoint=a.blob.local.azurestack.external;",
        f"AccountName=a;AccountKey=???;BlobEndpoint={HUB};",
        f"AccountName=a;AccountKey=;BlobEndpoint={HUB};",
        f"{PORTAL}BlobEndpoint={HUB};nonsense",
    ],
)
def test_every_other_form_is_left_to_the_sdk(text: str) -> None:
    """What opens an account in another way, and what opens none."""
    assert plain(account(text), "box") is None


def test_other_versions_and_a_missing_ca_are_left_to_the_sdk() -> None:
    """Azure's own version is the SDK's to say, and a file that is not there is told before anything is sent."""
    text = f"{PORTAL}BlobEndpoint={HUB}"
    assert plain(account(text, preset="azure"), "box") is None
    assert plain(account(text, ca_file="/nowhere/ca.pem"), "box") is None
    with pytest.raises(ConfigurationError, match="no such file"):
        account(text, ca_file="/nowhere/ca.pem").container("box")


def test_neither_key_nor_sas_is_in_its_repr() -> None:
    """An address may be logged."""
    assert KEY not in repr(plain(account(f"{PORTAL}BlobEndpoint={HUB}"), "box"))
    assert repr(bytes(range(64))) not in repr(plain(account(f"{PORTAL}BlobEndpoint={HUB}"), "box"))


def test_a_container_is_opened_without_the_sdk() -> None:
    """Which takes half a second to import."""
    code = (
        "import sys; from edgeloop.azure.account import BlobAccount; "
        "made = BlobAccount(connection='c', connection_string=sys.argv[1], preset='stack_hub').container('box'); "
        "made._wire; sys.exit('azure.storage.blob' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, f"{PORTAL}BlobEndpoint={HUB}"], check=True, timeout=60)
