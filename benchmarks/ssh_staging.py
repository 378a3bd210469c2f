"""Staging over SSH against scp and tar: 1 GiB up and down, 5,000 files of 20 KiB; wall time and peak memory.

Each runs over the lab VM's sshd with aes128-gcm, from and to memory on this side, logins included. The bars of the
large file are those of the issue: half of scp's speed with paramiko, 0.8 of it with OpenSSH's client. `up` and `down`
carry the bytes, as scp does. What scp does not do is compared with scp and that: `fetched` hashes what comes down, as
outputs are collected, `brought` asks what is there and checks the sha256 on arrival (scp, then a hash), `staged` also
writes the job's folder through to the disk (scp, a hash and a flush). The small files are brought and checked, their
peers check nothing. Both ends share one machine's processors here.
"""

from __future__ import annotations

import os
import shlex
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import grounds
from benchmarks.child import cost
from benchmarks.harness import Figure, Pair, times_peer
from benchmarks.ssh_grounds import (
    CIPHER,
    FOLDER,
    SITE,
    Hashed,
    carrier,
    clear,
    digest,
    endpoint_for,
    login,
    member,
    options,
    timed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.child import Cost
    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.training.bundle import Cargo
    from edgeloop.training.job import Job

RUNS = 5
CLIENTS = {"paramiko": 2.0, "openssh": 1.25}
"""The largest multiple of scp's time for a large file: 0.5 and 0.8 of its speed."""
SMALL_BAR = {"scp": 1.25, "tar | ssh tar": 3.0}
MEMORY_BAR_MIB = 256.0
LARGE_MIB, FILES, FILE_BYTES = 1024, 5000, 20 * 1024


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
                *_fetched(large, here, say),
                *_checked("brought", large, here, say),
                *_checked("staged", large, here, say),
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
        _left_there(folder, here)
    for number in range(1, _runs() + 1):
        there, back = f"{login()}:{FOLDER}.bin", str(here / "back.bin")
        _rest(way, here)
        scp.append(
            timed(["scp", *options(here), *([str(folder / "one.bin"), there] if way == "up" else [there, back])])
        )
        for client, costs in ours.items():
            _rest(way, here)
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


def _fetched(folder: Path, here: Path, say: Callable[[str], None]) -> list[Figure]:
    pairs: dict[str, list[Pair]] = {client: [] for client in CLIENTS}
    _left_there(folder, here)
    for number in range(1, _runs() + 1):
        back = str(here / "back.bin")
        peer = timed(["scp", *options(here), f"{login()}:{FOLDER}.bin", back])
        peer += timed(["openssl", "dgst", "-sha256", back])
        for client, made in pairs.items():
            made.append(Pair(ours=cost("benchmarks.ssh_staging", "fetched", client, str(folder)).seconds, peer=peer))
        told = ", ".join(f"{client} {made[-1].ours:.1f} s" for client, made in pairs.items())
        say(f"1 GiB fetched, {number}: scp + openssl dgst -sha256 {peer:.1f} s, {told}")
    return [
        times_peer(f"ssh_staging: 1 GiB fetched, {client}", made, bar=CLIENTS[client], peer="scp + sha256")
        for client, made in pairs.items()
    ]


def _left_there(folder: Path, here: Path) -> None:
    timed(["scp", *options(here), str(folder / "one.bin"), f"{login()}:{FOLDER}.bin"])


def _rest(way: str, here: Path) -> None:
    """Who sends next would wait for the VM's disk, which still writes what was sent before."""
    if way == "up":
        clear(here)


def _checked(what: str, folder: Path, here: Path, say: Callable[[str], None]) -> list[Figure]:
    flush = f" && sync -f {FOLDER}.bin" if what == "staged" else ""
    sure = f"openssl dgst -sha256 {FOLDER}.bin{flush}"
    pairs: dict[str, list[Pair]] = {client: [] for client in CLIENTS}
    for number in range(1, _runs() + 1):
        clear(here)
        copy = shlex.join(["scp", *options(here), str(folder / "one.bin"), f"{login()}:{FOLDER}.bin"])
        peer = timed(["sh", "-c", f"{copy} && {shlex.join(['ssh', *options(here), login(), sure])}"])
        for client, made in pairs.items():
            made.append(Pair(ours=cost("benchmarks.ssh_staging", what, client, str(folder)).seconds, peer=peer))
        told = ", ".join(f"{client} {made[-1].ours:.1f} s" for client, made in pairs.items())
        say(f"1 GiB {what}, {number}: scp + {sure.replace(FOLDER + '.bin', '')} {peer:.1f} s, {told}")
    peer_name = "scp + sha256" + (" + sync" if flush else "")
    return [
        times_peer(f"ssh_staging: 1 GiB {what}, {client}", made, bar=CLIENTS[client], peer=peer_name)
        for client, made in pairs.items()
    ]


def _small(folder: Path, here: Path, say: Callable[[str], None]) -> list[Figure]:
    peers: dict[str, list[float]] = {"scp": [], "tar | ssh tar": []}
    ours: dict[str, list[Cost]] = {client: [] for client in CLIENTS}
    for number in range(1, _runs() + 1):
        clear(here)
        peers["scp"].append(timed(["scp", "-r", *options(here), str(folder), f"{login()}:{FOLDER}"]))
        clear(here)
        ssh = shlex.join(["ssh", *options(here), login(), f"mkdir {FOLDER} && tar -x -C {FOLDER} -f -"])
        peers["tar | ssh tar"].append(timed(["sh", "-c", f"tar -c -C {shlex.quote(str(folder))} -f - . | {ssh}"]))
        for client, costs in ours.items():
            costs.append(cost("benchmarks.ssh_staging", "brought", client, str(folder)))
        told = ", ".join(f"{name} {costs[-1].seconds:.1f} s" for name, costs in ours.items())
        say(f"5,000 files, {number}: scp {peers['scp'][-1]:.1f} s, tar {peers['tar | ssh tar'][-1]:.1f} s, {told}")
    return [
        one
        for client, costs in ours.items()
        for one in _figures("5,000 x 20 KiB brought", client, costs, peers, SMALL_BAR)
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
    """Send the file in ``folder`` to a file of the VM's; returns what is to be measured."""
    one, connected = member(Path(folder) / "one.bin"), carrier(client)

    def ready() -> None:
        with connected as shell:
            assert shell.run(f"cat >{FOLDER}.bin", stdin=iter(one.read(0)), timeout=600).exit == 0

    return ready


def brought(client: str, folder: str) -> Callable[[], None]:
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


def staged(client: str, folder: str) -> Callable[[], None]:
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

    endpoint = endpoint_for(client)
    members = tuple(member(path) for path in sorted(Path(folder).iterdir()))
    job = Job(run_id=sha256_hex(os.urandom(8)), pipeline="bench", image="bench")
    with Shell(endpoint) as shell:
        shell.run(f"rm -rf {stage_commands.CACHE} edgeloop/jobs; sync", timeout=120)
    return endpoint, Cargo(members=members, spare_kib=0), job


def down(client: str, folder: str) -> Callable[[], None]:
    """Bring the file that scp left on the VM to a file beside ``folder``, its size compared."""
    size, connected, ours = (Path(folder) / "one.bin").stat().st_size, carrier(client), Path(folder).parent / "ours.bin"

    def ready() -> None:
        with connected as shell, ours.open("wb") as file:
            assert shell.run(f"cat {FOLDER}.bin", timeout=600, sink=file).exit == 0
        assert ours.stat().st_size == size

    return ready


def fetched(client: str, folder: str) -> Callable[[], None]:
    """As :func:`down`, hashed as it comes and compared."""
    expected, connected = digest(Path(folder) / "one.bin"), carrier(client)

    def ready() -> None:
        with connected as shell, (Path(folder).parent / "ours.bin").open("wb") as file:
            taken = Hashed(file)
            assert shell.run(f"cat {FOLDER}.bin", timeout=600, sink=taken).exit == 0
        assert taken.sha256.hexdigest() == expected

    return ready
