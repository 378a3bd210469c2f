"""From a file's arrival on the share to the start of the first task that works on it, on a running site.

The peer is the settle time of pipeline.yaml: how long a file must lie still before anybody may touch it. What comes on
top is ours: the watcher's poll, the scheduler, the start of a process.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmarks.harness import Figure, Pair, beyond_peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.pipeline import Source
    from lab.airflow_api import AirflowApi

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
SITE = os.environ.get("EDGELOOP_BENCH_SITE", "bench")
PIPELINE = "wind_power"
INTAKE = f"{PIPELINE}_intake"
PARTS = ("network", "share", "blob", "postgres")
RUNS = 7
BAR_S = 2.0
DEADLINE_S = 90.0
CONTENT = "Date_time,Wind_turbine_name,P_avg\n2099-01-01T00:00:00+00:00,R80711,{number}\n"


def measure(say: Callable[[str], None]) -> list[Figure]:
    """One figure; brings up a site of its own (share, blob, PostgreSQL, Airflow) and takes it down again."""
    import lab
    from edgeloop import catalog
    from lab.airflow_site import AirflowSite, plan_for
    from lab.connections import environment

    source = catalog.load(ROOT / "include" / "pipelines").find(PIPELINE).spec.source
    lab.clean(SITE)
    try:
        say(f"starting site {SITE}")
        site = lab.up(SITE, parts=PARTS)
        with tempfile.TemporaryDirectory() as dags:
            # Intake alone: what follows it would share the two cores with the next measurement.
            shutil.copy(ROOT / "dags" / "intake.py", dags)
            airflow = AirflowSite(plan_for(site, dags=Path(dags), connections=environment(site)), say)
            airflow.start()
            try:
                with airflow.api() as api:
                    pairs = _drops(api, site.share.path / source.folder, source, say)
            finally:
                airflow.stop()
    finally:
        lab.clean(SITE)
    peer = f"settle time of pipeline.yaml ({settle_seconds(source):g} s)"
    return [beyond_peer("arrival: share to first task", pairs, unit="s", bar=BAR_S, peer=peer)]


def settle_seconds(source: Source) -> float:
    """How long a file that nobody touches any more needs to count as complete."""
    return max(source.quiet_seconds, (source.polls - 1) * source.poll_seconds)


def _drops(api: AirflowApi, folder: Path, source: Source, say: Callable[[str], None]) -> list[Pair]:
    folder.mkdir(parents=True, exist_ok=True)
    _await(lambda: INTAKE in {dag.dag_id for dag in api.dags()}, f"{INTAKE} to be loaded")
    _one(api, folder, 0)  # the first one also pays for waking the triggerer
    pairs = []
    for number in range(1, RUNS + 1):
        pairs.append(Pair(ours=_one(api, folder, number), peer=settle_seconds(source)))
        say(f"{number} of {RUNS}: {pairs[-1].ours:.2f} s")
    return pairs


def _one(api: AirflowApi, folder: Path, number: int) -> float:
    """Drop one file while nothing runs; seconds until the claim that it woke started."""
    _await(lambda: all(run.done for run in api.runs(INTAKE)), "intake to be idle")
    seen = {run.run_id for run in api.runs(INTAKE)}
    arrived = _drop(folder, number)

    def started() -> float | None:
        # A run of the cron sweep would flatter the figure: it does not wait for the file.
        woken = [run for run in api.runs(INTAKE) if run.run_id not in seen and run.run_type == "asset_triggered"]
        tasks = [task for run in woken for task in api.tasks(INTAKE, run.run_id)]
        return min((task.started.timestamp() for task in tasks if task.started), default=None)

    return _await(started, "the next claim to start") - arrived


def _drop(folder: Path, number: int) -> float:
    """Put a file of a month of its own in place by rename; returns when, in seconds since the epoch."""
    part = folder / f"{number}.part"
    part.write_text(CONTENT.format(number=number), encoding="utf-8")
    arrived = time.time()
    os.utime(part, (arrived, arrived))
    part.replace(folder / f"R80711_{2050 + number // 12}-{number % 12 + 1:02d}.csv")
    return arrived


def _await(probe: Callable[[], T | None], what: str) -> T:
    from lab.airflow_api import wait_for

    return wait_for(probe, seconds=DEADLINE_S, what=what, every=0.2)
