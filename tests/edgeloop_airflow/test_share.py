"""The intake task and the watcher, on a real share folder and a real Azurite."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError, AirflowSkipException, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from tests.edgeloop.share.places import unreadable

from edgeloop import catalog
from edgeloop.azure.blob import BlobAccount, BlobContainer
from edgeloop.errors import UnreachableError
from edgeloop.records import Batch, Certificate, sha256_hex
from edgeloop.share import Folder, broken
from edgeloop.share.journal import Journal
from edgeloop.share.source import Seen
from edgeloop_airflow.assets import Assets
from edgeloop_airflow.emission import fate_of, holder, listens
from edgeloop_airflow.share import (
    ArrivalTrigger,
    BrokenDeliveryError,
    CheckDeliveriesOperator,
    ClaimBatchesOperator,
    Telling,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from airflow.triggers.base import TriggerEvent
    from tests.edgeloop_airflow.conftest import Floor

BATCH = Assets("tiny_power").batch
SECONDS = 20.0
QUIET = 1.5


def claim(floor: Floor, run: str = "run-1", **more: Any) -> tuple[list[str], Any]:
    """Run the intake task; its return value and its context."""
    context = floor.context(run=run, dag="tiny_power_intake", task="claim")
    operator = ClaimBatchesOperator(task_id="claim", pipeline="tiny_power", outlets=[BATCH], **more)
    return operator.execute(context), context


def test_one_partition_is_minted_per_batch(floor: Floor, emitted: Any) -> None:
    """Everything settled is claimed by group, ids are returned, keys are emitted."""
    for month in ("2014-01", "2014-02"):
        floor.month("north", month)
    ids, context = claim(floor)
    batches = [floor.desk().store.get(Batch, one) for one in ids]
    assert [one.group for one in batches] == ["2014-01", "2014-02"]
    assert emitted(context, BATCH) == sorted(one.key for one in batches)


def test_nothing_due_is_skipped_with_the_reason(floor: Floor, emitted: Any) -> None:
    """No event goes out: without an explicit key Airflow would send the run's own."""
    floor.month("north", "2014-01")
    claim(floor)
    floor.states["tiny_power_intake", "claim", "run-1"] = "success"
    with pytest.raises(AirflowSkipException, match="Nothing is due: 1 complete files are claimed"):
        claim(floor, "run-2")


@pytest.mark.fault
@pytest.mark.parametrize("state", ["failed", "skipped", None])
def test_what_a_lost_run_claimed_is_minted_by_the_next(floor: Floor, emitted: Any, state: str | None) -> None:
    """Failed, skipped by hand, or unknown to this Airflow: the batch is not lost."""
    floor.month("north", "2014-01")
    _, lost = claim(floor)
    if state is not None:
        floor.states["tiny_power_intake", "claim", "run-1"] = state
    _, second = claim(floor, "run-2")
    assert emitted(second, BATCH) == emitted(lost, BATCH) != []


@pytest.mark.parametrize("state", ["running", "up_for_retry", "queued", "scheduled", "restarting"])
def test_a_run_that_may_yet_deliver_is_trusted(floor: Floor, state: str) -> None:
    """Two intakes at once, or one that waits for its retry, do not mint twice."""
    floor.month("north", "2014-01")
    claim(floor)
    floor.states["tiny_power_intake", "claim", "run-1"] = state
    with pytest.raises(AirflowSkipException):
        claim(floor, "run-2")


def test_nothing_is_announced_to_a_paused_dag(floor: Floor, emitted: Any) -> None:
    """Airflow would drop it: the batches are claimed and wait, and the first run that is heard announces them."""
    floor.month("north", "2014-01")
    floor.paused.add("tiny_power_ingest")
    with pytest.raises(AirflowSkipException, match="1 batches are claimed and wait: tiny_power_ingest is paused"):
        claim(floor)
    floor.states["tiny_power_intake", "claim", "run-1"] = "skipped"
    floor.paused.clear()
    ids, context = claim(floor, "run-2")
    assert emitted(context, BATCH) == [floor.desk().store.get(Batch, one).key for one in ids]
    assert len(ids) == 1


