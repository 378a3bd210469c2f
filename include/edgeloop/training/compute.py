"""The training VM as a compute target: connected to, checked, and written down."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError, ConflictError
from edgeloop.records import canonical_json
from edgeloop.training.job import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.training.remote import Compute, TrainingVm

MINIMUM_FREE_KIB = 1024 * 1024
CLOCK_SECONDS = 300.0


@contextmanager
def connected(endpoint: Endpoint) -> Iterator[TrainingVm]:
    """A VM that is logged in to."""
    from edgeloop.ssh.shell import Shell
    from edgeloop.training.remote import TrainingVm

    with Shell(endpoint) as shell:
        yield TrainingVm(shell)


def check(found: Compute, endpoint: Endpoint) -> None:
    """Raise ``ConflictError`` for a disk that is nearly full and ``ConfigurationError`` for a clock that is far off."""
    if found.free_kib < MINIMUM_FREE_KIB:
        raise ConflictError(
            f"{endpoint.host} (connection {endpoint.connection!r}) has only {found.free_kib // 1024} MiB of disk free.",
            left="nothing was started",
            next=f"Log in, remove what is not needed (`du -sh ~/{FOLDER}/*`, `docker system df`), then clear the task.",
        )
    if abs(found.skew) > CLOCK_SECONDS:
        raise ConfigurationError(
            f"The clock of {endpoint.host} (connection {endpoint.connection!r}) is {found.skew:+.0f} s off.",
            left="nothing was started",
            next="Let it follow a time server; log lines and deadlines are compared with it.",
        )


def enough(found: Compute, endpoint: Endpoint, *, cpus: float, memory_mb: int, gpus: int) -> None:
    """Raise ``ConfigurationError`` for a VM that has less than one training is allowed to use."""
    asked = {"cpus": (cpus, found.cpus), "memory_mb": (memory_mb, found.memory_mb), "gpus": (gpus, found.gpus)}
    for name, (wanted, there) in asked.items():
        if wanted > there:
            raise ConfigurationError(
                f"training.{name} asks for {wanted:g}, {endpoint.host} (connection {endpoint.connection!r}) has "
                f"{there:g}.",
                left="nothing was started",
                next=f"Lower training.{name} in pipeline.yaml, or name another VM's connection there."
                + (" For a GPU the VM needs NVIDIA's driver and container toolkit." if name == "gpus" else ""),
            )


def fingerprint(host_key: str) -> str:
    """``SHA256:...`` of a public key, as ``ssh-keygen -l`` prints it."""
    import base64
    import hashlib

    blob = base64.b64decode(host_key.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def record(endpoint: Endpoint, found: Compute) -> str:
    """What is written down about a VM: canonical JSON without anything secret."""
    return canonical_json(
        {
            "backend": "lab",
            "host": endpoint.host,
            "port": endpoint.port,
            "user": endpoint.user,
            "host_key": fingerprint(endpoint.host_key),
            "docker": found.docker,
        }
    ).decode()
