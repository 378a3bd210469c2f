from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.memory import etag

from edgeloop.errors import NotFoundError, UnreachableError
from edgeloop.lineage import stored
from edgeloop.lineage.chain import State
from edgeloop.lineage.find import Subject
from edgeloop.lineage.reader import Reader
from edgeloop.lineage.shared import Shared
from edgeloop.lineage.walk import of_device, of_record
from edgeloop.record_base import canonical_json, sha256_hex
from edgeloop.records import Batch, FileRef
from edgeloop.share.scan import Folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.edgeloop.lineage.conftest import World

    from edgeloop.lineage.chain import Check, Lineage
    from edgeloop.share.source import FileSource, Seen

MONTH = "2014-02"
SITES = ("R80711", "R80721")


def wrong(lineage: Lineage) -> list[tuple[str, State, str]]:
    """What does not hold: the kind of thing, how sure that is, and what was found."""
    return [(node.kind, check.state, check.found) for node, check in lineage.wrong()]


def traced(world: World, *, whole: bool = False, said: list[str] | None = None) -> Lineage:
    """The chain of a device."""
    say = (lambda _: None) if said is None else said.append
    return of_device(Reader(world.store, world.memory, world.images, whole, None, say), "R80711")


def edit_etags(world: World, month: str, etags: list[str]) -> None:
    """The certificate's record names other etags, or none as records of before."""
    name = f"records/certificate/{world.certificate(month).id}.json"
    body = json.loads(world.memory.objects[name])
    body["record"]["etags"] = etags
    world.memory.objects[name] = canonical_json(body)


def lose(world: World) -> None:
    """Somebody deletes the blob."""
    del world.memory.objects[world.data(MONTH)]


def cut(world: World) -> None:
    """A copy of it broke off."""
    world.memory.objects[world.data(MONTH)] = world.parquet(MONTH)[:-1]


def swap(world: World) -> None:
    """Somebody puts other rows of the same size in its place."""
    world.memory.objects[world.data(MONTH)] = world.parquet(MONTH)[::-1]


@pytest.mark.parametrize(
    ("harm", "found", "doing"),
    [
        (lose, "there is no such blob", "az storage blob undelete --container-name memory --name 'data/"),
        (cut, "it has 14 bytes, 15 were certified", "Put memory/data/"),
        (swap, "it reads as 15 bytes with sha256 ", "Put memory/data/"),
    ],
)
@pytest.mark.parametrize("whole", [False, True], ids=["etag", "bytes"])
def test_a_certified_file_that_is_not_as_it_was_breaks_its_certificate(
    world: World, harm: Callable[[World], None], found: str, doing: str, *, whole: bool
) -> None:
    """Lost, cut or replaced: broken there and nowhere else, with what to do; the rest of the chain stays."""
    sound = traced(world, whole=whole)
    harm(world)
    lineage = traced(world, whole=whole)
    ((node, check),) = lineage.wrong()
    assert (node.id, check.state, check.what) == (
        world.certificate(MONTH).id, State.BROKEN, f"{world.data(MONTH)} is stored as it was certified",
    )  # fmt: skip
    assert check.found.startswith(found)
    assert doing in check.next
    assert lineage.checks == sound.checks
    batch = of_record(world.reader, Subject(kind="batch", id=world.batch(MONTH).id), SITES)
    assert [kind for kind, _, _ in wrong(batch)] == ["certificate"]


def test_as_long_as_the_etag_is_the_one_that_was_proven_nothing_is_read(world: World) -> None:
    """Rot below the service shows only when the bytes are read; then it shows."""
    swap(world)
    edit_etags(world, MONTH, [etag(world.parquet(MONTH)[::-1])])
    said: list[str] = []
    assert wrong(traced(world, said=said)) == []
    assert said == []
    assert [kind for kind, _, _ in wrong(traced(world, whole=True, said=said))] == ["certificate"]
    assert said == ["reading 3 data files, 0.0 MiB"]


@pytest.mark.parametrize("etags", [["another"], []], ids=["restored", "of before"])
def test_a_file_under_another_etag_is_read_as_far_as_that_is_little(
    world: World, monkeypatch: pytest.MonkeyPatch, etags: list[str]
) -> None:
    """A restored blob holds what it held; what is too much to read without being asked to is no link that holds."""
    edit_etags(world, MONTH, etags)
    assert wrong(traced(world)) == []
    monkeypatch.setattr(stored, "DOUBTED_BYTES", 14)
    ((_, check),) = traced(world).wrong()
    assert (check.state, check.next) == (State.UNPROVEN, "Ask again with --bytes, which reads it.")
    assert wrong(traced(world, whole=True)) == []


