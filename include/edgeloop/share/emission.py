"""Who may tell the next stage about a key, so that it is told once, and told at all.

Airflow delivers a task's partition keys in the transaction that makes the task succeed; what a task wrote to the store
before that proves nothing. So the store holds only the *right* to emit a key, taken by a conditional write in the name
of the run: ``keys/<name>/<key>``. Whether that run kept its word is asked of Airflow when the next one comes by:

- the holder's task succeeded: the key was delivered;
- it is still going (or waits for its retry): it will deliver;
- it failed, or nobody knows it: the right passes on, ``keys/<name>/<key>~2`` and so forth, again to the first writer.

A task that dies between its claim and its success therefore costs one sweep, never a batch. A key can be delivered
twice only when a delivered run is cleared by hand; the stages find what is done and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeloop.store import Store

SUCCESSION = "~"
MOST_HOLDERS = 1000


class Fate(StrEnum):
    """What became of the task that holds a right."""

    DELIVERED = "delivered"
    ALIVE = "alive"
    GONE = "gone"


class Right(StrEnum):
    """What a run may do with a key."""

    MINE = "mine"
    DELIVERED = "delivered"
    ELSEWHERE = "elsewhere"


FateOf = Callable[[str], Fate]


class Emissions:
    """The rights under one name of a store."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name

    def ask(self, key: str, run: str, fate: FateOf) -> Right:
        """Take the right to emit ``key`` for ``run``, or learn who has it. Asking again gives the same answer."""
        for turn in range(1, MOST_HOLDERS):
            holder = self.store.fix(self.name, key if turn == 1 else f"{key}{SUCCESSION}{turn}", run)
            if holder == run:
                return Right.MINE
            became = fate(holder)
            if became is not Fate.GONE:
                return Right.DELIVERED if became is Fate.DELIVERED else Right.ELSEWHERE
        return Right.MINE  # a thousand dead holders: telling twice is harmless, never telling is not

    def keys(self) -> list[str]:
        """Every key that anybody ever took, sorted."""
        return sorted({one.partition(SUCCESSION)[0] for one in self.store.keys(self.name)})
