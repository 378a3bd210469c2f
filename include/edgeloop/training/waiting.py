"""Keys whose training another run does for them: of many that wait at once one trains, and none is forgotten.

A run that gives way leaves its key here before it ends; the run that trains takes all that it finds, fixes them to its
own dataset and removes them. What is still here while nothing runs was taken by nobody (the run behind was deleted, or
trained something else), and the next sweep asks for it again.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from edgeloop.errors import ConflictError
from edgeloop.tidy import tidy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.store import Store

PREFIX = "waiting/train/"
TAKEN = "trainings_taken"
DECIDED = ("training_configs", "training_reasons", "datasets")
"""What is fixed for a key that trains; the dataset last, which says that the rest is there."""


class Waiting:
    """The keys that wait, in a pipeline's store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def note(self, key: str) -> None:
        """Leave ``key``; that it is there already is fine."""
        with contextlib.suppress(ConflictError):
            self.store.objects.put_new(f"{PREFIX}{key}", b"")

    def keys(self) -> tuple[str, ...]:
        """All that wait, sorted; what was decided waits no more, also where nobody has the right to remove it."""
        kept = sorted(one.name.removeprefix(PREFIX) for one in self.store.objects.list(PREFIX))
        decided = set(self.store.keys(DECIDED[-1])) if kept else set()
        return tuple(one for one in kept if one not in decided)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget them: what they asked for was decided."""
        tidy(self.store.objects, [f"{PREFIX}{key}" for key in keys])

    def take(self, keys: Iterable[str], by: str) -> None:
        """Write down that ``by`` decides for ``keys``, before it does: a try that dies in the middle is finished."""
        if others := sorted(set(keys) - {by}):
            self.store.fix(TAKEN, by, json.dumps(others))

    def settle(self, by: str) -> tuple[str, ...]:
        """Give what ``by`` took all that was decided for it, and let it go; safe to repeat. Returns the keys."""
        taken = tuple(json.loads(self.store.fixed(TAKEN, by) or "[]"))
        if taken:
            decided = {name: self.store.fixed(name, by) for name in DECIDED}
            for key in taken:
                for name, value in decided.items():
                    self.store.fix(name, key, value or "")
        self.drop((*taken, by))
        return taken