def test_of_an_older_certificate_the_manifest_knows_the_etag(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read but the manifest; one that is damaged is as none."""
    monkeypatch.setattr(stored, "DOUBTED_BYTES", 0)
    edit_etags(world, MONTH, [])
    one = world.certificate(MONTH)
    entry = {"path": world.data(MONTH), "etag": etag(world.parquet(MONTH))}
    name = f"manifests/{one.batch}/{one.id[:16]}.json"
    world.memory.objects[name] = canonical_json({"files": [entry]})
    assert wrong(traced(world)) == []
    swap(world)
    assert [state for _, state, _ in wrong(traced(world))] == [State.UNPROVEN]
    world.memory.objects[name] = b"{"
    assert [state for _, state, _ in wrong(traced(world))] == [State.UNPROVEN]


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_of_a_store_with_very_many_files_the_rest_is_listed_by_batch(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Wherever the listing of everything is left off, no file is taken for lost."""
    monkeypatch.setattr(stored, "MOST_LISTED", most)
    assert wrong(traced(world)) == []
    lose(world)
    assert [found for _, _, found in wrong(traced(world))] == ["there is no such blob"]


@pytest.mark.parametrize("most", range(1, 9))
def test_a_batch_whose_files_the_listing_leaves_off_in_the_middle_is_listed_whole(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Several files in each folder: nothing of the folder that was cut is taken for lost."""
    monkeypatch.setattr(stored, "MOST_LISTED", most)
    certificates = []
    for month in world.months:
        one = world.certificate(month)
        names = [f"data/{one.batch}/{n}.parquet" for n in range(3)]
        world.memory.objects |= dict.fromkeys(names, b"rows")
        files = tuple(FileRef(path=name, size=4, sha256=sha256_hex(b"rows")) for name in names)
        certificates.append(replace(one, files=files, etags=(etag(b"rows"),) * 3))
    held = stored.Stored(world.memory)
    held.look(certificates)
    assert {check.found for one in certificates for check in held.checks(one)} == {""}


@pytest.fixture
def share(world: World, tmp_path: Path) -> Path:
    """A mounted share with what was claimed; the batches are of their bytes."""
    for month in world.months:
        (tmp_path / f"R80711_{month}.csv").write_bytes(month.encode())
    return tmp_path


def on_share(world: World, folder: Path, batch: Batch, standing: str = "") -> tuple[Check, ...]:
    """What is said of a batch's files."""
    source = Folder(connection="edgeloop_share", root=folder, pattern="*.csv")
    return Shared(open=lambda _: source, standing=lambda: {batch.group: standing or batch.id}).checks(batch)


def claimed(world: World, month: str) -> Batch:
    """The batch of a month's real bytes."""
    (file,) = world.batch(month).files
    return replace(world.batch(month), files=(replace(file, size=len(month)),))


def test_files_on_the_share_are_compared_with_what_was_claimed(world: World, share: Path) -> None:
    """The same, changed, gone, and replaced by a batch that stands for the group since."""
    batch = claimed(world, MONTH)
    file = share / f"R80711_{MONTH}.csv"
    assert [one.state for one in on_share(world, share, batch)] == [State.SOUND]
    file.write_bytes(b"2014-99")
    (changed,) = on_share(world, share, batch)
    assert (changed.state, changed.found[:14]) == (State.BROKEN, "it hashes to 9")
    assert "claimed anew by the next intake" in changed.next
    (revised,) = on_share(world, share, batch, standing="f" * 64)
    assert (revised.state, revised.found[-48:]) == (State.UNPROVEN, "; batch ffffffffffffffff replaced this one since")
    file.unlink()
    assert [(one.state, one.found) for one in on_share(world, share, batch)] == [(State.BROKEN, "it is gone")]


def test_a_share_that_cannot_be_asked_is_never_called_sound(world: World, share: Path) -> None:
    """Not mounted, no connection, or silent from the second file on: not looked at, and not asked again."""
    batch = claimed(world, MONTH)
    (check,) = on_share(world, share / "nowhere", batch)
    assert (check.state, check.found[:15]) == (State.UNPROVEN, "not looked at: ")

    asked: list[str] = []

    class Silent(Folder):
        def look(self, path: str) -> Seen | None:
            """Answers once."""
            asked.append(path)
            if len(asked) > 1:
                raise UnreachableError("The share is silent.")
            return None

    several = replace(batch, files=tuple(FileRef(path=f"{n}.csv", size=1, sha256="a") for n in range(4)))
    source = Silent(connection="edgeloop_share", root=share, pattern="*.csv")
    checks = Shared(open=lambda _: source, standing=dict).checks(several)
    assert [one.state for one in checks] == [State.BROKEN, *[State.UNPROVEN] * 3]
    assert checks[3].found == "not looked at: The share is silent."
    assert asked == ["0.csv", "1.csv"]

    def nothing(_: str) -> FileSource:
        raise NotFoundError("There is no configuration c.")

    (check,) = Shared(open=nothing, standing=dict).checks(batch)
    assert check.found == "not looked at: There is no configuration c."


def test_a_chain_says_which_files_of_the_share_were_looked_at(world: World, share: Path) -> None:
    """Without being asked to, none; asked to, each of them has a mark."""
    files = [one for one in traced(world).nodes() if one.kind == "file"]
    assert {one.facts[0].rpartition(", ")[2] for one in files} == {"not looked at"}
    assert {one.checks for one in files} == {()}
    source = Folder(connection="edgeloop_share", root=share, pattern="*.csv")
    shared = Shared(open=lambda _: source, standing=dict)
    lineage = of_device(Reader(world.store, world.memory, world.images, whole=True, shared=shared), "R80711")
    files = [one for one in lineage.nodes() if one.kind == "file"]
    assert [one.state for one in files] == [State.SOUND] * 3
    assert not any("not looked at" in one.facts[0] for one in files)
