"""The origin of a task's run, and partition keys sent on with it, so that it travels through the whole loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeloop.origin import Origin, origin_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context


def origin(context: Context) -> Origin:
    """Why this task's run is there: its type, its conf, and what the events that started it carry."""
    run: Any = context.get("dag_run")
    events: Any = context.get("triggering_asset_events") or {}
    extras = [event.extra or {} for several in events.values() for event in several]
    kind = getattr(run, "run_type", "") or ""
    return origin_of(getattr(kind, "value", str(kind)), getattr(run, "conf", None), extras)


def send(context: Context, outlets: Iterable[Any], keys: Iterable[str], why: Origin | None = None) -> None:
    """Mint ``keys`` on every outlet, each event with ``why``, by default this run's origin."""
    extra, minted = (why or origin(context)).to_extra(), list(keys)
    for outlet in outlets:
        accessor = context["outlet_events"][outlet]
        accessor.extra.update(extra)
        accessor.add_partitions(minted)
