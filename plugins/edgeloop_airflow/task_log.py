"""A job's lines in its task's log: written with the time at which the job said them, and found there again.

Airflow's log keeps Docker's stamp as the record's own time, to the nanosecond. So a triggerer that starts after a kill
sees in the log on its disk down to which line it came; and where two triggerers wrote the same line, Airflow's reader,
which drops a record that equals its neighbour, shows it once.
"""

from __future__ import annotations

import asyncio
import glob
import re
from pathlib import Path
from typing import Any

import structlog
from airflow.sdk.configuration import conf

SOURCE = "training"
BLOCK_BYTES = 1 << 18
SETTLE_SECONDS = 20.0
UNSEEN_SECONDS = 2.0
SETTLE_POLL_SECONDS = 0.1
STAMPED = re.compile(rb'"timestamp":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z)"')
"""Airflow's own records have microseconds, a job's have nanoseconds."""
_log = structlog.get_logger(logger_name=SOURCE)


def quote(text: str, stamp: str) -> None:
    """Write one line of a job into the log of the task whose trigger is running."""
    _log.info(text, timestamp=stamp)


async def last_stamp(task_instance: Any) -> str:
    """The stamp of the last of the job's lines in this task's log on this machine; "" if there is none.

    Only the newest try that has any is looked at: a try that attached went on where the one before it was.
    """
    if task_instance is None:
        return ""
    return await asyncio.to_thread(_newest, _paths(task_instance))


async def settled(task_instance: Any, stamp: str) -> None:
    """Wait until the line of this stamp stands in the log on this disk, for SETTLE_SECONDS at most.

    A trigger that fires is taken out of Airflow 3.3.2's supervisor by another channel than its lines come by: the log
    was closed before the last five of them were written (seen), and they went to the triggerer's own log.
    """
    if task_instance is None or not stamp:
        return
    loop = asyncio.get_running_loop()
    until = loop.time() + SETTLE_SECONDS
    while (found := await last_stamp(task_instance)) < stamp and loop.time() < until:
        if not found:
            # Logs that are not where they should be cannot be waited for.
            until = min(until, loop.time() + UNSEEN_SECONDS)
        await asyncio.sleep(SETTLE_POLL_SECONDS)


def _newest(tries: list[str]) -> str:
    for pattern in tries:
        if found := max((_last_of(Path(path)) for path in glob.glob(pattern)), default=""):  # noqa: PTH207 - whole paths
            return found
    return ""


def _paths(task_instance: Any) -> list[str]:
    """Patterns of the trigger's logs of each try, the newest first."""
    from airflow.utils.helpers import log_filename_template_renderer

    rendered, base = log_filename_template_renderer(), conf.get("logging", "base_log_folder")
    names = (rendered(ti=task_instance, try_number=number) for number in range(task_instance.try_number, 0, -1))
    return [f"{glob.escape(str(Path(base) / name))}.trigger.*.log" for name in names]


def _last_of(path: Path) -> str:
    """The last stamp in a log. A record that a kill tore in the middle of its line is none."""
    with path.open("rb") as file:
        end, rest = file.seek(0, 2), b""
        while end > 0:
            start = max(end - BLOCK_BYTES, 0)
            file.seek(start)
            head, *lines = (file.read(end - start) + rest).split(b"\n")
            rest, end = head, start
            for line in reversed(lines if start else [head, *lines]):
                if line.endswith(b"}") and (found := STAMPED.match(line[1:])):
                    return found.group(1).decode()
    return ""
