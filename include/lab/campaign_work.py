"""Cheap work that faults strike: a revised month, a training, a packaging, a rollout, each driven to its end."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from edgeloop import registry
from edgeloop.errors import EdgeloopError
from edgeloop.records import Batch, FileRef, ModelImage, ModelVersion, TrainingRun, sha256_hex
from edgeloop.share import Folder, group_of
from lab import campaign_site
from lab.airflow_api import DeadlineError, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from lab.airflow_records import Run
    from lab.campaign_site import Ground

T = TypeVar("T")
SETTLE_SECONDS = 300.0
START_SECONDS = 120.0
REVISED = ("2014-01", "2014-02")
"""Months before the window that is trained on: a revision of them is certified and trains nothing."""
FORCED = "the fault campaign"


class MissedError(EdgeloopError):
    """The work was over before the fault could strike it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One piece of work under way.

    ``run_id`` is empty while nobody can know it; ``subject`` is what the checks start from: the batch's id, the
    training's parameters, the model's or the image's id.
    """

    work: str
    dag_id: str
    key: str
    subject: str
    since: float
    run_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a unit ended: ``by itself``, ``after clear`` (of what failed), ``restored``, or ``broken`` with a reason."""

    how: str
    reason: str = ""


class Work(Protocol):
    """A kind of work; ``tasks`` are those of its run, with the seconds they typically take."""

    name: str
    tasks: tuple[tuple[str, float], ...]

    def begin(self, ground: Ground, rng: Random, serial: str) -> Unit:
        """Start a fresh unit and return at once."""
        ...


def patiently(look: Callable[[], T | None], *, seconds: float, what: str) -> T:
    """Wait for an answer; parts that are down meanwhile are no answer, not an error."""
    trouble: list[str] = []

    def probe() -> T | None:
        try:
            return look()
        except EdgeloopError as error:
            trouble[:] = [error.what]
            return None

    try:
        return wait_for(probe, seconds=seconds, what=what, every=0.3)
    except DeadlineError as error:
        raise DeadlineError(f"{error.what} {' '.join(trouble)}".strip(), left=error.left, next=error.next) from error


def run_of(ground: Ground, unit: Unit) -> Run | None:
    """The unit's run, None before it exists."""
    if unit.run_id:
        return ground.loop.admin.run(unit.dag_id, unit.run_id)
    runs = ground.loop.admin.runs(unit.dag_id, partition_key=unit.key)
    return runs[-1] if runs else None


def started(ground: Ground, unit: Unit) -> Run:
    """The unit's run once it has started."""

    def look() -> Run | None:
        run = run_of(ground, unit)
        return run if run is not None and run.state != "queued" else None

    return patiently(look, seconds=START_SECONDS, what=f"{unit.work} {unit.key} to start")


class Ingest:
    """A month of all sites with one value changed: claimed as a revision, certified, verified, announced."""

    name = "ingest"
    tasks = (("certify", 9.0), ("verify", 1.0), ("announce_labels", 1.0))

    def begin(self, ground: Ground, rng: Random, serial: str) -> Unit:
        """Let the historian export the revision."""
        month = rng.choice(REVISED)
        with tempfile.TemporaryDirectory() as folder:
            files = [_revised(path, Path(folder), serial) for path in ground.extracts(month)]
            ground.loop.export(files)
        since = time.time()
        batch = batch_on_share(ground, month)
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


WORKS: dict[str, Work] = {one.name: one for one in (Ingest(), Train(), Package(), Rollout())}


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
    """The unit's run, and for a rollout those of the rings after it."""
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
        return "; ".join(
            f"{run.run_id} {run.state}: "
            + ", ".join(
                f"{task.task_id} {task.state} (try {task.try_number})"
                for task in ground.loop.admin.tasks(run.dag_id, run.run_id)
            )
            for run in runs_of(ground, unit)
        )
    except EdgeloopError as error:
        return error.what


def _revised(path: Path, folder: Path, serial: str) -> Path:
    """The extract with the last row's target changed to a number that only this revision has."""
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    column = head.split(",").index("P_avg")
    last = rows[-1].split(",")
    last[column] = f"{100 + int(sha256_hex(serial.encode())[:6], 16) / 1e5:.5f}"
    target = folder / path.name
    target.write_text("\n".join([head, *rows[:-1], ",".join(last)]) + "\n", encoding="utf-8")
    return target
