"""One thread computes while the others wait for the network.

Threads that read, hash, sign and parse at once fight for the interpreter's lock: each of the dozen system calls of a
small request hands it on and then waits to get it back. Eight workers took three times the processor time of one for
5,000 files of 20 KiB, and longer. A thread that has the turn gives it up only where it waits.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Self


@dataclass(slots=True)
class Turn:
    """A ``with`` block of whoever has the turn; the other threads wait before theirs."""

    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        """Wait for the turn."""
        self._lock.acquire()
        _mine.turn = self._lock
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it to the next."""
        _mine.turn = None
        self._lock.release()


class _Mine(threading.local):
    """The turn that this thread has, and those that it gave up while it waits."""

    turn: threading.Lock | None = None

    def __init__(self) -> None:
        self.given_up: list[threading.Lock | None] = []


class _Waiting:
    def __enter__(self) -> None:
        turn = _mine.turn
        _mine.given_up.append(turn)
        if turn is not None:
            _mine.turn = None
            turn.release()

    def __exit__(self, *_: object) -> None:
        turn = _mine.given_up.pop()
        if turn is not None:
            turn.acquire()
            _mine.turn = turn


_mine = _Mine()
waiting = _Waiting()
"""A ``with`` block that waits for others: this thread's turn, if it has one, is somebody else's meanwhile."""
