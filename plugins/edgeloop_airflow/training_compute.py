"""Attach compute: make sure of the training VM before anything is sent there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from edgeloop.records import sha256_hex
from edgeloop.training import compute, reaper
from edgeloop_airflow import hooks, trainer_image
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.pools import ensure
from edgeloop_airflow.residency import training_vm
from edgeloop_airflow.training_dataset import KEY, RUN, forced_key, pinned_desk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context


class AttachComputeOperator(BaseOperator):
    """Makes sure of the VM: it answers, Docker answers, the image is there, the disk has room. Returns its connection.

    An image that the VM lacks is brought from the engine that builds the pipeline's images, and one with the packages
    of ``training.requirements`` is made.

    Args:
        pipeline: The pipeline's name.
        key: The run's key, whose snapshot names the VM.
        force: The reason of a forced run, which trains under today's snapshot. Nothing of this task is kept.
        run: The run's id.

    What a crash left of the pipeline's jobs is finished first, and the VM's pool is made if it is missing. What was
    found is written down under ``keys/compute/<connection>``; a changed VM is written down beside it.
    """

    template_fields: Sequence[str] = ("key", "force", "run")

    def __init__(self, *, pipeline: str, key: str = KEY, force: str = "", run: str = RUN, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.key = key
        self.force = force
        self.run = run

    @discreet
    def execute(self, context: Context) -> str:
        """Check and record; raises ``UnreachableError`` or ``ConfigurationError`` that name the connection."""
        del context
        desk = pinned_desk(hooks.desk(self.pipeline), self.key, forced_key(self.key, self.force, self.run))
        training = desk.snapshot.spec.training
        endpoint = training_vm(desk.snapshot.spec)
        with compute.connected(endpoint) as vm:
            # First, since it may give the disk back what the check misses.
            reaper.reap(vm, self.pipeline, keep=training.keep_days * reaper.DAY_SECONDS, say=self.log.info)
            found = vm.compute(trainer_image.ensure(desk, vm.shell, self.log.info))
        compute.check(found, endpoint)
        compute.enough(found, endpoint, gpus=training.gpus, cpus=training.cpus, memory_mb=training.memory_mb)
        self.log.info("%s", ensure(desk.snapshot.spec))
        text = compute.record(endpoint, found)
        fixed = desk.store.fix("compute", training.connection, text)
        if fixed != text:
            desk.store.fix("compute", f"{training.connection}@{sha256_hex(text.encode())[:12]}", text)
            self.log.info("The VM of %s changed: %s, it was %s", training.connection, text, fixed)
        self.log.info(
            "%s: Docker %s, image %s, %d MiB free, clock %+.0f s",
            training.connection, found.docker, found.image, found.free_kib // 1024, found.skew,
        )  # fmt: skip
        return training.connection