@pytest.mark.parametrize(("status", "told"), [(404, True), (500, False)])
def test_a_dag_that_is_not_loaded_listens_to_nobody(floor: Floor, status: int, told: bool) -> None:
    """Its events would be dropped too; an Airflow in trouble is no answer, and the task is tried again."""
    context = floor.context()

    def missing(_: str) -> None:
        raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": status}))

    context["ti"].get_dag = missing
    if told:
        assert listens(context, "tiny_power_ingest") is False
    else:
        with pytest.raises(AirflowRuntimeError):
            listens(context, "tiny_power_ingest")


def test_a_holder_is_found_by_the_name_it_was_stored_under(floor: Floor) -> None:
    """Run ids hold colons, pluses and slashes; the name survives them."""
    run = "manual__2014-01-01T00:00:00+00:00/a"
    floor.states["tiny_power_intake", "claim", run] = "success"
    context = floor.context(run=run, dag="tiny_power_intake", task="claim")
    assert fate_of(context)(holder(context)) == "delivered"
    assert fate_of(context)("other/claim/run") == "gone"


def test_force_mints_what_its_run_never_did(floor: Floor, emitted: Any) -> None:
    """A run that somebody marked success by hand delivered nothing; a reason brings its batches out."""
    floor.month("north", "2014-01")
    _, lost = claim(floor)
    floor.states["tiny_power_intake", "claim", "run-1"] = "success"
    _, context = claim(floor, "run-2", force="run-1 was marked success by hand")
    assert emitted(context, BATCH) == emitted(lost, BATCH)


@pytest.mark.fault
def test_a_missing_share_names_its_connection(floor: Floor) -> None:
    """The task fails with what to check, and claims nothing."""
    floor.share.rename(floor.share.with_name("gone"))
    with pytest.raises(UnreachableError, match="'edgeloop_share' is not there"):
        claim(floor)


def test_files_of_no_group_are_warned_of(floor: Floor, capsys: pytest.CaptureFixture[str]) -> None:
    """A misnamed file would otherwise lie there for ever in silence."""
    floor.drop("readme.csv")
    with pytest.raises(AirflowSkipException):
        claim(floor)
    assert "1 files match source.pattern but not source.group" in capsys.readouterr().out


def by_day(floor: Floor, **more: Any) -> None:
    """Let the pipeline's files lie in folders of their day."""
    fields = "".join(f"\n  {name}: {value}" for name, value in more.items())
    floor.edit("pipeline.yaml", "folder: exports", f'folder: exports\n  partitions: "%Y/%m/%d"{fields}')


def put(floor: Floor, day: datetime, name: str) -> None:
    """A file in the folder of a day."""
    folder = floor.share / "exports" / f"{day:%Y/%m/%d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(name)


def paths(floor: Floor, ids: list[str]) -> list[str]:
    """The files of batches."""
    return [Path(file.path).name for one in ids for file in floor.desk().store.get(Batch, one).files]


def test_a_sweep_looks_at_recent_folders_and_a_full_one_finds_the_rest(floor: Floor) -> None:
    """The first run looks everywhere and notes it; then only the recent days count, until a full sweep is asked for."""
    by_day(floor, look_back_days=1)
    today = datetime.now(UTC)
    put(floor, today - timedelta(days=40), "old_2014-01.csv")
    put(floor, today, "new_2014-02.csv")
    assert paths(floor, claim(floor, "run-1")[0]) == ["old_2014-01.csv", "new_2014-02.csv"]
    floor.states["tiny_power_intake", "claim", "run-1"] = "success"
    put(floor, today - timedelta(days=40), "missed_2014-03.csv")
    put(floor, today - timedelta(days=1), "late_2014-04.csv")
    assert paths(floor, claim(floor, "run-2")[0]) == ["late_2014-04.csv"]
    floor.states["tiny_power_intake", "claim", "run-2"] = "success"
    with pytest.raises(AirflowSkipException):
        claim(floor, "run-3", full="False")
    assert paths(floor, claim(floor, "run-4", full="True")[0]) == ["missed_2014-03.csv"]


