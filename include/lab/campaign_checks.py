"""What must hold after a fault, asked of the parts themselves: nothing lost, nothing twice, the old or new serves."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from edgeloop import registry
from edgeloop.records import Batch, Certificate, ModelImage, ModelVersion, TrainingRun
from edgeloop.rollout.exposure import exposures
from edgeloop.share.journal import Journal
from lab import proof
from lab.campaign_arrival_checks import arrived, settled
from lab.campaign_drift import judged_once
from lab.campaign_unit import broken, hold
from lab.campaign_work import batch_on_share

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.campaign_site import Ground
    from lab.campaign_unit import Unit

LABEL = "edgeloop.training"
PROGRESS = ("progress 0.10", "progress 0.90", "progress 1.00")
"""What the sample's train.py says first, before it writes, and last."""


def after(ground: Ground, unit: Unit, *, retrains: bool) -> list[str]:
    """What does not hold of a unit that has ended; ``retrains`` as the kind of its fault says."""
    of_work: dict[str, tuple[Callable[[], object], ...]] = {
        "ingest": (lambda: ingested(ground, unit),),
        "train": (lambda: trained_once(ground, unit, retrains=retrains),),
        "package": (lambda: packaged(ground, unit),),
        "rollout": (lambda: rolled(ground, unit), lambda: serving(ground)),
        "drift": (lambda: judged_once(ground, unit),),
        "arrivals": arrived(ground, unit),
    }
    return broken(of_work[unit.work])


def at_rest(ground: Ground) -> list[str]:
    """What does not hold of the site while no work is under way."""
    return broken(
        (
            lambda: serving(ground),
            lambda: proof.vm_clean(ground.site),
            lambda: builder_clean(ground),
            lambda: newest_hold(ground),
            lambda: settled(ground),
        )
    )


def ingested(ground: Ground, unit: Unit) -> None:
    """The revision was announced once, certified once, and every row of it is in blobs that hash to the certificate."""
    store = ground.loop.store
    batch = store.get(Batch, unit.subject)
    runs = [run for run in ground.loop.admin.runs(unit.dag_id, partition_key=unit.key) if run.run_type != "manual"]
    hold(len(runs) == 1, f"batch {unit.key} was announced {len(runs)} times")
    certificates = store.children(batch.id, Certificate)
    hold(len(certificates) == 1, f"batch {unit.key} has {len(certificates)} certificates")
    proof.certified(ground.loop.blobs, certificates)
    folder = ground.site.share.path / ground.loop.spec.source.folder
    aside = {one.split(": ", 1)[0] for one in certificates[0].set_aside}
    rows = sum((folder / one.path).read_bytes().count(b"\n") - 1 for one in batch.files if one.path not in aside)
    found = certificates[0].rows + certificates[0].quarantined
    hold(found == rows, f"batch {unit.key} has {rows} rows, {found} are certified or quarantined")


def newest_hold(ground: Ground) -> None:
    """The batch that stands for a group holds each file of it on the share, as it is there, and is certified."""
    store = ground.loop.store
    for group, standing in Journal(store).read().standing.items():
        held = set(store.get(Batch, standing).files)
        missing = [one.path for one in batch_on_share(ground, group).files if one not in held]
        hold(not missing, f"the batch that stands for {group} lacks {missing} as they lie on the share")
        count = len(store.children(standing, Certificate))
        hold(count == 1, f"the batch that stands for {group} has {count} certificates")
    once = [one.id for one in store.all(Batch) if len(store.children(one.id, Certificate)) > 1]
    hold(not once, f"batches with several certificates: {once}")


def trained_once(ground: Ground, unit: Unit, *, retrains: bool) -> None:
    """One finished training of these parameters, one container made for it and none left, one version of its model."""
    store = ground.loop.store
    runs = [one for one in store.all(TrainingRun) if json.loads(one.parameters)["max_iter"] == int(unit.subject)]
    hold(len(runs) == 1, f"{len(runs)} trainings with max_iter {unit.subject}")
    versions = [one for one in store.all(ModelVersion) if one.training_run == runs[0].id]
    hold(len(versions) == 1, f"{len(versions)} versions of training {runs[0].id[:16]}")
    made = containers_made(ground, unit.since)
    foreign = [one for one in made if one != f"train-{runs[0].id[:24]}"]
    hold(not foreign, f"other training containers were made: {foreign}")
    # An engine that was started again remembers none; the log tells then whether the job ran once.
    hold(retrains or len(made) <= 1, f"{len(made)} containers were made for training {runs[0].id[:16]}")
    proof.vm_clean(ground.site)
    proof.model(ground.loop.blobs, versions[0])
    _logged(ground, unit, retrains=retrains)


def _logged(ground: Ground, unit: Unit, *, retrains: bool) -> None:
    """The job's lines stand in the task's log, to the last one; and once each, where the job ran only once."""
    task = ground.loop.admin.task(unit.dag_id, unit.run_id, "train")
    tries = [ground.loop.admin.log(task, try_number=at + 1) for at in range(task.try_number)]
    said = re.findall(r"^\S+ (progress [01]\.\d\d) ", "\n".join(tries), re.MULTILINE)
    lost = [one for one in PROGRESS if one not in said]
    hold(not lost, f"the log of {unit.key} lacks the lines of {lost}")
    again = sorted({one for one in said if said.count(one) > 1})
    hold(retrains or not again, f"the log of {unit.key} repeats {again}")


def containers_made(ground: Ground, since: float) -> list[str]:
    """Names of the training containers that the VM's engine made since then, as it remembers (a reboot forgets)."""
    import docker

    client = docker.DockerClient(base_url=ground.site.vm.docker, timeout=20)
    try:
        wanted = {"type": "container", "event": "create", "label": LABEL}
        told = client.events(since=int(since), until=int(time.time()) + 1, filters=wanted, decode=True)
        return [one["Actor"]["Attributes"]["name"] for one in told]
    finally:
        client.close()


def packaged(ground: Ground, unit: Unit) -> None:
    """The model has one image; the registry's bytes hash to its digest and hold the registered model."""
    model = ground.loop.store.get(ModelVersion, unit.subject)
    images = ground.loop.store.children(model.id, ModelImage)
    hold(len(images) == 1, f"v{model.version} has {len(images)} images")
    proof.image(ground.site, images[0], model)


def builder_clean(ground: Ground) -> None:
    """No container of a proof is left on the builder's engine."""
    import docker

    client = docker.DockerClient(base_url=ground.site.builder.docker, timeout=20)
    try:
        left = [one.name for one in client.containers.list(all=True)]
    finally:
        client.close()
    hold(not left, f"containers are left on the builder: {left}")


def rolled(ground: Ground, unit: Unit) -> None:
    """Nothing of the rollout is half done: no device is still written down as exposed, no candidate is left over."""
    image = ground.loop.store.get(ModelImage, unit.subject)
    left = sorted(exposures(ground.loop.store, image))
    hold(not left, f"devices are still exposed to {image.key}: {left}")
    candidate = registry.current(ground.loop.store).candidate
    hold(candidate != image.model, f"the model of {image.key} is still candidate")


def serving(ground: Ground) -> None:
    """Every device runs the champion's digest and answers fresh rows as the champion does."""
    champion = registry.champion(ground.loop.store)
    hold(champion is not None, "there is no champion")
    assert champion is not None
    (image,) = ground.loop.store.children(champion.id, ModelImage)
    onnx = ground.loop.blobs.get(champion.blob)
    for one in ground.site.devices:
        proof.device(one, ground.loop.spec, image, onnx)
