"""Finishing what a crash left on a VM: by label, and never anything of others.

It only ever looks at jobs of one pipeline. What still runs is guarded again, unless every task that waited for it was
given up; what was to be stopped is stopped, what ended is kept for a retry until ``keep_seconds`` have passed, and then
it goes with its folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from edgeloop.errors import EdgeloopError
from edgeloop.ssh import problems
from edgeloop.training import commands, parked, troubles
from edgeloop.training.job import FOLDER, LABEL_PIPELINE, LABEL_TRAINING, Found, Job, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.training.parked import Parked
    from edgeloop.training.remote import TrainingVm

ALONE = "alone"
"""Stands for the pipeline on the labels of a job that has none."""
DAY_SECONDS = 86_400.0
KEEP_SECONDS = 7 * DAY_SECONDS
UNSTARTED_SECONDS = 600.0
OVERDUE_SECONDS = 120.0
"""The guard on the VM and the task come first."""
PART_MINUTES = 60
SURVEY_SECONDS = 60.0


class Deed(StrEnum):
    """What the reaper does about a job."""

    LEAVE = "left"
    GUARD = "guarded"
    STOP = "stopped"
    CANCEL = "cancelled"
    RETIRE = "removed the container of"
    FORGET = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """A job of the pipeline that the VM knows.

    Args:
        run_id: The id of the training run.
        image: Its image.
        made: When its container was made, by the VM's clock; 0 if there is none.
        touched: When anything in its folder changed last; 0 if there is none.
    """

    run_id: str
    image: str
    made: float = 0.0
    touched: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a VM holds of a pipeline.

    Args:
        clock: The VM's clock, seconds since 1970.
        remains: The pipeline's jobs.
        others: How many containers and folders are not the pipeline's.
        parts: Folders of stagings that died, older than an hour.
    """

    clock: float
    remains: tuple[Remains, ...] = ()
    others: int = 0
    parts: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """What was done and what was left, a line each, and what went wrong."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: list[EdgeloopError] = field(default_factory=list)


def survey() -> str:
    """Every training container and every job's folder, in one round trip."""
    inspect = "docker container inspect --format '{{.Created}} {{.Image}} {{json .Config.Labels}}'"
    return f"""set -e
mkdir -p {FOLDER}
ids=$(docker ps -aq --no-trunc --filter label={LABEL_TRAINING}) || exit {commands.ENGINE_DOWN}
echo clock $(date +%s)
for id in $ids; do
if one=$({inspect} $id 2>/dev/null); then echo "container $one"; fi
done
for at in {FOLDER}/*/; do
case $at in */'*/' | *.part/) continue ;; esac
touched=$(find $at -maxdepth 2 -printf '%T@\\n' 2>/dev/null | sort -n | tail -n 1)
echo folder $(basename $at) ${{touched%.*}} $(cat $at/job 2>/dev/null)
done
find {FOLDER} -maxdepth 1 -name '*.part' -mmin +{PART_MINUTES} -printf 'part %f\\n'"""


def parse_survey(text: str, pipeline: str) -> Survey:
    """Read what :func:`survey` printed; raises ``ValueError`` for anything else."""
    said: dict[str, list[str]] = {"clock": [], "container": [], "folder": [], "part": []}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        said[kind].append(rest)
    containers = [_container(one, pipeline) for one in said["container"]]
    found = {one.run_id[:24]: one for one in containers if one is not None}
    others = containers.count(None)
    for line in said["folder"]:
        short, touched, *owner = line.split()
        if owner[:1] == [pipeline]:
            made = found[short].made if short in found else 0.0
            found[short] = Remains(run_id=owner[1], image=owner[2], made=made, touched=float(touched))
        elif short not in found:
            others += 1
    (clock,) = said["clock"]
    remains = tuple(found[one] for one in sorted(found))
    return Survey(clock=float(clock), remains=remains, others=others, parts=tuple(said["part"]))


def _container(rest: str, pipeline: str) -> Remains | None:
    made, image, labels = rest.split(" ", 2)
    known = json.loads(labels) or {}
    if known.get(LABEL_PIPELINE) != pipeline:
        return None
    return Remains(run_id=known[LABEL_TRAINING], image=image, made=_seconds(made))


def _seconds(stamp: str) -> float:
    """Docker writes nanoseconds, datetime reads microseconds."""
    return datetime.fromisoformat(stamp[:19] + "+00:00").timestamp()


def judge(found: Found, one: Remains, *, clock: float, keep: float) -> tuple[Deed, str]:
    """What is to be done about a job, and why; ``clock`` is the VM's, ``keep`` in seconds."""
    if found.status == "absent":
        idle = clock - one.touched
        kept = f"its state is kept for a retry, {idle / DAY_SECONDS:.1f} of {keep / DAY_SECONDS:g} days"
        return (Deed.FORGET, "nobody came for its state") if idle >= keep else (Deed.LEAVE, kept)
    if found.owner != one.run_id:
        return Deed.LEAVE, "its name belongs to a container of somebody else"
    if found.status in {"exited", "dead"}:
        return _ended(found, clock=clock, keep=keep)
    return _alive(found, one, clock=clock)


