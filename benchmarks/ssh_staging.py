"""Staging over SSH against scp and tar: 1 GiB up and down, 5,000 files of 20 KiB up; wall time and peak memory.

Ours includes the connection, asking what is there, and the check of every sha256 on arrival; scp and tar check nothing.
Each runs over the lab VM's sshd with aes128-gcm, and the far side is emptied before. Bars are those of the issue: half
of scp's speed with paramiko, 0.8 of it with OpenSSH's client. Both ends share one machine's processors here, so what
ours computes on the far side is paid for as if it were here.

A whole staging also writes the job's folder through to the disk before it says so; its peer is what it takes to be as
sure with scp: copy, hash there, and flush.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from benchmarks import grounds
from benchmarks.child import cost
from benchmarks.harness import Figure, Pair, times_peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.child import Cost
    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.training.bundle import Cargo, Member
    from edgeloop.training.job import Job

SITE = os.environ.get("EDGELOOP_BENCH_SITE", "bench")
RUNS = 5
CLIENTS = {"paramiko": 2.0, "openssh": 1.25}
"""The largest multiple of scp's time for a large file: 0.5 and 0.8 of its speed."""
SMALL_BAR = {"scp": 1.25, "tar | ssh tar": 3.0}
MEMORY_BAR_MIB = 256.0
LARGE_MIB, FILES, FILE_BYTES = 1024, 5000, 20 * 1024
CHUNK = 1024 * 1024
CIPHER = "aes128-gcm@openssh.com"
FOLDER = "bench"


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Figures for each direction, kind of files and SSH client."""
    import lab

    lab.clean(SITE)
    say(f"starting site {SITE}")
    lab.up(SITE, parts=("network", "vm"))
    try:
        with tempfile.TemporaryDirectory(prefix="edgeloop-bench-", dir="/dev/shm") as scratch:
            here = Path(scratch)
            large, many = grounds.large(here / "large", LARGE_MIB), grounds.many(here / "many", FILES, FILE_BYTES)
            return [
                *_large("up", large, here, say),
                *_large("down", large, here, say),
                *_whole(large, here, say),
                *_small(many, here, say),
            ]
    finally:
        lab.clean(SITE)


def _runs() -> int:
    return min(RUNS, int(os.environ.get("EDGELOOP_BENCH_RUNS", "99")))


def _large(way: str, folder: Path, here: Path, say: Callable[[str], None]) -> list[Figure]:
    scp: list[float] = []
    ours: dict[str, list[Cost]] = {client: [] for client in CLIENTS}
    if way == "down":
        _peer(["scp", *_options(here), str(folder / "one.bin"), f"{_login()}:{FOLDER}.bin"])
    for number in range(1, _runs() + 1):
        there, back = f"{_login()}:{FOLDER}.bin", str(here / "back.bin")
        scp.append(
            _peer(["scp", *_options(here), *([str(folder / "one.bin"), there] if way == "up" else [there, back])])
        )
        for client, costs in ours.items():
            costs.append(cost("benchmarks.ssh_staging", way, client, str(folder)))
        told = ", ".join(
            f"{client} {costs[-1].seconds:.1f} s {costs[-1].peak_mib:.0f} MiB" for client, costs in ours.items()
        )
        say(f"1 GiB {way}, {number}: scp {scp[-1]:.1f} s, {told}")
    return [
        one
        for client, costs in ours.items()
        for one in _figures(f"1 GiB {way}", client, costs, {"scp": scp}, {"scp": CLIENTS[client]})
    ]


def _whole(folder: Path, here: Path, say: Callable[[str], None]) -> list[Figure]:
    pairs: list[Pair] = []
    sure = f"sha256sum {FOLDER}.bin && sync -f {FOLDER}.bin"
    for number in range(1, _runs() + 1):
        _clear(here)
        copy = shlex.join(["scp", *_options(here), str(folder / "one.bin"), f"{_login()}:{FOLDER}.bin"])
        peer = _peer(["sh", "-c", f"{copy} && {shlex.join(['ssh', *_options(here), _login(), sure])}"])
        pairs.append(Pair(ours=cost("benchmarks.ssh_staging", "whole", "openssh", str(folder)).seconds, peer=peer))
        say(f"1 GiB staged, {number}: scp + sha256sum + sync {peer:.1f} s, ours {pairs[-1].ours:.1f} s")
    name = "ssh_staging: 1 GiB staged for a job, openssh"
    return [times_peer(name, pairs, bar=CLIENTS["openssh"], peer="scp + sha256sum + sync")]


def _small(folder: Path, here: Path, say: Callable[[str], None]) -> list[Figure]:
    peers: dict[str, list[float]] = {"scp": [], "tar | ssh tar": []}
    ours: dict[str, list[Cost]] = {client: [] for client in CLIENTS}
    for number in range(1, _runs() + 1):
        _clear(here)
        peers["scp"].append(_peer(["scp", "-r", *_options(here), str(folder), f"{_login()}:{FOLDER}"]))
        _clear(here)
        ssh = shlex.join(["ssh", *_options(here), _login(), f"mkdir {FOLDER} && tar -x -C {FOLDER} -f -"])
        peers["tar | ssh tar"].append(_peer(["sh", "-c", f"tar -c -C {shlex.quote(str(folder))} -f - . | {ssh}"]))
        for client, costs in ours.items():
            costs.append(cost("benchmarks.ssh_staging", "up", client, str(folder)))
        told = ", ".join(f"{name} {costs[-1].seconds:.1f} s" for name, costs in ours.items())
        say(f"5,000 files, {number}: scp {peers['scp'][-1]:.1f} s, tar {peers['tar | ssh tar'][-1]:.1f} s, {told}")
    return [
        one for client, costs in ours.items() for one in _figures("5,000 x 20 KiB up", client, costs, peers, SMALL_BAR)
    ]


def _figures(
    what: str, client: str, costs: list[Cost], peers: dict[str, list[float]], bars: dict[str, float]
) -> list[Figure]:
    found = [
        times_peer(
            f"ssh_staging: {what}, {client}, against {name}",
            [Pair(ours=mine.seconds, peer=its) for mine, its in zip(costs, seconds, strict=True)],
            bar=bars[name],
            peer=f"{name} -c {CIPHER}",
        )
        for name, seconds in peers.items()
    ]
    peaks = tuple(one.peak_mib for one in costs)
    peak = statistics.median(peaks)
    name = f"ssh_staging: {what}, {client}, memory"
    size = LARGE_MIB if "GiB" in what else FILES * FILE_BYTES // 1024**2
    return [
        *found,
        Figure(
            name=name,
            value=peak,
            unit="MiB",
            bar=MEMORY_BAR_MIB,
            peer=f"the data, {size} MiB",
            ratio=peak / size,
            runs=peaks,
        ),
    ]


def up(client: str, folder: str) -> Callable[[], None]:
    """Bring every file below ``folder`` to the VM's empty cache; returns what is to be measured."""
    from edgeloop.ssh.openssh import Bulk
    from edgeloop.ssh.shell import Shell
    from edgeloop.training import cache, staging
    from edgeloop.training.staging_worker import Worker
    from edgeloop.training.staging_yard import Yard
    from edgeloop.transfer.progress import Meter

    endpoint, cargo, job = _emptied(client, folder)

    def ready() -> None:
        with Shell(endpoint) as shell:
            found = staging.survey(shell, job, cargo)
            meter = Meter("data", sum(one.size for one in cargo.members))
            yard = Yard(shell=shell, bulk=Bulk(shell), job=job, cargo=cargo, meter=meter, say=lambda _: None)
            Worker(yard).bring(cache.missing(cargo.members, found.held))

    return ready


