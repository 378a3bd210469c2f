"""Looking at 100,000 files: a mounted folder against `find`, an SMB share against smbclient, and what is new.

400 folders by date with 250 files each, on a real smbd's share; the folder figures read the same files beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Figure, Pair, times_peer
from edgeloop.azure.blob import BlobItem
from edgeloop.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.share import Seen
    from edgeloop.share.source import FileSource, Scope
    from lab.site import Share

SITE = os.environ.get("EDGELOOP_BENCH_SITE", "bench")
PARTS = ("network", "share")
FOLDERS, PER_FOLDER, NEW = 400, 250, 100
FIRST_DAY = date(2014, 1, 1)
PARTITIONS, LOOK_BACK_DAYS = "%Y/%m/%d", 7
BELOW = "scan"
USUAL = {"pattern": "*.csv", "exclude": ("*.part", "*.tmp", ".*")}
RUNS = 7
BAR_LISTING, BAR_LOOK, BAR_SMB, BAR_SECOND = 1.3, 2.0, 3.0, 0.05
WRITTEN = 1_600_000_000


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Four figures; brings up a site of its own (network and share) and takes it down again."""
    import lab
    from lab.errors import MissingToolError

    if missing := [tool for tool in ("find", "smbclient") if shutil.which(tool) is None]:
        what = f"not on PATH: {', '.join(missing)}"
        packages = " ".join("findutils" if tool == "find" else tool for tool in missing)
        raise MissingToolError(what, left="nothing was measured", next=f"apt-get install --yes {packages}")
    lab.clean(SITE)
    try:
        say(f"starting site {SITE} with {FOLDERS * PER_FOLDER:,} files")
        share = lab.up(SITE, parts=PARTS).share
        root = Path(share.path)
        _fill(root / BELOW)
        return [*_folder(root, say), _smb(share, say), _second(root, say)]
    finally:
        lab.clean(SITE)


def _folder(root: Path, say: Callable[[str], None]) -> list[Figure]:
    from edgeloop.share import Folder

    where = str(root / BELOW)
    find = ["find", where, "-type", "f", "-printf", "%p %s %T@\\n"]
    listing, looks = [], []
    bare = Folder(connection="bench", root=root, below=BELOW)
    kept: list[tuple[Seen, ...]] = []
    for run in range(RUNS + 1):
        listing.append(Pair(peer=_seconds(lambda: _quiet(find)), ours=_seconds(lambda: kept.append(bare.scan()))))
        kept.clear()  # whoever lists keeps the list: freeing it is no part of listing
        say(f"{run} of {RUNS}: listing x {listing[-1].ratio:.2f} of find")
    # After the listings: a process that remembers 100,000 files and claims lists them a fifth slower.
    watcher = Watcher(Folder(connection="bench", root=root, below=BELOW, **USUAL))
    for _ in range(2):
        watcher.claim(watcher.look())
    due: list[tuple[Seen, ...]] = []
    for run in range(RUNS + 1):
        _touch(root / BELOW, run)
        looks.append(Pair(peer=_seconds(lambda: _quiet(find)), ours=_seconds(lambda: due.append(watcher.look()))))
        watcher.claim(due[-1])
        if len(due[-1]) != (NEW if run else 0):  # what was touched before the last look has settled by now
            raise AssertionError(f"{len(due[-1])} files are due")
        say(f"{run} of {RUNS}: look x {looks[-1].ratio:.2f} of find")
    peer = "find -printf '%p %s %T@\\n'"
    return [
        times_peer("scan: listing of a folder", listing[1:], bar=BAR_LISTING, peer=peer),
        times_peer("scan: listing, matching, diff", looks[1:], bar=BAR_LOOK, peer=peer),
    ]


def _smb(share: Share, say: Callable[[str], None]) -> Figure:
    from edgeloop.share.smb import SmbShare

    source = SmbShare(
        connection="bench", host=share.host, port=share.port, share=share.share, user=share.user,
        password=share.password, below=BELOW, **USUAL,
    )  # fmt: skip
    client = ["smbclient", f"//{share.host}/{share.share}", "-p", str(share.port), "-U", share.user]
    client += ["-c", f"cd {BELOW}; recurse; ls"]
    environment = {"PASSWD": share.password, "PATH": os.environ["PATH"]}
    pairs = []
    for run in range(RUNS + 1):
        peer = _seconds(lambda: _quiet(client, environment))
        pairs.append(Pair(peer=peer, ours=_seconds(lambda: _all(source))))
        say(f"{run} of {RUNS}: x {pairs[-1].ratio:.2f} of smbclient")
    return times_peer("scan: listing over SMB", pairs[1:], bar=BAR_SMB, peer="smbclient recurse;ls")


