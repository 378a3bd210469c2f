"""What on-call asked for in the form, read and checked; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STAGES = ("ingest", "train", "package", "rollout", "drift")
"""Stages whose runs are partitions. Intake looks at everything at every run, drift_sweep is backfilled by Airflow."""

PIPELINE, STAGE, FROM, TO, FAILED_ON = "pipeline", "stage", "from", "to", "failed_on"
ONLY_FAILED, DRY_RUN, FORCE, PROMOTE, REASON = "only_failed", "dry_run", "force", "promote", "reason"
FIELDS = (PIPELINE, STAGE, FROM, TO, FAILED_ON, ONLY_FAILED, DRY_RUN, FORCE, PROMOTE, REASON)
SWITCHES = {"true": True, "false": False, "": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which partitions, and what may be done with them.

    ``start`` and ``end`` bound event time (UTC, end exclusive), ``failed_on`` is the UTC day on which runs failed; each
    is None where it was not asked for. ``force`` and ``promote`` are reasons, or empty.
    """

    pipeline: str
    stage: str
    start: datetime | None = None
    end: datetime | None = None
    failed_on: date | None = None
    only_failed: bool = True
    dry_run: bool = True
    force: str = ""
    promote: str = ""
    reason: str = ""

    @property
    def range(self) -> str:
        """What was selected, as it was typed."""
        found = []
        if self.start and self.end:
            found.append(f"event time {self.start:%Y-%m-%d} to {self.end - timedelta(days=1):%Y-%m-%d}")
        if self.failed_on:
            found.append(f"failed on {self.failed_on}")
        return ", ".join(found)


def parse(form: Mapping[str, Any], pipelines: Sequence[str]) -> Request:
    """Read the form; raises ``ConfigurationError`` that lists everything that is wrong and what to type instead."""
    problems = [f"{name}: is no field; the fields are {', '.join(FIELDS)}" for name in sorted(set(form) - set(FIELDS))]
    pipeline = _one_of(form, PIPELINE, pipelines, problems)
    stage = _one_of(form, STAGE, STAGES, problems)
    first, last, failed_on = (_day(form, name, problems) for name in (FROM, TO, FAILED_ON))
    switches = {name: _switch(form, name, problems) for name in (ONLY_FAILED, DRY_RUN, FORCE, PROMOTE)}
    reason = _text(form, REASON)
    problems += _contradictions(form, first, last, reason, switches)
    if problems:
        raise ConfigurationError(
            "The form is not filled in right:\n" + "\n".join(f"  {one}" for one in problems),
            left="everything; nothing was cleared or started",
            next="Trigger the DAG again with these fields corrected; dry_run true only lists.",
        )
    return Request(
        pipeline=pipeline,
        stage=stage,
        start=datetime(first.year, first.month, first.day, tzinfo=UTC) if first else None,
        end=datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1) if last else None,
        failed_on=failed_on,
        only_failed=switches[ONLY_FAILED],
        dry_run=switches[DRY_RUN],
        force=reason if switches[FORCE] else "",
        promote=reason if switches[PROMOTE] else "",
        reason=reason,
    )


def _contradictions(
    form: Mapping[str, Any], first: date | None, last: date | None, reason: str, switches: Mapping[str, bool]
) -> list[str]:
    """What is wrong with fields that are right each by itself."""
    found = []
    given = [name for name in (FROM, TO) if _text(form, name)]
    if len(given) == 1:
        other = TO if given == [FROM] else FROM
        found.append(f"{other}: is missing; for one day type the day of '{given[0]}' again")
    if first and last and last < first:
        found.append(f"from: {first} is after to, which is {last}; swap them")
    if not given and not _text(form, FAILED_ON):
        found.append("from, to: nothing says which partitions; type both as YYYY-MM-DD, or failed_on")
    wanted = [name for name in (FORCE, PROMOTE) if switches[name]]
    if wanted and not reason:
        found.append(
            f"reason: is missing; {' and '.join(wanted)} needs to know why, for example 'the sensor was replaced'"
        )
    return found


def _text(form: Mapping[str, Any], name: str) -> str:
    value = form.get(name)
    return "" if value is None else str(value).strip()


def _one_of(form: Mapping[str, Any], name: str, known: Sequence[str], problems: list[str]) -> str:
    value = _text(form, name)
    if value not in known:
        problems.append(f"{name}: {value!r} is none; type {' or '.join(known) or 'nothing, there is none'}")
    return value


def _day(form: Mapping[str, Any], name: str, problems: list[str]) -> date | None:
    value = _text(form, name)
    if not value:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        problems.append(f"{name}: {value!r} is no day; type it as YYYY-MM-DD, for example 2014-11-30")
        return None


def _switch(form: Mapping[str, Any], name: str, problems: list[str]) -> bool:
    default = name in (ONLY_FAILED, DRY_RUN)
    value = form.get(name, default)
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in SWITCHES:
        problems.append(f"{name}: {value!r} is no switch; type true or false")
        return default
    return SWITCHES[text]
