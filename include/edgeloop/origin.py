"""Why a run is there: new data (live), somebody asked again (rerun), or a past interval (backfill). Pure.

A run that is cleared stays what it was: the same work goes on. A run that somebody starts by hand is a rerun, and what
it sets off downstream inherits that. What a rerun or a backfill makes is recorded like anything else, but it never goes
to the devices by itself: only with a reason under ``promote`` in the run's conf.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LIVE, RERUN, BACKFILL = ORIGINS = ("live", "rerun", "backfill")
"""From the least to the most removed from what happens now."""

RUN_TYPES = {"manual": RERUN, "backfill": BACKFILL}
"""Airflow's types of runs that are not live; assets, cron and other DAGs start live ones."""

ORIGIN, PROMOTE = "origin", "promote"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """``kind`` is one of :data:`ORIGINS`; ``promote`` the reason why the result may go to the devices all the same."""

    kind: str = LIVE
    promote: str = ""

    @property
    def live(self) -> bool:
        """Whether nobody asked for it."""
        return self.kind == LIVE

    @property
    def may_go_out(self) -> bool:
        """Whether what it makes may go to the devices."""
        return self.live or bool(self.promote)

    def to_extra(self) -> dict[str, str]:
        """What an asset event carries of it; nothing for a live one."""
        return {ORIGIN: self.kind, PROMOTE: self.promote} if not self.live or self.promote else {}


def origin_of(run_type: str, conf: Mapping[str, Any] | None, extras: Iterable[Mapping[str, Any]] = ()) -> Origin:
    """The origin of a run from Airflow's type of it, its conf, and the extras of the asset events that started it.

    Of its type and its conf the one further from live counts. Of several events the nearest to live does: what new data
    asked for stays live although somebody asked for the same again. Raises ``ConfigurationError`` for an ``origin``
    that is none.
    """
    own, events = conf or {}, list(extras)
    asked = min((_kind(one) for one in events), key=ORIGINS.index, default=LIVE)
    kind = max((RUN_TYPES.get(run_type, LIVE), _kind(own), asked), key=ORIGINS.index)
    reasons = [str(one[PROMOTE]).strip() for one in (own, *events) if one.get(PROMOTE)]
    return Origin(kind=kind, promote=next(iter(reasons), ""))


def _kind(said: Mapping[str, Any]) -> str:
    kind = str(said.get(ORIGIN) or LIVE)
    if kind not in ORIGINS:
        raise ConfigurationError(
            f"The run's conf says origin {kind!r}.",
            left="nothing was started",
            next=f"Trigger it again with origin {' or '.join(ORIGINS[1:])}, or leave it out.",
        )
    return kind
