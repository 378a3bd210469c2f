"""The course of a training: get it going or find it going, and bring home what it wrote.

Every step may be the last one of a process that dies: the next one looks at the VM and goes on from what is there.
"""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from edgeloop.errors import ConfigurationError, ConflictError, RemoteCommandError, TrainingFailedError
from edgeloop.records import FileRef, TrainingRun
from edgeloop.tidy import RIGHT
from edgeloop.training import staging
from edgeloop.training.job import Action, Found, decide
from edgeloop.training.outputs import METRICS, blob_name, canonical_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from edgeloop.store import Store
    from edgeloop.training.bundle import Cargo
    from edgeloop.training.follow import Place
    from edgeloop.training.follow_log import Ask
    from edgeloop.training.job import Job
    from edgeloop.training.leaks import Check
    from edgeloop.training.remote import TrainingVm

ROUNDS = 8
WAIT_SECONDS = 60.0
LOOK_SECONDS = 30.0


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


def _never() -> bool:
    return False


def _unsigned() -> None:
    pass


def engage(
    vm: TrainingVm,
    job: Job,
    cargo: Cargo,
    say: Callable[[str], None],
    *,
    done: Callable[[], bool] = _never,
    who: str = "",
    seen: Place | None = None,
    sign: Callable[[], None] = _unsigned,
) -> Found | None:
    """See to it that an attempt of the job runs or has ended well, starting one only when none is there.

    Returns what was found last: ``running`` (with the deadline that it was given), ``exited`` with 0, or whatever
    became of an attempt that this call started: one that fails at once is not started again by the same try. None
    when ``done`` says that somebody else finished the training meanwhile; nothing of it is left on the VM then. Lines
    of an earlier attempt that were not passed on to the follower ``who`` are passed on first, after ``seen`` (see
    :func:`drain`). ``sign`` leaves word on the VM who waits for the job, before anything of it runs.

    Raises:
        ConflictError: The name belongs to something else, or the job is paused; nothing was touched.
    """
    started = False
    for _ in range(ROUNDS):
        found = vm.look(job)
        decision = decide(found, job.run_id)
        say(f"{decision.action.value}: {decision.why}")
        if decision.action is Action.REFUSE:
            raise _refused(vm, job, decision.why)
        if decision.action is Action.COLLECT or (started and decision.action in {Action.SUBMIT, Action.RESUBMIT}):
            return found
        this = job.at(found.attempt)
        if decision.action is Action.SUBMIT:
            if not _begin(vm, job, cargo, say, done=done, sign=sign):
                return None
            started = True
            continue
        if decision.action is Action.RESUBMIT:
            drain(vm, this, say, who, seen)
        _act(vm, this, decision.action)
        if decision.action is Action.ATTACH:
            return found
        started = started or decision.action is Action.START
    raise _refused(vm, job, f"it changed {ROUNDS} times while this task looked at it")


def _begin(
    vm: TrainingVm,
    job: Job,
    cargo: Cargo,
    say: Callable[[str], None],
    *,
    done: Callable[[], bool],
    sign: Callable[[], None],
) -> bool:
    """Start the next attempt; False if the training is finished.

    Who collects stores the record before it removes the container: no container may mean that it is finished. It is
    asked again afterwards, for whoever collected between the question and the start.
    """
    if done():
        return False
    staging.stage(vm.shell, job, cargo, say)
    # A worker killed after the start leaves a job that belongs to somebody, who can be asked about it.
    sign()
    if done() or (vm.submit(job) and done()):
        vm.forget(job)
        return False
    return True


def _act(vm: TrainingVm, this: Job, action: Action) -> None:
    if action is Action.ATTACH:
        vm.mind(this)
    elif action is Action.START:
        vm.start(this)
    elif action is Action.WAIT:
        vm.mind(this)
        vm.wait_stopped(this, timeout=this.grace_seconds + WAIT_SECONDS)
    elif action is Action.RESUBMIT:
        vm.retire(this)


def drain(vm: TrainingVm, job: Job, say: Callable[[str], None], who: str = "", seen: Place | None = None) -> None:
    """Pass on the lines of an ended attempt that nobody has passed on to ``who`` yet, and keep the place.

    ``seen`` is the last of the job's lines in the task's log on this machine: a follower whose link was cut passed
    lines on and could not keep its place any more.
    """
    from edgeloop.training import follow_commands
    from edgeloop.training.follow import Place, resume
    from edgeloop.training.follow_log import LogReader

    kept = Place.read(vm.shell.run(follow_commands.kept(job, who), timeout=LOOK_SECONDS).text)
    reader = LogReader(resume(kept, host=seen.host, logged=seen.stamp) if seen else kept.stamp)
    ask: Ask | None = reader.ask()
    while ask is not None:
        reply = vm.shell.run(follow_commands.poll(job, ask), timeout=LOOK_SECONDS).out.split(b"\n", 3)
        piece = reader.take(reply[3] if len(reply) > 3 else b"", ask)  # noqa: PLR2004 - state, made, clock, log
        for line in piece.trouble.splitlines():
            say(line)
        for entry in piece.entries:
            say(entry.text)
            reader.passed(entry)
        ask = piece.more
    if reader.cursor:
        place = Place(stamp=reader.cursor).text
        vm.shell.run(follow_commands.keep(job, who, place), timeout=LOOK_SECONDS)


