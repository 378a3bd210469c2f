"""Which containers of proofs nobody waits for any more."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from edgeloop.packaging import leftovers


def test_a_proof_that_runs_is_left_alone() -> None:
    """Its own process lives, and another machine's is believed for as long as a proof may take."""
    now, mine = time.time(), leftovers.labels()
    assert not leftovers.left(mine, now)
    assert not leftovers.left({**mine, leftovers.HOST: "elsewhere"}, now)


def test_what_a_dead_process_left_goes() -> None:
    """At once where its machine is this one; a number that was given again is another process."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    now, mine = time.time(), leftovers.labels()
    assert leftovers.left({**mine, leftovers.PROCESS: f"{dead.pid}-1"}, now)
    assert leftovers.left({**mine, leftovers.PROCESS: f"{os.getpid()}-1"}, now)
    assert leftovers.left({**mine, leftovers.PROCESS: ""}, now)


def test_what_another_machine_left_goes_when_no_proof_takes_so_long() -> None:
    """Nobody can look there; a label that is no time is nobody's."""
    now, theirs = time.time(), {**leftovers.labels(), leftovers.HOST: "elsewhere"}
    assert leftovers.left(theirs, now + leftovers.LONGEST_SECONDS + 2)
    assert leftovers.left({**theirs, leftovers.BEGAN: "soon"}, now)
