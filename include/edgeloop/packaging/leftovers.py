"""Containers of proofs whose worker was killed: found by the next proof on that engine, whichever image it proves.

A container says which process made it. One of this machine goes as soon as that process is gone; one of another
machine, where nobody can look, when no proof takes so long.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeloop.containers.engine import Engine

PREFIX = "edgeloop-proof-"
LABEL = "edgeloop.proof"
HOST, PROCESS, BEGAN = f"{LABEL}.host", f"{LABEL}.process", f"{LABEL}.began"
LONGEST_SECONDS = 900.0


def labels() -> dict[str, str]:
    """What a proof's container says of who made it."""
    return {
        LABEL: "yes",
        HOST: socket.gethostname(),
        PROCESS: _process(os.getpid()),
        BEGAN: str(int(time.time())),
    }


def left(said: Mapping[str, str], now: float) -> bool:
    """Whether nobody waits for a container with these labels any more."""
    if said.get(HOST) == socket.gethostname():
        number = said.get(PROCESS, "").partition("-")[0]
        return not number.isdigit() or _process(int(number)) != said[PROCESS]
    began = said.get(BEGAN, "")
    return not began.isdigit() or now - int(began) > LONGEST_SECONDS


def clear(engine: Engine) -> None:
    """Remove what killed proofs left on ``engine``."""
    now = time.time()
    for name, said in engine.labels(LABEL).items():
        if left(said, now):
            engine.remove(name)


def _process(number: int) -> str:
    """A process by its number and when it started: numbers are given again. "" if there is none."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{number}-{fields[19]}"
