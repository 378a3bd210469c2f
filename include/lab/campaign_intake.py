"""The faults of intake and upload: how files arrive, and what is broken while they do."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import campaign_arrivals, campaign_outside, faults
from lab.campaign_moments import INTAKE_SECONDS, RUNNING, reach
from lab.campaign_strikes import Outage, WorkerKilled
from lab.campaign_unit import START_SECONDS, MissedError, patiently, started

if TYPE_CHECKING:
    from random import Random

    from lab.airflow_records import Run
    from lab.campaign_site import Ground
    from lab.campaign_strikes import Kind
    from lab.campaign_unit import Unit

CLAIM_SECONDS = 3.0
"""About how long a claim takes; most of it is waiting for files to settle."""
INGEST_SECONDS = 10.0
UPLOAD_SECONDS = 300.0
"""Until an upload is under way: other batches may be certified first."""
BURST, BURST_SECONDS = 50, 1.0


def in_claim(ground: Ground, unit: Unit, rng: Random) -> tuple[Run, str]:
    """Some files arrive; a random moment of the task that claims them."""
    files = rng.randint(2, 6)
    delay = rng.uniform(0, CLAIM_SECONDS)
    campaign_arrivals.drop(ground, campaign_arrivals.small(ground, unit, rng, rng.randint(1, 2), files))
    intake = ground.bulk.dag("intake")

    def look() -> Run | None:
        return next((run for run in ground.loop.admin.runs(intake) if not run.done), None)

    run = patiently(look, seconds=START_SECONDS, what=f"an intake of {unit.subject}")
    reach(ground, unit, run, "claim", RUNNING)
    time.sleep(delay)
    return run, f"{delay:.1f} s after it began, {files} files"


def in_upload(ground: Ground, unit: Unit, rng: Random) -> tuple[Run, str]:
    """The run that sends a big file, at the moment that :func:`upload` waits for."""
    point = upload(ground, unit, rng)
    return started(ground, campaign_arrivals.claimed(ground, unit)), point


def upload(ground: Ground, unit: Unit, rng: Random) -> str:
    """A big file arrives; wait until the account holds a random share of the blob made of it, in blocks.

    Raises:
        MissedError: The blob was made before so much was seen.
    """
    wanted = rng.uniform(0.02, 0.9) * campaign_arrivals.BIG_BYTES
    campaign_arrivals.drop(ground, campaign_arrivals.big(ground, unit, rng))
    batch = campaign_arrivals.claimed(ground, unit)
    outside = campaign_outside.of_bulk(ground)
    (known,) = (one for one in outside.batches(unit.subject) if one.key == batch.key)
    big = f"data/{known.id}/{min(path for path, _ in known.files).removesuffix('.csv')}.parquet"

    def look() -> tuple[int, bool] | None:
        there, made = outside.sent(big)
        return (there, made) if made or there >= wanted else None

    there, made = patiently(look, seconds=UPLOAD_SECONDS, what=f"the upload of {batch.key} to be under way", every=0.05)
    if made:
        raise MissedError(f"the upload of {batch.key} was over before it could be struck")
    return f"{there / 1e6:.1f} MB of the upload were there"


def dropped(ground: Ground, unit: Unit, rng: Random) -> str:
    """Some files arrive; a random moment from then on, up to the end of their ingest."""
    files = rng.randint(4, 8)
    campaign_arrivals.drop(ground, campaign_arrivals.small(ground, unit, rng, rng.randint(1, 3), files))
    delay = rng.uniform(0, INTAKE_SECONDS + INGEST_SECONDS)
    time.sleep(delay)
    return f"{delay:.1f} s after {files} files arrived"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggererDown:
    """Files arrive while nobody watches: the triggerer is killed before, and started again after."""

    name: str = "triggerer_down_at_arrival"
    work: str = "arrivals"
    retrains: bool = False
    gone: tuple[float, float] = (0.5, 4.0)

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Kill, drop, wait, start."""
        files, gone = rng.randint(3, 8), rng.uniform(*self.gone)
        ground.airflow.kill("triggerer")
        campaign_arrivals.drop(ground, campaign_arrivals.small(ground, unit, rng, rng.randint(1, 3), files))
        time.sleep(gone)
        ground.airflow.restart("triggerer")
        return f"{files} files, started again {gone:.1f} s later"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareGone:
    """The share goes with files on their way, and comes back: its folder is missing, or its mount point is empty."""

    name: str = "share_gone"
    work: str = "arrivals"
    retrains: bool = False
    gone: tuple[float, float] = (60.0, 60.0)

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Drop, wait a random while, take the share away."""
        empty, gone = rng.random() < 0.5, rng.uniform(*self.gone)  # noqa: PLR2004 - one or the other
        point = dropped(ground, unit, rng)
        with faults.without_share(ground.site, mount_point=empty):
            time.sleep(gone)
        return f"{point}, {'its mount point empty' if empty else 'gone'} for {gone:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Fifty files of several groups within a second, more events than the scheduler takes one by one."""

    name: str = "burst_of_files"
    work: str = "arrivals"
    retrains: bool = False

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Write them all beside their names, and rename them over a second."""
        groups = rng.randint(3, 5)
        drops = campaign_arrivals.small(ground, unit, rng, groups, BURST)
        seconds = campaign_arrivals.drop(ground, drops, over=BURST_SECONDS)
        return f"{len(drops)} files of {groups} groups in {seconds:.2f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """A producer that rewrites a file in place again and again while it is claimed, read and certified."""

    name: str = "file_rewritten"
    work: str = "arrivals"
    retrains: bool = False
    seconds: float = 14.0

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Rewrite one of two files for some seconds, with pauses that some revisions settle in."""
        until, times = time.monotonic() + self.seconds, 1
        first = campaign_arrivals.small(ground, unit, rng, 1, 2)
        campaign_arrivals.drop(ground, first)
        inbox = campaign_arrivals.keep(ground, first)
        while time.monotonic() < until:
            time.sleep(rng.choice((rng.uniform(0, 0.5), rng.uniform(2.5, 6.0))))
            again = campaign_arrivals.small(ground, unit, rng, 1, 1)[0]
            campaign_arrivals.keep(ground, [again])
            with (inbox / again.name).open("wb") as out:
                half = len(again.content) // 2
                out.write(again.content[:half])
                out.flush()
                time.sleep(rng.uniform(0, 0.2))
                out.write(again.content[half:])
            times += 1
        return f"written {times} times in {self.seconds:.0f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralIntakes:
    """Intakes that on-call starts by hand while the watcher's own is due."""

    name: str = "intakes_at_once"
    work: str = "arrivals"
    retrains: bool = False

    def strike(self, ground: Ground, unit: Unit, rng: Random) -> str:
        """Drop some files, start several intakes at once at a random moment, drop some more."""
        files, starts, delay = rng.randint(4, 8), rng.randint(2, 3), rng.uniform(0, CLAIM_SECONDS)
        drops = campaign_arrivals.small(ground, unit, rng, 2, files)
        campaign_arrivals.drop(ground, drops[::2])
        time.sleep(delay)
        intake = ground.bulk.dag("intake")
        asked = [threading.Thread(target=ground.loop.admin.trigger, args=(intake,)) for _ in range(starts)]
        for one in asked:
            one.start()
        campaign_arrivals.drop(ground, drops[1::2])
        for one in asked:
            one.join()
        return f"{starts} intakes by hand {delay:.1f} s after the first of {files} files"


INTAKE_KINDS: tuple[Kind, ...] = (
    WorkerKilled(name="worker_killed_in_intake", work="arrivals", moment=in_claim),
    WorkerKilled(name="worker_killed_in_upload", work="arrivals", moment=in_upload),
    Outage(
        name="blob_stopped_in_upload",
        work="arrivals",
        moment=upload,
        outage=lambda ground: faults.stopped(ground.site, "blob"),
        gone=(2.0, 8.0),
    ),
    TriggererDown(),
    ShareGone(),
    Burst(),
    Rewritten(),
    SeveralIntakes(),
)
