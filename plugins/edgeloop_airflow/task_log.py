"""A job's lines in its task's log: written with the time at which the job said them, and found there again.

Airflow's log keeps Docker's stamp as the record's own time, to the nanosecond. So a triggerer that starts after a kill
sees in the log on its disk down to which line it came; and where two triggerers wrote the same line, Airflow's reader,
which drops a record that equals its neighbour, shows it once. A log without times, as Azure ML's, is told by its place
instead, which each record carries beside its text.
"""

from __future__ import annotations

import asyncio
import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SOURCE = "training"
BLOCK_BYTES = 1 << 18
SETTLE_SECONDS = 20.0
UNSEEN_SECONDS = 2.0
SETTLE_POLL_SECONDS = 0.1
STAMPED = re.compile(rb'"timestamp":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z)"')
"""Airflow's own records have microseconds, a job's have nanoseconds."""
PLACED = re.compile(rb'"place":"((?:[^"\\\\])*)"')
"""What a job says stands in a record with its quotes escaped: it can write no place of its own."""
_log = structlog.get_logger(logger_name=SOURCE)


def quote(text: str, stamp: str) -> None:
    """Write one line of a job into the log of the task whose trigger is running."""
    _log.info(text, timestamp=stamp)


def quote_from(text: str, place: str) -> None:
    """Write one line of a job that says no time, with the place in the job's log behind it; it begins with the job."""
    _log.info(text, place=place)


async def last_stamp(task_instance: Any) -> str:
    """The stamp of the last of the job's lines in this task's log on this machine; "" if there is none.

    Only the newest try that has any is looked at: a try that attached went on where the one before it was.
    """
    return "" if task_instance is None else await asyncio.to_thread(stamp_here, task_instance)


def stamp_here(task_instance: Any) -> str:
    """As :func:`last_stamp`, for a worker."""
    return _newest(_paths(task_instance), _stamp_in)


async def last_place(task_instance: Any, job: str) -> str:
    """The place of the last of this job's lines in this task's log on this machine; "" if there is none."""
    if task_instance is None:
        return ""
    start = f"{job} ".encode()

    def place_in(line: bytes) -> str:
        found = PLACED.search(line)
        return found.group(1).decode() if found and found.group(1).startswith(start) else ""

    return await asyncio.to_thread(_newest, _paths(task_instance), place_in, _at)


async def settled(task_instance: Any, stamp: str) -> None:
    """Wait until the line of this stamp stands in the log on this disk, for SETTLE_SECONDS at most.

    A trigger that fires is taken out of Airflow 3.3.2's supervisor by another channel than its lines come by: the log
    was closed before the last five of them were written (seen), and they went to the triggerer's own log.
    """
    if task_instance is not None and stamp:
        await _until(lambda: last_stamp(task_instance), lambda found: found >= stamp)


async def placed(task_instance: Any, place: str) -> None:
    """As :func:`settled`, for the last line of a job that says no times."""
    job, _, rest = place.partition(" ")
    if task_instance is not None and not rest.startswith("0 "):
        await _until(lambda: last_place(task_instance, job), lambda found: found == place)


async def _until(ask: Callable[[], Awaitable[str]], good: Callable[[str], bool]) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + SETTLE_SECONDS
    while not good(found := await ask()) and loop.time() < until:
        if not found:
            # Logs that are not where they should be cannot be waited for.
            until = min(until, loop.time() + UNSEEN_SECONDS)
        await asyncio.sleep(SETTLE_POLL_SECONDS)


def _stamp_in(line: bytes) -> str:
    found = STAMPED.match(line[1:])
    return found.group(1).decode() if found else ""


def _at(place: str) -> int:
    return int(place.split(" ")[1]) if place else 0


def _newest(tries: list[str], mark_in: Callable[[bytes], str], key: Callable[[str], Any] = str) -> str:
    for pattern in tries:
        marks = (_last_of(Path(path), mark_in) for path in glob.glob(pattern))  # noqa: PTH207 - whole paths
        if found := max(marks, default="", key=key):
            return found
    return ""


def _paths(task_instance: Any) -> list[str]:
    """Patterns of the trigger's logs of each try, the newest first."""
    from airflow.utils.helpers import log_filename_template_renderer

    rendered, base = log_filename_template_renderer(), conf.get("logging", "base_log_folder")
    names = (rendered(ti=task_instance, try_number=number) for number in range(task_instance.try_number, 0, -1))
    return [f"{glob.escape(str(Path(base) / name))}.trigger.*.log" for name in names]


def _last_of(path: Path, mark_in: Callable[[bytes], str]) -> str:
    """The last mark in a log. A record that a kill tore in the middle of its line is none."""
    with path.open("rb") as file:
        end, rest = file.seek(0, 2), b""
        while end > 0:
            start = max(end - BLOCK_BYTES, 0)
            file.seek(start)
            head, *lines = (file.read(end - start) + rest).split(b"\n")
            rest, end = head, start
            for line in reversed(lines if start else [head, *lines]):
                if line.endswith(b"}") and (found := mark_in(line)):
                    return found
    return ""
