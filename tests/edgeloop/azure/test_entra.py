"""An account that Entra ID opens: a real Azurite with TLS, tokens through a real azure-identity credential.

Azurite checks a token's audience, issuer and times. What it has no idea of, roles and Azure's challenges, is said by a
server of the tests' own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from subprocess import DEVNULL, Popen
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.edgeloop.azure.entra_id import CLIENT, TENANT, Door, Said, refusal
from tests.edgeloop.azure.hub import DOMAIN, KEY

from edgeloop.azure import account as accounts
from edgeloop.azure import sas
from edgeloop.azure.entra import Tokens, tokens
from edgeloop.azure.queue import MessageQueue
from edgeloop.errors import ConfigurationError, ConflictError
from edgeloop.records import FileRef
from edgeloop.transfer import Terms, download, upload
from lab import blob, queue
from lab.airflow_api import wait_for
from lab.site import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.edgeloop.azure.entra_id import Asked, EntraId
    from tests.edgeloop.azure.hub import Hub

    from edgeloop.azure.blob import BlobContainer

pytestmark = pytest.mark.system
SLOW = Terms(link_mbit=5)


def opened(entra: EntraId, hub: Hub, name: str, **extra: Any) -> BlobContainer:
    """A container of it, for the service principal of the connection."""
    fields = entra.fields(f"https://hub.blob.{DOMAIN}:{hub.port}", hub.ca, **extra)
    return fields.account().container(name)


def kept(container: BlobContainer) -> Tokens:
    """The tokens that it is opened with."""
    assert container.account.entra is not None
    return tokens(container.account.entra)


def test_everything_works_with_one_token(entra: EntraId, token_hub: Hub, tmp_path: Path) -> None:
    """Write, conditional conflict, list, read, a file up in blocks and down again: by the SDK and past it."""
    container = opened(entra, token_hub, "data")
    container.put_new("a", b"rows")
    with pytest.raises(ConflictError):
        container.put_new("a", b"others")
    with pytest.raises(ConflictError):
        container.put_whole("a", b"others", metadata={})
    content = bytes(range(256)) * 8192
    (tmp_path / "big").write_bytes(content)
    assert upload(container, "big", tmp_path / "big", terms=SLOW).proof == "full"
    file = FileRef(path="big", size=len(content), sha256=hashlib.sha256(content).hexdigest())
    download(container, file, tmp_path / "back", terms=SLOW)
    assert (tmp_path / "back").read_bytes() == content
    assert [one.name for one in container.list()] == ["a", "big"]
    assert (container.get("a"), container.fetch("a", 0, 9).data) == (b"rows", b"rows")
    container.delete("a")
    assert not container.exists("a")
    assert len(entra.issued) == 1


def test_a_token_that_ended_by_the_accounts_clock_is_renewed(entra: EntraId, token_hub: Hub) -> None:
    """The client was told that it lasts; one refusal brings one new token, and the request goes through."""
    container = opened(entra, token_hub, "renewed")
    container.put_new("a", b"rows")
    ended(entra, container)
    assert container.fetch("a", 0, 9).data == b"rows"
    assert len(entra.issued) == 3
    ended(entra, container)
    container.put_whole("b", b"more", metadata={})
    assert [one.name for one in container.list()] == ["a", "b"]
    assert len(entra.issued) == 5


def ended(entra: EntraId, container: BlobContainer) -> None:
    """Give the container a token that has ended; the next ones are good."""
    kept(container).refused(kept(container).header())
    entra.lasts = -30
    kept(container).header()
    entra.lasts = 3600


@pytest.mark.parametrize("wrong", ["ended", "issuer", "audience"])
def test_a_token_that_stays_wrong_is_told(entra: EntraId, token_hub: Hub, wrong: str) -> None:
    """After one try with a new one; by connection, identity and code, without the token."""
    extra = {"audience": "https://management.azure.com"} if wrong == "audience" else {}
    entra.lasts = -30 if wrong == "ended" else 3600
    entra.issuer = "https://login.test.example/" if wrong == "issuer" else entra.issuer
    container = opened(entra, token_hub, "wrong", **extra)
    for use in (lambda: container.fetch("a", 0, 9), lambda: container.get("a")):
        entra.issued.clear()
        with pytest.raises(ConfigurationError, match=f"refused the token of service principal {CLIENT}") as caught:
            use()
        assert "(AuthenticationFailed)" in caught.value.what
        assert "'cloud'" in caught.value.next
        assert len(entra.issued) <= 2
        assert not any(token in str(caught.value) for token in entra.issued)


def test_a_key_still_opens_it(entra: EntraId, token_hub: Hub) -> None:
    """The same account, for a connection that has one."""
    opened(entra, token_hub, "shared").put_new("a", b"rows")
    by_key = opened(entra, token_hub, "shared", connection_string=token_hub.connection_string)
    assert by_key.account.entra is None
    assert by_key.fetch("a", 0, 9).data == b"rows"


def test_a_delegated_address_opens_the_blob_and_nothing_else(entra: EntraId, token_hub: Hub) -> None:
    """Azurite recomputes the signature: reading that blob, for minutes; not its neighbour, not writing, not listing."""
    container = opened(entra, token_hub, "lent")
    for name in ("ü b%20#?&+.x", "other"):
        container.put_new(name, b"rows")
    now = datetime.now(UTC)
    signer = sas.signer(container, now=now)
    assert signer.refusal == ""
    assert kept(container).header()[7:] not in repr(signer)
    address = signer.address("ü b%20#?&+.x", now=now)
    fields = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert (fields["sp"], fields["sr"], fields["spr"], fields["sktid"]) == ("r", "b", "https", TENANT)
    assert datetime.fromisoformat(fields["se"]) - now <= timedelta(minutes=sas.MINUTES)
    query = address.partition("?")[2]
    assert status(token_hub, address) == 200
    assert status(token_hub, f"{signer.url}/other?{query}") == 403
    assert status(token_hub, address, method="PUT", body=b"x", headers={"x-ms-blob-type": "BlockBlob"}) == 403
    assert status(token_hub, f"{signer.url}?restype=container&comp=list&{query}") == 403
    assert status(token_hub, address.replace("sp=r", "sp=rw")) == 403
    assert status(token_hub, signer.address("other", now=now - timedelta(hours=1))) == 403


def status(hub: Hub, url: str, method: str = "GET", **how: Any) -> int:
    """What the account answers to somebody without login."""
    import urllib3

    with urllib3.PoolManager(ca_certs=str(hub.ca), retries=False) as pool:
        return pool.request(method, url, **how).status


def test_a_lent_key_is_asked_for_again_when_it_ends(entra: EntraId, token_hub: Hub) -> None:
    """Not for every address, and never later than the address it signs."""
    container = opened(entra, token_hub, "lent")
    container.ensure()
    assert container.account.entra is not None
    delegation, now = sas.Delegation(container.account, container.account.entra), datetime.now(UTC)
    first = delegation.key(now)
    assert delegation.key(now + sas.LENT - timedelta(minutes=sas.MINUTES)) is first
    later = delegation.key(now + sas.LENT - timedelta(minutes=sas.MINUTES, seconds=-1))
    assert later is not first


@contextmanager
def queues(hub: Hub, folder: Path) -> Iterator[str]:
    """The account's queue service at its own address; Azurite has one process for each service."""
    script = queue.main_script(cache_root())
    where = ["--queueHost", "127.0.0.2", "--queuePort", str(hub.port), "--location", str(folder)]
    tls = ["--cert", str(hub.ca.with_name("cert.pem")), "--key", str(hub.ca.with_name("key.pem")), "--oauth", "basic"]
    command = [str(blob.node()), str(script), *where, *tls, "--silent", "--disableTelemetry"]
    url = f"https://hub.queue.{DOMAIN}:{hub.port}"

    def answers() -> bool:
        import urllib3

        try:
            return status(hub, f"{url}?comp=list") > 0
        except urllib3.exceptions.HTTPError:
            return False

    process = Popen(command, env={"AZURITE_ACCOUNTS": f"hub:{KEY}"}, stdout=DEVNULL)
    try:
        wait_for(answers, seconds=60, what="Azurite's queues with TLS", every=0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def test_the_queue_takes_the_same_token(entra: EntraId, token_hub: Hub, tmp_path: Path) -> None:
    """What nudges intake: found from the account's own address, a message put, received and deleted."""
    container = opened(entra, token_hub, "data")
    container.ensure()
    with queues(token_hub, tmp_path):
        one = MessageQueue(container.account, "arrivals")
        one.ensure()
        one.put("an event")
        (message,) = one.receive(hidden_seconds=30)
        assert message.body == "an event"
        assert one.delete(message)
    assert one.hosts == (f"hub.queue.{DOMAIN}",)
    assert len(entra.issued) == 1


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """An account whose answers a test says; it is asked once only."""
    monkeypatch.setattr(accounts, "RETRIES", 0)
    with Door(tmp_path, lambda _: Said(status=201, headers={"ETag": '"1"'})) as one:
        yield one


def behind(entra: EntraId, door: Door) -> BlobContainer:
    """A container of the account behind it."""
    return entra.fields(f"https://hub.blob.{DOMAIN}:{door.port}", door.ca).account().container("data")


def test_a_missing_role_is_told_by_its_name(entra: EntraId, door: Door) -> None:
    """By the SDK and past it; for a key to sign with and for queues it is another one."""
    door.judge = lambda _: refusal(403, "AuthorizationPermissionMismatch")
    container = behind(entra, door)
    for use in (lambda: container.put_new("a", b"1"), lambda: container.fetch("a", 0, 1), lambda: container.get("a")):
        with pytest.raises(ConfigurationError, match="which lacks the role 'Storage Blob Data Contributor'") as caught:
            use()
        assert f"--role 'Storage Blob Data Contributor' --assignee {CLIENT}" in caught.value.next
    signer = sas.signer(container, now=datetime.now(UTC))
    assert "no key to sign with is lent" in signer.refusal
    assert "lacks the role 'Storage Blob Delegator' there (AuthorizationPermissionMismatch)" in signer.refusal


def test_a_missing_role_for_queues_is_told_by_its_name(entra: EntraId, tmp_path: Path) -> None:
    """Reading blobs gives no right to the queue beside them."""
    with Door(tmp_path, lambda _: refusal(403, "AuthorizationPermissionMismatch"), at="127.0.0.2") as door:
        one = MessageQueue(behind(entra, door).account, "arrivals")
        with pytest.raises(ConfigurationError, match="which lacks the role 'Storage Queue Data Contributor'"):
            one.receive(hidden_seconds=1)


def test_a_role_on_the_container_alone_is_enough(entra: EntraId, door: Door) -> None:
    """Its holder may not make containers; what he may do is done."""

    def judge(asked: Asked) -> Said:
        if "restype=container" in asked.path:
            return refusal(403, "AuthorizationPermissionMismatch")
        return Said(status=201, headers={"ETag": '"1"', "Last-Modified": "Sun, 01 Mar 2026 12:00:00 GMT"})

    door.judge = judge
    container = behind(entra, door)
    container.put_new("a", b"1")
    assert container.put_whole("b", b"1", metadata={}) == "1"


def test_the_sdk_tries_once_more_with_a_new_token(entra: EntraId, door: Door) -> None:
    """Azure's challenge names tenant and resource; a token for another resource is not to be had that way."""
    challenge = f"Bearer authorization_uri=https://login.test.example/{TENANT}/oauth2/authorize resource_id=https://vault.test.example"

    def judge(asked: Asked) -> Said:
        if asked.token == entra.issued[0]:
            return refusal(401, "InvalidAuthenticationInfo", WWW_Authenticate=challenge)
        return Said(status=201, headers={"ETag": '"1"', "Last-Modified": "Sun, 01 Mar 2026 12:00:00 GMT"})

    door.judge = judge
    behind(entra, door).put_new("a", b"1")
    assert len(entra.issued) == 2
    audiences = {json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["aud"] for token in entra.issued}
    assert audiences == {"https://storage.azure.com"}


def test_past_the_sdk_a_401_is_tried_once_more(entra: EntraId, door: Door) -> None:
    """And no more than once: whoever refuses two tokens refuses the identity."""
    container = behind(entra, door)
    container.ensure()
    refused: list[str] = []

    def judge(asked: Asked) -> Said:
        if asked.token in refused:
            return refusal(401, "InvalidAuthenticationInfo")
        return Said(status=201, headers={"ETag": '"1"'})

    door.judge = judge
    refused += entra.issued
    assert container.put_whole("a", b"1", metadata={}) == "1"
    assert [one.token for one in door.asked[-2:]] == entra.issued
    door.judge = lambda _: refusal(401, "InvalidAuthenticationInfo")
    before = len(door.asked)
    with pytest.raises(ConfigurationError, match=r"refused the token .* \(InvalidAuthenticationInfo\)"):
        container.put_whole("b", b"1", metadata={})
    assert len(door.asked) == before + 2


def test_an_answer_leads_no_token_to_another_host(entra: EntraId, door: Door, tmp_path: Path) -> None:
    """Redirects are not followed, by the SDK or past it."""
    container = behind(entra, door)
    container.ensure()
    (tmp_path / "other").mkdir()
    with Door(tmp_path / "other", lambda _: Said(status=200)) as other:
        to = f"https://127.0.0.1:{other.port}/data/a"
        door.judge = lambda _: Said(status=307, headers={"Location": to})
        for use in (lambda: container.get("a"), lambda: container.put_whole("a", b"1", metadata={})):
            with pytest.raises(Exception, match="Redirects are not followed"):
                use()
        assert other.asked == []
