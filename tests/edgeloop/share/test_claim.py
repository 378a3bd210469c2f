"""Claims on a real store: once, whatever dies and however many run."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.share.conftest import PIPELINE
from tests.edgeloop.share.places import unreadable

from edgeloop.certificates import newest_of_each_group
from edgeloop.records import Batch, Certificate, sha256_hex
from edgeloop.share import Claim, Claims, Emissions, Fate, Folder, Intake, Right, group_of
from edgeloop.share.journal import Journal
from edgeloop.share.source import Scope

if TYPE_CHECKING:
    from edgeloop.azure.blob import BlobAccount
    from edgeloop.catalog import Snapshot
    from edgeloop.store import Store

ALIVE, DELIVERED, GONE = (lambda _: Fate.ALIVE), (lambda _: Fate.DELIVERED), (lambda _: Fate.GONE)
Drop = Callable[..., Path]


class DiedError(Exception):
    """Stands for SIGKILL at a chosen write."""


@pytest.fixture
def claim(snapshot: Snapshot, folder: Folder, store: Store) -> Callable[..., Intake]:
    """One run's claim of the share as it lies there, by default after a run that delivered."""

    def go(run: str = "run 1", fate: Callable[[str], Fate] = DELIVERED, **more: str) -> Intake:
        return Claim(snapshot, folder, store, run=run, fate=fate, **more).take(folder.scan())

    return go


def keys(intake: Intake) -> list[str]:
    """The partition keys that an intake must mint."""
    return [one.key for one in intake.emit]


def test_settled_files_become_one_batch_per_group(claim: Callable[..., Intake], drop: Drop, store: Store) -> None:
    """Files of a month are one batch, pinned to the configuration, with size and sha256 of each file."""
    for name in ("north_2014-01.csv", "south_2014-01.csv", "north_2014-02.csv"):
        drop(name, name)
    emitted = claim().emit
    assert [(one.group, [file.path for file in one.files]) for one in emitted] == [
        ("2014-01", ["north_2014-01.csv", "south_2014-01.csv"]),
        ("2014-02", ["north_2014-02.csv"]),
    ]
    assert store.get(Batch, emitted[0].id) == emitted[0]
    assert store.objects.exists(f"configs/{emitted[0].config}.json")


def test_nothing_is_claimed_twice(claim: Callable[..., Intake], drop: Drop) -> None:
    """A second run finds nothing due; a touched file with the same bytes makes no second partition either."""
    path = drop("north_2014-01.csv")
    assert len(claim("run 1").emit) == 1
    assert claim("run 2").emit == ()
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert claim("run 3").emit == ()


def test_a_late_or_changed_file_makes_a_new_revision_with_all_files(claim: Callable[..., Intake], drop: Drop) -> None:
    """The new batch of the group holds the old files too."""
    drop("north_2014-01.csv", "old")
    (first,) = claim("run 1").emit
    drop("south_2014-01.csv", "late")
    (second,) = claim("run 2").emit
    assert [one.path for one in second.files] == ["north_2014-01.csv", "south_2014-01.csv"]
    drop("north_2014-01.csv", "changed")
    (third,) = claim("run 3").emit
    assert len({first.id, second.id, third.id}) == 3
    assert {first.group, second.group, third.group} == {"2014-01"}