def whole(client: str, folder: str) -> Callable[[], None]:
    """Stage every file below ``folder`` for a job; returns what is to be measured."""
    from edgeloop.ssh.shell import Shell
    from edgeloop.training import staging

    endpoint, cargo, job = _emptied(client, folder)

    def ready() -> None:
        with Shell(endpoint) as shell:
            staging.stage(shell, job, cargo, lambda _: None)

    return ready


def _emptied(client: str, folder: str) -> tuple[Endpoint, Cargo, Job]:
    from edgeloop.records import sha256_hex
    from edgeloop.ssh.shell import Shell
    from edgeloop.training import stage_commands
    from edgeloop.training.bundle import Cargo
    from edgeloop.training.job import Job

    endpoint = _endpoint(client)
    members = tuple(_member(path) for path in sorted(Path(folder).iterdir()))
    job = Job(run_id=sha256_hex(os.urandom(8)), pipeline="bench", image="bench")
    with Shell(endpoint) as shell:
        shell.run(f"rm -rf {stage_commands.CACHE} edgeloop/jobs; sync", timeout=120)
    return endpoint, Cargo(members=members, spare_kib=0), job


def down(client: str, folder: str) -> Callable[[], None]:
    """Bring the file that scp left on the VM to a file beside ``folder``, checked; returns what is to be measured."""
    from edgeloop.ssh.openssh import Bulk
    from edgeloop.ssh.shell import Shell

    endpoint, path = _endpoint(client), Path(folder) / "one.bin"
    expected = _digest(path)

    def ready() -> None:
        with Shell(endpoint) as shell, (Path(folder).parent / "ours.bin").open("wb") as file:
            taken = _Hashed(file)
            Bulk(shell).check(f"cat {FOLDER}.bin", timeout=600, sink=taken)
            assert taken.sha256.hexdigest() == expected

    return ready


class _Hashed:
    """A file whose bytes are hashed as they come, as outputs are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._file.write(data)


def _member(path: Path) -> Member:
    from edgeloop.training.bundle import Member

    def read(start: int) -> Iterator[bytes]:
        with path.open("rb") as stream:
            stream.seek(start)
            while data := stream.read(CHUNK):
                yield data

    return Member(path=f"data/{path.name}", size=path.stat().st_size, sha256=_digest(path), read=read)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _endpoint(client: str) -> Endpoint:
    from edgeloop.ssh import openssh
    from edgeloop.ssh.endpoint import Endpoint
    from lab import site

    vm = site.load(site.state_of(SITE)).vm
    if client == "paramiko":
        openssh.why_not = lambda _: "it is what is measured"
    return Endpoint(
        connection="bench", host=vm.host, port=vm.port, user=vm.user, key_file=str(vm.key_file), host_key=vm.host_key
    )


def _options(here: Path) -> list[str]:
    from lab import site

    vm = site.load(site.state_of(SITE)).vm
    (here / "known_hosts").write_text(f"{vm.host} {vm.host_key}\n")
    known = f"UserKnownHostsFile={here / 'known_hosts'}"
    return ["-F", "none", "-q", "-c", CIPHER, "-i", str(vm.key_file), "-o", known, "-o", "StrictHostKeyChecking=yes"]


def _login() -> str:
    from lab import site

    vm = site.load(site.state_of(SITE)).vm
    return f"{vm.user}@{vm.host}"


def _clear(here: Path) -> None:
    subprocess.run(
        ["ssh", *_options(here), _login(), f"rm -rf {FOLDER} {FOLDER}.bin edgeloop; sync"], check=True, timeout=120
    )


def _peer(argv: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, timeout=600, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
