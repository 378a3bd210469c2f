"""A batch of 5,000 files that is there already, against rclone's copy of the same: nothing to send, only to find out.

Like against like: by size and times (ours compares the inode as well), where neither reads a file, and by content,
where ours compares sha256 and rclone MD5. The interpreter's start is not counted. The files are eleven seconds old when
they are sent first: of younger ones ours does not trust the times, and would read them once more.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import carriers, grounds
from benchmarks.harness import Figure, Pair, times_peer
from edgeloop.transfer.stamp import SETTLED_NS

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 5
BAR = 1.0
WAYS = {"rclone copy --checksum": ("checksum", ["--checksum"]), "rclone copy (size and time)": ("batch", [])}
FILES, FILE_BYTES = 5000, 20 * 1024


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Two figures, against each of rclone's ways to compare."""
    if lack := carriers.missing():
        raise SystemExit(lack)
    pairs: dict[str, list[Pair]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as scratch, grounds.azurite(say) as places:
        folder = grounds.many(Path(scratch) / "many", FILES, FILE_BYTES)
        mine, theirs = places(), places()
        say("waiting until the files' times can be trusted, then the first upload")
        time.sleep(SETTLED_NS / 1e9 + 1)
        remote = [str(folder), f":azureblob:{theirs.container}"]
        carriers.run(carriers.ours("batch", folder, mine))
        carriers.run(carriers.rclone("copy", remote, theirs))
        for number in range(1, min(RUNS, int(os.environ.get("EDGELOOP_BENCH_RUNS", "99"))) + 1):
            for name, (verb, flags) in WAYS.items():
                grounds.warm(folder)
                ours = carriers.run(carriers.ours(verb, folder, mine))
                grounds.warm(folder)
                peer = carriers.run(carriers.rclone("copy", [*remote, *flags], theirs))
                pairs[name].append(Pair(ours=ours.wall - ours.start, peer=peer.wall))
                mine_s, start = ours.wall - ours.start, ours.start
                say(f"{number}: ours {mine_s:.2f} s and {start:.2f} s of imports, {name} {peer.wall:.2f} s")
    return [times_peer(f"resync: 5,000 unchanged, {name}", found, bar=BAR, peer=name) for name, found in pairs.items()]
