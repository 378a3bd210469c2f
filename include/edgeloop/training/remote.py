"""A training VM: what is done there, over one SSH connection, and how it is told when it goes wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from edgeloop.errors import ConfigurationError, ConflictError, IntegrityError, TrainingFailedError, UnreachableError
from edgeloop.ssh import problems
from edgeloop.training import commands
from edgeloop.training.job import Found, describe_end, parse_state
from edgeloop.training.outputs import Choice, choose, parse_listing

if TYPE_CHECKING:
    from edgeloop.ssh.shell import Shell
    from edgeloop.training.job import Job
    from edgeloop.training.outputs import Entry

LOOK_SECONDS = 30.0
SUBMIT_SECONDS = 60.0
MOVE_SECONDS = 600.0
IN_USE = "is already in use by container"
POLL_SECONDS = 0.5
CLOCK_SKEW_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """What a VM can do: its Docker version, the image's id, free disk in KiB, its clock's skew in seconds."""

    docker: str
    image: str
    free_kib: int
    skew: float


class TrainingVm:
    """What can be done on a VM. Raises ``UnreachableError`` from every method when VM or Docker do not answer."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def compute(self, image: str) -> Compute:
        """Whether the VM is fit to train; raises ``ConfigurationError`` that says what is missing."""
        before = time.time()
        done = self.shell.run(commands.compute(image), timeout=LOOK_SECONDS)
        lines = dict(line.partition("=")[::2] for line in done.text.splitlines())
        if not lines.get("docker"):
            raise self._engine_down(done.err)
        if not lines.get("free_kib", "").isdigit():
            raise problems.command_failed(self.shell.endpoint, commands.compute(image), done.exit, done.err)
        found = Compute(
            docker=lines["docker"],
            image=lines.get("image", ""),
            free_kib=int(lines["free_kib"]),
            skew=float(lines["clock"]) - before,
        )
        if not found.image:
            raise self._no_image(image)
        return found

    def image_id(self, image: str) -> str:
        """The id of an image on the VM; raises ``ConfigurationError`` if it is not there."""
        return self.compute(image).image

    def look(self, job: Job) -> Found:
        """What is there under the job's name."""
        done = self.shell.run(commands.look(job), timeout=LOOK_SECONDS)
        if done.exit == commands.ENGINE_DOWN:
            raise self._engine_down(done.err)
        lines = done.text.splitlines()
        if done.exit != 0 or len(lines) < 2:  # noqa: PLR2004 - state and staged
            raise problems.command_failed(self.shell.endpoint, commands.look(job), done.exit, done.err)
        found = Found() if lines[0] == "absent" else parse_state(lines[0])
        folder, cancelled = lines[1], " ".join(lines[2:])
        return dataclasses.replace(found, staged=folder == "staged", folder=folder != "none", cancelled=cancelled)

    def submit(self, job: Job) -> bool:
        """Start the job; False when it was there already and this call started nothing."""
        done = self.shell.run(commands.submit(job), timeout=SUBMIT_SECONDS)
        if done.exit == 0:
            return True
        if IN_USE in done.err:
            return False
        if "No such image" in done.err or "Unable to find image" in done.err:
            raise self._no_image(job.image)
        raise problems.command_failed(self.shell.endpoint, commands.submit(job), done.exit, done.err)

    def start(self, job: Job) -> None:
        """Start a container that was made but not started."""
        self.shell.check(commands.start(job), timeout=SUBMIT_SECONDS)

    def retire(self, job: Job) -> None:
        """Keep the log and outputs of an attempt that ended badly, and remove its container."""
        self.shell.check(commands.retire(job), timeout=LOOK_SECONDS)

    def cancel(self, job: Job, *, reason: str, grace: int = commands.GRACE_SECONDS) -> None:
        """Stop the job and remove it with its folder; returns when it is verified to be gone."""
        self.shell.run(commands.cancel(job, reason=reason, grace=grace), timeout=LOOK_SECONDS)
        self.wait_gone(job, timeout=grace + LOOK_SECONDS)

    def follow(self, job: Job, who: str, attempt: int) -> None:
        """Leave word which try of ``who`` follows the job now."""
        self.shell.check(commands.follow(job, who, attempt), timeout=LOOK_SECONDS)

    def wait_gone(self, job: Job, *, timeout: float) -> None:
        """Wait until nothing of the job is there; raises ``ConflictError`` when it is still there after ``timeout``."""
        until = time.monotonic() + timeout
        while True:
            found = self.look(job)
            if found.status == "absent" and not found.folder:
                return
            if time.monotonic() >= until:
                raise ConflictError(
                    f"Container {job.name} is still there {timeout:g} s after it was asked to stop: {found.status}.",
                    left="the container and its folder on the VM",
                    next=f"Run `docker rm -f {job.name}` on {self.shell.endpoint.host}, then clear the task.",
                )
            time.sleep(POLL_SECONDS)

    def failure(self, job: Job, found: Found) -> TrainingFailedError:
        """The error for a job that ended badly: its last lines first, then how it ended."""
        done = self.shell.run(commands.tail(job), timeout=LOOK_SECONDS)
        last = done.text if found.status != "absent" else ""
        said = "".join(f"  {line}\n" for line in last.splitlines()) if last else "  (it wrote nothing)\n"
        return TrainingFailedError(
            f"The training's last lines:\n{said}Container {job.name} on {self.shell.endpoint.host}: "
            f"{describe_end(found, job.memory_mb)}.",
            left=f"its log and outputs in ~/{job.folder} on the VM",
            next=_remedy(found, job),
        )

    def choose(self, job: Job) -> Choice:
        """What of the outputs is to be collected and what stays; raises ``TrainingFailedError``."""
        return choose(parse_listing(self.shell.check(commands.listing(job), timeout=LOOK_SECONDS).out))

    def digests(self, job: Job, names: tuple[str, ...]) -> dict[str, str]:
        """The sha256 of outputs as the VM sees them, by name."""
        done = self.shell.check(commands.digests(job, names), timeout=MOVE_SECONDS)
        return {name: sha256 for sha256, _, name in (line.partition("  ") for line in done.text.splitlines())}

    def fetch(self, job: Job, entry: Entry, sink: BinaryIO, *, sha256: str) -> None:
        """Copy one output into ``sink``; raises ``IntegrityError`` when it is not what the VM's manifest says."""
        counter = _Counter(sink, entry.size)
        self.shell.check(commands.fetch(job, entry.path), timeout=MOVE_SECONDS, sink=counter)
        if counter.size != entry.size or counter.sha256.hexdigest() != sha256:
            raise IntegrityError(
                f"{entry.path} arrived with {counter.size} bytes and sha256 {counter.sha256.hexdigest()}, the VM has "
                f"{entry.size} bytes and {sha256}.",
                left="the container and its outputs on the VM",
                next="Clear the task: it collects again.",
            )

    def forget(self, job: Job) -> None:
        """Remove the job's container and folder; that they are not there is no error."""
        self.shell.check(commands.forget(job), timeout=MOVE_SECONDS)

    def release(self, job: Job) -> None:
        """Remove the job's container, data and code, and keep what it wrote."""
        self.shell.check(commands.release(job), timeout=MOVE_SECONDS)

    def _engine_down(self, said: str) -> UnreachableError:
        endpoint = self.shell.endpoint
        return UnreachableError(
            f"Docker on {endpoint.host} (connection {endpoint.connection!r}) does not answer: {said.strip()[-300:]}",
            left="whatever runs there",
            next=f"Look at `ssh -p {endpoint.port} {endpoint.user}@{endpoint.host} docker version` and at the engine's "
            "service there, then clear the task.",
        )

    def _no_image(self, image: str) -> ConfigurationError:
        endpoint = self.shell.endpoint
        return ConfigurationError(
            f"Image {image!r} is not on {endpoint.host} (connection {endpoint.connection!r}).",
            left="nothing was started; images are never pulled for a training",
            next=f"Build include/images/trainer and load it there: `docker save {image} | ssh -p {endpoint.port} "
            f"{endpoint.user}@{endpoint.host} docker load`.",
        )


class _Counter:
    """A sink that counts, digests, and takes no more than was announced."""

    def __init__(self, sink: BinaryIO, limit: int) -> None:
        self._sink, self._limit = sink, limit
        self.size, self.sha256 = 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.sha256.update(data)
        if self.size <= self._limit:
            self._sink.write(data)
        return len(data)


def _remedy(found: Found, job: Job) -> str:
    if found.out_of_memory:
        return f"Raise training.memory_mb above {job.memory_mb} in pipeline.yaml, or let train.py read less at once."
    if found.status == "absent":
        return "Clear the task: it stages and submits again."
    return "Correct train.py or its parameters if the lines above name them; clearing the task tries the same again."
