"""When files on a share are complete, by each of the policies; the same look for tasks that wait and triggers."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.errors import UnreachableError
from edgeloop.share.complete import Policy, policy_of
from edgeloop.share.scan import Folder
from edgeloop.share.settle import NS, Rule
from edgeloop.share.source import Scope, Seen
from edgeloop.share.watch import Look, Watch

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.catalog import Snapshot

RULE = Rule(polls=2, poll_seconds=1.0, quiet_seconds=5.0)
START = 1_700_000_000 * NS


@dataclass
class Bench:
    """A share, a clock that only the test moves, and a watch."""

    root: Path
    policy: Policy
    now: int = START
    busy: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    probed: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = Folder(connection="share", root=self.root, pattern="*.csv", exclude=("*.part",))
        self.watch = Watch(
            self.source, self.policy, claimed=lambda one: one.path in self.claimed, digest=self.digest, clock=self.clock
        )

    def clock(self) -> int:
        """Nanoseconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Time that passes while somebody waits."""
        self.now += round(seconds * NS)

    def digest(self, seen: Seen) -> str | None:
        """Reads the file, and remembers that it did."""
        self.read.append(seen.path)
        return self.source.digest(seen)

    def put(self, name: str, content: str = "x", *, age: float = 0.0) -> str:
        """A file, written so many seconds ago; returns its sha256."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        at = self.now - round(age * NS)
        os.utime(path, ns=(at, at))
        return hashlib.sha256(content.encode()).hexdigest()

    def look(self, later: float = 1.0) -> Look:
        """The next look, after a while."""
        self.sleep(later)
        return self.watch.look()

    def wait(self) -> Look:
        """What a task gets, and how long it took is in the clock."""
        return self.watch.wait(self.sleep)


def bench_of(root: Path, complete: str, marker: str = "") -> Bench:
    """A bench for one policy; files of a month belong together."""
    return Bench(root, Policy(complete=complete, marker=marker, group=r"_(\d{4}-\d{2})\b", rule=RULE))


def names(files: tuple[Seen, ...]) -> list[str]:
    """Their paths."""
    return [one.path for one in files]


def told(look: Look) -> dict[str, str]:
    """What is wrong, by path."""
    return dict(look.broken)


def test_a_policy_is_what_pipeline_yaml_says(snapshot: Snapshot) -> None:
    """Every field that decides when a file is complete."""
    source = snapshot.spec.source.model_copy(update={"complete": "sentinel", "marker": "_done", "polls": 4})
    policy = policy_of(source)
    assert (policy.complete, policy.marker, policy.group) == ("sentinel", "_done", source.group)
    assert policy.rule == Rule(polls=4, poll_seconds=source.poll_seconds, quiet_seconds=source.quiet_seconds)


def test_settled_is_what_no_longer_changes(tmp_path: Path) -> None:
    """Looks go on until everything is settled, and no longer than a file just finished needs."""
    one = bench_of(tmp_path, "settled")
    one.put("old.csv", age=100)
    one.put("fresh.csv", age=1)
    assert one.look(0) == Look((), one.source.scan(), ())
    assert one.watch.pause() == 1.0
    look = one.look()
    assert (names(look.ready), names(look.waiting)) == (["old.csv"], ["fresh.csv"])
    began = one.now
    assert names(one.wait().ready) == ["fresh.csv", "old.csv"]
    assert one.now - began == 3 * NS


def test_waiting_ends_though_a_file_grows_for_ever(tmp_path: Path) -> None:
    """One that never settles costs the others the time that a finished one needs, once."""
    one = bench_of(tmp_path, "settled")
    one.put("done.csv", age=100)
    size = [0]

    def sleep(seconds: float) -> None:
        one.sleep(seconds)
        size[0] += 1
        one.put("growing.csv", "x" * size[0])

    one.put("growing.csv", "")
    look = one.watch.wait(sleep)
    assert (names(look.ready), names(look.waiting)) == (["done.csv"], ["growing.csv"])
    assert 5 * NS <= one.now - START <= 7 * NS


def test_renamed_is_complete_at_once(tmp_path: Path) -> None:
    """The final name says it; the temporary one is excluded and never seen."""
    one = bench_of(tmp_path, "renamed")
    one.put("a.csv")
    one.put("b.csv.part")
    assert one.wait() == Look(one.source.scan(), (), ())
    assert one.now == START


