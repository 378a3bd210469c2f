"""Staging by a real shell: what it holds, takes and puts together, and what it refuses."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tarfile
import time
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import IntegrityError
from edgeloop.records import sha256_hex
from edgeloop.training import stage_commands as text
from edgeloop.training.bundle import Member, folder_stream, manifest, member, tar_stream
from edgeloop.training.cache import parse_survey
from edgeloop.training.job import Job

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from edgeloop.training.cache import Survey

JOB = Job(run_id="ab" * 32, pipeline="p", image="i")
OTHER = Job(run_id="cd" * 32, pipeline="p", image="i")
LOOSE = (member("data/dataset.json", b"{}"), member("code/train.py", b"print(1)\n"))


def kept(path: str, data: bytes) -> Member:
    """A file that the VM keeps for other jobs."""
    return Member(path=path, size=len(data), sha256=sha256_hex(data), read=lambda start: (data[start:],))


def run(home: Path, command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it as the login shell would, in ``home``."""
    # Sent on, this mark would let the lab take the test's own processes for its own.
    return subprocess.run(["sh", "-c", command], input=stdin, cwd=home, capture_output=True, timeout=60, check=False)


def look(home: Path, members: Iterable[Member] = (), job: Job = JOB) -> Survey:
    """Survey for these members."""
    done = run(home, text.survey(job), "".join(f"{one.sha256}\n" for one in members).encode())
    assert done.returncode == 0, done.stderr
    return parse_survey(done.stdout.decode())


def assemble(home: Path, *members: Member) -> subprocess.CompletedProcess[bytes]:
    """Make the job's folder."""
    return run(home, text.assemble(JOB), b"".join(folder_stream(members)))


def take(home: Path, *members: Member) -> subprocess.CompletedProcess[bytes]:
    """Bring small files."""
    return run(home, text.take_small(JOB), b"".join(tar_stream(members)))


def names(home: Path) -> set[str]:
    """What is in the cache."""
    return {one.name for one in (home / text.CACHE).iterdir()}


def test_what_was_sent_is_there(tmp_path: Path) -> None:
    """Files arrive with their bytes; the outputs are writable for the job's user, the folder for nobody else."""
    look(tmp_path)
    assert assemble(tmp_path, *LOOSE).returncode == 0
    here = tmp_path / JOB.folder
    assert (here / "data/dataset.json").read_bytes() == b"{}"
    assert (here / "code/train.py").read_bytes() == b"print(1)\n"
    assert (here / "data/dataset.json").stat().st_mode & 0o777 == 0o444
    assert (here / "outputs").stat().st_mode & 0o777 == 0o777
    assert here.stat().st_mode & 0o777 == 0o700
    assert (here / "staged").exists()
    assert not (tmp_path / text.STAGE / JOB.short).exists()
    assert names(tmp_path) == set()
    assert look(tmp_path).staged


def test_staging_again_changes_nothing(tmp_path: Path) -> None:
    """What is staged is not touched by a second try, not even with other bytes."""
    look(tmp_path)
    assemble(tmp_path, *LOOSE)
    assert assemble(tmp_path, member("data/dataset.json", b"other")).returncode == 0
    assert (tmp_path / JOB.folder / "data/dataset.json").read_bytes() == b"{}"


def test_other_bytes_than_their_name_are_refused(tmp_path: Path) -> None:
    """A flipped bit in a file of the job's own leaves no folder; in one for the cache it is not kept."""
    look(tmp_path)
    bad = Member(path="code/train.py", size=9, sha256="0" * 64, read=LOOSE[1].read, cached=False)
    done = assemble(tmp_path, LOOSE[0], bad)
    assert (done.returncode, done.stdout) == (1, f"bad {'0' * 64}\n".encode())
    assert not (tmp_path / JOB.folder).exists()
    good = kept("data/a", b"rows")
    wrong = Member(path="data/b", size=4, sha256="1" * 64, read=lambda start: (b"sows",))
    assert set(take(tmp_path, good, wrong).stdout.decode().splitlines()) == {f"good {good.sha256}", f"bad {'1' * 64}"}
    assert names(tmp_path) == {good.sha256}


def test_a_stream_that_breaks_off_keeps_what_arrived_whole(tmp_path: Path) -> None:
    """Of a cut tar the complete files stay, the torn one does not, and the exit code is not 0."""
    look(tmp_path)
    whole, torn = kept("data/a", b"x" * 100_000), kept("data/b", b"y" * 100_000)
    raw = b"".join(tar_stream((whole, torn)))
    done = run(tmp_path, text.take_small(JOB), raw[:150_000])
    assert done.returncode != 0
    assert names(tmp_path) == {whole.sha256}
    assert look(tmp_path, (whole, torn)).held == {whole.sha256}


