"""Who asked for a training, in words: its own key, and those of the runs that gave way to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import NotFoundError
from edgeloop.records import DriftVerdict
from edgeloop.training.dataset import ASKED, CODE_KEY, DRIFT_KEY
from edgeloop.training.retrain import REASONS

if TYPE_CHECKING:
    from edgeloop.store import Store

TOLD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The partition ``keys`` that one run decides for, its own first, and the reason of somebody who forced it."""

    keys: tuple[str, ...]
    force: str = ""

    @property
    def by_recipe(self) -> bool:
        """Whether a changed script, image or parameter is among what asked."""
        return any(key.startswith(CODE_KEY) for key in self.keys)

    @property
    def leading(self) -> str:
        """The key whose snapshot counts: today's, where anything but new data asked, else that of the own batch."""
        return next((key for key in self.keys if key.startswith(ASKED)), self.keys[0])

    @property
    def named(self) -> tuple[str, ...]:
        """The keys, of many the first few."""
        more = len(self.keys) - TOLD
        return self.keys if more <= 0 else (*self.keys[:TOLD], f"{more} more that waited")

    def reason(self, store: Store) -> str:
        """``code changed: train.py 1f2e -> 90ab``, ``drift: ...``, ``new data 2014-03@...``, ``cron ...``; several."""
        if self.force:
            return self.force
        # What was asked for says more than that there is new data.
        keys = sorted(self.keys, key=lambda key: reason_of(store, key).startswith("new data"))
        reasons = list(dict.fromkeys(reason_of(store, key) for key in keys[:TOLD]))
        more = len(keys) - TOLD
        return "; ".join([*reasons, *([f"and {more} more"] if more > 0 else [])])


def reason_of(store: Store, key: str) -> str:
    """Why one key asks."""
    if key.startswith(DRIFT_KEY):
        try:
            return f"drift: {store.starting(DriftVerdict, key.removeprefix(DRIFT_KEY)).reason}"
        except NotFoundError:
            return "drift"
    return store.fixed(REASONS, key) or f"new data {key}"
