"""What is cleared, what is started, what is left alone and why; and what the listing says of it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from edgeloop.errors import ConfigurationError
from edgeloop.reprocess import Attempt, Request, State, Unit, plan
from edgeloop.reprocess.event_time import of_name
from edgeloop.reprocess.plan import conf_of, run_id_of
from edgeloop.reprocess.report import lines, tally
from edgeloop.reprocess.units import newest, state_of

ASKED = Request(
    pipeline="wind",
    stage="ingest",
    start=datetime(2014, 1, 1, tzinfo=UTC),
    end=datetime(2014, 3, 1, tzinfo=UTC),
)
FORCED = replace(ASKED, force="why", reason="why")
ALL = replace(ASKED, only_failed=False)


def unit(
    month: str, state: State, *, finished: bool = False, barred: str = "", by: str = "force", day: int = 20
) -> Unit:
    """A month's batch whose newest run ended on a day of November 2026."""
    span = of_name(month)
    assert span is not None
    key = f"{month}@0123"
    at = datetime(2026, 11, day, 12, tzinfo=UTC)
    attempt = None if state is State.NEVER else Attempt(key=key, run_id=f"run-{month}", state="x", at=at)
    return Unit(key=key, span=span, state=state, attempt=attempt, finished=finished, barred=barred, lifted_by=by)


def test_only_what_failed_in_the_range_goes_on() -> None:
    """In order of event time; done, running and never run are left with the reason, the others counted."""
    done, running = unit("2014-01", State.DONE), replace(unit("2014-01", State.ACTIVE), key="2014-01@9")
    never, late = replace(unit("2014-02", State.NEVER), key="2014-02@9"), unit("2014-03", State.FAILED)
    first, second = unit("2014-01", State.FAILED), unit("2014-02", State.FAILED)
    found = plan(ASKED, [late, second, never, running, replace(first, key="2014-01@5"), done])
    assert [one.key for one in found.clear] == ["2014-01@5", "2014-02@0123"]
    assert (found.start, found.outside) == ((), 1)
    assert {left.unit.key: left.why.split(";")[0] for left in found.left} == {
        "2014-01@0123": "it is done",
        "2014-01@9": "it is running",
        "2014-02@9": "it never ran in this Airflow",
    }


@pytest.mark.parametrize(
    ("request_", "one", "does"),
    [
        (ALL, unit("2014-01", State.NEVER), "start"),
        (ALL, unit("2014-01", State.NEVER, finished=True), "left"),
        (ALL, unit("2014-01", State.DONE), "left"),
        (ALL, unit("2014-01", State.FAILED, finished=True), "clear"),
        (FORCED, unit("2014-01", State.FAILED), "start"),
        (FORCED, unit("2014-01", State.DONE), "left"),
        (replace(FORCED, only_failed=False), unit("2014-01", State.DONE), "start"),
        (replace(FORCED, only_failed=False), unit("2014-01", State.NEVER, finished=True), "start"),
        (replace(FORCED, only_failed=False), unit("2014-01", State.ACTIVE), "left"),
        (replace(ASKED, promote="why"), unit("2014-01", State.FAILED), "start"),
        (ASKED, unit("2014-01", State.FAILED, barred="a newer one replaced it"), "left"),
        (FORCED, unit("2014-01", State.FAILED, barred="a newer one replaced it"), "start"),
        (FORCED, unit("2014-01", State.FAILED, barred="no candidate", by="promote"), "left"),
        (replace(ASKED, promote="why"), unit("2014-01", State.FAILED, barred="no candidate", by="promote"), "start"),
        (replace(ALL, stage="rollout"), unit("2014-01", State.NEVER), "left"),
        (replace(ALL, stage="rollout", promote="why"), unit("2014-01", State.NEVER), "start"),
    ],
)
def test_what_becomes_of_a_partition(request_: Request, one: Unit, does: str) -> None:
    """Done work is done again by force alone; a forced run is a new one, because a cleared run has no conf to give."""
    found = plan(request_, [one])
    assert {"clear": len(found.clear), "start": len(found.start), "left": len(found.left)} == {
        name: int(name == does) for name in ("clear", "start", "left")
    }
    assert found.empty is (does == "left")


