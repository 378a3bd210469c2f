"""A bandwidth cap that everything which travels for a pipeline on one machine shares: threads, tasks, retries.

The state is one number in a file, the time at which the link is free again, by the clock that all processes of a
machine share. Whoever sends reserves its time under a lock and waits until it begins.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeloop.azure.turn import waiting
from edgeloop.transfer.plan import BYTES_PER_MBIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.transfer.plan import Terms

MARK = struct.Struct("<d")
BURST_SECONDS = 0.25
"""What an idle link may make up for at once."""
FORGET_SECONDS = 600.0
"""Nobody reserves the link further ahead than this."""


class Clock(Protocol):
    """Time in seconds, and waiting for it."""

    def __call__(self) -> float:
        """Seconds since the machine started."""
        ...


def reserve(free_at: float, now: float, seconds: float) -> tuple[float, float]:
    """When the link is free after sending ``seconds`` worth of bytes, and how long to wait before."""
    start = max(free_at, now - BURST_SECONDS)
    return start + seconds, max(0.0, start + seconds - now)


class Throttle:
    """Lets ``mbit`` Mbit/s through; without a limit it is nothing.

    Args:
        mbit: The limit; 0 for none.
        state: The file that holds what is reserved; None shares it between the threads of this object only.
        clock: Seconds by a clock that never goes back and is the machine's.
        wait: Sleeps for seconds.
    """

    def __init__(
        self,
        mbit: float,
        state: Path | None = None,
        *,
        clock: Clock = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = mbit * BYTES_PER_MBIT
        self._state, self._clock, self._wait = state, clock, wait
        self._lock, self._free_at = threading.Lock(), 0.0

    def take(self, size: int) -> None:
        """Wait until ``size`` bytes may have been sent."""
        if not self._rate or not size:
            return
        with waiting:
            self._wait(self._reserve(size / self._rate))

    def _reserve(self, seconds: float) -> float:
        with self._lock:
            if self._state is None:
                self._free_at, pause = reserve(self._free_at, self._clock(), seconds)
                return pause
            with self._state.open("a+b") as shared:
                fcntl.flock(shared, fcntl.LOCK_EX)
                kept = os.pread(shared.fileno(), MARK.size, 0)
                now = self._clock()
                free_at = MARK.unpack(kept)[0] if len(kept) == MARK.size else 0.0
                # A machine that was started again counts from zero: what was reserved before lies far ahead.
                after, pause = reserve(free_at if free_at < now + FORGET_SECONDS else 0.0, now, seconds)
                shared.truncate(0)
                os.write(shared.fileno(), MARK.pack(after))
                return pause


def throttle_of(terms: Terms) -> Throttle:
    """The throttle of a pipeline, shared by its tasks on this machine."""
    if not terms.limit_mbit or not terms.pipeline:
        return Throttle(terms.limit_mbit)
    name = re.sub(r"[^A-Za-z0-9_-]", "_", terms.pipeline)
    return Throttle(terms.limit_mbit, Path(tempfile.gettempdir()) / f"edgeloop-link-{os.getuid()}-{name}")
