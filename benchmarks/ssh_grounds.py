"""The two ends of the SSH figures: the lab VM's login, files to send, and the peers' command lines."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.ssh.openssh import Carrier
    from edgeloop.training.bundle import Member

SITE = os.environ.get("EDGELOOP_BENCH_SITE", "bench")
CHUNK = 1024 * 1024
CIPHER = "aes128-gcm@openssh.com"
FOLDER = "bench"


class Hashed:
    """A file whose bytes are hashed as they come, as outputs are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Take a chunk."""
        self.sha256.update(data)
        return self._file.write(data)


def member(path: Path) -> Member:
    """A local file as staging sends it, read in pieces."""
    from edgeloop.training.bundle import Member

    def read(start: int) -> Iterator[bytes]:
        with path.open("rb") as stream:
            stream.seek(start)
            while data := stream.read(CHUNK):
                yield data

    return Member(path=f"data/{path.name}", size=path.stat().st_size, sha256=digest(path), read=read)


def digest(path: Path) -> str:
    """Its sha256."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def endpoint_for(client: str) -> Endpoint:
    """The lab VM's login, for `openssh` or with OpenSSH's client out of the way for `paramiko`."""
    from edgeloop.ssh import openssh
    from edgeloop.ssh.endpoint import Endpoint
    from lab import site

    vm = site.load(site.state_of(SITE)).vm
    if client == "paramiko":
        openssh.why_not = lambda _: "it is what is measured"
    return Endpoint(
        connection="bench", host=vm.host, port=vm.port, user=vm.user, key_file=str(vm.key_file), host_key=vm.host_key
    )


@contextmanager
def carrier(client: str) -> Iterator[Carrier]:
    """The client itself, logging in for what it is asked."""
    from edgeloop.ssh.openssh import OpenSsh
    from edgeloop.ssh.shell import Shell

    if client == "openssh":
        yield OpenSsh(endpoint_for(client))
        return
    with Shell(endpoint_for(client)) as shell:
        yield shell


def options(here: Path) -> list[str]:
    """What ssh and scp are given: cipher, key and pin."""
    from lab import site

    vm = site.load(site.state_of(SITE)).vm
    (here / "known_hosts").write_text(f"{vm.host} {vm.host_key}\n")
    known = f"UserKnownHostsFile={here / 'known_hosts'}"
    return ["-F", "none", "-q", "-c", CIPHER, "-i", str(vm.key_file), "-o", known, "-o", "StrictHostKeyChecking=yes"]


def login() -> str:
    """User and host."""
    from lab import site

    vm = site.load(site.state_of(SITE)).vm
    return f"{vm.user}@{vm.host}"


def clear(here: Path) -> None:
    """Remove what earlier runs left on the VM, and wait until its disk is idle."""
    subprocess.run(
        ["ssh", *options(here), login(), f"rm -rf {FOLDER} {FOLDER}.bin edgeloop; sync"], check=True, timeout=120
    )


def timed(argv: list[str]) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    subprocess.run(argv, check=True, timeout=600, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
