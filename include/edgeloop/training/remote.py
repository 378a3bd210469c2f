"""A training VM: what is done there, over one SSH connection, and how it is told when it goes wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from edgeloop.errors import (
    ConflictError,
    IntegrityError,
    TrainingFailedError,
    TrainingInterruptedError,
)
from edgeloop.ssh import problems
from edgeloop.ssh.openssh import Bulk
from edgeloop.training import commands, guard, troubles
from edgeloop.training.job import (
    MIB,
    Action,
    Found,
    Stop,
    decide,
    describe_end,
    interrupted,
    parse_attempt,
    parse_state,
)
from edgeloop.training.outputs import Choice, choose, parse_listing
from edgeloop.training.staging_yard import LARGE_BYTES, whole_seconds

if TYPE_CHECKING:
    from edgeloop.ssh.shell import Shell
    from edgeloop.training.job import Job
    from edgeloop.training.outputs import Entry
    from edgeloop.training.parked import Parked

LOOK_SECONDS = 30.0
SUBMIT_SECONDS = 60.0
MOVE_SECONDS = 600.0
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """What a VM can do: its Docker version, the image's id, free disk in KiB, its clock's skew in seconds, its size."""

    docker: str
    image: str
    free_kib: int
    skew: float
    cpus: float = 0.0
    memory_mb: int = 0
    gpus: int = 0


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
            raise troubles.engine_down(self.shell.endpoint, done.err)
        if not lines.get("free_kib", "").isdigit():
            raise problems.command_failed(self.shell.endpoint, commands.compute(image), done.exit, done.err)
        found = Compute(
            docker=lines["docker"],
            image=lines.get("image", ""),
            free_kib=int(lines["free_kib"]),
            skew=float(lines["clock"]) - before,
            cpus=float(lines.get("cpus") or 0),
            memory_mb=int(lines.get("memory") or 0) // MIB,
            gpus=int(lines.get("gpus") or 0),
        )
        if not found.image:
            raise troubles.no_image(self.shell.endpoint, image)
        return found

    def image_id(self, image: str) -> str:
        """The id of an image on the VM; raises ``ConfigurationError`` if it is not there."""
        return self.compute(image).image

    def look(self, job: Job) -> Found:
        """What is there under the job's name."""
        done = self.shell.run(commands.look(job), timeout=LOOK_SECONDS)
        if done.exit == commands.ENGINE_DOWN:
            raise troubles.engine_down(self.shell.endpoint, done.err)
        lines = done.text.splitlines()
        if done.exit != 0 or len(lines) < 2:  # noqa: PLR2004 - state and staged
            raise problems.command_failed(self.shell.endpoint, commands.look(job), done.exit, done.err)
        found = Found() if lines[0] == "absent" else parse_state(lines[0])
        attempts = sorted((parse_attempt(one) for one in lines[2:]), key=lambda one: one.number)
        return dataclasses.replace(
            found, staged=lines[1] == "staged", folder=lines[1] != "none", attempts=tuple(attempts)
        )

    def submit(self, job: Job) -> bool:
        """Start the job's next attempt; False when one was there already and this call started nothing.

        Raises:
            ConfigurationError: The VM lacks the image, the processors or the GPUs that are asked for.
            ConflictError: Its disk has less than ``disk_mb`` free.
        """
        # A span of time and not a moment: the deadline is kept by the VM's clock, which may be minutes off.
        seconds = max(1, round(job.deadline - time.time())) if job.deadline else 0
        done = self.shell.run(commands.submit(job, seconds=seconds), timeout=SUBMIT_SECONDS)
        if done.exit == 0:
            return True
        if commands.IN_USE in done.err:
            return False
        if "No such image" in done.err or "Unable to find image" in done.err:
            raise troubles.no_image(self.shell.endpoint, job.image)
        if done.exit == commands.NO_SPACE:
            raise troubles.no_space(self.shell.endpoint, done.err)
        if scarce := next((one for one in troubles.SCARCE if one in done.err), ""):
            raise troubles.lacking(self.shell.endpoint, troubles.SCARCE[scarce], done.err)
        raise problems.command_failed(self.shell.endpoint, "(submit)", done.exit, done.err)

    def start(self, job: Job) -> None:
        """Start a container that was made but not started."""
        self.shell.check(commands.start(job), timeout=SUBMIT_SECONDS)

    def mind(self, job: Job) -> None:
        """See to it that the attempt is watched on the VM itself; a watch that is there gives way to this one."""
        self.shell.check(guard.begin(job), timeout=LOOK_SECONDS)

    def retire(self, job: Job) -> None:
        """Keep the log and outputs of an attempt that ended, and remove its container; once is enough."""
        self.shell.check(guard.retire(job), timeout=MOVE_SECONDS)

    def mark_unfit(self, job: Job) -> None:
        """Note that what the attempt put out will not do, so that the next try does not find it good again."""
        self.shell.check(commands.unfit(job), timeout=LOOK_SECONDS)

    def ask(self, job: Job, *, reason: str, stop: Stop = Stop.CANCELLED) -> None:
        """Leave word on the VM that this attempt is to be stopped, and do not wait for it."""
        self.shell.check(commands.cancel(job, reason=reason, stop=stop), timeout=LOOK_SECONDS)

    def cancel(self, job: Job, *, reason: str, stop: Stop = Stop.CANCELLED) -> Found:
        """Stop an attempt; returns when its container is verified to be gone, or to have ended if its time was over.

        Log, outputs and checkpoint stay in its folder. Raises ``ConflictError`` when it still runs after its grace.
        """
        self.ask(job, reason=reason, stop=stop)
        return self.wait_stopped(job, timeout=job.grace_seconds + LOOK_SECONDS)

    def wait_stopped(self, job: Job, *, timeout: float) -> Found:
        """Wait until the attempt that is being stopped has ended; ``ConflictError`` after ``timeout`` seconds."""
        until = time.monotonic() + timeout
        while True:
            found = self.look(job)
            other = job.attempt and found.attempt not in {0, job.attempt}
            going_on = decide(found, job.run_id).action in {Action.WAIT, Action.ATTACH}
            if other or not (going_on or _leaving(found)):
                return found
            if time.monotonic() >= until:
                raise ConflictError(
                    f"Container {job.name} is still there {timeout:g} s after it was asked to stop: {found.status}.",
                    left="the container and its folder on the VM",
                    next=f"Run `docker rm -f {job.name}` on {self.shell.endpoint.host}, then clear the task.",
                )
            time.sleep(POLL_SECONDS)

    def follow(self, job: Job, who: str, attempt: int, parked: Parked | None = None) -> None:
        """Leave word which try of ``who`` follows the job now, and which task it is."""
        self.shell.check(commands.follow(job, who, attempt, parked), timeout=LOOK_SECONDS)

    def signed(self, job: Job) -> str:
        """What the tasks signed that were parked on the job, as :func:`edgeloop.training.parked.read` reads it."""
        return self.shell.check(commands.signed(job), timeout=LOOK_SECONDS).text

    def give_up(self, job: Job, *, reason: str, was: str) -> bool:
        """As :meth:`ask`; False, and nothing was asked, when somebody signed since ``signed`` said ``was``."""
        text = commands.give_up(job, reason=reason, was=was)
        done = self.shell.run(text, timeout=LOOK_SECONDS)
        if done.exit not in {0, commands.CHANGED}:
            raise problems.command_failed(self.shell.endpoint, "(give up)", done.exit, done.err)
        return done.exit == 0

    def failure(self, job: Job, found: Found) -> TrainingFailedError:
        """The error for a job that ended badly: its last lines first, then how it ended.

        It is a ``TrainingInterruptedError`` where another attempt has a chance.
        """
        last = self.shell.run(commands.tail(job), timeout=LOOK_SECONDS).text
        said = "".join(f"  {line}\n" for line in last.splitlines()) if last else "  (it wrote nothing)\n"
        kind = TrainingInterruptedError if interrupted(found) else TrainingFailedError
        return kind(
            f"The training's last lines:\n{said}Container {job.name} on {self.shell.endpoint.host}: "
            f"{describe_end(found, job.memory_mb)}.",
            left=f"its log, outputs and checkpoint in ~/{job.folder} on the VM",
            next=troubles.remedy(found, job),
        )

    def listing(self, job: Job) -> bytes:
        """Everything in the job's outputs, as :func:`edgeloop.training.outputs.parse_listing` reads it."""
        return self.shell.check(commands.listing(job), timeout=LOOK_SECONDS).out

    def choose(self, job: Job) -> Choice:
        """What of the outputs is to be collected and what stays; raises ``TrainingFailedError``."""
        return choose(parse_listing(self.listing(job)), job.allowance)

    def digests(self, job: Job, names: tuple[str, ...]) -> dict[str, str]:
        """The sha256 of outputs as the VM sees them, by name."""
        done = self.shell.check(commands.digests(job, names), timeout=MOVE_SECONDS)
        return {name: sha256 for sha256, _, name in (line.partition("  ") for line in done.text.splitlines())}

    def fetch(self, job: Job, entry: Entry, sink: BinaryIO, *, sha256: str) -> None:
        """Copy one output into ``sink``; raises ``IntegrityError`` when it is not what the VM's manifest says."""
        counter = _Counter(sink, entry.size)
        text, seconds = commands.fetch(job, entry.path), whole_seconds(entry.size)
        if entry.size < LARGE_BYTES:
            self.shell.check(text, timeout=seconds, sink=counter)
        else:
            Bulk(self.shell).check(text, timeout=seconds, sink=counter)
        if counter.size != entry.size or counter.sha256.hexdigest() != sha256:
            raise IntegrityError(
                f"{entry.path} arrived with {counter.size} bytes and sha256 {counter.sha256.hexdigest()}, the VM has "
                f"{entry.size} bytes and {sha256}.",
                left="the container and its outputs on the VM",
                next="Clear the task: it collects again.",
            )

    def forget(self, job: Job) -> None:
        """Remove the job's container and folder; that they are not there is no error."""
        self._tidy(commands.forget(job))

    def release(self, job: Job) -> None:
        """Remove the job's container, data and code, and keep what it wrote."""
        self._tidy(commands.release(job))

    def _tidy(self, command: str) -> None:
        done = self.shell.run(command, timeout=MOVE_SECONDS)
        if done.exit == commands.ENGINE_DOWN:
            raise troubles.engine_down(self.shell.endpoint, done.err)
        if done.exit:
            raise problems.command_failed(self.shell.endpoint, command, done.exit, done.err)


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


def _leaving(found: Found) -> bool:
    """Whether a cancelled attempt has ended and its container is about to be removed by its watch."""
    last = found.last
    return found.status in {"exited", "dead"} and last.stop is Stop.CANCELLED and last.stopped
