"""How troubles of a training VM are told: what happened, what was left, what to type next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError, ConflictError, UnreachableError
from edgeloop.training.job import FOLDER, Stop, interrupted

if TYPE_CHECKING:
    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.training.job import Found, Job

SCARCE = {
    "could not select device driver": "GPUs (training.gpus)",
    "Range of CPUs is": "processors (training.cpus)",
    "Minimum memory limit": "memory (training.memory_mb)",
}
"""What Docker says when a VM lacks something, and what that is."""


def engine_down(endpoint: Endpoint, said: str) -> UnreachableError:
    """The error for a VM whose Docker does not answer."""
    return UnreachableError(
        f"Docker on {endpoint.host} (connection {endpoint.connection!r}) does not answer: {said.strip()[-300:]}",
        left="whatever runs there",
        next=f"Look at `ssh -p {endpoint.port} {endpoint.user}@{endpoint.host} docker version` and at the engine's "
        "service there, then clear the task.",
    )


def no_space(endpoint: Endpoint, said: str) -> ConflictError:
    """The error for a disk with less than ``disk_mb`` free."""
    return ConflictError(
        f"The disk of {endpoint.host} (connection {endpoint.connection!r}) is too full: {said.strip()[-300:]}.",
        left="its data, staged; nothing was started",
        next=f"Log in, remove what is not needed (`du -sh ~/{FOLDER}/* ~`, `docker system df`), or lower "
        "training.disk_mb, then clear the task.",
    )


def lacking(endpoint: Endpoint, what: str, said: str) -> ConfigurationError:
    """The error for a VM that lacks ``what`` a job asks for."""
    return ConfigurationError(
        f"{endpoint.host} (connection {endpoint.connection!r}) cannot give the training its {what}: "
        f"{said.strip().splitlines()[0]}",
        left="nothing was started",
        next=f"Ask for less in pipeline.yaml (section training), or give the VM what it lacks; "
        f"`ssh -p {endpoint.port} {endpoint.user}@{endpoint.host} docker info` shows what it has.",
    )


def no_image(endpoint: Endpoint, image: str) -> ConfigurationError:
    """The error for an image that is not on the VM."""
    return ConfigurationError(
        f"Image {image!r} is not on {endpoint.host} (connection {endpoint.connection!r}).",
        left="nothing was started; images are never pulled for a training",
        next=f"Build include/images/trainer and load it there: `docker save {image} | ssh -p {endpoint.port} "
        f"{endpoint.user}@{endpoint.host} docker load`.",
    )


def remedy(found: Found, job: Job) -> str:
    """What to do next about a job that ended badly."""
    if found.starved:
        return (
            f"Raise training.memory_mb above {job.memory_mb} in pipeline.yaml, or let train.py read less at once; "
            "then start the run anew."
        )
    if found.last.stop is Stop.DEADLINE:
        return "Raise training.timeout_minutes in pipeline.yaml, or let train.py do less, then clear the run."
    if found.last.stop is Stop.DISK:
        return "Raise training.disk_mb, make room on the VM, or let train.py keep fewer checkpoints, then clear it."
    if interrupted(found):
        return "The next try goes on from the checkpoint; clearing the task asks for one."
    return (
        "Correct train.py or its parameters if the lines above name them: that is another training. Clearing the task "
        "makes another attempt of this one, from its checkpoint."
    )
