"""What is missing on the VM, what fits, and what leaves its cache."""

from __future__ import annotations

import pytest

from edgeloop.training import cache
from edgeloop.training.bundle import Member, member
from edgeloop.training.cache import Disk, Kept, Survey

KIB = 1024
A, B, C = "a" * 64, "b" * 64, "c" * 64
SAID = f"""good {A}
bad {B}
part {C}.part 2048
kept {A} 1000 1700000000.5 2
tool flock
tool curl
disk cache 65024 500
disk jobs 65024 600
"""


def file(digest: str, kib: int = 1, path: str = "") -> Member:
    """A file that the cache could have."""
    return Member(path=path or f"data/{digest[0]}", size=kib * KIB, sha256=digest, read=lambda _: ())


def room(free: int, *, jobs: Disk | None = None, **more: object) -> Survey:
    """A VM with so many KiB free."""
    return Survey(cache=Disk(device="1", free_kib=free), jobs=jobs or Disk(device="1", free_kib=free), **more)  # type: ignore[arg-type]


def test_a_survey_is_read() -> None:
    """What is held, what was spoiled, parts, the cache, tools and both disks come out of one text."""
    found = cache.parse_survey(SAID)
    assert (found.held, found.corrupted, found.parts) == ({A}, {B}, {C: 2048})
    assert found.kept == (Kept(sha256=A, size=1000, used=1700000000.5, links=2),)
    assert found.tools == {"flock", "curl"}
    assert (found.cache.free_kib, found.jobs.free_kib, found.staged) == (500, 600, False)
    assert cache.parse_survey("staged\n").staged


@pytest.mark.parametrize("text", ["", "good\n", "disk cache 1 2\n", "sh: find: not found\n"])
def test_no_survey_is_refused(text: str) -> None:
    """Half an answer is not taken for an empty cache."""
    with pytest.raises((ValueError, IndexError)):
        cache.parse_survey(text)


def test_each_content_is_brought_once_and_the_smallest_first() -> None:
    """What is held, loose or empty is not brought; two paths of one content are one."""
    members = (
        file(C, 9),
        file(A),
        file(B, 2),
        file(B, 2, "data/again"),
        member("code/train.py", b"1"),
        file("d" * 64, 0),
    )
    assert [one.sha256 for one in cache.missing(members, {A})] == [B, C]


def test_what_has_arrived_needs_no_room() -> None:
    """The rest of a part and the spare must fit; one KiB less is one KiB short."""
    members = (file(A, 100), file(B, 50))
    found = room(170, held=frozenset({B}), parts={A: 40 * KIB})
    assert cache.short_of(found, members, 110) == 0
    assert cache.short_of(found, members, 111) == 1


def test_a_cache_on_a_disk_of_its_own_needs_room_on_both() -> None:
    """What is copied into the job counts on the job's disk, what is brought on the cache's."""
    members = (file(A, 100),)
    assert cache.short_of(room(100, jobs=Disk(device="2", free_kib=110)), members, 10) == 0
    assert cache.short_of(room(99, jobs=Disk(device="2", free_kib=110)), members, 10) == 1
    assert cache.short_of(room(100, jobs=Disk(device="2", free_kib=109)), members, 10) == 1
    held = room(0, jobs=Disk(device="2", free_kib=10), held=frozenset({A}))
    assert cache.short_of(held, members, 10) == 0


def test_room_is_made_of_what_nobody_needs() -> None:
    """The oldest first; what the job needs or another links stays; too little is not thrown away for nothing."""
    kept = (
        Kept(sha256=A, size=10 * KIB, used=1),
        Kept(sha256=B, size=10 * KIB, used=2, links=2),
        Kept(sha256=C, size=10 * KIB, used=3),
        Kept(sha256="d" * 64, size=10 * KIB, used=4),
    )
    found = room(0, kept=kept)
    assert cache.to_make_room(found, 15, (file(A),)) == (C, "d" * 64)
    assert cache.to_make_room(found, 5, ()) == (A,)
    assert cache.to_make_room(found, 31, ()) == ()


def test_the_limit_takes_the_least_recently_used() -> None:
    """At the limit nothing goes; above it the oldest do, linked or not, until it holds; nothing allowed takes all."""
    kept = [Kept(sha256=A, size=10, used=3), Kept(sha256=B, size=10, used=1, links=5), Kept(sha256=C, size=10, used=2)]
    assert cache.evictions(kept, 30) == ()
    assert cache.evictions(kept, 29) == (B,)
    assert cache.evictions(kept, 15) == (B, C)
    assert cache.evictions(kept, 0) == (B, C, A)
