"""Cheap work that faults strike: a revised month, a training, a packaging, a rollout, each driven to its end."""

from __future__ import annotations

import json
import tempfile
import time
from datetime import datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Protocol

from edgeloop import registry
from edgeloop.errors import EdgeloopError
from edgeloop.records import Batch, FileRef, ModelImage, ModelVersion, TrainingRun, sha256_hex
from edgeloop.share import Folder, group_of
from lab import campaign_arrivals, campaign_site
from lab.airflow_api import DeadlineError
from lab.campaign_arrivals import Arrivals
from lab.campaign_drift import Drift
from lab.campaign_unit import Ending, Unit, patiently, run_of

if TYPE_CHECKING:
    from lab.airflow_records import Run
    from lab.campaign_site import Ground

SETTLE_SECONDS = 300.0
REVISED = "2014-01"
"""A month before the window that is trained on: a revision of it is certified and trains nothing."""
FORCED = "the fault campaign"


class Work(Protocol):
    """A kind of work; ``tasks`` are those of its run, with the seconds they typically take."""

    name: str
    tasks: tuple[tuple[str, float], ...]

    def begin(self, ground: Ground, rng: Random, serial: str) -> Unit:
        """Start a fresh unit and return at once."""
        ...


class Ingest:
    """A month of all sites with one value changed: claimed as a revision, certified, verified, announced."""

    name = "ingest"
    tasks = (("certify", 9.0), ("verify", 1.0), ("announce_labels", 1.0))

    def begin(self, ground: Ground, rng: Random, serial: str) -> Unit:
        """Let the historian export the revision."""
        del rng
        with tempfile.TemporaryDirectory() as folder:
            files = [_revised(path, Path(folder), serial) for path in ground.extracts(REVISED)]
            ground.loop.export(files)
        since = time.time()
        batch = batch_on_share(ground, REVISED)
        return Unit(work=self.name, dag_id=ground.loop.dag("ingest"), key=batch.key, subject=batch.id, since=since)


class Train:
    """A training with parameters that nobody trained before; its model is registered and, not better, stays there."""

    name = "train"
    tasks = (("fix_dataset", 1.0), ("attach_compute", 1.5), ("train", 4.0), ("register", 1.0))

    def begin(self, ground: Ground, rng: Random, serial: str) -> Unit:
        """Write the parameters into pipeline.yaml and ask for a training as drift would."""
        del rng
        known = {json.loads(one.parameters)["max_iter"] for one in ground.loop.store.all(TrainingRun)}
        iterations = next(number for number in range(40, 10_000) if number not in known)
        campaign_site.retune(ground.spec_file, iterations, gain=1.0)
        since = time.time()
        run = ground.loop.admin.trigger(
            ground.loop.dag("train"), partition_key=f"drift-{serial}", run_id=f"fault-{serial}"
        )
        return Unit(
            work=self.name, dag_id=run.dag_id, key=f"drift-{serial}", subject=str(iterations), since=since,
            run_id=run.run_id,
        )  # fmt: skip


class Package:
    """The image of a registered model that has none yet: built, proven, pushed."""

    name = "package"
    tasks = (("build", 3.0), ("prove", 4.0), ("push", 3.0))

    def begin(self, ground: Ground, rng: Random, serial: str) -> Unit:
        """Ask for the image; where every model has one, another model is trained first."""
        if not (waiting := unpackaged(ground)):
            finish(ground, Train().begin(ground, rng, f"{serial}-model"))
            waiting = unpackaged(ground)
        model = waiting[0]
        since = time.time()
        run = ground.loop.admin.trigger(ground.loop.dag("package"), partition_key=model.key, run_id=f"fault-{serial}")
        return Unit(work=self.name, dag_id=run.dag_id, key=model.key, subject=model.id, since=since, run_id=run.run_id)


class Rollout:
    """An image that does not serve now is brought to both rings, approved by on-call, and becomes champion."""

    name = "rollout"
    tasks = (("prefetch", 2.0), ("switch", 2.0), ("gate", 4.0), ("advance", 1.0))

    def begin(self, ground: Ground, rng: Random, serial: str) -> Unit:
        """Nominate the image by force; where there is no other, one is made first."""
        if not others(ground):
            finish(ground, Package().begin(ground, rng, f"{serial}-image"))
        image = rng.choice(others(ground))
        since = time.time()
        key = f"{image.key}@ring0"
        run = ground.loop.admin.trigger(
            ground.loop.dag("rollout"), partition_key=key, run_id=f"fault-{serial}", conf={"force": FORCED}
        )
        return Unit(work=self.name, dag_id=run.dag_id, key=key, subject=image.id, since=since, run_id=run.run_id)


WORKS: dict[str, Work] = {one.name: one for one in (Ingest(), Train(), Package(), Rollout(), Drift(), Arrivals())}
OF_THE_LOOP = ("ingest", "train", "package", "rollout", "drift")
"""What a fault strikes that may strike any work."""


