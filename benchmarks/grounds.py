"""Where transfers are measured: files to send, Azurite on a lab site of its own, and the sink."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from benchmarks.carriers import ROOT, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SITE = os.environ.get("EDGELOOP_BENCH_SITE", "bench")
MIB = 1024 * 1024
SINK_PORT = 11998
SINK_KEY = "YSBrZXkgdGhhdCBub2JvZHkgY2hlY2tz"
DEADLINE_S = 30.0
PROBE, ANSWERED = "/sink/x?comp=list", 200


def large(folder: Path, mib: int) -> Path:
    """A folder with one file of noise."""
    folder.mkdir()
    noise = random.Random(1)
    with (folder / "one.bin").open("wb") as stream:
        for _ in range(mib):
            stream.write(noise.randbytes(MIB))
    return folder


def many(folder: Path, count: int, size: int) -> Path:
    """A folder with ``count`` files of ``size`` bytes of noise."""
    folder.mkdir()
    noise = random.Random(2)
    for number in range(count):
        (folder / f"{number:05d}.csv").write_bytes(noise.randbytes(size))
    return folder


def warm(folder: Path) -> None:
    """Read the folder's files: on a machine short of memory, whoever came first paid for reading them from the disk."""
    for one in folder.iterdir():
        with one.open("rb") as stream:
            while stream.read(MIB):
                pass


@contextmanager
def sink() -> Iterator[Callable[[], Place]]:
    """A service that throws bytes away; gives a new container with every call."""
    from lab.airflow_api import wait_for
    from lab.probes import http_status

    server = subprocess.Popen([sys.executable, "-m", "benchmarks.sink", str(SINK_PORT)], cwd=ROOT)
    url = f"http://127.0.0.1:{SINK_PORT}/sink"
    try:
        wait_for(lambda: http_status("127.0.0.1", SINK_PORT, PROBE) == ANSWERED, seconds=DEADLINE_S, what="the sink")

        def place() -> Place:
            sas = "sv=2019-02-02&sr=c&sp=racwdl&se=2099-01-01&sig=bm90aGluZw%3D%3D"
            text = f"DefaultEndpointsProtocol=http;AccountName=sink;AccountKey={SINK_KEY};BlobEndpoint={url};"
            return Place(url=url, container=f"c{uuid.uuid4().hex[:16]}", sas=sas, connection_string=text)

        yield place
    finally:
        server.terminate()
        server.wait()


@contextmanager
def azurite(say: Callable[[str], None]) -> Iterator[Callable[[], Place]]:
    """Azurite on a lab site of its own; gives a new container with every call."""
    from azure.storage.blob import ContainerClient, ResourceTypes, generate_account_sas

    import lab

    lab.clean(SITE)
    say(f"starting site {SITE}")
    site = lab.up(SITE, parts=("network", "blob"))
    account = site.blob.private
    expiry = datetime.now(UTC) + timedelta(hours=6)
    kinds = ResourceTypes(service=True, container=True, object=True)
    sas = generate_account_sas(account.account, account.key, kinds, "racwdl", expiry)

    def place() -> Place:
        name = f"c{uuid.uuid4().hex[:16]}"
        ContainerClient.from_connection_string(
            account.connection_string, name, api_version="2019-02-02"
        ).create_container()
        return Place(url=account.url, container=name, sas=str(sas), connection_string=account.connection_string)

    try:
        yield place
    finally:
        lab.clean(SITE)
