"""Work of the bulk pipeline: files of any number and size that arrive on the share, until all of them are certified.

What the kinds of fault about intake strike is how files arrive, so nothing is dropped by ``begin``: they drop.
Every content that was ever dropped is kept by its sha256, so that a revision that was overwritten can be looked at.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.records import sha256_hex
from lab import campaign_outside
from lab.campaign_site import BULK_STAGES
from lab.campaign_unit import START_SECONDS, Unit, patiently

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from random import Random

    from lab.airflow_records import Run
    from lab.campaign_site import Ground

KEPT = "dropped"
"""Below the site's state: every content that was dropped, by its sha256."""
SMALL_ROWS = 96
BIG_ROWS = 240_000
"""A CSV of about 26 MB: more than one chunk to validate."""
BIG_BYTES = 15_000_000
"""About what its Parquet file has: several blocks to send."""
HEADER = "Wind_turbine_name,Date_time,Ba_avg,P_avg,Ws_avg,Va_avg,Ot_avg,Ya_avg,Wa_avg"
COLD = "-273.0"
"""What the turbines' thermometers say when they are broken: such a row is quarantined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A file to drop: its name in the pipeline's folder and its bytes."""

    name: str
    content: bytes


class Arrivals:
    """Files that arrive; the unit's ``subject`` begins the names of its groups."""

    name = "arrivals"
    tasks = (("claim", 4.0), ("certify", 9.0), ("verify", 1.0), ("announce_labels", 1.0))

    def begin(self, ground: Ground, rng: Random, serial: str) -> Unit:
        """Make sure that the pipeline is there and wakes nothing but its ingest, and name the groups."""
        del rng

        def quiet() -> bool:
            return all(ground.loop.admin.set_paused(ground.bulk.dag(stage), paused=True) for stage in BULK_STAGES)

        patiently(quiet, seconds=START_SECONDS, what="Airflow to know the bulk pipeline")
        subject = sha256_hex(f"{serial} {time.time_ns()}".encode())[:8]
        return Unit(work=self.name, dag_id=ground.bulk.dag("ingest"), key="", subject=subject, since=time.time())


def small(ground: Ground, unit: Unit, rng: Random, groups: int, files: int) -> list[Drop]:
    """``files`` small files spread over ``groups`` groups, each group with at least one; every file is unique."""
    sites = [one.name for one in ground.bulk.spec.sites]
    drops = []
    for number in range(files):
        # Two sites of three: labels that complete an interval would be judged.
        site, group = sites[number % 2], number % groups
        drops.append(
            Drop(
                name=f"{site}-{number:02d}_{unit.subject}-{group}.csv",
                content=_rows(site, number, SMALL_ROWS, step=600, rng=rng),
            )
        )
    return drops


def big(ground: Ground, unit: Unit, rng: Random) -> list[Drop]:
    """One group of one big file and one small."""
    sites = [one.name for one in ground.bulk.spec.sites]
    return [
        Drop(name=f"{sites[0]}-00_{unit.subject}-0.csv", content=_rows(sites[0], 0, BIG_ROWS, step=1, rng=rng)),
        Drop(name=f"{sites[1]}-01_{unit.subject}-0.csv", content=_rows(sites[1], 1, SMALL_ROWS, step=600, rng=rng)),
    ]


def drop(ground: Ground, drops: Sequence[Drop], *, over: float = 0.0) -> float:
    """Write the files beside their names and rename them, ``over`` so many seconds; returns the seconds it took."""
    inbox = keep(ground, drops)
    waiting = []
    for one in drops:
        part = inbox / f"{one.name}.part"
        part.write_bytes(one.content)
        waiting.append((part, inbox / one.name))
    began = time.monotonic()
    for at, (part, target) in enumerate(waiting):
        time.sleep(max(0.0, began + over * at / len(waiting) - time.monotonic()))
        part.rename(target)
    return time.monotonic() - began


def keep(ground: Ground, drops: Iterable[Drop]) -> Path:
    """Keep the contents by their sha256; returns the folder they are to be dropped into."""
    kept = ground.site.state / KEPT
    kept.mkdir(exist_ok=True)
    for one in drops:
        (kept / sha256_hex(one.content)).write_bytes(one.content)
    inbox = ground.site.share.path / ground.bulk.spec.source.folder
    inbox.mkdir(exist_ok=True)
    return inbox


def runs(ground: Ground, unit: Unit) -> list[Run]:
    """The ingest runs of the unit's groups."""
    return list(ground.loop.admin.runs(unit.dag_id, prefix=unit.subject))


def done(ground: Ground, unit: Unit) -> bool:
    """Whether what lies on the share is claimed as it lies there, and every batch of it has been through ingest."""
    there = runs(ground, unit)
    if not there or any(run.state != "success" for run in there):
        return False
    through = {run.partition_key for run in there}
    outside = campaign_outside.of_bulk(ground)
    batches = outside.batches(unit.subject)
    newest = {one.group: one for one in batches}
    lying = outside.on_share(unit.subject)
    return {group: one.files for group, one in newest.items()} == lying and {one.key for one in batches} <= through


def claimed(ground: Ground, unit: Unit) -> Unit:
    """The unit with the key of its one group's batch, once it is claimed as it lies on the share."""
    outside = campaign_outside.of_bulk(ground)

    def look() -> str | None:
        (lying,) = outside.on_share(unit.subject).values()
        return next((one.key for one in outside.batches(unit.subject) if one.files == lying), None)

    key = patiently(look, seconds=START_SECONDS, what=f"the files {unit.subject} to be claimed")
    return Unit(work=unit.work, dag_id=unit.dag_id, key=key, subject=unit.subject, since=unit.since, run_id=unit.run_id)


def _rows(site: str, number: int, rows: int, *, step: int, rng: Random) -> bytes:
    """A historian's file: ``rows`` rows ``step`` seconds apart, at instants that no other ``number`` has."""
    lines = [HEADER]
    for at in range(rows):
        # A site has each instant once in a batch: files of one group differ in their seconds.
        second = at * step + number
        day, rest = divmod(second, 86_400)
        when = f"2014-02-{day + 1:02d}T{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}+01:00"
        ba, p, ws = rng.random() * 80, rng.random() * 2000, 3 + rng.random() * 10
        va, ot, ya = rng.random() * 300 - 150, rng.random() * 30, rng.random() * 360
        cold = COLD if at == rows // 2 else f"{ot:.6f}"
        lines.append(f"{site},{when},{ba:.8f},{p:.6f},{ws:.8f},{va:.7f},{cold},{ya:.7f},{rng.random() * 360:.7f}")
    return ("\n".join(lines) + "\n").encode()
