"""What is learnt of a version after it was registered: tags in a ledger of their own beside the unchanging record.

Ledger ``tags/<model id>``: ``{"tags": {name: value}, "at", "by"}``. The newest value of a name is the tag; what it was
before stays in the ledger.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigurationError
from edgeloop.records import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgeloop.store import Entry, Store

PREFIX = "tags/"


def fold(entries: Iterable[Entry]) -> dict[str, str]:
    """The tags that stand, oldest entry first. Pure."""
    found: dict[str, str] = {}
    for entry in entries:
        found.update(entry.body["tags"])
    return found


def tags(store: Store, model: ModelVersion | str) -> dict[str, str]:
    """What was added to a version since it was registered; nothing for one that has no tags or is not there."""
    return fold(store.ledger(_ledger(model)))


def all_tags(store: Store) -> dict[str, dict[str, str]]:
    """The tags of every version that has some, by model id."""
    stem = f"ledgers/{PREFIX}"
    models = dict.fromkeys(one.name.removeprefix(stem).partition("/")[0] for one in store.objects.list(stem))
    return {model: tags(store, model) for model in models}


def tag(store: Store, model: ModelVersion | str, added: Mapping[str, str], *, by: str) -> Entry | None:
    """Add tags to a registered version, or replace their values; None if they are so already.

    Raises ``NotFoundError`` for a version that is not registered, ``ConfigurationError`` for a name or value that is no
    text.
    """
    model_id = model if isinstance(model, str) else model.id
    wrong = [repr(one) for pair in added.items() for one in pair if not isinstance(one, str)]
    if wrong or "" in added:
        raise ConfigurationError(
            f"Tags are texts with a name: {', '.join(wrong) or 'one has no name'}.",
            left=f"the tags of model {model_id[:16]} as they were",
            next="Pass str(value), and a name of at least one character.",
        )
    store.get(ModelVersion, model_id)

    def decide(entries: list[Entry]) -> dict[str, Any] | None:
        now = fold(entries)
        if now | dict(added) == now:
            return None
        return {"tags": dict(added), "at": datetime.now(UTC).isoformat(timespec="seconds"), "by": by}

    return store.append(_ledger(model), decide)


def _ledger(model: ModelVersion | str) -> str:
    return f"{PREFIX}{model if isinstance(model, str) else model.id}"
