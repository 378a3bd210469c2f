from __future__ import annotations

import hashlib
import io
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from edgeloop.azure import account, blob
from edgeloop.azure.blob import BlobAccount
from edgeloop.azure.features import STACK_API_VERSION
from edgeloop.errors import ConfigurationError, ConflictError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure.blob import BlobContainer

KEY = "c2VjcmV0LWtleS1vZi10aGUtYWNjb3VudA=="


def _account(port: int) -> BlobAccount:
    where = f"DefaultEndpointsProtocol=http;AccountName=hub;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:{port}/hub;"
    return BlobAccount(connection="edgeloop_private", connection_string=where)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No retries: what a test wants to see is the last answer, not the pauses before it."""
    monkeypatch.setattr(account, "RETRIES", 0)


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A service that answers 503 to everything, as a throttled account does."""

    class Busy(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_error(503, "Server Busy")

        def do_GET(self) -> None:
            self.do_PUT()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_new_blob_is_written_once(container: BlobContainer) -> None:
    """The second writer is told, and the first one's bytes and metadata stay."""
    container.put_new("a/b.txt", b"first", metadata={"sha256": "1"})

    with pytest.raises(ConflictError, match=r"a/b\.txt is already there"):
        container.put_new("a/b.txt", b"second")

    assert container.get("a/b.txt") == b"first"
    assert container.metadata("a/b.txt") == {"sha256": "1"}


def test_of_eight_writers_at_once_one_wins(container: BlobContainer) -> None:
    """The service decides; exactly one does not raise, and its bytes are stored."""

    def write(n: int) -> bool:
        try:
            container.put_new("one", bytes([n]))
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))

    assert sum(won) == 1
    assert container.get("one") == bytes([won.index(True)])


def test_put_replaces_what_is_there(container: BlobContainer) -> None:
    """And writes what was not; an empty blob is a blob."""
    container.put("x", b"old")
    container.put("x", b"")
    assert container.get("x") == b""
    assert container.exists("x")


def test_what_is_not_there_is_told(container: BlobContainer) -> None:
    """Reading a missing blob, or any blob of a container nobody made, names it; deleting it is no error."""
    for read in (container.get, container.digest, container.metadata, lambda name: list(container.chunks(name))):
        with pytest.raises(NotFoundError, match=rf"no blob {container.name}/nowhere in the account behind"):
            read("nowhere")
    container.delete("nowhere")
    assert not container.exists("nowhere")


def test_listing_is_by_prefix_in_order_of_name(container: BlobContainer) -> None:
    """Sizes and etags come along; a prefix is no folder."""
    assert list(container.list()) == []
    for name in ("b/10", "b/2", "a/1", "b", "bc"):
        container.put_new(name, name.encode())

    found = list(container.list("b"))

    assert [(one.name, one.size) for one in found] == [("b", 1), ("b/10", 4), ("b/2", 3), ("bc", 2)]
    assert all(one.etag and '"' not in one.etag for one in found)
    assert [one.name for one in container.list("b/")] == ["b/10", "b/2"]


def test_a_deleted_blob_is_gone(container: BlobContainer) -> None:
    """And its name is free again."""
    container.put_new("x", b"1")
    container.delete("x")
    assert not container.exists("x")
    container.put_new("x", b"2")


def test_a_stream_of_several_blocks_arrives_as_it_was(container: BlobContainer) -> None:
    """Size and sha256 read back are those that went in, in chunks of at most 4 MiB; it is written once."""
    data = os.urandom(9 * 1024 * 1024 + 1)
    sha256 = hashlib.sha256(data).hexdigest()

    container.put_stream("big", io.BytesIO(data), len(data), sha256=sha256)

    assert container.digest("big") == (len(data), sha256)
    assert max(len(one) for one in container.chunks("big")) <= blob.BLOCK_BYTES
    assert container.metadata("big")["sha256"] == sha256
    with pytest.raises(ConflictError):
        container.put_stream("big", io.BytesIO(b"x"), 1, sha256=hashlib.sha256(b"x").hexdigest())


