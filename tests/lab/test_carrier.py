"""The carrier against a real Azurite: what a device wrote is up, whole, and stays up."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient

from lab import blob, carrier
from lab.site import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system
KEY = base64.b64encode(b"k" * 32).decode()


@dataclass(slots=True)
class Azurite:
    """A blob server of one test, that can be killed and started again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def connection_string(self) -> str:
        """Of its one account."""
        endpoint = f"http://127.0.0.1:{self.port}/plant"
        return f"DefaultEndpointsProtocol=http;AccountName=plant;AccountKey={KEY};BlobEndpoint={endpoint};"

    def start(self) -> None:
        """Start it and wait until it answers."""
        where = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", str(self.folder)]
        command = [str(blob.node()), str(blob.main_script(cache_root())), *where, "--skipApiVersionCheck", "--silent"]
        environment = {**os.environ, "AZURITE_ACCOUNTS": f"plant:{KEY}"}
        self.process = subprocess.Popen([*command, "--disableTelemetry"], env=environment, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        pytest.fail("Azurite did not start")

    def end(self, number: int = signal.SIGTERM) -> None:
        """Stop or kill it."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30)

    def blobs(self) -> dict[str, bytes]:
        """Everything in the container, by an own client."""
        with BlobServiceClient.from_connection_string(self.connection_string) as client:
            container = client.get_container_client(carrier.CONTAINER)
            return {b.name: container.download_blob(b.name).readall() for b in container.list_blobs()}


@pytest.fixture
def azurite(tmp_path: Path) -> Iterator[Azurite]:
    """A running Azurite, from the lab's cache."""
    blob.ensure_installed(cache_root())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Azurite(tmp_path / "azurite", probe.getsockname()[1])
    server.start()
    yield server
    server.end(signal.SIGKILL)


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A device's local share with one log file."""
    folder = tmp_path / "share"
    (folder / "predictions" / "2014-10").mkdir(parents=True)
    (folder / "predictions" / "2014-10" / "a-0.jsonl").write_bytes(b'{"y":1}\n')
    return folder


NAME = "R80711/predictions/2014-10/a-0.jsonl"


def test_files_are_carried_grow_and_are_found(azurite: Azurite, share: Path) -> None:
    """New files go up, grown ones replace theirs, unchanged and hidden ones are left alone; also by a new carrier."""
    one = carrier.Carrier(azurite.connection_string, {"R80711": share})
    (share / ".hidden").write_text("x")
    (share / "half.part").write_text("x")
    (share / "empty.txt").write_text("")
    assert one.once().files == 2
    assert one.once().files == 0
    log = share / "predictions" / "2014-10" / "a-0.jsonl"
    with log.open("ab") as stream:
        stream.write(b'{"y":2}\n')
    assert one.once().files == 1
    assert azurite.blobs() == {NAME: log.read_bytes(), "R80711/empty.txt": b""}
    assert carrier.Carrier(azurite.connection_string, {"R80711": share}).once().files == 0


def test_what_a_killed_store_forgot_is_carried_again(
    azurite: Azurite, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed store loses what was new, here everything; after the error the carrier asks anew and makes it whole."""
    monkeypatch.setattr(carrier, "LIST_SECONDS", 1e9)
    one = carrier.Carrier(azurite.connection_string, {"R80711": share})
    one.once()
    azurite.end(signal.SIGKILL)
    shutil.rmtree(azurite.folder)
    (share / "new.txt").write_text("new")
    with pytest.raises(AzureError):
        one.once()
    azurite.start()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(AzureError):
            one.once()
            break
        time.sleep(0.1)
    assert azurite.blobs() == {NAME: b'{"y":1}\n', "R80711/new.txt": b"new"}


def test_a_longer_blob_of_another_carrier_is_not_replaced_by_an_older_one(azurite: Azurite, share: Path) -> None:
    """An upload is conditional on the version that was seen; the loser looks again and finds everything up."""
    slow = carrier.Carrier(azurite.connection_string, {"R80711": share})
    slow.once()
    log = share / "predictions" / "2014-10" / "a-0.jsonl"
    old = log.read_bytes() + b'{"y":2}\n'
    log.write_bytes(old + b'{"y":3}\n')
    carrier.Carrier(azurite.connection_string, {"R80711": share}).once()
    with pytest.raises(AzureError):
        slow._upload(NAME, old, slow._remote[NAME])
    slow._remote = None
    assert slow.once().files == 0
    assert azurite.blobs()[NAME] == log.read_bytes()


def test_readers_never_see_a_torn_line(azurite: Azurite, share: Path) -> None:
    """What stands behind a log's last line end is not carried until its line is whole."""
    log, one = (
        share / "predictions" / "2014-10" / "a-0.jsonl",
        carrier.Carrier(azurite.connection_string, {"R80711": share}),
    )
    for tail, carried in (
        (b'{"y":', b'{"y":1}\n'),
        (b"2}\n{", b'{"y":1}\n{"y":2}\n'),
        (b"}\n", b'{"y":1}\n{"y":2}\n{}\n'),
    ):
        with log.open("ab") as stream:
            stream.write(tail)
        one.once()
        assert azurite.blobs()[NAME] == carried
        assert one.once().files == 0


def test_a_file_that_changes_while_it_is_read_waits(
    azurite: Azurite, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that is no log nothing is carried before it is still; the pass says that it waits."""
    path, one = share / "report.bin", carrier.Carrier(azurite.connection_string, {"R80711": share})
    path.write_bytes(b"x")
    real = type(path).open

    def open_while_somebody_writes(this: Path, *arguments: str) -> object:
        if this == path:
            with real(path, "ab") as stream:
                stream.write(b"y")
        return real(this, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "open", open_while_somebody_writes)
        assert one.once().waiting == 1
    assert "R80711/report.bin" not in azurite.blobs()
    assert one.once() == carrier.Carried(files=1, bytes=2, waiting=0)


def test_sigterm_stops_the_process_that_carries(azurite: Azurite, share: Path) -> None:
    """The loop carries within its poll, outlives the store, and ends cleanly when it is told."""
    program = (
        "import signal, sys, threading; from pathlib import Path; from lab import carrier; stop = threading.Event();"
        "signal.signal(signal.SIGTERM, lambda *_: stop.set());"
        "carrier.run(carrier.Carrier(sys.argv[1], {'R80711': Path(sys.argv[2])}), stop)"
    )
    command = [sys.executable, "-c", program, azurite.connection_string, str(share)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("carried: 1 files")
        azurite.end()
        assert process.stdout.readline().startswith("waiting: ")
        azurite.start()
        assert process.stdout.readline().startswith("carried: 0 files")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