def test_a_full_sweep_that_is_due_is_done_by_whoever_runs_next(floor: Floor) -> None:
    """The time of the last one lies in the store: a tick that nobody heard is made up for."""
    by_day(floor, look_back_days=1)
    today = datetime.now(UTC)
    put(floor, today, "new_2014-02.csv")
    claim(floor, "run-1")
    floor.states["tiny_power_intake", "claim", "run-1"] = "success"
    put(floor, today - timedelta(days=40), "missed_2014-03.csv")
    with pytest.raises(AirflowSkipException):
        claim(floor, "run-2")
    journal = Journal(floor.desk().store)
    before = journal.read().swept_at
    assert today - timedelta(minutes=1) < datetime.fromisoformat(before) < datetime.now(UTC)
    floor.edit("pipeline.yaml", "storage:", 'schedules: {full_sweep: "* * * * *"}\n\nstorage:')
    tick = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)

    class Later(datetime):
        """The clock after the next tick."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + (tick - today)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeloop_airflow.share.datetime", Later)
        assert paths(floor, claim(floor, "run-3")[0]) == ["missed_2014-03.csv"]
    assert Journal(floor.desk().store).read().swept_at > before


@pytest.mark.fault
def test_a_sweep_that_fails_is_not_noted(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would have found is looked for by the next run."""
    by_day(floor)
    floor.share.rename(floor.share.with_name("gone"))
    with pytest.raises(UnreachableError):
        claim(floor)
    assert Journal(floor.desk().store).read().swept_at == ""


def promised(floor: Floor) -> Path:
    """A delivery whose manifest promises other bytes of one of two files."""
    floor.edit("pipeline.yaml", "folder: exports", 'folder: exports\n  complete: manifest\n  marker: "*.sha256"')
    good, bad = floor.month("north", "2014-01"), floor.month("south", "2014-02")
    lines = [f"{sha256_hex(good.read_bytes())}  {good.name}", f"{'0' * 64}  {bad.name}"]
    manifest = floor.share / "exports" / "all.sha256"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def check(floor: Floor, minutes: float = 0) -> None:
    """Run the second task of intake, some time later."""

    class Later(datetime):
        """A clock that is ahead."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(minutes=minutes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeloop_airflow.share.datetime", Later)
        context = floor.context(run="run-1", dag="tiny_power_intake", task="check_deliveries")
        CheckDeliveriesOperator(task_id="check_deliveries", pipeline="tiny_power").execute(context)


def test_what_is_broken_is_told_and_the_rest_is_claimed(floor: Floor, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning with path, reason and remedy; a delivery gets its time, and then the run is red until it is right."""
    manifest = promised(floor)
    ids, _ = claim(floor)
    assert paths(floor, ids) == ["north_2014-01.csv"]
    said = capsys.readouterr().out
    assert "Not claimed: south_2014-02.csv: has sha256" in said
    assert "let its producer deliver it again" in said
    check(floor, minutes=14)
    with pytest.raises(BrokenDeliveryError, match=r"1 files .* cannot be claimed") as raised:
        check(floor, minutes=16)
    assert isinstance(raised.value, AirflowFailException), "a retry would find the same"
    assert "south_2014-02.csv: has sha256" in str(raised.value)
    floor.states["tiny_power_intake", "claim", "run-1"] = "success"
    good = floor.share / "exports" / "south_2014-02.csv"
    manifest.write_text(f"{sha256_hex(good.read_bytes())}  {good.name}\n")
    assert paths(floor, claim(floor, "run-2")[0]) == ["south_2014-02.csv"]
    check(floor, minutes=60)


@pytest.mark.fault
def test_a_file_that_may_not_be_read_is_told_and_the_rest_is_claimed(floor: Floor) -> None:
    """One file without the right to it stops no intake; who is on call hears of it when it stays so."""
    floor.month("north", "2014-01")
    floor.month("south", "2014-01")
    with unreadable("south"):
        assert paths(floor, claim(floor)[0]) == ["north_2014-01.csv"]
    check(floor, minutes=14)
    with pytest.raises(BrokenDeliveryError, match=r"south_2014-01\.csv: may not be read"):
        check(floor, minutes=16)
    floor.states["tiny_power_intake", "claim", "run-1"] = "success"
    assert paths(floor, claim(floor, "run-2")[0]) == ["north_2014-01.csv", "south_2014-01.csv"]
    check(floor, minutes=60)


