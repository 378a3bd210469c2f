"""The course of a training: get it going or find it going, and bring home what it wrote.

Every step may be the last one of a process that dies: the next one looks at the VM and goes on from what is there.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from edgeloop.errors import ConflictError
from edgeloop.records import FileRef, TrainingRun
from edgeloop.training import staging
from edgeloop.training.commands import GRACE_SECONDS
from edgeloop.training.job import Action, Found, decide
from edgeloop.training.outputs import METRICS, canonical_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeloop.store import Store
    from edgeloop.training.bundle import Cargo
    from edgeloop.training.job import Job
    from edgeloop.training.outputs import Entry
    from edgeloop.training.remote import TrainingVm

ROUNDS = 8
WAIT_SECONDS = GRACE_SECONDS + 60.0


class Blobs(Protocol):
    """Where outputs go; a blob container is one."""

    def put_stream(self, name: str, data: BinaryIO, size: int, *, sha256: str) -> None:
        """Write a blob that must not exist, else raise ``ConflictError``."""
        ...

    def digest(self, name: str) -> tuple[int, str]:
        """Size and sha256 of the stored bytes."""
        ...

    def delete(self, name: str) -> None:
        """Remove a blob."""
        ...


def engage(vm: TrainingVm, job: Job, cargo: Cargo, say: Callable[[str], None]) -> Found:
    """See to it that the job runs or has ended well, starting it only when nothing of it is there.

    Returns what was found last: ``running`` (with the deadline its first submission was given), ``exited`` with 0, or
    whatever became of a job that this call started: one that fails at once is not started again by the same try.

    Raises:
        ConflictError: The name belongs to something else, or the job is paused; nothing was touched.
    """
    started = False
    for _ in range(ROUNDS):
        found = vm.look(job)
        decision = decide(found, job.run_id)
        say(f"{decision.action.value}: {decision.why}")
        if decision.action in {Action.ATTACH, Action.COLLECT} or (started and decision.action is Action.RESUBMIT):
            return found
        started = started or decision.action in {Action.SUBMIT, Action.START}
        _act(vm, job, decision.action, cargo, say)
        if decision.action is Action.REFUSE:
            raise _refused(vm, job, decision.why)
    raise _refused(vm, job, f"it changed {ROUNDS} times while this task looked at it")


def _act(vm: TrainingVm, job: Job, action: Action, cargo: Cargo, say: Callable[[str], None]) -> None:
    if action is Action.SUBMIT:
        staging.stage(vm.shell, job, cargo, say)
        vm.submit(job)
    elif action is Action.START:
        vm.start(job)
    elif action is Action.WAIT:
        vm.wait_gone(job, timeout=WAIT_SECONDS)
    elif action is Action.RESUBMIT:
        vm.retire(job)


def _refused(vm: TrainingVm, job: Job, why: str) -> ConflictError:
    host = vm.shell.endpoint.host
    return ConflictError(
        f"Container {job.name} on {host} (connection {vm.shell.endpoint.connection!r}) cannot be used: {why}.",
        left="the container as it is",
        next=f"Look at it with `docker inspect {job.name}` on {host}, unpause or remove it, then clear the task.",
    )


def harvest(
    vm: TrainingVm, job: Job, run: TrainingRun, *, found: Found, blobs: Blobs, store: Store, say: Callable[[str], None]
) -> TrainingRun:
    """Collect the outputs of a job that ended well, store them and the record, and tidy up on the VM.

    Returns the record as stored. The record is written last, so a crash before it collects again.

    Raises:
        TrainingFailedError: An output is missing, no regular file, too big, or metrics.json is no JSON of numbers.
        IntegrityError: What arrived is not what the VM's manifest says.
    """
    choice = vm.choose(job)
    digests = vm.digests(job, tuple(one.path for one in choice.files))
    with tempfile.TemporaryDirectory(prefix="edgeloop-") as folder:
        outputs, metrics = [], ""
        for one in choice.files:
            path = Path(folder) / one.path
            with path.open("wb") as sink:
                vm.fetch(job, one, sink, sha256=digests.get(one.path, ""))
            if one.path == METRICS:
                metrics = canonical_metrics(path.read_bytes())
            outputs.append(_output(run, one, path, digests[one.path]))
        for ref in outputs:
            _upload(blobs, ref, Path(folder) / Path(ref.path).name)
    record = dataclasses.replace(run, outputs=tuple(outputs), metrics=metrics, seconds=found.seconds)
    stored = store.put(record)
    tidy(vm, job, choice.left, say)
    return stored


def _output(run: TrainingRun, entry: Entry, path: Path, sha256: str) -> FileRef:
    return FileRef(path=f"training/{run.id}/{entry.path}", size=path.stat().st_size, sha256=sha256)


def _upload(blobs: Blobs, ref: FileRef, path: Path) -> None:
    """Store an output; what an attempt that died before its record left behind is replaced if it differs."""
    for _ in range(2):
        try:
            with path.open("rb") as data:
                blobs.put_stream(ref.path, data, ref.size, sha256=ref.sha256)
        except ConflictError:
            if blobs.digest(ref.path) == (ref.size, ref.sha256):
                return
            blobs.delete(ref.path)
        else:
            return
    raise ConflictError(
        f"Blob {ref.path} is written by somebody else at the same time.",
        left="the container and its outputs on the VM",
        next="Clear the task: it collects again.",
    )


def tidy(vm: TrainingVm, job: Job, left: Sequence[str], say: Callable[[str], None]) -> None:
    """Remove a collected job from the VM; outputs that were not collected stay there and are named."""
    if not left:
        vm.forget(job)
        return
    vm.release(job)
    say(f"Left on the VM in ~/{job.folder}/outputs: " + ", ".join(left))