def test_a_file_is_read_once_in_one_state(
    claim: Callable[..., Intake], drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest of a file that did not change comes from the store."""
    drop("north_2014-01.csv")
    claim("run 1")
    read: list[str] = []
    digest = Folder.digest
    monkeypatch.setattr(
        Folder, "digest", lambda self, seen, *more: (read.append(seen.path), digest(self, seen, *more))[1]
    )
    drop("south_2014-01.csv")
    assert len(claim("run 2").emit) == 1
    assert read == ["south_2014-01.csv"]


def test_files_of_no_group_are_counted_and_left(claim: Callable[..., Intake], drop: Drop) -> None:
    """A file whose name does not say where it belongs is told, not claimed."""
    drop("readme.csv")
    intake = claim()
    assert (intake.emit, intake.ungrouped, intake.files) == ((), 1, 1)


@pytest.mark.fault
def test_a_file_that_may_not_be_read_holds_up_no_other(claim: Callable[..., Intake], drop: Drop) -> None:
    """Its group is claimed without it; once the right is given, it makes a new revision."""
    for name in ("north_2014-01.csv", "south_2014-01.csv", "south_2014-02.csv", "north_2014-03.csv"):
        drop(name, name)
    with unreadable("south"):
        intake = claim()
    assert [(one.group, [file.path for file in one.files]) for one in intake.emit] == [
        ("2014-01", ["north_2014-01.csv"]),
        ("2014-03", ["north_2014-03.csv"]),
    ]
    assert [one.path for one in intake.closed] == ["south_2014-01.csv", "south_2014-02.csv"]
    assert "give the connection's user the right" in intake.closed[0].reason
    later = claim("run 2")
    assert [(one.group, len(one.files)) for one in later.emit] == [("2014-01", 2), ("2014-02", 1)]
    assert later.closed == ()


def test_a_group_is_spelled_for_keys_and_blobs() -> None:
    """What the expression finds is cut down to characters that a partition key and a blob's name can hold."""
    assert group_of("a/R1_2014-01.csv", r"_(\d{4}-\d{2})\.csv$") == "2014-01"
    assert group_of("week 7/ä.csv", r"^(.*)/") == "week-7"
    assert group_of("none.csv", r"_(\d+)") == ""


@pytest.mark.fault
def test_a_run_that_died_before_success_is_made_good_by_the_next(claim: Callable[..., Intake], drop: Drop) -> None:
    """The claim is complete in the store, its partition was never minted: the next run mints it, the one after not."""
    drop("north_2014-01.csv")
    lost = claim("run 1")
    assert keys(claim("run 2", GONE)) == keys(lost)
    assert claim("run 3", DELIVERED).emit == ()


@pytest.mark.fault
def test_a_retry_of_the_same_run_mints_again(claim: Callable[..., Intake], drop: Drop) -> None:
    """The first try died after its claims: the second try has the same name, and mints the same keys."""
    drop("north_2014-01.csv")
    assert keys(claim("run 1", ALIVE)) == keys(claim("run 1", ALIVE)) != []


def test_a_run_that_is_still_going_is_trusted(claim: Callable[..., Intake], drop: Drop) -> None:
    """While the holder may yet deliver, nobody else does; once it is gone, the next one takes over."""
    drop("north_2014-01.csv")
    lost = claim("run 1")
    waiting = claim("run 2", ALIVE)
    assert (waiting.emit, waiting.found) == ((), 1)
    assert keys(claim("run 3", GONE)) == keys(lost)


def test_a_certificate_proves_delivery(claim: Callable[..., Intake], drop: Drop, store: Store) -> None:
    """A batch that somebody certified is not minted again, even if nobody knows the run that claimed it."""
    drop("north_2014-01.csv")
    (batch,) = claim("run 1").emit
    store.put(Certificate(pipeline="tiny_power", batch=batch.id, suite="s", group=batch.group))
    assert claim("run 2", GONE).emit == ()


def test_force_claims_and_mints_again(claim: Callable[..., Intake], drop: Drop, store: Store) -> None:
    """A reason mints what was lost although its run succeeded (marked by hand), but not what is certified."""
    drop("north_2014-01.csv")
    drop("north_2014-02.csv")
    first, second = claim("run 1").emit
    store.put(Certificate(pipeline="tiny_power", batch=second.id, suite="s", group=second.group))
    assert keys(claim("run 2", force="the run was marked success by hand")) == [first.key]


WRITES = ("configs/", "records/batch/", "ledgers/claims/", "keys/claims/")


@pytest.mark.fault
@pytest.mark.parametrize("point", WRITES)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_claim_that_dies_at_any_write_is_healed(
    claim: Callable[..., Intake], drop: Drop, store: Store, monkeypatch: pytest.MonkeyPatch, point: str, *, before: bool
) -> None:
    """Killed before or after each kind of write, the next run mints exactly the batch the first would have minted."""
    drop("north_2014-01.csv")
    drop("south_2014-01.csv")
    put_new = type(store.objects).put_new

    def die(self: object, name: str, data: bytes, **more: object) -> None:
        if before and name.startswith(point):
            raise DiedError(name)
        put_new(self, name, data, **more)  # type: ignore[arg-type]
        if name.startswith(point):
            raise DiedError(name)

    with monkeypatch.context() as patch:
        patch.setattr(type(store.objects), "put_new", die)
        with pytest.raises(DiedError):
            claim("run 1")
    (batch,) = claim("run 2", GONE).emit
    assert [one.path for one in batch.files] == ["north_2014-01.csv", "south_2014-01.csv"]
    assert claim("run 3", DELIVERED).emit == ()
    assert len(store.all(Batch)) == 1


@pytest.mark.fault
def test_two_claims_at_once_mint_each_batch_once(snapshot: Snapshot, folder: Folder, store: Store, drop: Drop) -> None:
    """Of runs that start together, each batch falls to exactly one."""
    for month in range(1, 7):
        drop(f"north_2014-{month:02d}.csv", str(month))
    files, start, results = folder.scan(), threading.Barrier(3), []

    def go(run: str) -> None:
        start.wait()
        results.append(keys(Claim(snapshot, folder, store, run=run, fate=ALIVE).take(files)))

    threads = [threading.Thread(target=go, args=(f"run {number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    minted = [key for result in results for key in result]
    assert len(results) == 3
    assert len(minted) == 6
    assert len(set(minted)) == 6


@pytest.mark.fault
def test_a_file_rewritten_while_it_is_claimed_waits_for_the_next_run(
    claim: Callable[..., Intake], drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its group go on; its new content makes the next revision."""
    drop("north_2014-01.csv", "whole")
    path = drop("south_2014-01.csv", "half")
    digest = Folder.digest

    def overtaken(self: Folder, seen: object, *more: object) -> str | None:
        if seen.path == path.name:  # type: ignore[attr-defined]
            path.write_text("half and more")
        return digest(self, seen, *more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "digest", overtaken)
        intake = claim("run 1")
    assert [[file.path for file in one.files] for one in intake.emit] == [["north_2014-01.csv"]]
    assert intake.changed == 1
    (second,) = claim("run 2").emit
    assert [file.path for file in second.files] == ["north_2014-01.csv", "south_2014-01.csv"]


def test_unclaimed_files_are_told_apart(claim: Callable[..., Intake], drop: Drop, folder: Folder, store: Store) -> None:
    """What is claimed is known, to a watcher that starts and to one that was there; what changes is due again."""
    for number in range(3):
        drop(f"north{number}_2014-01.csv")
    watching = Claims(store)
    files = folder.scan()
    for _ in range(2):  # what nobody claims stays due, though it is the same object
        assert watching.unclaimed(files) == files
    claim()
    assert watching.unclaimed(folder.scan()) == ()
    late = drop("late_2014-01.csv")
    changed = drop("north1_2014-01.csv", "more")
    for one in (watching, Claims(store)):
        assert [seen.path for seen in one.unclaimed(folder.scan())] == [late.name, changed.name]


def test_files_put_back_are_the_newest_data_again(
    claim: Callable[..., Intake], drop: Drop, store: Store, folder: Folder
) -> None:
    """A, B, A, B, A: each is a batch of its own, claimed later than the one before, and its certificate stands."""
    path = drop("north_2014-01.csv", "A")
    as_it_was = path.stat()
    claimed: list[Batch] = []
    for number, content in enumerate("ABABA"):
        path.write_text(content)
        if content == "A":
            # Put back from an archive with its time: nothing but what was claimed last tells that it changed.
            os.utime(path, ns=(as_it_was.st_atime_ns, as_it_was.st_mtime_ns))
        claimed += claim(f"run {number}").emit
        assert claim(f"again {number}").emit == ()
    assert [one.files[0].sha256 for one in claimed] == [sha256_hex(one.encode()) for one in "ABABA"]
    assert len({one.id for one in claimed}) == 5
    assert [one.claimed_at for one in claimed] == sorted({one.claimed_at for one in claimed})
    assert [one.replaces for one in claimed] == ["", *(one.id for one in claimed[:-1])]
    certificates = [
        Certificate(pipeline="p", batch=one.id, suite="s", group=one.group, claimed_at=one.claimed_at)
        for one in claimed
    ]
    assert [one.batch for one in newest_of_each_group(reversed(certificates))] == [claimed[-1].id]


def test_what_was_delivered_is_asked_of_airflow_once(claim: Callable[..., Intake], drop: Drop, store: Store) -> None:
    """What became of a run is noted with the claims: questions do not grow with the batches there ever were."""
    for month in range(1, 4):
        drop(f"north_2014-{month:02d}.csv")
    claim("run 1")
    asked: list[str] = []

    def fate(holder: str) -> Fate:
        asked.append(holder)
        return Fate.DELIVERED

    assert claim("run 2", fate).found == 3
    assert asked == ["run 1"]
    assert Journal(store).read().outstanding == set()
    assert claim("run 3", fate).found == 0
    assert asked == ["run 1"]


@pytest.mark.fault
def test_a_clock_that_is_behind_does_not_turn_the_order(
    snapshot: Snapshot, folder: Folder, store: Store, drop: Drop
) -> None:
    """The later claim of a group has the later time, whatever the machine that made it thinks."""
    when = iter([datetime(2026, 5, 1, 12, tzinfo=UTC), datetime(2026, 5, 1, 11, tzinfo=UTC)])
    claimed = []
    for content in ("first", "second"):
        drop("north_2014-01.csv", content)
        now = next(when)
        work = Claim(snapshot, folder, store, run=content, fate=DELIVERED, clock=lambda now=now: now)
        claimed += work.take(folder.scan()).emit
    assert claimed[0].claimed_at < claimed[1].claimed_at


def test_what_a_producer_clears_away_stays_part_of_its_group(claim: Callable[..., Intake], drop: Drop) -> None:
    """A removed file alone makes no revision; a late one makes a revision that still holds it."""
    gone = drop("north_2014-01.csv", "old")
    (first,) = claim("run 1").emit
    gone.unlink()
    assert claim("run 2").emit == ()
    drop("south_2014-01.csv", "late")
    intake = claim("run 3")
    (second,) = intake.emit
    assert [one.path for one in second.files] == ["north_2014-01.csv", "south_2014-01.csv"]
    assert second.files[0] == first.files[0]
    assert intake.kept == 1
    drop("north_2014-01.csv", "old")
    assert claim("run 4").emit == (), "put back as it was, it is what the batch holds"


def test_force_lets_go_of_what_is_gone(claim: Callable[..., Intake], drop: Drop) -> None:
    """A reason claims the group as it lies there: a retracted file leaves it."""
    gone = drop("north_2014-01.csv", "wrong")
    drop("south_2014-01.csv")
    claim("run 1")
    gone.unlink()
    (batch,) = claim("run 2", force="north was retracted").emit
    assert [one.path for one in batch.files] == ["south_2014-01.csv"]
    assert claim("run 3").emit == ()


def test_what_was_not_looked_at_stays_part_of_its_group(
    snapshot: Snapshot, folder: Folder, store: Store, drop: Drop, claim: Callable[..., Intake]
) -> None:
    """A sweep that sees the last days of a month makes a revision of the whole month."""
    for day in ("01", "02"):
        (folder.path / day).mkdir()
        drop(f"{day}/north_2014-01.csv", day)
    claim("run 1")
    (folder.path / "03").mkdir()
    drop("03/north_2014-01.csv", "03")
    work = Claim(snapshot, folder, store, run="run 2", fate=DELIVERED)
    (batch,) = work.take(folder.scan(Scope(folders=("03",)))).emit
    assert [one.path for one in batch.files] == [f"{day}/north_2014-01.csv" for day in ("01", "02", "03")]


def test_what_is_excluded_today_leaves_its_group(
    snapshot: Snapshot, folder: Folder, store: Store, drop: Drop, claim: Callable[..., Intake]
) -> None:
    """A pattern that was narrowed lets go of files, although nobody looked at them again."""
    drop("north_2014-01.csv")
    drop("test_2014-01.csv")
    claim("run 1")
    drop("south_2014-01.csv")
    source = snapshot.spec.source.model_copy(update={"exclude": ("test_*",)})
    narrowed = dataclasses.replace(snapshot, spec=snapshot.spec.model_copy(update={"source": source}))
    work = Claim(narrowed, folder, store, run="run 2", fate=DELIVERED)
    seen = [one for one in folder.scan() if not one.path.startswith("test_")]
    (batch,) = work.take(seen).emit
    assert [one.path for one in batch.files] == ["north_2014-01.csv", "south_2014-01.csv"]


def test_a_late_file_does_not_cost_reading_its_group(
    claim: Callable[..., Intake], drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What did not change is known by the batch that stands for the group."""
    for number in range(5):
        drop(f"n{number}_2014-01.csv", str(number))
    claim("run 1")
    drop("late_2014-01.csv")
    read: list[str] = []
    digest = Folder.digest
    monkeypatch.setattr(Folder, "digest", lambda self, one, *more: (read.append(one.path), digest(self, one, *more))[1])
    (batch,) = claim("run 2").emit
    assert read == ["late_2014-01.csv"]
    assert len(batch.files) == 6


PROCESS = """
import sys
from pathlib import Path
from edgeloop import catalog
from edgeloop.azure.blob import BlobAccount
from edgeloop.share import Claim, Fate, Folder
from edgeloop.store import Store
home, root, container, run = sys.argv[1:]
snapshot, _ = catalog.read(Path(home))
source = snapshot.spec.source
folder = Folder(connection="c", root=Path(root), below=source.folder, pattern=source.pattern)
account = BlobAccount(connection="c", connection_string=sys.stdin.readline().strip())
store = Store(account.container(container))
store.objects.exists("warm")
print("ready", flush=True)
sys.stdin.readline()
intake = Claim(snapshot, folder, store, run=run, fate=lambda _: Fate.ALIVE).take(folder.scan())
for one in intake.emit:
    print(one.key, flush=True)
"""


@pytest.mark.fault
def test_two_processes_at_once_claim_each_file_once(
    folder: Folder, store: Store, drop: Drop, blob_account: BlobAccount
) -> None:
    """Two intakes on two machines: every batch falls to exactly one of them, and every file is in one batch."""
    for month in range(1, 7):
        for site in ("north", "south"):
            drop(f"{site}_2014-{month:02d}.csv", f"{site} {month}")
    container = store.objects.name  # type: ignore[attr-defined]
    argv = [sys.executable, "-c", PROCESS, str(PIPELINE), str(folder.root), container]
    racers = [
        subprocess.Popen([*argv, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for run in ("a", "b")
    ]
    for one in racers:
        one.stdin.write(f"{blob_account.connection_string}\n")  # type: ignore[union-attr]
        one.stdin.flush()  # type: ignore[union-attr]
    assert [one.stdout.readline() for one in racers] == ["ready\n", "ready\n"]  # type: ignore[union-attr]
    minted = [key for one in racers for key in one.communicate("go\n", timeout=60)[0].split()]
    assert [one.returncode for one in racers] == [0, 0]
    assert len(minted) == len(set(minted)) == 6
    paths = [file.path for key in minted for file in store.starting(Batch, key.partition("@")[2]).files]
    assert len(paths) == len(set(paths)) == 12


def test_a_right_passes_on_only_from_the_dead(store: Store) -> None:
    """Each dead holder is followed by one other; a live or successful one by none; asking again changes nothing."""
    rights = Emissions(store, "claims")
    fates = {"one": Fate.GONE, "two": Fate.ALIVE}
    assert rights.ask("k", "one", fates.__getitem__) is Right.MINE
    assert rights.ask("k", "two", fates.__getitem__) is Right.MINE
    assert rights.ask("k", "three", fates.__getitem__) is Right.ELSEWHERE
    fates["two"] = Fate.DELIVERED
    assert rights.ask("k", "three", fates.__getitem__) is Right.DELIVERED
    assert rights.keys() == ["k"]
    assert json.loads(store.objects.get("keys/claims/k~2.json")) == "two"