@pytest.mark.fault
@pytest.mark.parametrize("raw", [b"", b"{}", b'[{"path": 1}]', b"[3]"])
def test_a_spoilt_report_stops_no_intake(floor: Floor, raw: bytes) -> None:
    """It is what on-call reads; the next look writes it anew."""
    promised(floor)
    floor.desk().blobs.put(broken.REPORT, raw)
    assert len(claim(floor)[0]) == 1
    assert [one.path for one in broken.read(floor.desk().blobs)] == ["south_2014-02.csv"]


def test_a_delivery_cleared_away_after_its_claim_is_not_broken(floor: Floor) -> None:
    """The manifest that stays behind names files that were taken; nobody is called for them."""
    promised(floor).unlink()
    good = floor.share / "exports" / "north_2014-01.csv"
    (floor.share / "exports" / "all.sha256").write_text(f"{sha256_hex(good.read_bytes())}  {good.name}\n")
    claim(floor)
    floor.states["tiny_power_intake", "claim", "run-1"] = "success"
    good.unlink()
    with pytest.raises(AirflowSkipException):
        claim(floor, "run-2")
    check(floor, minutes=60)


def watching(floor: Floor, script: Callable[[Next], Awaitable[None]], **more: Any) -> None:
    """Run the watcher while a script drops files and awaits its events."""

    async def go() -> None:
        trigger = ArrivalTrigger(pipeline="tiny_power", **more)
        events = trigger.run()
        after = Next(events)
        try:
            await script(after)
        finally:
            await after.close()

    asyncio.run(go())


class Next:
    """The watcher's next event, or none within a time; a wait that was given up goes on with the next call."""

    def __init__(self, events: AsyncIterator[TriggerEvent]) -> None:
        self.events = events
        self.waiting: asyncio.Task[TriggerEvent] | None = None

    async def __call__(self, seconds: float = SECONDS) -> dict[str, Any] | None:
        """The event's payload, or None."""
        self.waiting = self.waiting or asyncio.ensure_future(anext(self.events))
        done, _ = await asyncio.wait({self.waiting}, timeout=seconds)
        if not done:
            return None
        event, self.waiting = self.waiting.result(), None
        return dict(event.payload)

    async def close(self) -> None:
        """End the watcher as the triggerer does: by cancelling it."""
        if self.waiting is not None:
            self.waiting.cancel()
            await asyncio.wait({self.waiting})
        await self.events.aclose()  # type: ignore[attr-defined]


def test_a_settled_file_is_announced_with_counts(floor: Floor) -> None:
    """One event for all that is there, with no names and no secrets; then silence while it is not due again."""
    paths = [floor.month("north", "2014-01"), floor.month("south", "2014-01")]

    async def script(after: Next) -> None:
        assert await after() == {
            "pipeline": "tiny_power",
            "files": 2,
            "bytes": sum(one.stat().st_size for one in paths),
        }
        assert await after(QUIET) is None

    watching(floor, script)


def test_a_file_that_is_written_is_not_announced_until_it_rests(floor: Floor) -> None:
    """Growing files wait; the event comes after the last write."""

    async def script(after: Next) -> None:
        for size in range(1, 12):
            floor.month("north", "2014-01", rows=size)
            assert await after(0.1) is None
        event = await after()
        assert event is not None
        assert event["bytes"] == (floor.share / "exports" / "north_2014-01.csv").stat().st_size

    watching(floor, script)


def test_claimed_files_are_not_announced(floor: Floor) -> None:
    """A watcher that starts on a share of claimed files says nothing, and a late file alone is told."""
    floor.month("north", "2014-01")
    claim(floor)

    async def script(after: Next) -> None:
        assert await after(QUIET) is None
        floor.month("south", "2014-01")
        event = await after()
        assert event is not None
        assert event["files"] == 1

    watching(floor, script)