def test_a_stream_that_breaks_leaves_no_blob(container: BlobContainer) -> None:
    """A reader that fails in the middle commits nothing: there is no half blob to find."""

    class Torn(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() >= blob.BLOCK_BYTES:
                raise OSError("the share went away")
            return super().read(size)

    with pytest.raises(OSError, match="the share went away"):
        container.put_stream("torn", Torn(bytes(3 * blob.BLOCK_BYTES)), 3 * blob.BLOCK_BYTES, sha256="00" * 32)
    assert not container.exists("torn")


def test_a_container_is_made_once_for_all(blob_account: BlobAccount, container: BlobContainer) -> None:
    """Several that make it at once, and one that finds it, go on."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: blob_account.container(container.name).ensure(), range(8)))
    container.put_new("x", b"")
    assert container.get("x") == b""


@pytest.mark.usefixtures("at_once")
def test_a_dead_account_names_the_connection(unused_port: int) -> None:
    """Nobody listens: the error says which connection to look at and shows no key."""
    with pytest.raises(UnreachableError) as caught:
        _account(unused_port).container("records").get("x")
    assert "connection 'edgeloop_private' did not answer" in caught.value.what
    assert "airflow connections get edgeloop_private" in caught.value.next
    assert KEY not in str(caught.value)


def test_the_pauses_before_giving_up_are_bounded(unused_port: int) -> None:
    """The SDK's own retry policy waits for minutes; ours is the one in force."""
    container = _account(unused_port).container("records")
    policies = container._client._pipeline._impl_policies
    (retry,) = [one for one in policies if hasattr(one, "initial_backoff")]
    longest = sum(
        retry.initial_backoff + (retry.increment_base**count if count else 0) + retry.random_jitter_range
        for count in range(account.RETRIES)
    )
    assert retry.total_retries == account.RETRIES
    assert longest <= 30


@pytest.mark.usefixtures("at_once")
def test_an_account_that_is_too_busy_is_unreachable(busy_port: int) -> None:
    """503 after the last retry is told with the connection, not as an SDK's error."""
    with pytest.raises(UnreachableError, match=r"connection 'edgeloop_private' answered 503"):
        _account(busy_port).container("records").put_new("x", b"1")


def test_a_wrong_key_is_a_wrong_connection(blob_account: BlobAccount) -> None:
    """The error says which connection to correct, and shows no key."""
    parts = dict(one.split("=", 1) for one in blob_account.connection_string.strip(";").split(";"))
    wrong = ";".join(f"{name}={KEY if name == 'AccountKey' else value}" for name, value in parts.items())
    with pytest.raises(ConfigurationError, match="refused the key or SAS") as caught:
        BlobAccount(connection="mine", connection_string=wrong).container("records").put_new("x", b"")
    assert "extra.connection_string of 'mine'" in caught.value.next
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("text", ["", "nonsense", f"AccountKey={KEY}"])
def test_what_is_no_connection_string_is_told_without_showing_it(text: str) -> None:
    """A pasted half of it fails at once, before anything is asked, and the key stays out of the message."""
    with pytest.raises(ConfigurationError, match="of connection 'mine' is no connection string") as caught:
        BlobAccount(connection="mine", connection_string=text).container("records")
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_key_stays_out_of_an_accounts_text(unused_port: int) -> None:
    """Accounts are logged and shown in tracebacks."""
    assert KEY not in repr(_account(unused_port))


def test_the_old_version_of_stack_hub_is_spoken_when_asked_for(
    blob_account: BlobAccount, container: BlobContainer
) -> None:
    """The conditions and checksums work with x-ms-version 2019-02-02 too."""
    old = BlobAccount(
        connection="hub", connection_string=blob_account.connection_string, api_version=STACK_API_VERSION
    ).container(container.name)
    old.put_new("x", b"1")
    with pytest.raises(ConflictError):
        old.put_new("x", b"2")
    assert (old.get("x"), [one.name for one in old.list()]) == (b"1", ["x"])
    assert old._client.api_version == "2019-02-02"
