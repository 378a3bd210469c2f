"""A revision whose files were partly cleared away: what was certified of them stands."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from edgeloop.records import FileRef
from edgeloop.transfer import file_digest, verify
from edgeloop.validation import SupersededError

if TYPE_CHECKING:
    from tests.edgeloop.validation.conftest import Bench

    from edgeloop.records import Batch

HEADER = "site,at,wind,power\n"


def rows(site: str, day: str, count: int = 3, power: float = 1.5) -> str:
    """A file of one site and day."""
    lines = (f"{site},2014-01-{day}T00:{n:02d}:00Z,5,{power}\n" for n in range(count))
    return HEADER + "".join(lines)


def revision(bench: Bench, before: Batch) -> Batch:
    """The group's next batch, as intake claims it: what lies there, and what lay there before and is gone."""
    there = {one.path: one for one in before.files}
    for seen in bench.folder.scan():
        size, sha256 = file_digest(bench.folder.path / seen.path)
        there[seen.path] = FileRef(path=seen.path, size=size, sha256=sha256)
    files = tuple(there[path] for path in sorted(there))
    return bench.store.put(dataclasses.replace(before, files=files, replaces=before.id))


def test_a_cleared_file_keeps_its_certified_rows(tiny: Bench) -> None:
    """The revision's certificate names the earlier blob, counts its rows and days, and says so; nothing is resent."""
    tiny.drop("north.csv", rows("north", "01"))
    first = tiny.batch()
    certified = tiny.certify(first)
    (tiny.folder.path / "north.csv").unlink()
    tiny.drop("south.csv", rows("south", "02", count=2))
    certificate = tiny.certify(revision(tiny, first))
    assert certified.files[0] in certificate.files
    assert (certificate.rows, certificate.set_aside) == (5, ())
    assert certificate.coverage == ("2014-01-01 north 3", "2014-01-02 south 2")
    assert (certificate.event_start, certificate.event_end[:19]) == ("2014-01-01T00:00:00+00:00", "2014-01-02T00:01:00")
    assert f"rows are those certified with batch {first.id}" in " ".join(certificate.warnings)
    for one in certificate.files:
        verify(tiny.blobs, one)


def test_rows_are_found_through_any_number_of_revisions(tiny: Bench) -> None:
    """A file that was kept once is kept again, from the batch that read it."""
    tiny.drop("north.csv", rows("north", "01"))
    batch = tiny.batch()
    first = tiny.certify(batch)
    (tiny.folder.path / "north.csv").unlink()
    for day in ("02", "03"):
        tiny.drop("south.csv", rows("south", day))
        batch = revision(tiny, batch)
        assert first.files[0] in tiny.certify(batch).files


def test_a_kept_row_is_not_taken_in_twice(tiny: Bench) -> None:
    """A late file that repeats a site's instant is quarantined, as it is beside a file that can still be read."""
    tiny.drop("north.csv", rows("north", "01"))
    first = tiny.batch()
    tiny.certify(first)
    (tiny.folder.path / "north.csv").unlink()
    tiny.drop("again.csv", rows("north", "01", count=4, power=2.5))
    certificate = tiny.certify(revision(tiny, first))
    assert (certificate.rows, certificate.quarantined) == (4, 3)
    lines = tiny.blobs.get(f"{certificate.quarantine}again.jsonl").decode().splitlines()
    assert {json.loads(line)["expectation"] for line in lines} == {"site_and_time_are_unique"}


def test_a_file_that_changed_keeps_its_rows_until_it_is_claimed_anew(tiny: Bench) -> None:
    """The claim's own bytes were certified before; what lies there now is another revision's."""
    tiny.drop("north.csv", rows("north", "01"))
    first = tiny.batch()
    certified = tiny.certify(first)
    tiny.drop("south.csv", rows("south", "02"))
    second = revision(tiny, first)
    tiny.drop("north.csv", rows("north", "01", count=9))
    assert certified.files[0] in tiny.certify(second).files


def test_a_batch_of_changed_files_only_is_superseded_all_the_same(tiny: Bench) -> None:
    """The next intake claims them anew; there is nothing new in this one."""
    tiny.drop("north.csv", rows("north", "01"))
    first = tiny.batch()
    tiny.certify(first)
    again = tiny.store.put(dataclasses.replace(first, again=first.id, replaces=first.id))
    tiny.drop("north.csv", rows("north", "02"))
    with pytest.raises(SupersededError):
        tiny.certify(again)


def test_a_file_that_nobody_certified_is_set_aside(tiny: Bench) -> None:
    """Gone before it was ever judged, its rows are nowhere; the certificate says so."""
    tiny.drop("north.csv", rows("north", "01"))
    first = tiny.batch()
    (tiny.folder.path / "north.csv").unlink()
    tiny.drop("south.csv", rows("south", "02"))
    certificate = tiny.certify(revision(tiny, first))
    assert certificate.set_aside == ("north.csv: gone from the share since the claim",)
    assert certificate.rows == 3


def test_another_content_of_the_same_name_does_not_stand_in(tiny: Bench) -> None:
    """Only the very bytes that the batch claimed count."""
    tiny.drop("north.csv", rows("north", "01"))
    first = tiny.batch()
    tiny.certify(first)
    tiny.drop("north.csv", rows("north", "02"))
    tiny.drop("south.csv", rows("south", "02"))
    second = revision(tiny, first)
    (tiny.folder.path / "north.csv").unlink()
    assert tiny.certify(second).set_aside == ("north.csv: gone from the share since the claim",)
