"""Azure Stack Hub and Stack Edge: an old x-ms-version, a CA of one's own, key or SAS; on a real Azurite with TLS."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.azure.hub import KEY, Hub, certificates
from tests.edgeloop.transfer.link import link_to, through

from edgeloop.azure import account
from edgeloop.azure.account import BlobAccount
from edgeloop.azure.blob import BlobContainer
from edgeloop.azure.connection import Fields
from edgeloop.azure.features import STACK_API_VERSION
from edgeloop.errors import ConfigurationError, ConflictError, UnreachableError
from edgeloop.transfer import Terms, download, plan, upload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.site import Site

SLOW = Terms(link_mbit=5)
BLOCK = plan(0, SLOW).block_bytes


@pytest.fixture(scope="module")
def hub(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A service with a certificate that no machine trusts by itself."""
    with Hub(site.cache, tmp_path_factory.mktemp("hub")) as one:
        yield one


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No retries: what a test wants to see is the first failure."""
    monkeypatch.setattr(account, "RETRIES", 0)


def fields(hub: Hub, **extra: str) -> Fields:
    """The connection with a connection string."""
    return Fields(connection="stack_hub", extra={"connection_string": hub.connection_string, **extra})


@pytest.mark.usefixtures("at_once")
def test_a_ca_of_ones_own_is_refused_without_its_file_and_taken_with_it(hub: Hub, tmp_path: Path) -> None:
    """The error names connection and field; with the file SDK and data path both trust it."""
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 4096)
    with pytest.raises(ConfigurationError, match="signed by no CA") as caught:
        fields(hub).account("stack_hub").container("certs").put_new("x", b"1")
    assert "connection_verify" in caught.value.next
    trusted = fields(hub, connection_verify=str(hub.ca)).account("stack_hub").container("certs")
    assert upload(trusted, "big", path, terms=SLOW).proof == "full"
    with pytest.raises(ConfigurationError, match="signed by no CA"):
        fields(hub).account("stack_hub").container("certs").fetch("big", 0, 1)
    other = fields(hub, connection_verify=str(certificates(tmp_path)[0])).account("stack_hub").container("certs")
    with pytest.raises(ConfigurationError, match="signed by no CA"):
        other.put_new("y", b"1")
    with pytest.raises(ConfigurationError, match="signed by no CA"):
        other.fetch("big", 0, 1)
    with pytest.raises(ConfigurationError, match=r"names /nowhere/ca\.pem"):
        fields(hub, connection_verify="/nowhere/ca.pem").account().container("certs")


@pytest.mark.parametrize("form", ["connection string", "host and key", "SAS", "SAS with URL", "SAS in string"])
def test_every_form_of_connection_opens_the_account(hub: Hub, tmp_path: Path, form: str) -> None:
    """Write, conditional write, list, read: with a key or a SAS, wherever the connection holds it."""
    sas = shared_access(hub)
    extra = {"connection_verify": str(hub.ca)}
    made = {
        "connection string": fields(hub, **extra),
        "host and key": Fields(connection="c", host=hub.url, login="hub", password=KEY, extra=extra),
        "SAS": Fields(connection="c", host=hub.url, extra={**extra, "sas_token": sas}),
        "SAS with URL": Fields(connection="c", extra={**extra, "sas_token": f"{hub.url}?{sas}"}),
        "SAS in string": Fields(
            connection="c",
            extra={**extra, "connection_string": f"BlobEndpoint={hub.url};SharedAccessSignature={sas}"},
        ),
    }[form]
    opened = made.account("stack_edge")
    assert KEY not in repr(opened) + repr(made)
    container = opened.container(f"forms-{len(form)}")
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)) * (3 * BLOCK // 256))
    sent = upload(container, "a b", path, terms=SLOW)
    with pytest.raises(ConflictError):
        container.put_new("a b", b"")
    assert [one.name for one in container.list()] == ["a b"]
    download(container, sent.file, tmp_path / "back", terms=SLOW)
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


def test_a_sas_for_one_container_is_enough(hub: Hub) -> None:
    """It may not make the container, which is there; what it may not do is told by its field."""
    ready = fields(hub, connection_verify=str(hub.ca)).account("stack_hub").container("narrow")
    ready.ensure()
    narrow = Fields(
        connection="narrow",
        host=hub.url,
        extra={"connection_verify": str(hub.ca), "sas_token": shared_access(hub, container="narrow", permission="rl")},
    ).account("stack_hub")
    assert list(narrow.container("narrow").list()) == []
    with pytest.raises(ConfigurationError, match="refused the key or SAS") as caught:
        narrow.container("narrow").put_whole("x", b"1", metadata={})
    assert "extra.sas_token of 'narrow'" in caught.value.next


@pytest.mark.parametrize("preset", ["stack_hub", "stack_edge"])
def test_every_request_speaks_the_presets_version(
    blob_account: BlobAccount, container: BlobContainer, tmp_path: Path, preset: str
) -> None:
    """Read off the wire, over upload, verification, listing, download and removal: 2019-02-02 and nothing else."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * (BLOCK + 1))
    with link_to(blob_account) as link:
        near = replace(through(blob_account, link), preset=preset).container(container.name)
        sent = upload(near, "a", path, terms=SLOW)
        path.write_bytes(b"y")
        upload(near, "b", path, terms=SLOW)
        near.metadata("a")
        download(near, sent.file, tmp_path / "back", terms=SLOW)
        assert len(list(near.list())) == 2
        near.delete("b")
    assert len(link.versions) == len(link.requests) >= 10
    assert set(link.versions) == {STACK_API_VERSION}


