"""A process that claims again and again, for tests that start several and kill some.

python claimant.py NAME ROOT CONTAINER TOLD: the connection string is in EDGELOOP_TEST_BLOB. What a run mints becomes
true with one rename of a file in TOLD, as a task's partition keys do with its success; TOLD/<name>.dead tells the
others that a process was killed, TOLD/stop ends it after one more run.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from random import Random

from edgeloop import catalog
from edgeloop.azure.blob import BlobAccount
from edgeloop.share import Claim, Fate, Folder
from edgeloop.store import Store

PIPELINE = Path(__file__).parents[2] / "data" / "pipelines" / "tiny_power"


def main(name: str, root: Path, container: str, told: Path) -> None:
    """Claim until told to stop."""
    snapshot, problems = catalog.read(PIPELINE)
    assert snapshot is not None, problems
    source, rng, number = snapshot.spec.source, Random(name), 0
    folder = Folder(connection="share", root=root, below=source.folder, pattern=source.pattern, exclude=source.exclude)
    account = BlobAccount(connection="blob", connection_string=os.environ["EDGELOOP_TEST_BLOB"])
    store = Store(account.container(container))

    def fate(run: str) -> Fate:
        if (told / run).exists():
            return Fate.DELIVERED
        return Fate.GONE if (told / f"{run.partition('-')[0]}.dead").exists() else Fate.ALIVE

    (told / f"{name}.up").touch()
    last = False
    while not last:
        last, number = (told / "stop").exists(), number + 1
        run = f"{name}-{number}"
        intake = Claim(snapshot, folder, store, run=run, fate=fate).take(folder.scan())
        time.sleep(rng.uniform(0, 0.02))
        part = told / f".{run}"
        part.write_text("".join(f"{one.id}\n" for one in intake.emit))
        part.rename(told / run)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
