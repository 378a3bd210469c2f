"""Containers of proofs whose worker was killed: found by the next proof on that engine, whichever image it proves.

A container says which process made it. One of this machine goes as soon as that process is gone; one of another
machine, where nobody can look, when no proof takes so long.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgeloop.containers.endpoint import EngineEndpoint
    from edgeloop.containers.engine import Engine

PREFIX = "edgeloop-proof-"
LABEL = "edgeloop.proof"
HOST, PROCESS, BEGAN = f"{LABEL}.host", f"{LABEL}.process", f"{LABEL}.began"
LONGEST_SECONDS = 900.0
AWAY_SECONDS, PAUSE_SECONDS = 30.0, 0.5
"""For how long an engine that does not answer is asked again to remove a container, and how often."""
LOG = logging.getLogger(__name__)
_OURS: dict[str, EngineEndpoint] = {}
"""The containers of this process's proofs, each with its engine."""


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


@contextmanager
def removed(engine: Engine, name: str) -> Iterator[None]:
    """The container called ``name`` is gone after the block, whatever happens in it.

    An engine that is restarted meanwhile is waited for: what was left ran on until somebody packaged again. One that
    stays away is an error only where there is no other.
    """
    _OURS[name], passed = engine.endpoint, False
    try:
        yield
        passed = True
    finally:
        try:
            _remove(engine, name)
        except EdgeloopError as error:
            LOG.warning("Container %s stays until the next proof on that engine: %s", name, error.what)
            if passed:
                raise
        finally:
            _OURS.pop(name, None)


def give_up() -> None:
    """Remove the containers of this process's proofs: it is about to be killed, and nobody may come after it."""
    from edgeloop.containers.engine import Engine

    for name, endpoint in list(_OURS.items()):
        try:
            with Engine(endpoint) as engine:
                engine.remove(name)
        except EdgeloopError as error:
            LOG.warning("Container %s stays until the next proof on that engine: %s", name, error.what)


def _remove(engine: Engine, name: str) -> None:
    until = time.monotonic() + AWAY_SECONDS
    while True:
        try:
            engine.remove(name)
        except UnreachableError:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE_SECONDS)
        else:
            return


def _process(number: int) -> str:
    """A process by its number and when it started: numbers are given again. "" if there is none."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{number}-{fields[19]}"
