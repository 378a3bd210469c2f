"""A job's lines in its task's log: with the job's own time, found again after a kill, shown once."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import structlog
from airflow.utils.log.file_task_handler import _interleave_logs

from edgeloop_airflow import task_log

if TYPE_CHECKING:
    from pathlib import Path

STAMPS = [f"2026-01-01T00:00:{n:02d}.000000001Z" for n in range(60)]
TI = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=2)


def record(stamp: str, text: str) -> str:
    """A line of Airflow's log."""
    return json.dumps({"timestamp": stamp, "level": "info", "event": text, "logger": "training"}, separators=(",", ":"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The task's folder below Airflow's base_log_folder."""
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    folder = tmp_path / "dag_id=d" / "run_id=r" / "task_id=t"
    folder.mkdir(parents=True)
    return folder


def last() -> str:
    """What a triggerer on this machine finds."""
    return asyncio.run(task_log.last_stamp(TI))


def test_a_line_is_logged_with_the_time_at_which_it_was_said() -> None:
    """Airflow's own processors leave the stamp alone, to the nanosecond, and percent signs are no places."""
    from airflow.sdk.log import logging_processors

    written: list[bytes] = []
    sink = SimpleNamespace(info=written.append, msg=written.append)
    logger = structlog.wrap_logger(sink, processors=logging_processors(json_output=True))
    logger.info("100% of %s", timestamp=STAMPS[1])
    assert json.loads(written[0])["timestamp"] == STAMPS[1]
    with structlog.testing.capture_logs() as caught:
        task_log.quote("100% of %s", STAMPS[1])
    assert [(one["event"], one["timestamp"]) for one in caught] == [("100% of %s", STAMPS[1])]


def test_the_last_line_of_the_log_is_found(folder: Path) -> None:
    """In whichever triggerer's file it stands, among Airflow's records, before a record that a kill tore."""
    assert last() == ""
    ours = "2026-01-01T00:00:30.123456Z"
    one, two = folder / "attempt=2.log.trigger.7.log", folder / "attempt=2.log.trigger.8.log"
    one.write_text("\n".join([record(STAMPS[1], "a"), record(STAMPS[2], "b"), record(ours, "heartbeat")]) + "\n")
    assert last() == STAMPS[2]
    two.write_text(record(STAMPS[3], "c") + "\n" + record(STAMPS[4], "d")[:-9])
    assert last() == STAMPS[3]
    two.write_text(record(ours, "trigger starting") + "\n")
    assert last() == STAMPS[2]


def test_a_trigger_waits_until_its_last_line_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was passed on is on the disk before the event is fired; what never comes is not waited for for ever."""
    path = folder / "attempt=2.log.trigger.7.log"
    path.write_text(record(STAMPS[1], "a") + "\n")
    monkeypatch.setattr(task_log, "SETTLE_POLL_SECONDS", 0.01)

    async def late() -> bool:
        waiting = asyncio.create_task(task_log.settled(TI, STAMPS[2]))
        await asyncio.sleep(0.05)
        waited = not waiting.done()
        path.write_text(record(STAMPS[1], "a") + "\n" + record(STAMPS[2], "b") + "\n")
        await waiting
        return waited

    assert asyncio.run(late())
    asyncio.run(task_log.settled(None, STAMPS[5]))
    asyncio.run(task_log.settled(TI, ""))
    monkeypatch.setattr(task_log, "SETTLE_SECONDS", 0.05)
    asyncio.run(task_log.settled(TI, STAMPS[5]))
    path.unlink()
    monkeypatch.setattr(task_log, "UNSEEN_SECONDS", 0.05)
    monkeypatch.setattr(task_log, "SETTLE_SECONDS", 3600.0)
    asyncio.run(task_log.settled(TI, STAMPS[5]))


def test_an_earlier_try_tells_where_it_was(folder: Path) -> None:
    """A try that attached and has no line yet goes on where the one before it was; other tasks' logs count nothing."""
    (folder / "attempt=1.log.trigger.7.log").write_text(record(STAMPS[5], "a") + "\n")
    (folder / "attempt=3.log.trigger.7.log").write_text(record(STAMPS[9], "of a try to come") + "\n")
    (folder / "attempt=2.log").write_text(record(STAMPS[8], "of the worker") + "\n")
    assert last() == STAMPS[5]


def test_a_long_log_is_read_from_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stamp is found across the borders of blocks, behind any amount of other records."""
    path = folder / "attempt=2.log.trigger.7.log"
    noise = [record("2026-01-01T00:01:00.000000Z", f"beat {n} " + "x" * 200) for n in range(50)]
    for size in (64, 300, 1 << 18):
        monkeypatch.setattr(task_log, "BLOCK_BYTES", size)
        path.write_text("\n".join([record(STAMPS[6], "y" * 500), *noise]) + "\n")
        assert last() == STAMPS[6], size


def test_airflow_shows_a_line_once_that_two_triggerers_wrote() -> None:
    """The reader of 3.3.2 merges the files by time and drops a record that equals its neighbour."""
    first = [record(STAMPS[n], f"line {n}") for n in range(6)]
    second = [record(STAMPS[n], f"line {n}") for n in range(4, 9)]
    shown = list(_interleave_logs(iter(first), iter(second)))
    assert [one.event for one in shown] == [f"line {n}" for n in range(9)]