@pytest.mark.fault
@pytest.mark.usefixtures("at_once")
def test_a_service_that_dies_in_the_middle_is_gone_on_with(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped and started again in mid-upload: unreachable by its connection, and the next try uses what arrived."""
    container = fields(hub, connection_verify=str(hub.ca)).account("stack_hub").container("restart")
    path = tmp_path / "a.bin"
    path.write_bytes(b"".join(bytes([number]) * BLOCK for number in range(10)))
    stage, lock, arrived = BlobContainer.stage, threading.Lock(), list[str]()

    def dies(self: BlobContainer, name: str, block: str, data: bytes) -> None:
        with lock:
            if len(arrived) == 5:
                hub.stop()
            stage(self, name, block, data)
            arrived.append(block)

    with monkeypatch.context() as patch:
        patch.setattr(BlobContainer, "stage", dies)
        with pytest.raises(UnreachableError, match="connection 'stack_hub' did not answer"):
            upload(container, "a", path, terms=SLOW)
    hub.start()
    assert not container.exists("a")
    assert set(container.staged("a")) == set(arrived)
    sent = upload(container, "a", path, terms=SLOW)
    assert (sent.sent, sent.proof) == (5 * BLOCK, "full")


def shared_access(hub: Hub, container: str = "", permission: str = "racwdl") -> str:
    """A SAS for the account, or for one container."""
    from azure.storage.blob import ResourceTypes, generate_account_sas, generate_container_sas

    expiry = datetime.now(UTC) + timedelta(hours=1)
    if container:
        return generate_container_sas("hub", container, KEY, permission=permission, expiry=expiry)
    kinds = ResourceTypes(service=True, container=True, object=True)
    return str(generate_account_sas("hub", KEY, kinds, permission, expiry))


@pytest.mark.parametrize("name", ["CONNECT_SECONDS", "IDLE_SECONDS"])
def test_both_time_outs_hold_on_the_data_path(name: str) -> None:
    """The SDK's client and the connections that data travels by wait equally long."""
    opened = BlobAccount(
        connection="c",
        connection_string=f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={KEY};BlobEndpoint=http://127.0.0.1/a",
    ).container("abc")
    timeout = opened._wire._manager.connection_pool_kw["timeout"]
    want = {"CONNECT_SECONDS": timeout.connect_timeout, "IDLE_SECONDS": timeout.read_timeout}[name]
    assert want == getattr(account, name)
