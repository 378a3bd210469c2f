"""Who is champion and who is candidate: pure, folded from the promotion ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.store import Entry

REGISTERED, CANDIDATE, CHAMPION, REJECTED, QUARANTINED = EVENTS = (
    "registered",
    "candidate",
    "champion",
    "rejected",
    "quarantined",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the ledger says now. All are model ids; ``champions`` oldest first, those that were quarantined left out."""

    versions: dict[str, int]
    champions: tuple[str, ...]
    candidate: str
    rejected: frozenset[str]
    quarantined: frozenset[str]

    @property
    def champion(self) -> str:
        """The model that should serve, or the empty string: the last promoted one that is not quarantined."""
        return self.champions[-1] if self.champions else ""


def standing(entries: Iterable[Entry]) -> Standing:
    """Fold a promotion ledger, oldest entry first.

    A rejected or quarantined model is no candidate; nominating it again lifts both. Quarantining the champion gives its
    place back to the champion before it.
    """
    versions: dict[str, int] = {}
    champions: list[str] = []
    candidate = ""
    rejected: set[str] = set()
    quarantined: set[str] = set()
    for body in (entry.body for entry in entries):
        event, model = body["event"], body["model"]
        if event == REGISTERED:
            versions[model] = body["version"]
        elif event == CANDIDATE:
            candidate = model
            rejected.discard(model)
            quarantined.discard(model)
        elif event == CHAMPION:
            champions = [*(one for one in champions if one != model), model]
            candidate = "" if candidate == model else candidate
        else:
            candidate = "" if candidate == model else candidate
            (rejected if event == REJECTED else quarantined).add(model)
            if event == QUARANTINED:
                champions = [one for one in champions if one != model]
    return Standing(
        versions=versions,
        champions=tuple(champions),
        candidate=candidate,
        rejected=frozenset(rejected),
        quarantined=frozenset(quarantined),
    )
