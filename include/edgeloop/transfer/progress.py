"""How far a transfer is, and what the log is told of it: a line every ten seconds, and one at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

EVERY_SECONDS = 10.0
MIB = 1024 * 1024
MINUTE, HOUR = 60, 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a transfer is; sizes in bytes, ``resumed`` were there from an earlier try."""

    name: str
    done: int
    size: int
    resumed: int


Report = Callable[[Progress], None]


def sentence(progress: Progress, seconds: float) -> str:
    """The line for the log: share, rate and time left; ``seconds`` since this try began."""
    share = f"{100 * progress.done / progress.size:.0f} %" if progress.size else "100 %"
    rate = (progress.done - progress.resumed) / seconds if seconds > 0 else 0.0
    line = f"{progress.name}: {share} of {progress.size / MIB:.1f} MiB, {rate / MIB:.1f} MiB/s"
    if progress.resumed:
        line += f", {progress.resumed / MIB:.1f} MiB were there already"
    if progress.done < progress.size and rate:
        line += f", {duration((progress.size - progress.done) / rate)} left"
    return line


def duration(seconds: float) -> str:
    """Seconds for a person: ``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"


class Meter:
    """Adds up what several workers did to one thing of ``size`` bytes, and tells it now and then.

    Args:
        name: What travels.
        size: Bytes in all.
        report: Told after every piece.
        log: Told every ten seconds, and at the end of whatever took longer than that.
        clock: Seconds.
    """

    def __init__(
        self,
        name: str,
        size: int,
        *,
        report: Report | None = None,
        log: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._size, self._report, self._log, self._clock = name, size, report, log, clock
        self._lock, self._done, self._resumed = threading.Lock(), 0, 0
        self._start = self._told = clock()

    def add(self, size: int, *, resumed: bool = False) -> None:
        """One more piece is there; ``resumed`` if an earlier try had brought it."""
        with self._lock:
            self._done += size
            self._resumed += size if resumed else 0
            progress = Progress(name=self._name, done=self._done, size=self._size, resumed=self._resumed)
            now = self._clock()
            due = now - self._told >= EVERY_SECONDS or (self._done == self._size and self._told > self._start)
            if due:
                self._told = now
            if self._report:
                self._report(progress)
        if due and self._log:
            self._log(sentence(progress, now - self._start))

    @property
    def sent(self) -> int:
        """Bytes that this try brought."""
        return self._done - self._resumed