def test_a_day_of_failures_is_told_by_the_clock() -> None:
    """What failed on another day, or does not stand as failed any more, is outside."""
    request = replace(ASKED, start=None, end=None, failed_on=date(2026, 11, 22))
    today, before = unit("2014-01", State.FAILED, day=22), unit("2019-12", State.FAILED, day=21)
    repeated = unit("2014-02", State.DONE, day=22)
    found = plan(request, [today, before, repeated])
    assert ([one.key for one in found.clear], found.outside) == ([today.key], 2)


@pytest.mark.parametrize(
    ("units", "known"),
    [
        ([], "it has none at all"),
        (
            [unit("2015-01", State.FAILED), unit("2016-02", State.DONE)],
            "its 2 lie between 2015-01-01 and 2016-02-29, 1 of them failed",
        ),
    ],
)
def test_a_range_with_nothing_in_it_says_what_there_is(units: list[Unit], known: str) -> None:
    """An empty list would look like 'nothing failed'."""
    with pytest.raises(ConfigurationError) as caught:
        plan(ASKED, units)
    assert known in caught.value.what
    assert "event time 2014-01-01 to 2014-02-28" in caught.value.what
    assert "failed_on" in caught.value.next


def test_the_newest_run_of_a_key_says_how_it_stands() -> None:
    """A failure that was repeated with success is none; a run without a key is no partition."""
    at = datetime(2026, 11, 22, tzinfo=UTC)
    runs = [Attempt(key=key, run_id=str(n), state=state, at=at) for n, (key, state) in enumerate(
        [("a", "failed"), ("b", "success"), ("", "failed"), ("a", "success"), ("c", "queued")]
    )]  # fmt: skip
    assert {key: state_of(one) for key, one in newest(runs).items()} == {
        "a": State.DONE,
        "b": State.DONE,
        "c": State.ACTIVE,
    }
    assert state_of(None) is State.NEVER


def test_a_run_that_is_started_is_told_why_and_named_once() -> None:
    """Its conf says rerun and the reasons that were given; a retry of the request gives it the same, legal, id."""
    assert conf_of(ASKED) == {"origin": "rerun"}
    assert conf_of(replace(ASKED, force="a", promote="b")) == {"origin": "rerun", "force": "a", "promote": "b"}
    first = run_id_of("2014-01@0123 x/é", "manual__1")
    assert first == run_id_of("2014-01@0123 x/é", "manual__1") != run_id_of("2014-01@0123 x/é", "manual__2")
    assert run_id_of("2014-01@0123 x_é", "manual__1") != first
    assert re.fullmatch(r"rerun__2014-01_0123_x_[A-Za-z0-9_.~:+-]+", first)
    assert len(run_id_of("k" * 250, "r")) <= 250


def test_the_listing_says_what_runs_what_does_not_and_what_follows() -> None:
    """State, event time and last error of each; a dry run says that nothing was changed and how to do it."""
    found = plan(ALL, [unit("2014-01", State.FAILED), unit("2014-02", State.NEVER), unit("2014-02", State.DONE)])
    text = "\n".join(lines(ALL, found, {"run-2014-01": "certify: BlockedError: 3 files are gone"}, "version 2"))
    assert "wind, stage ingest, event time 2014-01-01 to 2014-02-28:" in text
    assert (
        "  2014-01@0123  2014-01-01 to 2014-01-31 (name)  failed, run run-2014-01, 2026-11-20 12:00 UTC: "
        "certify: BlockedError: 3 files are gone" in text
    )
    assert "  2014-02@0123  2014-02-01 to 2014-02-28 (name)  never ran, no run here" in text
    assert "Not touched, in the range: 1 partitions" in text
    assert "Devices: version 2 serves on" in text
    assert "This was a dry run" in text
    real = "\n".join(lines(replace(ALL, dry_run=False), found, {}, ""))
    assert "dry run" not in real
    assert "nothing serves yet" in real
    assert tally(found).startswith("1 x it is done")
    promoted = "\n".join(lines(replace(ALL, promote="x", reason="winter"), found, {}, "version 2"))
    assert "in a run of their own (promote: winter)" in promoted
    assert "because promote is on" in promoted


def test_a_long_listing_ends_somewhere() -> None:
    """Ten thousand failures must not fill a task's log; the rest is a count."""
    many = [replace(unit("2014-01", State.FAILED), key=f"2014-01@{n:04d}") for n in range(450)]
    text = list(lines(ASKED, plan(ASKED, many), {}, ""))
    assert "  ... and 250 more" in text
    assert len(text) < 220
