from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from azure.storage.blob import ContainerClient

from edgeloop.records import sha256_hex
from edgeloop.share import Claim, Fate, Intake
from edgeloop.share.journal import Journal
from lab.airflow_api import wait_for
from lab.campaign_outside import Outside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.catalog import Snapshot
    from edgeloop.share import Folder
    from edgeloop.share.journal import Entry
    from edgeloop.store import Store
    from lab.site import Site

pytestmark = pytest.mark.fault

CLAIMANT = Path(__file__).with_name("claimant.py")
FILES, GROUPS = 24, 4


class Claimants:
    """Processes that claim from one folder into one container."""

    def __init__(self, site: Site, root: Path, container: BlobContainer, told: Path) -> None:
        self.told, self._arguments = told, (str(root), container.name, str(told))
        self._blob = site.blob.private.connection_string
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        """Start some, and wait until each is about to claim."""
        for name in names:
            command = [sys.executable, str(CLAIMANT), name, *self._arguments]
            environment = os.environ | {"EDGELOOP_TEST_BLOB": self._blob}
            self.running[name] = subprocess.Popen(command, env=environment)
        wait_for(lambda: all((self.told / f"{one}.up").exists() for one in names), seconds=60, what="claimants")

    def kill(self, name: str) -> None:
        """SIGKILL one; then the others may know."""
        one = self.running.pop(name)
        one.kill()
        one.wait()
        (self.told / f"{name}.dead").touch()

    def end(self) -> None:
        """Let each claim once more, and wait for them."""
        (self.told / "stop").touch()
        for one in self.running.values():
            assert one.wait(60) == 0
        self.running.clear()
        (self.told / "stop").unlink()

    def minted(self) -> Counter[str]:
        """How often each batch was announced."""
        runs = [one for one in self.told.iterdir() if "-" in one.name and not one.name.startswith(".")]
        return Counter(line for one in runs for line in one.read_text().split())


@pytest.fixture
def claimants(site: Site, tmp_path: Path, folder: Folder, container: BlobContainer) -> Iterator[Claimants]:
    """None is running yet; none is left."""
    told = tmp_path / "told"
    told.mkdir()
    container.ensure()
    some = Claimants(site, folder.root, container, told)
    try:
        yield some
    finally:
        for one in some.running.values():
            one.kill()
            one.wait()


def arrive(folder: Folder, rng: Random, number: int) -> None:
    """A new file, or another content for an old one, renamed into place."""
    group, site = rng.randrange(GROUPS), rng.randrange(8)
    part = folder.path / ".part"
    part.write_text(f"{number} {rng.random()}\n")
    part.rename(folder.path / f"site{site}_2014-{group + 1:02d}.csv")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2])
def test_intakes_at_once_claim_and_announce_all_of_it_once(
    claimants: Claimants, site: Site, folder: Folder, container: BlobContainer, seed: int
) -> None:
    """Three processes claim files as they arrive, one is killed anywhere: no file is lost, no batch announced twice."""
    rng = Random(seed)
    claimants.start("one", "two", "three")
    killed_at = rng.randrange(FILES)
    for number in range(FILES):
        arrive(folder, rng, number)
        time.sleep(rng.uniform(0, 0.06))
        if number == killed_at:
            claimants.kill("two")
    claimants.end()
    claimants.start("heir")
    claimants.end()
    client = ContainerClient.from_connection_string(site.blob.private.connection_string, container.name)
    outside = Outside(inbox=folder.path, client=client)
    batches = outside.batches()
    assert {one.group: one.files for one in batches} == outside.on_share()
    minted = claimants.minted()
    assert minted == Counter(one.id for one in batches), f"seed {seed}"
    several = [files for files, count in Counter((one.group, one.files) for one in batches).items() if count > 1]
    assert not several


@pytest.mark.parametrize("others", [False, True], ids=["of one file", "of two files"])
def test_an_intake_that_was_overtaken_claims_nothing_older(
    snapshot: Snapshot, folder: Folder, store: Store, monkeypatch: pytest.MonkeyPatch, *, others: bool
) -> None:
    """A file is rewritten, and claimed by another intake, between the reading and the claim of a slower one."""
    path = folder.path / "north_2014-01.csv"
    path.write_text("first")
    if others:
        (folder.path / "south_2014-01.csv").write_text("as it is")
    append = Journal.append
    raced: list[Intake] = []

    def overtaken(self: Journal, entry: Entry) -> bool:
        if not raced:
            raced.append(Intake())
            path.write_text("second")
            raced[0] = Claim(snapshot, folder, store, run="fast", fate=lambda _: Fate.ALIVE).take(folder.scan())
        return append(self, entry)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", overtaken)
        slow = Claim(snapshot, folder, store, run="slow", fate=lambda _: Fate.ALIVE).take(folder.scan())
    (batch,) = raced[0].emit
    assert slow.emit == ()
    assert Journal(store).read().standing == {"2014-01": batch.id}
    assert Claim(snapshot, folder, store, run="next", fate=lambda _: Fate.DELIVERED).take(folder.scan()).emit == ()
    assert {one.sha256 for one in batch.files} >= {sha256_hex(b"second")}