def test_what_is_held_outlives_its_eviction(tmp_path: Path) -> None:
    """A file that leaves the cache between arrival and use is still linked into the job."""
    one = kept("data/a", b"rows")
    look(tmp_path, (one,))
    take(tmp_path, one)
    assert run(tmp_path, text.evict(), f"{one.sha256}\n".encode()).returncode == 0
    assert names(tmp_path) == set()
    assert assemble(tmp_path, one, *LOOSE).returncode == 0
    assert (tmp_path / JOB.folder / "data/a").read_bytes() == b"rows"


def test_data_in_the_cache_is_linked_and_not_copied(tmp_path: Path) -> None:
    """The job's file and the cache's are one file; two paths of one content too."""
    one = kept("data/a", b"rows")
    look(tmp_path)
    take(tmp_path, one)
    assemble(tmp_path, one, kept("data/again", b"rows"))
    files = [tmp_path / text.CACHE / one.sha256, *(tmp_path / JOB.folder / f"data/{name}" for name in ("a", "again"))]
    assert len({file.stat().st_ino for file in files}) == 1


def test_a_file_that_rotted_in_the_cache_is_removed(tmp_path: Path) -> None:
    """Its name no longer says what it holds: it is told, taken away and wanted again."""
    one, other = kept("data/a", b"rows"), kept("data/b", b"more")
    look(tmp_path)
    take(tmp_path, one, other)
    rotten = tmp_path / text.CACHE / one.sha256
    rotten.chmod(0o644)
    rotten.write_bytes(b"sows")
    found = look(tmp_path, (one, other))
    assert (found.held, found.corrupted) == ({other.sha256}, {one.sha256})
    assert names(tmp_path) == {other.sha256}


def test_use_counts_as_use(tmp_path: Path) -> None:
    """What a job needs is touched when it is found, so that it is not the next to go."""
    one, other = kept("data/a", b"rows"), kept("data/b", b"more")
    look(tmp_path)
    take(tmp_path, one, other)
    for each in (one, other):
        os.utime(tmp_path / text.CACHE / each.sha256, (1000, 1000))
    used = {each.sha256: each.used for each in look(tmp_path, (one,), OTHER).kept}
    assert used[other.sha256] == 1000 < used[one.sha256]


def test_names_may_hold_anything(tmp_path: Path) -> None:
    """Quotes, blanks, line ends and dollars in a name are no shell text; the manifest escapes as sha256sum does."""
    look(tmp_path)
    odd = [kept(f"data/{name}", name.encode()) for name in ("a b", "q'\"", "$(touch x)", "n\nl", "b\\s", "-rf", "ü")]
    odd.append(kept("data/" + "l" * 200, b"long"))
    take(tmp_path, *odd)
    assert assemble(tmp_path, *odd, member("data/loose 'n\n", b"1")).returncode == 0
    here = tmp_path / JOB.folder
    assert all((here / one.path).read_bytes() == b"".join(one.read(0)) for one in odd)
    assert run(here, "sha256sum -c --quiet --strict manifest.sha256").returncode == 0
    assert not (tmp_path / "x").exists()


def test_large_files_go_on_where_they_broke_off(tmp_path: Path) -> None:
    """The first half stays as a part; the second try says from where on, and takes only the rest."""
    look(tmp_path)
    data = os.urandom(300_000)
    command = text.take_large(JOB, sha256_hex(data), len(data))
    first = run(tmp_path, command, data[:100_000])
    assert (first.returncode, first.stdout) == (text.INCOMPLETE, b"from 0\nshort 100000\n")
    assert look(tmp_path).parts == {sha256_hex(data): 100_000}
    second = run(tmp_path, command, data[100_000:])
    assert (second.returncode, second.stdout) == (0, b"from 100000\ngood\n")
    assert (tmp_path / text.CACHE / sha256_hex(data)).read_bytes() == data
    assert run(tmp_path, command).stdout == b"found\n"
    assert names(tmp_path) == {sha256_hex(data)}


def test_a_part_that_is_wrong_begins_anew(tmp_path: Path) -> None:
    """A machine that lost power keeps a file's length and not its bytes: the whole is checked, the part emptied."""
    look(tmp_path)
    data = os.urandom(1000)
    command = text.take_large(JOB, sha256_hex(data), len(data))
    part = tmp_path / text.CACHE / f"{sha256_hex(data)}.part"
    part.write_bytes(bytes(600))
    done = run(tmp_path, command, data[600:])
    assert (done.returncode, done.stdout) == (text.INCOMPLETE, b"from 600\nbad\n")
    assert part.stat().st_size == 0
    part.write_bytes(bytes(2000))
    assert run(tmp_path, command, data).stdout == b"from 0\ngood\n"