def test_a_sentinel_completes_what_was_written_before_it(tmp_path: Path) -> None:
    """Its folder and those below; what comes or changes later waits for a new one; nobody waits for a producer."""
    one = bench_of(tmp_path, "sentinel", "_done")
    one.put("day1/a.csv", age=50)
    one.put("day1/deep/b.csv", age=50)
    one.put("day2/c.csv", age=50)
    assert one.wait().ready == ()
    assert one.now == START
    one.put("day1/_done", age=40)
    assert names(one.look().ready) == ["day1/a.csv", "day1/deep/b.csv"]
    one.put("day1/a.csv", "changed", age=30)
    one.put("day1/late.csv", age=30)
    look = one.look()
    assert names(look.ready) == ["day1/deep/b.csv"]
    assert names(look.waiting) == ["day1/a.csv", "day1/late.csv", "day2/c.csv"]
    one.put("day1/_done", age=20)
    assert names(one.look().ready) == ["day1/a.csv", "day1/deep/b.csv", "day1/late.csv"]
    one.put("_done", age=10)
    assert one.look().waiting == ()


def test_the_newest_of_a_folders_sentinels_counts(tmp_path: Path) -> None:
    """Whatever their names: an older one takes nothing back."""
    one = bench_of(tmp_path, "sentinel", "*.done")
    one.put("a.csv", age=30)
    one.put("1.done", age=20)
    one.put("2.done", age=40)
    assert names(one.look().ready) == ["a.csv"]


def test_a_sentinel_of_a_group_completes_that_group_alone(tmp_path: Path) -> None:
    """`done_2014-01` says nothing about February; a sentinel that names no group is for all."""
    one = bench_of(tmp_path, "sentinel", "done*")
    one.put("north_2014-01.csv", age=50)
    one.put("north_2014-02.csv", age=50)
    one.put("done_2014-01", age=40)
    look = one.look()
    assert (names(look.ready), names(look.waiting)) == (["north_2014-01.csv"], ["north_2014-02.csv"])
    one.put("done", age=40)
    assert one.look().waiting == ()


def test_a_sentinel_written_in_the_same_instant_counts(tmp_path: Path) -> None:
    """Blobs have times of whole seconds: file and sentinel often share one."""
    one = bench_of(tmp_path, "sentinel", "_done")
    one.put("a.csv", age=1)
    one.put("_done", age=1)
    assert names(one.look().ready) == ["a.csv"]


def test_a_sentinel_is_no_data_though_it_matches(tmp_path: Path) -> None:
    """Neither ready nor waiting."""
    one = bench_of(tmp_path, "sentinel", "done*.csv")
    one.put("a.csv", age=2)
    one.put("done.csv", age=1)
    assert one.look() == Look(one.source.listing(marker="done*.csv").files, (), ())
    assert names(one.look().ready) == ["a.csv"]


def test_a_manifest_completes_what_it_names_when_the_digests_are_right(tmp_path: Path) -> None:
    """At once, each file read once; what no manifest names waits and is not waited for."""
    one = bench_of(tmp_path, "manifest", "*.sha256")
    a, b = one.put("d/a.csv", "A"), one.put("d/b.csv", "B")
    one.put("d/unnamed.csv")
    one.put("d/readme.txt", "not data")
    one.put("d/m.sha256", f"{a}  a.csv\n{b}  b.csv\n{'0' * 64}  readme.txt\n")
    look = one.wait()
    assert (names(look.ready), names(look.waiting), look.broken) == (["d/a.csv", "d/b.csv"], ["d/unnamed.csv"], ())
    assert one.now == START
    assert one.look().ready == look.ready
    assert sorted(one.read) == ["d/a.csv", "d/b.csv"]


def test_a_delivery_that_is_not_all_there_waits_as_a_whole(tmp_path: Path) -> None:
    """The manifest came before its last file: none goes ahead alone, and a wait sees it through."""
    one = bench_of(tmp_path, "manifest", "*.json")
    a = one.put("a.csv", "A")
    b = hashlib.sha256(b"BB").hexdigest()
    files = [{"path": "a.csv", "size": 1, "sha256": a}, {"path": "b.csv", "size": 2, "sha256": b}]
    one.put("m.json", json.dumps({"files": files}))
    one.put("b.csv", "B")
    look = one.look()
    assert (look.ready, names(look.waiting), look.broken) == ((), ["a.csv", "b.csv"], ())
    assert one.read == []
    assert one.watch.pause() == 1.0

    def sleep(seconds: float) -> None:
        one.sleep(seconds)
        one.put("b.csv", "BB")

    assert names(one.watch.wait(sleep).ready) == ["a.csv", "b.csv"]
    assert one.now - START < 3 * NS


