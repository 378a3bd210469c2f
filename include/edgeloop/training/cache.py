"""What the VM keeps of data it was sent before: what is missing, and what goes when there is no room for more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from edgeloop.training.bundle import Member

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A file of the cache: its size in bytes, its last use in seconds since 1970, how many names it has."""

    sha256: str
    size: int
    used: float
    links: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A file system of the VM: its number, and what is free on it in KiB."""

    device: str = ""
    free_kib: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is on the VM.

    Args:
        staged: The job has all it needs; nothing else is told then.
        held: Digests of what this job needs and has, checked.
        corrupted: Digests of files that were not what their names say; they were removed.
        parts: Bytes of large files that have arrived so far.
        kept: The cache.
        tools: Which of curl and flock are there.
        cache: The file system of the cache.
        jobs: That of the jobs' folders.
    """

    staged: bool = False
    held: frozenset[str] = frozenset()
    corrupted: frozenset[str] = frozenset()
    parts: Mapping[str, int] = field(default_factory=dict)
    kept: tuple[Kept, ...] = ()
    tools: frozenset[str] = frozenset()
    cache: Disk = Disk()
    jobs: Disk = Disk()


def parse_survey(text: str) -> Survey:
    """Read what :func:`edgeloop.training.stage_commands.survey` prints; raises ``ValueError`` at anything else."""
    lines = [words for line in text.splitlines() if (words := line.split())]
    if lines == [["staged"]]:
        return Survey(staged=True)
    disks = {words[1]: Disk(device=words[2], free_kib=int(words[3])) for words in lines if words[0] == "disk"}
    if set(disks) != {"cache", "jobs"}:
        raise ValueError(f"no survey: {text[-200:]!r}")
    return Survey(
        held=frozenset(words[1] for words in lines if words[0] == "good"),
        corrupted=frozenset(words[1] for words in lines if words[0] == "bad"),
        parts={words[1].removesuffix(".part"): int(words[2]) for words in lines if words[0] == "part"},
        kept=tuple(
            Kept(sha256=words[1], size=int(words[2]), used=float(words[3]), links=int(words[4]))
            for words in lines
            if words[0] == "kept"
        ),
        tools=frozenset(words[1] for words in lines if words[0] == "tool"),
        cache=disks["cache"],
        jobs=disks["jobs"],
    )


def wanted(members: Iterable[Member]) -> tuple[Member, ...]:
    """The members that the cache could have, each content once."""
    return tuple({one.sha256: one for one in members if not one.loose}.values())


def missing(members: Iterable[Member], held: Collection[str]) -> tuple[Member, ...]:
    """The members that must be brought, each content once; the smallest first, so that a try that dies got further."""
    return tuple(sorted((one for one in wanted(members) if one.sha256 not in held), key=lambda one: one.size))


def to_come(lacking: Iterable[Member], parts: Mapping[str, int]) -> int:
    """Bytes that are still to be brought."""
    return sum(one.size - min(parts.get(one.sha256, 0), one.size) for one in lacking)


def short_of(survey: Survey, members: Iterable[Member], spare_kib: int) -> int:
    """KiB that the VM's disk lacks for what is to be brought and ``spare_kib`` beyond it; 0 if there is room."""
    members = tuple(members)
    coming = -(-to_come(missing(members, survey.held), survey.parts) // KIB)
    if survey.cache.device == survey.jobs.device:
        return max(0, coming + spare_kib - survey.jobs.free_kib)
    copied = -(-sum(one.size for one in wanted(members) if one.sha256 not in survey.held) // KIB)
    return max(0, coming - survey.cache.free_kib, copied + spare_kib - survey.jobs.free_kib)


def to_make_room(survey: Survey, kib: int, members: Iterable[Member]) -> tuple[str, ...]:
    """What of the cache to remove for ``kib`` KiB, least recently used first; none if that would not be enough.

    What the job needs stays, and so does what another job links: its bytes would stay on the disk.
    """
    needed = {one.sha256 for one in wanted(members)}
    chosen, freed = [], 0
    for one in _oldest_first(survey.kept):
        if freed >= kib * KIB:
            break
        if one.links == 1 and one.sha256 not in needed:
            chosen.append(one.sha256)
            freed += one.size
    return tuple(chosen) if freed >= kib * KIB else ()


def evictions(kept: Iterable[Kept], limit: int) -> tuple[str, ...]:
    """What to remove so that the cache has ``limit`` bytes at most, least recently used first.

    A file that jobs still link goes like any other: they keep it, and once they are gone it would have been above the
    limit.
    """
    kept = tuple(kept)
    chosen, total = [], sum(one.size for one in kept)
    for one in _oldest_first(kept):
        if total <= limit:
            break
        chosen.append(one.sha256)
        total -= one.size
    return tuple(chosen)


def _oldest_first(kept: Iterable[Kept]) -> list[Kept]:
    return sorted(kept, key=lambda one: (one.used, one.sha256))