def _alive(found: Found, one: Remains, *, clock: float) -> tuple[Deed, str]:
    last = found.last
    if found.status == "removing":
        return Deed.LEAVE, "Docker is removing it"
    if found.status == "created":
        late = clock - one.made > UNSTARTED_SECONDS or bool(last.stop)
        return (Deed.RETIRE, "it was made and never started") if late else (Deed.LEAVE, "it was made just now")
    if not last.stop and found.deadline and clock > found.deadline + OVERDUE_SECONDS:
        return Deed.STOP, "its time was over"
    return Deed.GUARD, f"it is being stopped: {last.reason}" if last.stop else "it runs"


def _ended(found: Found, *, clock: float, keep: float) -> tuple[Deed, str]:
    if found.last.stop is Stop.CANCELLED and found.last.stopped:
        return Deed.RETIRE, f"it was stopped: {found.last.reason}"
    idle = clock - _seconds(found.finished_at)
    how = f"it ended with exit code {found.exit_code}"
    # Of the same second, as the VM counts: a reaper that is forced keeps nothing.
    if idle >= keep:
        return Deed.FORGET, f"{how} and nobody came for it"
    return Deed.LEAVE, f"{how}; it is kept for a retry, {idle / DAY_SECONDS:.1f} of {keep / DAY_SECONDS:g} days"


def look(vm: TrainingVm, pipeline: str) -> Survey:
    """What the VM holds of a pipeline; raises ``UnreachableError`` when it, or Docker there, does not answer."""
    done = vm.shell.run(survey(), timeout=SURVEY_SECONDS)
    if done.exit == commands.ENGINE_DOWN:
        raise troubles.engine_down(vm.shell.endpoint, done.err)
    try:
        return parse_survey(done.text, pipeline)
    except (ValueError, KeyError, IndexError) as error:
        raise problems.command_failed(vm.shell.endpoint, "(survey)", done.exit, done.err or str(error)) from error


def _wanted(waiting: tuple[Parked, ...]) -> str:
    del waiting
    return ""


def reap(
    vm: TrainingVm,
    pipeline: str,
    *,
    keep: float = KEEP_SECONDS,
    say: Callable[[str], None],
    given_up: Callable[[tuple[Parked, ...]], str] = _wanted,
) -> Report:
    """Finish what was left of a pipeline's jobs; one that cannot be dealt with keeps no other from it.

    ``given_up`` is asked, of a job that runs, about everybody who waits for it: why nobody does any more, or "".
    """
    found, report = look(vm, pipeline), Report()
    for name in found.parts:
        vm.shell.check(f"rm -rf {FOLDER}/{name}", timeout=SURVEY_SECONDS)
        report.done.append(f"removed {name}, a staging that died")
    for one in found.remains:
        job = Job(run_id=one.run_id, pipeline=pipeline, image=one.image)
        try:
            there = vm.look(job)
            deed, why = judge(there, one, clock=found.clock, keep=keep)
            if deed is Deed.GUARD and not there.last.stop:
                deed, why = _unwanted(vm, job.at(there.attempt), given_up) or (deed, why)
            _do(vm, job.at(there.attempt), deed, why)
        except EdgeloopError as error:
            report.failed.append(error)
            say(f"{job.name}: {error}")
            continue
        (report.left if deed in {Deed.LEAVE, Deed.GUARD} else report.done).append(f"{deed.value} {job.name}: {why}")
    if found.others:
        report.left.append(f"left {found.others} containers and folders that are not of {pipeline}")
    for line in (*report.done, *report.left):
        say(line)
    return report


def _unwanted(
    vm: TrainingVm, job: Job, given_up: Callable[[tuple[Parked, ...]], str]
) -> tuple[Literal[Deed.CANCEL], str] | None:
    """Have a job cancelled that runs for nobody any more; a task that attached meanwhile keeps it."""
    said = vm.signed(job)
    waiting = parked.read(said)
    why = given_up(waiting) if waiting else ""
    return (Deed.CANCEL, why) if why and vm.give_up(job, reason=why, was=said) else None


def _do(vm: TrainingVm, job: Job, deed: Deed, why: str) -> None:
    if deed is Deed.GUARD:
        vm.mind(job)
    elif deed is Deed.STOP:
        vm.ask(job, reason=why, stop=Stop.DEADLINE)
    elif deed is Deed.RETIRE:
        vm.retire(job)
    elif deed is Deed.FORGET:
        vm.forget(job)