def test_a_part_has_one_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second waits for the lock, and says how far the first one is when that takes long."""
    monkeypatch.setattr(text, "LOCK_SECONDS", 0)
    look(tmp_path)
    part = tmp_path / text.CACHE / f"{'2' * 64}.part"
    with part.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write(b"123")
        stream.flush()
        done = run(tmp_path, text.take_large(JOB, "2" * 64, 10), b"0123456789")
    assert (done.returncode, done.stdout) == (text.BUSY, b"busy 3\n")
    assert part.read_bytes() == b"123"


def test_a_part_that_went_away_while_it_was_waited_for_is_begun_anew(tmp_path: Path) -> None:
    """The lock is then on a file that has no name any more; what is written there would be lost."""
    look(tmp_path)
    data = os.urandom(1000)
    part = tmp_path / text.CACHE / f"{sha256_hex(data)}.part"
    command = text.take_large(JOB, sha256_hex(data), len(data))
    with part.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        shell = subprocess.Popen(["sh", "-c", command], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        until = time.monotonic() + 60
        while not os.path.lexists(f"/proc/{shell.pid}/fd/9"):
            assert time.monotonic() < until, "it never opened the part"
            time.sleep(0.01)
        part.unlink()
    out, _ = shell.communicate(data, timeout=60)
    assert (shell.returncode, out) == (0, b"from 0\ngood\n")
    assert (tmp_path / text.CACHE / sha256_hex(data)).read_bytes() == data


def test_a_receiver_whose_sender_fell_silent_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold the lock for hours; what it got stays for the next one."""
    monkeypatch.setattr(text, "STALL_SECONDS", 0.2)
    look(tmp_path)
    command = text.take_large(JOB, "3" * 64, 10)
    with subprocess.Popen(["sh", "-c", command], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(b"123")
        shell.stdin.flush()
        assert shell.wait(timeout=60) == text.INCOMPLETE
        assert shell.stdout.read() == b"from 0\nshort 3\n"


def test_what_an_earlier_attempt_left_stays(tmp_path: Path) -> None:
    """Checkpoints and logs of a folder without the mark of a complete staging stay, its data is made anew."""
    here = tmp_path / JOB.folder
    for folder in ("data", "checkpoint", "outputs", "attempt-1"):
        (here / folder).mkdir(parents=True)
        (here / folder / "half").write_text("half")
    look(tmp_path)
    assert assemble(tmp_path, *LOOSE).returncode == 0
    assert {one.name for one in (here / "data").iterdir()} == {"dataset.json"}
    assert (here / "checkpoint/half").exists()
    assert (here / "attempt-1/half").exists()
    assert list((here / "outputs").iterdir()) == []
    assert (here / "before-1/half").exists()


def test_what_is_missing_leaves_no_folder(tmp_path: Path) -> None:
    """A file that was never brought is no half job."""
    look(tmp_path)
    done = assemble(tmp_path, kept("data/a", b"rows"), *LOOSE)
    assert done.returncode == text.INCOMPLETE
    assert not (tmp_path / JOB.folder).exists()
    assert [one.name for one in (tmp_path / "edgeloop/jobs").iterdir()] == [".stage"]


def test_what_died_long_ago_is_swept(tmp_path: Path) -> None:
    """Parts of a day, arrivals of an hour and links of a day go; younger ones stay."""
    look(tmp_path)
    cache, stage, jobs = tmp_path / text.CACHE, tmp_path / text.STAGE, tmp_path / "edgeloop/jobs"
    old = [cache / "in.old", cache / "old.part", stage / "old", jobs / "old.part"]
    young = [cache / "in.young", cache / "young.part", stage / "young", jobs / "young.part"]
    for one in old + young:
        one.mkdir() if one.parent != cache or one.name.startswith("in.") else one.touch()
    for one in old:
        os.utime(one, (1000, 1000))
    look(tmp_path)
    assert [one.name for one in old if one.exists()] == []
    assert [one.name for one in young if not one.exists()] == []


def test_the_same_members_are_the_same_bytes() -> None:
    """The streams hold no time and no user of the sending machine; a content is sent once."""
    twice = (*LOOSE, member("code/copy.py", b"print(1)\n"))
    raw = b"".join(folder_stream(twice))
    assert raw == b"".join(folder_stream(twice))
    with tarfile.open(fileobj=BytesIO(raw)) as tar:
        assert [(one.name.partition("/")[0], one.mtime, one.uid) for one in tar if one.isreg()] == [
            ("loose", 0, 0), ("loose", 0, 0), ("manifest.sha256", 0, 0),
        ]  # fmt: skip
    assert manifest(LOOSE).decode().splitlines()[0] == f"{LOOSE[0].sha256}  data/dataset.json"


def test_a_source_of_another_size_is_refused() -> None:
    """A blob that shrank fails the stream instead of shifting what follows."""
    short = Member(path="data/a", size=10, sha256="0" * 64, read=lambda _: (b"123",))
    with pytest.raises(IntegrityError, match="3 bytes in storage, its record says 10"):
        list(tar_stream((short,)))


def test_an_empty_file_travels_with_the_job() -> None:
    """No cache entry, no fetch of nothing."""
    assert kept("data/a", b"").loose
    assert not kept("data/a", b"1").loose
