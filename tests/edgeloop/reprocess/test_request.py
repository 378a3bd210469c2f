"""The form of on-call: what is read from it, and what every wrong input is answered."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from edgeloop.errors import ConfigurationError
from edgeloop.reprocess import parse
from edgeloop.reprocess.request import FIELDS, STAGES

PIPELINES = ("solar", "wind")
RIGHT: dict[str, Any] = {"pipeline": "wind", "stage": "ingest", "from": "2014-01-01", "to": "2014-01-31"}


def told(**form: Any) -> str:
    """What a wrong form is answered."""
    with pytest.raises(ConfigurationError) as caught:
        parse({**RIGHT, **form}, PIPELINES)
    assert "nothing was cleared or started" in caught.value.left
    return caught.value.what


def test_a_form_without_switches_is_a_dry_run_of_what_failed() -> None:
    """The safe choice is the one that nobody has to make."""
    request = parse(RIGHT, PIPELINES)
    assert (request.dry_run, request.only_failed, request.force, request.promote) == (True, True, "", "")


def test_both_days_are_included() -> None:
    """The end is the midnight after the last day, UTC; one day is a range too."""
    request = parse({**RIGHT, "to": "2014-01-01"}, PIPELINES)
    assert request.start == datetime(2014, 1, 1, tzinfo=UTC)
    assert request.end == datetime(2014, 1, 2, tzinfo=UTC)
    assert request.range == "event time 2014-01-01 to 2014-01-01"


def test_a_day_of_failures_needs_no_range() -> None:
    """After an outage nobody knows the event time."""
    request = parse({"pipeline": "wind", "stage": "ingest", "failed_on": "2026-11-22", "from": None}, PIPELINES)
    assert (request.start, request.end, request.failed_on) == (None, None, date(2026, 11, 22))
    assert request.range == "failed on 2026-11-22"


@pytest.mark.parametrize(("typed", "read"), [(True, True), ("true", True), ("False", False), ("", False)])
def test_switches_may_be_typed(typed: Any, *, read: bool) -> None:
    """A templated form has texts where the UI has booleans."""
    assert parse({**RIGHT, "dry_run": typed}, PIPELINES).dry_run is read


def test_a_switch_takes_the_one_reason() -> None:
    """Force and promote are off without a reason, and carry it when they are on."""
    request = parse({**RIGHT, "force": True, "reason": " new sensor "}, PIPELINES)
    assert (request.force, request.promote, request.reason) == ("new sensor", "", "new sensor")


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        ({"pipeline": "water"}, "pipeline: 'water' is none; type solar or wind"),
        ({"pipeline": None}, "pipeline: '' is none; type solar or wind"),
        ({"stage": "intake"}, f"stage: 'intake' is none; type {' or '.join(STAGES)}"),
        ({"from": "2014-02-01"}, "from: 2014-02-01 is after to, which is 2014-01-31; swap them"),
        ({"from": "1.2.2014"}, "from: '1.2.2014' is no day; type it as YYYY-MM-DD"),
        ({"to": "2014-02-30"}, "to: '2014-02-30' is no day"),
        ({"failed_on": "yesterday"}, "failed_on: 'yesterday' is no day"),
        ({"to": None}, "to: is missing; for one day type the day of 'from' again"),
        ({"from": ""}, "from: is missing; for one day type the day of 'to' again"),
        ({"from": None, "to": None}, "from, to: nothing says which partitions; type both as YYYY-MM-DD, or failed_on"),
        ({"force": True}, "reason: is missing; force needs to know why"),
        ({"force": True, "promote": True, "reason": "  "}, "reason: is missing; force and promote needs to know why"),
        ({"dry_run": "perhaps"}, "dry_run: 'perhaps' is no switch; type true or false"),
        ({"form": "2014-01-01"}, f"form: is no field; the fields are {', '.join(FIELDS)}"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_type(form: dict[str, Any], answer: str) -> None:
    """Each wrong input has its own sentence."""
    assert answer in told(**form)


def test_everything_wrong_is_told_at_once() -> None:
    """Nobody corrects a form three times at night."""
    text = told(pipeline="water", stage="x", force=True, **{"from": "2015-01-01"})
    assert [line.split(":")[0].strip() for line in text.splitlines()[1:]] == ["pipeline", "stage", "from", "reason"]