def stock(ground: Ground) -> None:
    """Make what packagings and rollouts start from, so that several kinds of work can begin at once."""
    rng, serial = Random(0), f"stock-{time.time_ns()}"
    if not others(ground):
        finish(ground, Package().begin(ground, rng, serial))
    if not unpackaged(ground):
        finish(ground, Train().begin(ground, rng, serial))


def finish(ground: Ground, unit: Unit, seconds: float = SETTLE_SECONDS) -> Ending:
    """Drive a unit to its end: gates are approved, a failed run is cleared once, as on-call would."""
    cleared = False

    def look() -> Ending | None:
        nonlocal cleared
        approve(ground, unit)
        for run in runs_of(ground, unit):
            if run.state == "failed":
                if unit.work == "rollout" and _restored(ground, run):
                    return Ending(how="restored")
                if cleared:
                    return Ending(how="broken", reason=f"failed again after a clear: {ground.loop.explain(run)}")
                ground.loop.admin.clear_run(run.dag_id, run.run_id, only_failed=True)
                cleared = True
                return None
        return Ending(how="after clear" if cleared else "by itself") if _done(ground, unit) else None

    try:
        return patiently(look, seconds=seconds, what=f"the end of {unit.work} {unit.key}")
    except DeadlineError as error:
        return Ending(how="broken", reason=f"{error.what} {_where(ground, unit)}")


def runs_of(ground: Ground, unit: Unit) -> list[Run]:
    """The unit's run, for a rollout those of the rings after it, for arrivals those of every group."""
    if unit.work == "arrivals":
        return campaign_arrivals.runs(ground, unit)
    first = run_of(ground, unit)
    if first is None:
        return []
    found = [first]
    if unit.work == "rollout":
        stem, since = unit.key.rpartition("@")[0], datetime.fromtimestamp(unit.since).astimezone()
        for ring in range(1, len(ground.loop.spec.rollout.rings)):
            later = ground.loop.admin.runs(unit.dag_id, partition_key=f"{stem}@ring{ring}")
            found += [run for run in later if run.queued is None or run.queued > since]
    return found


def approve(ground: Ground, unit: Unit) -> None:
    """Answer what waits for a person in a rollout; one that is asked again is answered again."""
    if unit.work != "rollout":
        return
    for gate in ground.loop.oncall.gates(unit.dag_id, unit.run_id):
        ground.loop.oncall.answer(gate, "Approve")


def batch_on_share(ground: Ground, group: str) -> Batch:
    """The batch that the files of a group make as they lie on the share now."""
    spec = ground.loop.spec
    folder = Folder(
        connection=spec.source.connection,
        root=ground.site.share.path,
        below=spec.source.folder,
        pattern=spec.source.pattern,
        exclude=spec.source.exclude,
    )
    seen = [one for one in folder.scan() if group_of(one.path, spec.source.group) == group]
    files = tuple(
        FileRef(path=one.path, size=one.size, sha256=sha256_hex((folder.path / one.path).read_bytes())) for one in seen
    )
    return Batch(pipeline=spec.name, group=group, files=files, config="", claimed_at="")


def unpackaged(ground: Ground) -> list[ModelVersion]:
    """Registered models without an image, oldest version first."""
    store = ground.loop.store
    models = sorted(store.all(ModelVersion), key=lambda one: one.version)
    return [one for one in models if not store.children(one.id, ModelImage)]


def others(ground: Ground) -> list[ModelImage]:
    """Images in the registry whose model is not the champion."""
    champion = registry.champion(ground.loop.store)
    images = ground.loop.store.all(ModelImage)
    return [one for one in images if one.digest and (champion is None or one.model != champion.id)]


def _done(ground: Ground, unit: Unit) -> bool:
    if unit.work == "arrivals":
        return campaign_arrivals.done(ground, unit)
    runs = runs_of(ground, unit)
    if not runs or any(run.state != "success" for run in runs):
        return False
    if unit.work != "rollout":
        return True
    if len(runs) < len(ground.loop.spec.rollout.rings):
        return False
    champion = registry.champion(ground.loop.store)
    return champion is not None and champion.id == ground.loop.store.get(ModelImage, unit.subject).model


def _restored(ground: Ground, run: Run) -> bool:
    tasks = {task.task_id: task.state for task in ground.loop.admin.tasks(run.dag_id, run.run_id)}
    return tasks.get("restore") == "success"


def _where(ground: Ground, unit: Unit) -> str:
    """What the unit's runs look like, for a report."""
    try:
        tasks = [task for run in runs_of(ground, unit) for task in ground.loop.admin.tasks(run.dag_id, run.run_id)]
    except EdgeloopError as error:
        return error.what
    return ", ".join(f"{task.run_id}.{task.task_id} {task.state} (try {task.try_number})" for task in tasks)


def _revised(path: Path, folder: Path, serial: str) -> Path:
    """The extract with the last row's target changed to a number that only this revision has."""
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    column = head.split(",").index("P_avg")
    last = rows[-1].split(",")
    last[column] = f"{100 + int(sha256_hex(serial.encode())[:6], 16) / 1e5:.5f}"
    target = folder / path.name
    target.write_text("\n".join([head, *rows[:-1], ",".join(last)]) + "\n", encoding="utf-8")
    return target