def _second(root: Path, say: Callable[[str], None]) -> Figure:
    from edgeloop.share import Folder
    from edgeloop.share.partitions import scope_of

    source = Folder(connection="bench", root=root, below=BELOW, **USUAL)
    newest = FIRST_DAY + timedelta(days=FOLDERS - 1)
    now = datetime(newest.year, newest.month, newest.day, 12, tzinfo=UTC)
    scope = scope_of(PARTITIONS, newest.isoformat(), LOOK_BACK_DAYS, now)
    pairs = []
    for run in range(RUNS + 1):
        first, second = Watcher(source), Watcher(source, scope)
        took = _seconds(first.watch.look)
        made = [root / BELOW / newest.strftime(PARTITIONS) / f"new_{run}_{number:03d}.csv" for number in range(NEW)]
        for path in made:
            path.touch()
        pairs.append(Pair(peer=took, ours=_seconds(second.watch.look)))
        found = {one.path for one in second.watch.look().ready}
        if not {str(path.relative_to(root / BELOW)) for path in made} <= found:
            raise AssertionError("the second look did not find what is new")
        for path in made:
            path.unlink()
        say(f"{run} of {RUNS}: the second look takes {pairs[-1].ratio:.1%} of the first")
    peer = f"the first look; {NEW} new files, {LOOK_BACK_DAYS} days of look-back"
    return times_peer("scan: second look", pairs[1:], bar=BAR_SECOND, peer=peer)


class Watcher:
    """What a triggerer keeps of one pipeline: a watch, and the claims; its clock leaps so that nobody waits."""

    def __init__(self, source: FileSource, scope: Scope | None = None) -> None:
        from edgeloop.share import Claims
        from edgeloop.share.complete import Policy
        from edgeloop.share.settle import NS, Rule
        from edgeloop.share.source import EVERYTHING
        from edgeloop.share.watch import Watch
        from edgeloop.store import Store

        self.now_ns, self.leap_ns = time.time_ns(), 10 * NS
        policy = Policy(rule=Rule(polls=2, poll_seconds=1.0, quiet_seconds=5.0))
        self.watch = Watch(source, policy, scope or EVERYTHING, clock=self._clock)
        self.claims = Claims(Store(Memory()))

    def _clock(self) -> int:
        self.now_ns += self.leap_ns
        return self.now_ns

    def look(self) -> tuple[Seen, ...]:
        """List, match, settle, and look up what nobody claimed."""
        return self.claims.unclaimed(self.watch.look().ready)

    def claim(self, files: tuple[Seen, ...]) -> None:
        """As an intake does that was nudged."""
        from edgeloop.share.journal import Entry, mark

        if not self.claims.journal.append(Entry(run="bench", at="", marks=tuple(mark(one) for one in files))):
            raise AssertionError("somebody else claims")


class Memory:
    """Blobs in memory: the account's latency is no part of the figure."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def put_new(self, name: str, data: bytes) -> None:
        """Write what is not there."""
        if name in self.blobs:
            raise ConflictError(f"{name} is there")
        self.blobs[name] = data

    def get(self, name: str) -> bytes:
        """Read what is there."""
        if name not in self.blobs:
            raise NotFoundError(f"{name} is not there")
        return self.blobs[name]

    def list(self, prefix: str = "") -> Iterator[BlobItem]:
        """What begins so."""
        names = sorted(name for name in self.blobs if name.startswith(prefix))
        return iter(BlobItem(name=name, size=len(self.blobs[name]), etag="") for name in names)

    def delete(self, name: str) -> None:
        """Remove."""
        self.blobs.pop(name, None)


def _fill(root: Path) -> None:
    for folder in range(FOLDERS):
        path = root / (FIRST_DAY + timedelta(days=folder)).strftime(PARTITIONS)
        path.mkdir(parents=True)
        for number in range(PER_FOLDER):
            (path / f"R80711_{folder:03d}_{number:04d}.csv").touch()


def _touch(root: Path, run: int) -> None:
    """Change a hundred files, one in each of the first folders."""
    for folder in range(NEW):
        path = root / (FIRST_DAY + timedelta(days=folder)).strftime(PARTITIONS)
        os.utime(path / f"R80711_{folder:03d}_{run:04d}.csv", (WRITTEN, WRITTEN))


def _all(source: FileSource) -> None:
    if len(source.scan()) != FOLDERS * PER_FOLDER:
        raise AssertionError("a listing over SMB that is not whole")


def _quiet(argv: list[str], environment: dict[str, str] | None = None) -> None:
    subprocess.run(argv, stdout=subprocess.DEVNULL, env=environment, check=True)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