@pytest.mark.parametrize(
    ("content", "size", "reason"),
    [
        (None, 1, "is missing; the manifest m.json names it"),
        ("BB", 1, "has 2 bytes; the manifest m.json says 1"),
        ("C", 1, f"has sha256 {hashlib.sha256(b'C').hexdigest()}; the manifest m.json says"),
    ],
)
def test_a_manifest_that_goes_on_lying_is_told(tmp_path: Path, content: str | None, size: int, reason: str) -> None:
    """A task waits as long as a file takes to settle; then the file is named, and the good ones go on."""
    one = bench_of(tmp_path, "manifest", "*.json")
    a, b = one.put("a.csv", "A"), hashlib.sha256(b"B").hexdigest()
    if content is not None:
        one.put("b.csv", content)
    files = [{"path": "a.csv", "size": 1, "sha256": a}, {"path": "b.csv", "size": size, "sha256": b}]
    one.put("m.json", json.dumps({"files": files}))
    first = one.look(0)
    assert (first.ready, first.broken) == ((), ())
    look = one.wait()
    assert 5 * NS <= one.now - START <= 7 * NS
    assert names(look.ready) == ["a.csv"]
    assert look.waiting == ()
    assert list(told(look)) == ["b.csv"]
    assert told(look)["b.csv"].startswith(reason)
    assert one.watch.pause() == 1.0
    one.put("b.csv", "B")
    one.put("m.json", json.dumps({"files": [files[0], {**files[1], "size": 1}]}))
    assert names(one.look().ready) == ["a.csv", "b.csv"]


def test_a_delivery_that_is_corrected_has_its_time_anew(tmp_path: Path) -> None:
    """Told as broken is what stayed the same long enough and was looked at often enough, neither of them alone."""
    one = bench_of(tmp_path, "manifest", "*.sha256")
    one.put("m.sha256", f"{'0' * 64}  a.csv\n")
    assert one.look().broken == ()
    one.put("m.sha256", f"{'1' * 64}  a.csv\n")
    assert one.look(100).broken == ()
    assert list(told(one.look(100))) == ["a.csv"]
    (tmp_path / "m.sha256").rename(tmp_path / "aside")
    assert one.look().broken == ()
    (tmp_path / "aside").rename(tmp_path / "m.sha256")
    assert one.look().broken == ()


