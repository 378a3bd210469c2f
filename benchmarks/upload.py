"""Uploads against AzCopy and rclone, checksums on in all three: wall time and the client's processor time.

One file of 1 GiB and 5,000 of 20 KiB; to Azurite, which is the bottleneck of the large one whoever sends, and to a sink
which is not. Ours sends a checksum with every request, conditionally, with sha256 in the metadata. A verified upload,
read back and hashed, is a figure of its own, against their copy plus download and hash.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import carriers, grounds
from benchmarks.harness import Figure, Pair, times_peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.carriers import Cost, Place

RUNS = {"sink": 5, "Azurite": 3}
WALL_BAR, CPU_BAR = 1.0, 1.8
LARGE_MIB, FILES, FILE_BYTES = 1024, 5000, 20 * 1024
BETTER = "the better of AzCopy and rclone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round cost: ours and the peers', plain; and with read-back, None where the service keeps nothing."""

    plain: tuple[Cost, Cost, Cost]
    verified: tuple[Cost, Cost, Cost] | None


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Figures of wall and processor time for each service and each kind of files."""
    if lack := carriers.missing():
        raise SystemExit(lack)
    carriers.ensure_azcopy()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as scratch:
        kinds = {
            "1 GiB": grounds.large(Path(scratch) / "large", LARGE_MIB),
            "5,000 x 20 KiB": grounds.many(Path(scratch) / "many", FILES, FILE_BYTES),
        }
        with grounds.sink() as places:
            for kind, folder in kinds.items():
                figures += _figures("sink", kind, _rounds("sink", kind, folder, places, say))
        with grounds.azurite(say) as places:
            for kind, folder in kinds.items():
                figures += _figures("Azurite", kind, _rounds("Azurite", kind, folder, places, say))
    return figures


def runs(service: str) -> int:
    """How many rounds; EDGELOOP_BENCH_RUNS takes fewer of them."""
    return min(RUNS[service], int(os.environ.get("EDGELOOP_BENCH_RUNS", "99")))


def _rounds(
    service: str, kind: str, folder: Path, places: Callable[[], Place], say: Callable[[str], None]
) -> list[Round]:
    done = []
    for number in range(1, runs(service) + 1):
        done.append(_round(folder, places, read_back=service != "sink"))
        for what, costs in (("plain", done[-1].plain), ("verified", done[-1].verified)):
            if costs:
                names = zip(("ours", "AzCopy", "rclone"), costs, strict=True)
                told = ", ".join(f"{name} {cost.wall:.1f} s wall {cost.cpu:.1f} s CPU" for name, cost in names)
                say(f"{service}, {kind}, {what}, {number}: {told} (imports of ours {costs[0].start:.1f} s)")
    return done


def _round(folder: Path, places: Callable[[], Place], *, read_back: bool) -> Round:
    first, second = places(), places()
    grounds.warm(folder)
    ours = carriers.run(carriers.ours("send", folder, places()))
    grounds.warm(folder)
    azcopy = carriers.run(carriers.azcopy_up(folder, first))
    grounds.warm(folder)
    rclone = carriers.run(carriers.rclone("copy", [str(folder), ":azureblob:" + second.container], second))
    if not read_back:
        return Round(plain=(ours, azcopy, rclone), verified=None)
    grounds.warm(folder)
    whole = carriers.run(carriers.ours("upload", folder, places()))
    with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as back:
        down = carriers.run(carriers.azcopy_down(first, Path(back)))
        down += carriers.run(["sh", "-c", 'find "$0" -type f -print0 | xargs -0 sha256sum', back])
    hashed = carriers.run(
        carriers.rclone("hashsum", ["sha256", "--download", ":azureblob:" + second.container], second)
    )
    return Round(plain=(ours, azcopy, rclone), verified=(whole, azcopy + down, rclone + hashed))


def _figures(service: str, kind: str, rounds: list[Round]) -> list[Figure]:
    found = _two(f"upload: {kind} to {service}", [one.plain for one in rounds], BETTER)
    if verified := [one.verified for one in rounds if one.verified]:
        found += _two(f"upload: {kind} to {service}, verified", verified, f"{BETTER}, copy + download + hash")
    return found


def _two(name: str, costs: list[tuple[Cost, Cost, Cost]], peer: str) -> list[Figure]:
    wall = [Pair(ours=ours.wall, peer=min(one.wall for one in peers)) for ours, *peers in costs]
    cpu = [Pair(ours=ours.cpu, peer=min(one.cpu for one in peers)) for ours, *peers in costs]
    return [
        times_peer(f"{name}, wall", wall, bar=WALL_BAR, peer=peer),
        times_peer(f"{name}, CPU", cpu, bar=CPU_BAR, peer=peer),
    ]