def _refused(vm: TrainingVm, job: Job, why: str) -> ConflictError:
    host = vm.shell.endpoint.host
    return ConflictError(
        f"Container {job.name} on {host} (connection {vm.shell.endpoint.connection!r}) cannot be used: {why}.",
        left="the container as it is",
        next=f"Look at it with `docker inspect {job.name}` on {host}, unpause or remove it, then clear the task.",
    )


def _unchecked(outputs: Mapping[str, Path], names: Sequence[str]) -> None:
    del outputs, names


def harvest(
    vm: TrainingVm,
    job: Job,
    run: TrainingRun,
    *,
    found: Found,
    blobs: Blobs,
    store: Store,
    say: Callable[[str], None],
    check: Check = _unchecked,
) -> TrainingRun:
    """Collect the outputs of a job that ended well, store them and the record, and tidy up on the VM.

    Returns the record as stored. The record is written last, so a crash before it collects again. ``check`` sees every
    output before any of them is stored, and before the name of anything is told.

    Raises:
        TrainingFailedError: An output is missing, no regular file, too big, or metrics.json is no JSON of numbers.
        IntegrityError: What arrived is not what the VM's manifest says.
        LeakError: What it wrote holds data it was trained on; nothing was stored and all of it stays on the VM.
    """
    with _unfit(vm, job.at(found.attempt)):
        choice = vm.choose(job)
    digests = vm.digests(job, tuple(one.path for one in choice.files))
    with tempfile.TemporaryDirectory(prefix="edgeloop-") as folder:
        paths: dict[str, Path] = {}
        for one in choice.files:
            path = paths[one.path] = Path(folder) / one.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as sink:
                vm.fetch(job, one, sink, sha256=digests.get(one.path, ""))
        check(paths, choice.names)
        with _unfit(vm, job.at(found.attempt)):
            metrics = canonical_metrics(paths[METRICS].read_bytes())
        outputs = [_output(run, name, path, digests[name]) for name, path in paths.items()]
        for ref, path in zip(outputs, paths.values(), strict=True):
            _upload(blobs, ref, path)
    record = dataclasses.replace(run, outputs=tuple(outputs), metrics=metrics, seconds=found.seconds)
    stored = store.put(record)
    tidy(vm, job, choice.left, say)
    return stored


@contextmanager
def _unfit(vm: TrainingVm, job: Job) -> Iterator[None]:
    """An attempt whose outputs will not do has failed: the next try makes another one."""
    try:
        yield
    except TrainingFailedError:
        vm.mark_unfit(job)
        raise


def _output(run: TrainingRun, name: str, path: Path, sha256: str) -> FileRef:
    return FileRef(path=blob_name(run.id, name), size=path.stat().st_size, sha256=sha256)


def _upload(blobs: Blobs, ref: FileRef, path: Path) -> None:
    """Store an output; what an attempt that died before its record left behind is replaced if it differs."""
    for _ in range(2):
        try:
            with path.open("rb") as data:
                blobs.put_stream(ref.path, data, ref.size, sha256=ref.sha256)
        except ConflictError:
            if blobs.digest(ref.path) == (ref.size, ref.sha256):
                return
            _make_room(blobs, ref.path)
        else:
            return
    raise ConflictError(
        f"Blob {ref.path} is written by somebody else at the same time.",
        left="the container and its outputs on the VM",
        next="Clear the task: it collects again.",
    )


def _make_room(blobs: Blobs, path: str) -> None:
    try:
        blobs.delete(path)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"Blob {path} was left by a try that died and holds other bytes, and may not be removed: {error.what}",
            left="the blob, and the outputs on the VM",
            next=f"Give the connection the right to delete ({RIGHT}), or delete that blob; then clear the task.",
        ) from error


def sweep(vm: TrainingVm, job: Job, left: Callable[[], Sequence[str]], say: Callable[[str], None]) -> None:
    """Tidy up after whoever stored the record and died, or lost Docker, before the VM was tidy; else do nothing.

    ``left`` names the outputs that were not collected; it is asked only where there is something to tidy up.
    """
    found = vm.look(job)
    if found.status == "absent" and not found.staged:
        return
    try:
        names = left()
    except (TrainingFailedError, RemoteCommandError):
        # Its folder is half gone already.
        names = ()
    tidy(vm, job, names, say)


def tidy(vm: TrainingVm, job: Job, left: Sequence[str], say: Callable[[str], None]) -> None:
    """Remove a collected job from the VM; outputs that were not collected stay there and are named."""
    if not left:
        vm.forget(job)
        return
    vm.release(job)
    say(f"Left on the VM in ~/{job.folder}/outputs: " + ", ".join(left))