def test_a_manifest_that_is_gone_when_it_is_read_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is being replaced: a wait must not end before the new one is there."""
    one = bench_of(tmp_path, "manifest", "*.sha256")
    one.put("m.sha256", f"{'0' * 64}  a.csv\n")
    listed, slept = Folder.listing, []

    def then_gone(*args: Any) -> Any:
        found = listed(*args)
        (tmp_path / "m.sha256").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Folder, "listing", then_gone)
    assert one.watch.wait(slept.append).broken == ()
    assert slept == [1.0]


def test_a_delivery_is_looked_at_as_often_as_a_file(tmp_path: Path) -> None:
    """Before it is told as broken; time alone does not do."""
    rule = Rule(polls=3, poll_seconds=1.0, quiet_seconds=5.0)
    one = Bench(tmp_path, Policy(complete="manifest", marker="*.sha256", rule=rule))
    one.put("m.sha256", f"{'0' * 64}  a.csv\n")
    assert [list(told(one.look(100))) for _ in range(3)] == [[], [], ["a.csv"]]


@pytest.mark.fault
@pytest.mark.parametrize("closed", ["a.csv", "m.sha256"])
def test_what_a_manifest_names_and_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    """A right that is missing on one file ends no look; given later, it changes no file and counts all the same."""
    one = bench_of(tmp_path, "manifest", "*.sha256")
    one.put("m.sha256", f"{one.put('a.csv')}  a.csv\n")
    one.put("n.sha256", f"{one.put('b.csv', 'y')}  b.csv\n")
    real = os.open

    def refuses(path: Any, *more: Any, **how: Any) -> int:
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *more, **how)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuses)
        for _ in range(3):
            found = one.look(5.0)
    assert [file.path for file in found.ready] == ["b.csv"]
    assert [(file.path, "may not be read; give" in file.reason) for file in found.broken] == [(closed, True)]
    assert [file.path for file in one.look().ready] == ["a.csv", "b.csv"]


def test_a_file_that_changed_after_its_manifest_waits_for_a_new_one(tmp_path: Path) -> None:
    """The digest decides, whatever its time says; a touched file is still the file that was promised."""
    one = bench_of(tmp_path, "manifest", "*.sha256")
    a = one.put("a.csv", "A")
    one.put("m.sha256", f"{a}  a.csv\n")
    assert names(one.look().ready) == ["a.csv"]
    one.put("a.csv", "A", age=-10)
    assert names(one.look().ready) == ["a.csv"]
    changed = one.put("a.csv", "B", age=100)
    assert one.look().ready == ()
    one.put("m2.sha256", f"{changed}  a.csv\n", age=-1)
    assert names(one.look().ready) == ["a.csv"]


@pytest.mark.parametrize(
    ("text", "told_of"),
    [
        ("hello\n", "the manifest line 1 is not"),
        ('{"files": [', "the manifest is no whole JSON"),
        (f"{'a' * 64}  ../a.csv\n", "no path below its own folder"),
        ("x" * 200, "the manifest is larger than 100 bytes"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told_of: str
) -> None:
    """It may still be written to, so it is told once it has lain there for a while; its files wait."""
    monkeypatch.setattr("edgeloop.share.watch.LIMIT_BYTES", 100)
    monkeypatch.setattr("edgeloop.share.manifest.LIMIT_BYTES", 100)
    one = bench_of(tmp_path, "manifest", "*.m")
    one.put("a.csv")
    one.put("x.m", text)
    assert one.look(0).broken == ()
    look = one.wait()
    assert told_of in told(look)["x.m"]
    assert names(look.waiting) == ["a.csv"]


def test_a_list_that_may_go_on_is_not_taken_for_whole(tmp_path: Path) -> None:
    """A last line without an end: its files wait until the manifest has lain there for a while, then it counts."""
    one = bench_of(tmp_path, "manifest", "*.sha256")
    a, b = one.put("a.csv", "A"), one.put("b.csv", "B")
    one.put("m.sha256", f"{a}  a.csv")
    assert one.look(0).ready == ()
    one.put("m.sha256", f"{a}  a.csv\n{b}  b.csv\n")
    assert names(one.look().ready) == ["a.csv", "b.csv"]
    one.put("m.sha256", f"{a}  a.csv\n{b}  b.csv")
    assert one.look().ready == ()
    assert names(one.wait().ready) == ["a.csv", "b.csv"]


def test_another_spelling_of_a_name_is_told_as_such(tmp_path: Path) -> None:
    """An SMB server finds A.CSV as a.csv; the file would be neither ready nor missing."""
    one = bench_of(tmp_path, "manifest", "*.sha256")
    a = one.put("north.csv", "A")
    one.put("m.sha256", f"{a}  North.csv\n")
    one.look(0)
    assert told(one.wait())["North.csv"].startswith("is there as north.csv")


def test_the_newest_manifest_speaks_for_a_file(tmp_path: Path) -> None:
    """An old one that promises other bytes is out of date, not broken."""
    one = bench_of(tmp_path, "manifest", "*.sha256")
    a = one.put("a.csv", "A")
    one.put("new.sha256", f"{a}  a.csv\n", age=1)
    one.put("old.sha256", f"{'0' * 64}  a.csv\n", age=9)
    one.look(0)
    look = one.wait()
    assert (names(look.ready), look.broken) == (["a.csv"], ())


def test_claimed_files_are_not_read_again(tmp_path: Path) -> None:
    """A new process that finds a year of claimed files must not read a year of files."""
    one = bench_of(tmp_path, "manifest", "*.sha256")
    one.put("m.sha256", f"{one.put('a.csv', 'A')}  a.csv\n{one.put('b.csv', 'B')}  b.csv\n")
    one.claimed.add("a.csv")
    assert names(one.look().ready) == ["a.csv", "b.csv"]
    assert one.read == ["b.csv"]


@dataclass
class Told:
    """A folder that knows who writes, as an SMB server does; the real one is asked in test_smb.py."""

    bench: Bench

    appears_whole = False
    knows_writers = True

    def __getattr__(self, name: str) -> object:
        return getattr(self.bench.source, name)

    def busy(self, seen: Seen) -> bool:
        """Whether the test holds it open."""
        self.bench.probed.append(seen.path)
        return seen.path in self.bench.busy


@pytest.mark.parametrize("complete", ["settled", "renamed"])
def test_a_file_that_a_writer_holds_waits_whatever_the_policy(tmp_path: Path, complete: str) -> None:
    """Size and time may stand still while it is open; it is ready as soon as the writer lets go."""
    one = bench_of(tmp_path, complete)
    one.watch.source = Told(one)  # type: ignore[assignment]
    one.put("a.csv", age=100)
    one.put("b.csv", age=100)
    one.busy.add("a.csv")
    look = one.wait()
    assert (names(look.ready), names(look.waiting)) == (["b.csv"], ["a.csv"])
    assert 5 * NS <= one.now - START <= 7 * NS
    one.busy.clear()
    assert names(one.look().ready) == ["a.csv", "b.csv"]


def test_a_file_is_probed_once_in_each_state_and_never_when_claimed(tmp_path: Path) -> None:
    """A probe is an open on the server: 100,000 of them at every look would be the end of it."""
    one = bench_of(tmp_path, "renamed")
    one.watch.source = Told(one)  # type: ignore[assignment]
    for name in ("a.csv", "b.csv", "c.csv"):
        one.put(name)
    one.claimed.add("c.csv")
    for _ in range(3):
        one.look()
    assert sorted(one.probed) == ["a.csv", "b.csv"]
    one.put("a.csv", "changed")
    one.look()
    assert sorted(one.probed) == ["a.csv", "a.csv", "b.csv"]


def test_scope_and_policy_may_change_while_watching(tmp_path: Path) -> None:
    """An edited pipeline.yaml needs no restart; what is out of scope is not there."""
    one = bench_of(tmp_path, "renamed")
    one.put("2014/03/05/a.csv")
    one.put("b.csv")
    one.watch.scope = Scope(folders=("2014/03/05",))
    assert names(one.look().ready) == ["2014/03/05/a.csv"]
    one.watch.scope, one.watch.policy = Scope(), Policy(complete="sentinel", marker="_done", rule=RULE)
    assert names(one.look().waiting) == ["2014/03/05/a.csv", "b.csv"]


def test_impossible_names_are_told_and_hold_nobody_up(tmp_path: Path) -> None:
    """A name that no log can show is told in plain letters; a look goes on."""
    one = bench_of(tmp_path, "renamed")
    one.put("a.csv")
    one.put("b\n.csv")
    one.put("\udcff.csv")
    look = one.look()
    assert names(look.ready) == ["a.csv"]
    assert sorted(told(look)) == ["\\udcff.csv", "b\\x0a.csv"]


def test_a_share_that_goes_away_is_no_empty_share(tmp_path: Path) -> None:
    """The look raises; what was seen before is known afterwards."""
    root = tmp_path / "share"
    root.mkdir()
    one = bench_of(root, "settled")
    one.put("a.csv", age=100)
    one.look()
    root.rename(tmp_path / "gone")
    with pytest.raises(UnreachableError, match="'share' is not there"):
        one.look()
    (tmp_path / "gone").rename(root)
    assert names(one.look().ready) == ["a.csv"]


@pytest.mark.parametrize("few", [0, 5000], ids=["many young files", "few"])
def test_young_files_are_parted_from_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Wherever they stand in the listing: the first, the last, neighbours, all of them, none."""
    monkeypatch.setattr("edgeloop.share.complete.FEW", few)
    names = [f"{number}.csv" for number in range(6)]
    for chosen in ((), (0,), (5,), (2, 3), (0, 4, 5), range(6)):
        bench = Bench(tmp_path / str(tuple(chosen)), Policy(rule=RULE))
        young = [names[at] for at in chosen]
        for name in names:
            bench.put(name, age=0 if name in young else 100)
        bench.look()
        found = bench.look()
        assert [one.path for one in found.waiting] == young
        assert [one.path for one in found.ready] == [name for name in names if name not in young]
