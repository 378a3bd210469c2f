"""What asks for a training beside new data and drift: a changed recipe, a tick of the clock, keys that nobody took.

What is asked for is written down before anybody is told: a changed recipe is an entry of the ledger ``recipes``, so
that two sweeps see one change, and one that died after it is followed by one that announces it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgeloop.records import sha256_hex
from edgeloop.training.dataset import CODE_KEY, CRON_KEY, WAITING_KEY
from edgeloop.training.recipe import SCHEME, Recipe

if TYPE_CHECKING:
    from edgeloop.store import Entry, Store
    from edgeloop.training.waiting import Waiting

LEDGER = "recipes"
REASONS = "retrain_reasons"
SHORT = 12
LISTED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A training that is asked for: its partition key, and why, in words."""

    key: str
    why: str


def note_recipe(store: Store, today: Recipe, *, now: datetime, asks: bool) -> Request | None:
    """What the recipe asks for: the newest change of it, or None while there was none.

    The first recipe of a pipeline asks for nothing. Neither does a change that is not to train anything (``asks``),
    such as one while no data is certified; it is written down, so that the next is told from it.
    """
    last = _last(store)
    if last is None or _read(last) is None or today.knowing(_read(last)).digest != last["digest"]:
        entry = store.append(LEDGER, lambda entries: _entry(entries, today, now, asks=asks))
        last = entry.body if entry else _last(store)
    return Request(key=last["key"], why=last["why"]) if last and last["key"] else None


def recipe_image(store: Store) -> str:
    """The start of the image's id in the newest recipe; "" if nobody could look."""
    last = _last(store)
    recipe = _read(last) if last else None
    return recipe.parts.get("image:id", "") if recipe else ""


def _entry(entries: list[Entry], today: Recipe, now: datetime, *, asks: bool) -> dict[str, Any] | None:
    last = entries[-1].body if entries else None
    before = _read(last) if last else None
    recipe = today.knowing(before)
    if last and before and recipe.digest == last["digest"]:
        return None
    changed = recipe.changes(before) if before and asks else ""
    # What was asked for under a recipe that only got a name for something stays asked for.
    key, why = (last["key"], last["why"]) if last and not changed else ("", changed)
    if changed:
        key = f"{CODE_KEY}{recipe.digest[:SHORT]}"
        if any(one.body["key"] == key for one in entries):
            key = f"{key}-{len(entries) + 1}"
    at = now.isoformat(timespec="seconds")
    return {
        "scheme": SCHEME, "digest": recipe.digest, "parts": dict(recipe.parts), "key": key, "why": why, "at": at,
    }  # fmt: skip


def _last(store: Store) -> dict[str, Any] | None:
    """The newest entry alone: the whole ledger would be read with every sweep."""
    names = [one.name for one in store.objects.list(f"ledgers/{LEDGER}/")]
    return json.loads(store.objects.get(names[-1])) if names else None


def _read(body: dict[str, Any]) -> Recipe | None:
    return Recipe(body["parts"]) if body["scheme"] == SCHEME else None


def tick(store: Store, cron: str, now: datetime) -> Request | None:
    """The newest tick of ``schedules.retrain``; None while there was none since the schedule was first seen.

    Of ticks that were missed only the newest is asked for.
    """
    if not cron:
        return None
    from croniter import croniter

    since = datetime.fromisoformat(store.fix("retrain_schedules", sha256_hex(cron.encode())[:16], now.isoformat()))
    newest = croniter(cron, now).get_prev(datetime) if not croniter.match(cron, now) else now
    newest = newest.astimezone(UTC).replace(second=0, microsecond=0)
    if newest <= since:
        return None
    stamp = newest.strftime("%Y-%m-%dT%H%MZ")
    return Request(key=f"{CRON_KEY}{stamp}", why=f"cron {stamp} of schedules.retrain ({cron})")


def overdue(waiting: Waiting) -> Request | None:
    """A training for the keys that gave way to later ones, if none of those trained for them."""
    keys = waiting.keys()
    if not keys:
        return None
    named = ", ".join(keys[:LISTED]) + (f" and {len(keys) - LISTED} more" if len(keys) > LISTED else "")
    digest = sha256_hex("\n".join(keys).encode())[:SHORT]
    return Request(key=f"{WAITING_KEY}{digest}", why=f"nothing was trained yet for {named}")
