"""Data and code on their way to the VM: what it lacks and nothing else, checked there, complete or not there at all.

Every step may be the last of a process that dies. What has arrived stays in the VM's cache under its sha256, or as the
part of a large file, and the next try asks the VM first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError, ConflictError, RemoteCommandError
from edgeloop.ssh import problems
from edgeloop.ssh.openssh import Bulk
from edgeloop.training import cache, stage_commands
from edgeloop.training.bundle import folder_stream
from edgeloop.training.staging_direct import Direct, insisted
from edgeloop.training.staging_worker import Worker
from edgeloop.training.staging_yard import LOOK_SECONDS, Yard, full, no_space, spoiled, whole_seconds
from edgeloop.transfer.progress import MIB, Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from edgeloop.ssh.openssh import Carrier
    from edgeloop.training.bundle import Cargo, Member
    from edgeloop.training.cache import Survey
    from edgeloop.training.job import Job

ROUNDS = 4
HASH_BYTES = 50 * MIB
"""Per second that a slow VM hashes of what its cache has."""


def stage(shell: Carrier, job: Job, cargo: Cargo, say: Callable[[str], None]) -> None:
    """Bring data and code into the job's folder, verified there; already staged is nothing to do.

    Raises:
        IntegrityError: The bytes that arrived are not those of the records.
        ConflictError: The VM's disk is too full, or another staging holds a file and gets no further.
        ConfigurationError: ``training.staging`` is ``direct`` and the VM cannot fetch.
        UnreachableError: VM or storage fell silent; the next try goes on from what has arrived.
    """
    try:
        _stage(shell, job, cargo, say)
    except RemoteCommandError:
        # Another staging of the same job came to its end, and took away what this one had in its hands.
        if shell.run(stage_commands.complete(job), timeout=LOOK_SECONDS).exit:
            raise


def _stage(shell: Carrier, job: Job, cargo: Cargo, say: Callable[[str], None]) -> None:
    bulk = Bulk(shell)
    for _ in range(ROUNDS):
        found = survey(shell, job, cargo)
        if found.staged:
            return
        lacking = cache.missing(cargo.members, found.held)
        meter = Meter(f"Data for {shell.endpoint.host}", sum(one.size for one in lacking), log=say)
        yard = Yard(shell=shell, bulk=bulk, job=job, cargo=cargo, meter=meter, say=say)
        _tell(yard, found, lacking)
        _room(yard, found)
        if lacking:
            _bring(yard, found, lacking)
        if _assemble(yard):
            _trim(yard, found)
            return
    raise ConflictError(
        f"What job {job.short} was sent disappeared {ROUNDS} times from {shell.endpoint.host} before it was complete.",
        left="what has arrived",
        next=f"Find out who removes files below ~/{stage_commands.CACHE} there, then clear the task.",
    )


def survey(shell: Carrier, job: Job, cargo: Cargo) -> Survey:
    """What the VM has of the cargo, in one round trip; it hashes what it has."""
    wanted = cache.wanted(cargo.members)
    seconds = LOOK_SECONDS + sum(one.size for one in wanted) / HASH_BYTES
    text = stage_commands.survey(job)
    done = shell.run(text, stdin="".join(f"{one.sha256}\n" for one in wanted).encode(), timeout=seconds)
    if no_space(done.err):
        raise full(shell.endpoint, "not even an empty folder can be made")
    try:
        if done.exit:
            raise ValueError(done.err)  # noqa: TRY301 - told as any other answer that is none
        found = cache.parse_survey(done.out.decode(errors="replace"))
    except (ValueError, IndexError) as error:
        raise problems.command_failed(shell.endpoint, "(survey)", done.exit, done.err or str(error)) from error
    if not found.staged and "flock" not in found.tools:
        raise ConfigurationError(
            f"{shell.endpoint.host} (connection {shell.endpoint.connection!r}) has no flock command.",
            left="nothing was sent",
            next="Install it there: `sudo apt-get install util-linux`.",
        )
    return found


def _tell(yard: Yard, found: Survey, lacking: Sequence[Member]) -> None:
    for digest in sorted(found.corrupted):
        yard.say(f"File {digest[:16]} in the VM's cache was not what its name says; it was removed and is sent anew")
    there = sum(one.size for one in cache.wanted(yard.cargo.members) if one.sha256 in found.held)
    come = cache.to_come(lacking, found.parts)
    parts = sum(one.size for one in lacking) - come
    yard.say(
        f"The VM has {there / MIB:.1f} MiB of the data in its cache, {come / MIB:.1f} MiB in {len(lacking)} files are "
        "to come" + (f", {parts / MIB:.1f} MiB of them arrived before" if parts else "")
    )


def _room(yard: Yard, found: Survey) -> None:
    """Make room in the cache if the disk has none for what comes; raises ``ConflictError`` if that does not do."""
    spare = yard.cargo.spare_kib
    if not (short := cache.short_of(found, yard.cargo.members, spare)):
        return
    if old := cache.to_make_room(found, short, yard.cargo.members):
        yard.say(f"The VM's disk is nearly full: {len(old)} files that no job uses leave its cache")
        _evict(yard, old)
        return
    coming = -(-cache.to_come(cache.missing(yard.cargo.members, found.held), found.parts) // 1024)
    raise full(
        yard.shell.endpoint,
        f"{coming + spare} KiB are needed ({coming} to come and {spare} to spare, training.disk_mb), "
        f"{min(found.cache.free_kib, found.jobs.free_kib)} KiB are free",
    )


def _bring(yard: Yard, found: Survey, lacking: Sequence[Member]) -> None:
    rest = list(lacking)
    source, way = yard.cargo.source, yard.cargo.way
    stored = [one for one in lacking if one.blob]
    if source is not None and stored and way != "worker":
        direct = Direct(yard, source)
        verdict = direct.examine(stored[0], found)
        if not verdict.why:
            yard.say("The VM fetches them from the storage account itself")
            left, verdict = direct.bring(stored)
            rest = [*(one for one in lacking if not one.blob), *left]
        if verdict.why and way == "direct":
            raise insisted(yard, verdict)
        if verdict.why:
            yard.say(f"The VM does not fetch from the storage account itself: {verdict.why}")
    if rest:
        Worker(yard).bring(rest)
        yard.say(f"{len(rest)} files went through the worker, over {yard.bulk.name}")


def _assemble(yard: Yard) -> bool:
    """Make the job's folder of what is there; False when something of it has gone meanwhile."""
    text = stage_commands.assemble(yard.job)
    seconds = whole_seconds(sum(one.size for one in yard.cargo.members))
    done = yard.shell.run(text, stdin=folder_stream(yard.cargo.members), timeout=seconds)
    if not done.exit:
        return True
    if no_space(done.err):
        raise full(yard.shell.endpoint, "no room for the job's own files")
    if done.text.startswith("bad "):
        wrong = done.text.split()[1]
        raise spoiled(yard, next((one.path for one in yard.cargo.members if one.sha256 == wrong), wrong))
    if done.exit in {stage_commands.INCOMPLETE, stage_commands.BUSY}:
        yard.say(f"Not everything was still there: {done.err.strip()[-200:]}")
        return False
    raise problems.command_failed(yard.shell.endpoint, "(assemble)", done.exit, done.err)


def _trim(yard: Yard, found: Survey) -> None:
    """Keep the cache within its limit; what this job uses counts as used last."""
    needed = {one.sha256 for one in cache.wanted(yard.cargo.members)}
    newest = max((one.used for one in found.kept), default=0.0) + 1
    kept = [one for one in found.kept if one.sha256 not in needed]
    kept += [cache.Kept(sha256=one.sha256, size=one.size, used=newest) for one in cache.wanted(yard.cargo.members)]
    if old := cache.evictions(kept, yard.cargo.cache_bytes):
        _evict(yard, old)
        yard.say(f"{len(old)} files left the VM's cache, which may have {yard.cargo.cache_bytes / MIB:.0f} MiB")


def _evict(yard: Yard, digests: Iterable[str]) -> None:
    names = "".join(f"{one}\n" for one in digests).encode()
    done = yard.shell.run(stage_commands.evict(), stdin=names, timeout=LOOK_SECONDS)
    if done.exit:
        raise problems.command_failed(yard.shell.endpoint, "(evict)", done.exit, done.err)
