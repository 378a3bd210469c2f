"""Questions about the past of a pipeline's models, a few reads each however long the promotion ledger is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError
from edgeloop.records import ModelVersion
from edgeloop.registry.promotions import opened
from edgeloop.registry.standing import QUARANTINED, REJECTED

if TYPE_CHECKING:
    from datetime import datetime

    from edgeloop.ledger import Entry
    from edgeloop.registry.standing import Standing
    from edgeloop.store import Store

LISTED = 5


def champion_at(store: Store, when: datetime) -> ModelVersion | None:
    """The model that was champion at that moment (with a time zone), or None: six reads.

    What was quarantined later was champion all the same until then.
    """
    found = opened(store).read().champion_at(when)
    return store.get(ModelVersion, found) if found else None


def history(store: Store, model: str = "", *, last: int = 0) -> tuple[Entry, ...]:
    """The entries of the promotion ledger, oldest first: about one model id or all, the ``last`` ones or (0) all.

    Four reads and one for each entry that is returned.
    """
    ledger = opened(store)
    now = ledger.read()
    numbers = now.told.get(model, ()) if model else range(1, now.seq + 1)
    return tuple(ledger.entry(seq) for seq in numbers[-last:])


def entry(store: Store, seq: int) -> Entry:
    """One entry of the promotion ledger by its number; raises ``NotFoundError``."""
    return opened(store).entry(seq)


def set_aside(store: Store, model: str) -> Entry | None:
    """The newest entry that took the model out of the running, or None if there is none."""
    ledger = opened(store)
    for seq in reversed(ledger.read().told.get(model, ())):
        one = ledger.entry(seq)
        if one.body["event"] in {REJECTED, QUARANTINED}:
            return one
    return None


def which(now: Standing, named: str) -> str:
    """The id of the model that somebody names by version (``3``, ``v3``), partition key or the start of its id. Pure.

    Raises ``ConfigurationError`` if there is none, or more than one.
    """
    head, _, digits = named.strip().partition("@")
    number = head.removeprefix("v")
    if number.isdecimal() and (int(number) in now.versions.values() or head != number or len(number) < LISTED):
        found = [one for one, version in now.versions.items() if version == int(number) and one.startswith(digits)]
    else:
        found = [one for one in now.versions if head and one.startswith(head)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"v{version}@{one[:16]}" for one, version in list(now.versions.items())[-LISTED:]) or "none"
    raise ConfigurationError(
        f"{named!r} is the name of {len(found)} models." if found else f"There is no model {named!r}.",
        left="everything as it is",
        next=f"Name one by its version or the start of its id; the newest are: {known}.",
    )
