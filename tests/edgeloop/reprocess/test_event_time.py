"""When the data of a partition happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from edgeloop.records import Batch, Certificate
from edgeloop.reprocess import event_time


def batch(group: str, claimed_at: str = "2026-11-22T05:00:00.000+00:00") -> Batch:
    """A batch of a group."""
    return Batch(pipeline="p", group=group, files=(), config="", claimed_at=claimed_at)


def certificate(start: str, end: str, certified_at: str = "") -> Certificate:
    """A certificate of some rows."""
    return Certificate(
        pipeline="p",
        batch="b",
        suite=certified_at,
        group="g",
        event_start=start,
        event_end=end,
        certified_at=certified_at,
    )


def test_the_rows_say_when_it_was() -> None:
    """A certified batch is dated by its newest certificate, whatever its group is called."""
    older = certificate("2014-02-01T00:00:00Z", "2014-02-02T00:00:00Z", "2026-01-01")
    newer = certificate("2014-03-01T00:00:00+02:00", "2014-03-05T12:00:00Z", "2026-01-02")
    span = event_time.of_batch(batch("2014-01"), [newer, older, certificate("", "", "2027")])
    assert span.start == datetime(2014, 2, 28, 22, tzinfo=UTC)
    assert (str(span), span.source) == ("2014-02-28 to 2014-03-05", "certificate")


@pytest.mark.parametrize(
    ("group", "days"),
    [
        ("2014-01", "2014-01-01 to 2014-01-31"),
        ("2014-11-03", "2014-11-03"),
        ("20141103", "2014-11-03"),
        ("R80711_2014_02", "2014-02-01 to 2014-02-28"),
        ("line7-2014-13-then-2014-12", "2014-12-01 to 2014-12-31"),
    ],
)
def test_a_batch_without_certificate_is_dated_by_its_group(group: str, days: str) -> None:
    """A month or a day in the name; what looks like a date and is none is passed over."""
    span = event_time.of_batch(batch(group), [])
    assert (str(span), span.source) == (days, "name")


@pytest.mark.parametrize("group", ["alpha", "lot-123456789", "99999-99"])
def test_a_name_without_a_date_leaves_the_day_of_the_claim(group: str) -> None:
    """The best that is known; the listing says that it is the claim."""
    span = event_time.of_batch(batch(group, "2026-11-22T23:30:00.000-01:00"), [])
    assert (str(span), span.source) == ("2026-11-23", "claim")


def test_models_and_intervals_have_their_own() -> None:
    """A model is as old as its newest data; an interval is itself; what is neither is not dated."""
    newest = event_time.until("2014-04-01T00:00:00Z")
    assert newest is not None
    assert str(newest) == "2014-03-31"
    assert event_time.until("") is None
    assert str(event_time.of_interval("2014-11")) == "2014-11-01 to 2014-11-30"
    assert event_time.of_interval("v1@0123") is None


def test_spans_that_only_touch_do_not_overlap() -> None:
    """Ends are exclusive: January is not in a range that begins with February."""
    january = event_time.of_name("2014-01")
    assert january is not None
    february = january.end
    assert not january.overlaps(february, february + timedelta(days=28))
    assert january.overlaps(february - timedelta(days=1), february)
