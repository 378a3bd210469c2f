"""A batch of 5,000 files that is there already, against rclone's copy of the same: nothing to send, only to find out.

Ours reads every file and compares its sha256 with what was proven; rclone compares size and time of change, which is
less, or, with --checksum, MD5. The interpreter's start is not counted.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import carriers, grounds
from benchmarks.harness import Figure, Pair, times_peer

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 5
BAR = 1.0
FILES, FILE_BYTES = 5000, 20 * 1024


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Two figures, against each of rclone's ways to compare."""
    if lack := carriers.missing():
        raise SystemExit(lack)
    pairs: dict[str, list[Pair]] = {"rclone copy --checksum": [], "rclone copy (size and time)": []}
    with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as scratch, grounds.azurite(say) as places:
        folder = grounds.many(Path(scratch) / "many", FILES, FILE_BYTES)
        mine, theirs = places(), places()
        say("first upload")
        remote = [str(folder), f":azureblob:{theirs.container}"]
        carriers.run(carriers.ours("batch", folder, mine))
        carriers.run(carriers.rclone("copy", remote, theirs))
        for number in range(1, min(RUNS, int(os.environ.get("EDGELOOP_BENCH_RUNS", "99"))) + 1):
            for name, flags in zip(pairs, (["--checksum"], []), strict=True):
                ours = carriers.run(carriers.ours("batch", folder, mine))
                peer = carriers.run(carriers.rclone("copy", [*remote, *flags], theirs))
                pairs[name].append(Pair(ours=ours.wall - ours.start, peer=peer.wall))
                mine_s, start = ours.wall - ours.start, ours.start
                say(f"{number}: ours {mine_s:.2f} s and {start:.2f} s of imports, {name} {peer.wall:.2f} s")
    return [times_peer(f"resync: 5,000 unchanged, {name}", found, bar=BAR, peer=name) for name, found in pairs.items()]