def test_unclaimed_files_are_announced_again(floor: Floor) -> None:
    """An event that got lost is repeated until somebody claims; then it ends."""
    floor.month("north", "2014-01")

    async def script(after: Next) -> None:
        assert await after() == await after()
        await asyncio.to_thread(claim, floor)
        for _ in range(3):  # one may have been on its way
            last = await after(QUIET)
        assert last is None

    watching(floor, script, reemit_after=0.5)


def test_files_that_nobody_can_claim_start_an_intake_less_and_less_often() -> None:
    """For want of a right or a group they were told of every minute for ever; what is new is told of at once."""
    left, new = Seen("readme.csv", 5, 1), Seen("north_2014-01.csv", 5, 1)
    telling = Telling(60.0)
    told = [now for now in range(0, 3600, 10) if telling.due((left,), now)]
    assert told == [0, 60, 180, 420, 900, 1500, 2100, 2700, 3300]
    assert telling.due((left, new), 3601)
    assert not telling.due((left,), 3660)
    assert telling.due((left,), 3661)
    assert not telling.due((), 9999)
    assert telling.due((left,), 10000)


def test_a_new_file_does_not_wait_for_the_repetition(floor: Floor) -> None:
    """What was not told before is told at once, together with what is still unclaimed."""
    floor.month("north", "2014-01")

    async def script(after: Next) -> None:
        await after()
        floor.month("south", "2014-01")
        event = await after()
        assert event is not None
        assert event["files"] == 2

    watching(floor, script)


@pytest.mark.fault
def test_the_watcher_survives_an_unreachable_share(floor: Floor, capsys: pytest.CaptureFixture[str]) -> None:
    """It logs which connection is gone, tries again, and goes on when the share is back."""
    away = floor.share.with_name("away")

    async def script(after: Next) -> None:
        floor.share.rename(away)
        assert await after(QUIET) is None
        away.rename(floor.share)
        floor.month("north", "2014-01")
        assert await after() is not None

    watching(floor, script)
    said = capsys.readouterr().out
    assert "'edgeloop_share' is not there" in said
    assert "are watched again after" in said


@pytest.mark.fault
def test_the_watcher_survives_a_broken_connection(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A connection that lacks its address is told; when it is right the watcher goes on by itself."""
    good = os.environ["AIRFLOW_CONN_EDGELOOP_SHARE"]
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_SHARE", json.dumps({"conn_type": "fs"}))
    floor.month("north", "2014-01")

    async def script(after: Next) -> None:
        assert await after(QUIET) is None
        monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_SHARE", good)
        assert await after() is not None

    watching(floor, script)
    said = capsys.readouterr().out
    assert "Connection 'edgeloop_share' lacks extra.path" in said


def test_the_watcher_never_blocks_the_loop(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever waits for a disk or an account does so in a thread: a blocked loop stops every other trigger."""
    floor.month("north", "2014-01")
    inside: list[str] = []
    main = threading.current_thread()

    def told(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is main:
                inside.append(name)
            return real(*args, **kwargs)

        return call

    async def script(after: Next) -> None:
        assert await after() is not None

    for owner, name in ((Folder, "listing"), (Journal, "read"), (BlobContainer, "get"), (BlobAccount, "container")):
        monkeypatch.setattr(owner, name, told(name, getattr(owner, name)))
    monkeypatch.setattr(catalog, "load", told("load", catalog.load))
    watching(floor, script)
    assert inside == []


def test_the_watcher_is_what_it_was_serialized_from() -> None:
    """Class path and arguments rebuild it, and nothing of them is secret."""
    path, arguments = ArrivalTrigger(pipeline="tiny_power", reemit_after=30.0).serialize()
    assert path == "edgeloop_airflow.share.ArrivalTrigger"
    assert ArrivalTrigger(**arguments).serialize() == (path, arguments)
    assert set(arguments) == {"pipeline", "reemit_after"}


def test_a_certified_batch_is_not_minted_by_a_new_airflow(floor: Floor) -> None:
    """An Airflow that knows no earlier run still does not repeat what the store proves to be done."""
    floor.month("north", "2014-01")
    (batch_id,), _ = claim(floor)
    store = floor.desk().store
    store.put(Certificate(pipeline="tiny_power", batch=batch_id, suite="s", group="2014-01"))
    with pytest.raises(AirflowSkipException):
        claim(floor, "run-2")
