"""Staging by a real shell: complete and checked, or not there at all."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import IntegrityError
from edgeloop.training import bundle, stage_commands
from edgeloop.training.bundle import Member, member
from edgeloop.training.job import Job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

JOB = Job(run_id="ab" * 32, pipeline="p", image="i")
MEMBERS = (member("data/dataset.json", b"{}"), member("code/train.py", b"print(1)\n"))


def stage(home: Path, members: Sequence[Member], *, need_kib: int = 1) -> subprocess.CompletedProcess[bytes]:
    """Run the staging text as the login shell would, in ``home``."""
    return subprocess.run(
        ["sh", "-c", stage_commands.stage(JOB, need_kib=need_kib)],
        input=b"".join(bundle.tar_stream(members)),
        cwd=home,
        capture_output=True,
        timeout=30,
        check=False,
    )


def test_what_was_sent_is_there(tmp_path: Path) -> None:
    """Files arrive with their bytes; the outputs are writable for the job's user, the folder for nobody else."""
    assert stage(tmp_path, MEMBERS).returncode == 0
    here = tmp_path / JOB.folder
    assert (here / "data/dataset.json").read_bytes() == b"{}"
    assert (here / "code/train.py").read_bytes() == b"print(1)\n"
    assert (here / "outputs").stat().st_mode & 0o777 == 0o777
    assert here.stat().st_mode & 0o777 == 0o700
    assert (here / "staged").exists()


def test_staging_again_changes_nothing(tmp_path: Path) -> None:
    """What is staged is not touched by a second try, not even with other bytes."""
    stage(tmp_path, MEMBERS)
    assert stage(tmp_path, (member("data/dataset.json", b"other"),)).returncode == 0
    assert (tmp_path / JOB.folder / "data/dataset.json").read_bytes() == b"{}"


def test_other_bytes_than_the_manifest_says_are_refused(tmp_path: Path) -> None:
    """A flipped bit leaves nothing behind but the message of sha256sum."""
    good = MEMBERS[1]
    bad = Member(path=good.path, size=good.size, sha256="0" * 64, read=good.read)
    done = stage(tmp_path, (bad,))
    assert done.returncode != 0
    assert b"sha256sum" in done.stderr
    assert list((tmp_path / "edgeloop/jobs").iterdir()) == []


def test_a_stream_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """Half a tar is no staged job."""
    raw = b"".join(bundle.tar_stream((member("data/a", b"x" * 100_000),)))
    text = stage_commands.stage(JOB, need_kib=1)
    done = subprocess.run(["sh", "-c", text], input=raw[:50_000], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode != 0
    assert list((tmp_path / "edgeloop/jobs").iterdir()) == []


def test_what_a_crash_left_is_replaced(tmp_path: Path) -> None:
    """A folder without the mark of a complete staging is made anew."""
    half = tmp_path / JOB.folder / "data"
    half.mkdir(parents=True)
    (half / "dataset.json").write_text("half")
    assert stage(tmp_path, MEMBERS).returncode == 0
    assert (half / "dataset.json").read_bytes() == b"{}"


def test_a_full_disk_is_noticed_before_anything_is_sent(tmp_path: Path) -> None:
    """The exit code and the message say how much is needed."""
    done = stage(tmp_path, MEMBERS, need_kib=10**12)
    assert done.returncode == stage_commands.NO_SPACE
    assert b"1000000000000 KiB are needed" in done.stderr


def test_the_same_members_are_the_same_bytes() -> None:
    """The stream holds no time and no user of the sending machine."""
    assert b"".join(bundle.tar_stream(MEMBERS)) == b"".join(bundle.tar_stream(MEMBERS))


def test_a_source_of_another_size_is_refused() -> None:
    """A blob that shrank fails the stream instead of shifting what follows."""
    short = Member(path="data/a", size=10, sha256="0" * 64, read=lambda: (b"123",))
    with pytest.raises(IntegrityError, match="3 bytes in storage, its record says 10"):
        list(bundle.tar_stream((short,)))
