"""From a batch on a share to a certificate on a real Azurite."""

from __future__ import annotations

import io
import json
import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import edgeloop
from edgeloop.azure.blob import BlobContainer
from edgeloop.errors import NotFoundError, UnreachableError, ValidationBlockedError
from edgeloop.records import Batch, Certificate
from edgeloop.validation import SupersededError, batch_of, certificate_of, certify, lines
from edgeloop.validation.judge import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.edgeloop.validation.conftest import Bench

HEADER = "site,at,wind,power\n"


def csv(site: str, *rows: str) -> str:
    """A file of one site; each row is `minute,wind,power` of the first hour of 2014."""
    lines = []
    for row in rows:
        minute, rest = row.split(",", 1)
        lines.append(f"{site},2014-01-01T00:{int(minute):02d}:00Z,{rest}\n")
    return HEADER + "".join(lines)


GOOD = csv("north", "0,5,1.5", "10,6,2.5", "20,7,3.5", "30,8,4.5")


def names(bench: Bench, prefix: str = "") -> list[str]:
    """Blobs below a prefix, without the batch's id."""
    return [one.name.split("/", 2)[2] for one in bench.blobs.list(prefix)]


def quarantine(bench: Bench, name: str) -> list[dict[str, Any]]:
    """The JSON lines of a file's quarantine."""
    (blob,) = [one.name for one in bench.blobs.list("quarantine/") if one.name.endswith(f"/{name}.jsonl")]
    return [json.loads(line) for line in bench.blobs.get(blob).decode().splitlines()]


def test_a_good_batch_is_certified(tiny: Bench) -> None:
    """Rows, files, event time and coverage are those of the files; the blobs read back as the certificate says."""
    tiny.drop("north_2014-01.csv", GOOD)
    tiny.drop("south_2014-01.csv", csv("south", "30,5,1"))
    batch = tiny.batch()
    certificate = tiny.certify(batch)
    assert (certificate.rows, certificate.quarantined, certificate.set_aside) == (5, 0, ())
    assert [one.path for one in certificate.files] == [
        f"data/{batch.id}/north_2014-01.parquet",
        f"data/{batch.id}/south_2014-01.parquet",
    ]
    assert all(tiny.blobs.digest(one.path) == (one.size, one.sha256) for one in certificate.files)
    assert list(certificate.etags) == [tiny.blobs.look(one.path).etag for one in certificate.files]
    assert certificate.event_start == "2014-01-01T00:00:00+00:00"
    assert certificate.event_end == "2014-01-01T00:30:00.000001+00:00"
    assert certificate.coverage == ("2014-01-01 north 4", "2014-01-01 south 1")
    assert (certificate.parents, certificate.config) == ((batch.id,), batch.config)
    frame = pd.read_parquet(io.BytesIO(tiny.blobs.get(certificate.files[0].path)))
    assert list(frame["power"]) == [1.5, 2.5, 3.5, 4.5]
    assert certificate_of(tiny.store, batch_of(tiny.store, batch.key)) == certificate


def test_a_certified_batch_is_found(tiny: Bench) -> None:
    """The second run returns the first one's certificate, without the share and without validating."""
    tiny.drop("north_2014-01.csv", GOOD)
    batch = tiny.batch()
    first = tiny.certify(batch)
    (tiny.folder.path / "north_2014-01.csv").unlink()
    assert tiny.certify(batch) == first
    assert tiny.said[-1].startswith("found: certificate")


def test_bad_rows_are_quarantined_with_line_reason_value_and_text(tiny: Bench) -> None:
    """The file's line number, expectation, column and value stand beside the data; the rest of the file goes on."""
    rows = [*(f"{minute},5,1" for minute in range(8)), "8,99,1", "9,-4,"]
    tiny.drop("north_2014-01.csv", csv("north", *rows))
    certificate = tiny.certify()
    assert (certificate.rows, certificate.quarantined) == (8, 2)
    assert certificate.quarantine == f"quarantine/{certificate.batch}/"
    between, null = "expect_column_values_to_be_between", "expect_column_values_to_not_be_null"
    assert quarantine(tiny, "north_2014-01") == [
        {
            "row": 10,
            "expectation": between,
            "column": "wind",
            "value": "99",
            "text": "north,2014-01-01T00:08:00Z,99,1",
        },
        {
            "row": 11,
            "expectation": null,
            "column": "power",
            "value": "",
            "also": [{"expectation": between, "column": "wind", "value": "-4"}],
            "text": "north,2014-01-01T00:09:00Z,-4,",
        },
    ]


def test_rows_must_be_an_instant_of_a_known_site_and_the_first_of_it(tiny: Bench) -> None:
    """Whatever the suite says: no instant, a foreign site, a repeated instant and a torn line are set aside."""
    text = (
        csv("north", *(f"{minute % 60},5,1" for minute in range(59)), "3,9,9") + "north,soon,5,1\neast,2014-01-01,5,1\n"
    )
    tiny.drop(
        "north_2014-01.csv", text + csv("south", *(f"{minute},5,1" for minute in range(60)))[len(HEADER) :] + "torn\n"
    )
    certificate = tiny.certify()
    assert [(one["row"], one["expectation"]) for one in quarantine(tiny, "north_2014-01")] == [
        (61, "site_and_time_are_unique"),
        (62, "time_is_an_instant"),
        (63, "site_is_known"),
        (124, "line_is_whole"),
    ]
    assert certificate.rows == 119
    frame = pd.read_parquet(io.BytesIO(tiny.blobs.get(certificate.files[0].path)))
    assert frame.loc[(frame["site"] == "north") & (frame["at"].dt.minute == 3), "wind"].tolist() == [5.0]


def test_an_instant_in_two_files_is_kept_once(tiny: Bench) -> None:
    """The same export under two names does not count twice: the first file by name keeps its rows."""
    tiny.drop("north copy_2014-01.csv", GOOD)
    tiny.drop("north_2014-01.csv", GOOD + "north,2014-01-01T00:40:00Z,1,1\n")
    certificate = tiny.certify()
    assert (certificate.rows, certificate.quarantined) == (5, 4)


def test_a_quarantined_row_does_not_take_its_double_with_it(tiny: Bench) -> None:
    """When the first of two rows of an instant is bad, the second is kept."""
    tiny.drop("north_2014-01.csv", csv("north", "0,99,1", "0,5,1", "10,5,1", "20,5,1"))
    assert tiny.certify().rows == 3


BAD = {
    "empty_2014-01.csv": (b"", "empty"),
    "image_2014-01.csv": (b"\x89PNG\r\n\x1a\n\x00\x00", "no CSV"),
    "half_2014-01.csv": (GOOD[:-9].encode(), "half-written"),
    "schema_2014-01.csv": (b"site,at,kW\nnorth,2014-01-01,1\n", "other schema"),
}


def test_bad_files_are_set_aside_and_the_others_go_on(tiny: Bench) -> None:
    """Each with its reason, its bytes kept as they came, and nothing of it in the data."""
    tiny.drop("north_2014-01.csv", GOOD)
    for name, (content, _) in BAD.items():
        tiny.drop(name, content)
    certificate = tiny.certify()
    assert certificate.rows == 4
    assert [one.split(": ")[:2] for one in certificate.set_aside] == [[name, BAD[name][1]] for name in sorted(BAD)]
    assert names(tiny, "set_aside/") == sorted(BAD)
    for name, (content, _) in BAD.items():
        assert tiny.blobs.get(f"set_aside/{certificate.batch}/{name}") == content
    assert names(tiny, "data/") == ["north_2014-01.parquet"]


def test_a_batch_of_bad_files_only_is_blocked(tiny: Bench) -> None:
    """Nothing left to certify: no certificate, and the error lists the files with their reasons."""
    for name, (content, _) in BAD.items():
        tiny.drop(name, content)
    with pytest.raises(ValidationBlockedError, match="nothing left to certify") as caught:
        tiny.certify()
    assert all(name in str(caught.value) for name in BAD)
    assert tiny.store.all(Certificate) == []


def test_a_broken_block_stops_the_batch_and_says_what_to_type(tiny: Bench) -> None:
    """One file with text for numbers stops all of it; nothing is certified."""
    tiny.drop("north_2014-01.csv", GOOD)
    tiny.drop("south_2014-01.csv", csv("south", "0,5,high"))
    with pytest.raises(ValidationBlockedError) as caught:
        tiny.certify(rerun="airflow dags clear x --partition-key 'k' --only-failed -y")
    assert "south_2014-01.csv: expect_column_values_to_be_in_type_list(power): not met" in str(caught.value)
    assert "airflow dags clear x --partition-key 'k' --only-failed -y" in str(caught.value)
    assert names(tiny, "data/") == []
    assert tiny.store.all(Certificate) == []


def test_a_budget_stops_the_batch_and_the_rows_lie_in_quarantine(tiny: Bench) -> None:
    """More silent rows than a quarter: blocked, with the place where they can be read."""
    tiny.drop("north_2014-01.csv", csv("north", "0,5,", "10,5,", "20,5,1", "30,5,1"))
    with pytest.raises(
        ValidationBlockedError, match=r"2 of 4 rows, budget 25\.00% \(the sensor was silent\)"
    ) as caught:
        tiny.certify()
    assert f"{tiny.blobs.name}/quarantine/" in str(caught.value)
    assert [one["row"] for one in quarantine(tiny, "north_2014-01")] == [2, 3]
    with pytest.raises(ValidationBlockedError):
        tiny.certify()


def test_warnings_are_noted_and_stop_nothing(tiny: Bench) -> None:
    """They stand in the certificate."""
    tiny.drop("north_2014-01.csv", csv("north", "0,0,1", "10,0,1"))
    assert tiny.certify().warnings == (
        "north_2014-01.csv: expect_column_mean_to_be_between(wind): not met (a calm month)",
    )


def test_no_value_of_a_row_is_said(tiny: Bench) -> None:
    """Logs and errors hold counts and names only."""
    tiny.drop("north_2014-01.csv", csv("north", *(f"{minute},5,1" for minute in range(9)), "9,31337,271828"))
    tiny.drop("south_2014-01.csv", csv("south", "0,31337,secret"))
    with pytest.raises(ValidationBlockedError) as caught:
        tiny.certify()
    said = "\n".join([*tiny.said, str(caught.value)])
    assert not [value for value in ("31337", "271828", "secret") if value in said]


def test_force_validates_under_todays_suite(tiny: Bench) -> None:
    """A batch that a wrong suite blocked gets a certificate of its own; its blobs stand beside older ones."""
    tiny.drop("north_2014-01.csv", csv("north", *(f"{minute},5,1" for minute in range(9)), "9,99,1"))
    batch = tiny.batch()
    first = tiny.certify(batch)
    body = json.loads(tiny.snapshot.text("expectations.json"))
    body["expectations"] = [one for one in body["expectations"] if "between" not in one["type"]]
    tiny.with_suite(json.dumps(body))
    second = tiny.certify(batch, force="99 m/s was real")
    assert (first.rows, second.rows) == (9, 10)
    assert first.id != second.id
    assert all(tiny.blobs.digest(one.path) == (one.size, one.sha256) for one in (*first.files, *second.files))
    assert certificate_of(tiny.store, batch) == second
    assert tiny.certify(batch, force="99 m/s was real") == second


@pytest.mark.fault
def test_a_lost_blob_is_made_again_by_force(tiny: Bench) -> None:
    """The certificate is found but a blob is gone: a reason brings back the same bytes under the same name."""
    tiny.drop("north_2014-01.csv", GOOD)
    batch = tiny.batch()
    lost = tiny.certify(batch).files[0]
    tiny.blobs.delete(lost.path)
    tiny.certify(batch)
    assert not tiny.blobs.exists(lost.path)
    assert tiny.certify(batch, force="the blob is gone").files == (lost,)
    assert tiny.blobs.digest(lost.path) == (lost.size, lost.sha256)


@pytest.mark.fault
def test_a_file_changed_since_the_claim_is_left_to_the_next(tiny: Bench) -> None:
    """The others go on; a batch of which nothing is left as claimed is superseded, which is nobody's fault."""
    tiny.drop("north_2014-01.csv", GOOD)
    tiny.drop("south_2014-01.csv", csv("south", "0,5,1"))
    batch = tiny.batch()
    tiny.drop("south_2014-01.csv", csv("south", "0,6,1"))
    certificate = tiny.certify(batch)
    assert certificate.set_aside == ("south_2014-01.csv: changed since the claim; the next intake claims it anew",)
    alone = tiny.batch()
    tiny.drop("north_2014-01.csv", GOOD + "north,2014-01-01T00:50:00Z,1,1\n")
    tiny.drop("south_2014-01.csv", csv("south", "0,7,1"))
    with pytest.raises(SupersededError):
        tiny.certify(alone)


@pytest.mark.fault
def test_a_file_gone_since_the_claim_is_told(tiny: Bench) -> None:
    """Gone is not changed: no later claim will bring it."""
    tiny.drop("north_2014-01.csv", GOOD)
    batch = tiny.batch()
    (tiny.folder.path / "north_2014-01.csv").unlink()
    with pytest.raises(ValidationBlockedError, match=r"north_2014-01\.csv: gone from the share since the claim"):
        tiny.certify(batch)


@pytest.mark.fault
def test_a_share_that_is_not_mounted_sets_nothing_aside(tiny: Bench) -> None:
    """An empty mount point must not look like files that are gone."""
    tiny.drop("north_2014-01.csv", GOOD)
    batch = tiny.batch()
    tiny.folder.path.rename(tiny.folder.path.with_name("elsewhere"))
    with pytest.raises(UnreachableError, match="'edgeloop_share' is not there"):
        tiny.certify(batch)


class DiedError(Exception):
    """Stands for SIGKILL at a chosen write."""


@pytest.mark.fault
@pytest.mark.parametrize("point", ["set_aside/", "quarantine/", "docs/", "data/", "records/certificate/", "edges/"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_certification_that_dies_at_any_write_is_made_good(
    tiny: Bench, monkeypatch: pytest.MonkeyPatch, point: str, *, before: bool
) -> None:
    """Killed before or after each kind of write, the retry makes the same certificate with the same blobs."""
    tiny.drop("bad_2014-01.csv", b"")
    tiny.drop("north_2014-01.csv", csv("north", *(f"{minute},5,1" for minute in range(9)), "9,99,1"))
    batch = tiny.batch()

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def write(self: BlobContainer, name: str, *rest: Any, **more: Any) -> Any:
            if before and name.startswith(point):
                raise DiedError(name)
            made = real(self, name, *rest, **more)
            if name.startswith(point):
                raise DiedError(name)
            return made

        return write

    with monkeypatch.context() as patch:
        for method in ("put_new", "put_whole", "commit"):
            patch.setattr(BlobContainer, method, dying(getattr(BlobContainer, method)))
        with pytest.raises(DiedError):
            tiny.certify(batch)
    certificate = tiny.certify(batch)
    assert (certificate.rows, certificate.quarantined, len(certificate.set_aside)) == (9, 1, 1)
    assert tiny.store.children(batch.id, Certificate) == [certificate]
    assert len(names(tiny, "data/")) == len(names(tiny, "quarantine/")) == len(names(tiny, "set_aside/")) == 1


def test_an_upgrade_validates_anew_and_a_retry_does_not(tiny: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version of Edgeloop and that of Great Expectations are part of what a certificate is keyed by."""
    tiny.drop("north_2014-01.csv", GOOD)
    batch = tiny.batch()
    first = tiny.certify(batch)
    assert first.library == f"edgeloop {edgeloop.__version__}, great_expectations {version('great_expectations')}"
    monkeypatch.setattr("edgeloop.__version__", "9.9")
    second = tiny.certify(batch)
    monkeypatch.setattr("edgeloop.validation.library.version", lambda _: "7.7")
    third = tiny.certify(batch)
    assert len({first.id, second.id, third.id}) == 3
    assert third.library == "edgeloop 9.9, great_expectations 7.7"
    assert first.files == second.files == third.files
    assert tiny.certify(batch) == third
    assert certificate_of(tiny.store, batch) == third


def test_many_files_start_the_library_once(tiny: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it takes seconds; a batch without a readable file does not wait for it at all."""
    started = []
    real = certify.Expectations
    monkeypatch.setattr(certify, "Expectations", lambda suite: started.append(suite) or real(suite))
    tiny.drop("bad_2014-01.csv", b"")
    with pytest.raises(ValidationBlockedError):
        tiny.certify()
    assert started == []
    for number in range(5):
        tiny.drop(f"north_2014-0{number + 1}.csv", csv("north", f"{number},5,1"))
    assert tiny.certify().rows == 5
    assert len(started) == 1


def test_chunks_change_no_byte_of_what_is_stored(tiny: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, quarantine and docs of a file read in many pieces and chunks are those of the file read in one."""
    sites = ("north", "south")
    rows = [
        f"{sites[n < 150]},2014-01-01T{n // 60:02d}:{n % 60:02d}:00Z,{99 if n % 13 == 0 else 5},{n}\n"
        for n in range(300)
    ]
    tiny.drop("north_2014-01.csv", HEADER + "".join(rows[150:] + rows[:150]) + "torn\n")
    batch = tiny.batch()
    first = tiny.certify(batch)
    blobs = {name: tiny.blobs.get(name) for name in (one.name for one in tiny.blobs.list()) if "records" not in name}
    assert first.quarantined > 20
    monkeypatch.setattr(lines, "PIECE_BYTES", 700)
    work = tiny.work(batch, force="again")
    work.limits = Limits(chunk_rows=17, memory_bytes=2**20)
    assert work.certify().files == first.files
    for name, content in blobs.items():
        if name.startswith(("data/", "quarantine/")):
            assert tiny.blobs.get(name) == content
    assert len([one for one in tiny.blobs.list() if one.name.startswith(("data/", "quarantine/"))]) == 2


def test_data_docs_say_what_every_expectation_found(tiny: Bench) -> None:
    """One page without a script or anything to fetch, beside the data, named by the certificate."""
    tiny.drop("north_2014-01.csv", csv("north", *(f"{minute},5,1" for minute in range(9)), "9,99,1"))
    tiny.drop("bad<b>.csv", b"")
    certificate = tiny.certify()
    (name,) = (one.name for one in tiny.blobs.list(f"docs/{certificate.batch}/{certificate.suite[:16]}-"))
    assert certificate.docs == name
    page = tiny.blobs.get(certificate.docs).decode()
    assert "wind values must be greater than or equal to 0.0 and less than or equal to 40.0." in page
    assert "1 of 10, budget" in page
    assert "row 11: <code>99</code>" in page
    assert "bad&lt;b&gt;.csv: empty" in page
    assert not re.findall(r"<script|https?:|src=|@import|url\(", page)


def test_a_blocked_batch_has_data_docs_too(tiny: Bench) -> None:
    """The error names the page; a second try finds it and leaves it."""
    tiny.drop("north_2014-01.csv", csv("north", "0,5,high"))
    batch = tiny.batch()
    for _ in range(2):
        work = tiny.work(batch)
        with pytest.raises(ValidationBlockedError) as caught:
            work.certify()
        assert f"{tiny.blobs.name}/{work.docs} (connection edgeloop_private)" in caught.value.left
    (blob,) = tiny.blobs.list("docs/")
    assert "blocked" in tiny.blobs.get(blob.name).decode()
    assert "expect_column_values_to_be_in_type_list(power)" in tiny.blobs.get(blob.name).decode()


def test_a_pipeline_may_do_without_data_docs(tiny: Bench) -> None:
    """validation.docs off: no page, and the certificate names none."""
    tiny.drop("north_2014-01.csv", GOOD)
    work = tiny.work(tiny.batch(), docs=False)
    assert work.certify().docs == ""
    assert list(tiny.blobs.list("docs/")) == []


def test_an_unknown_key_names_no_batch(tiny: Bench) -> None:
    """A mistyped partition key says how keys look."""
    tiny.drop("north_2014-01.csv", GOOD)
    key = tiny.batch().key
    for wrong in ("", "2014-01", "other@" + key.partition("@")[2], "g@0000000000000000", key[:-1]):
        with pytest.raises(NotFoundError):
            batch_of(tiny.store, wrong)
    with pytest.raises(NotFoundError, match="has no certificate"):
        certificate_of(tiny.store, batch_of(tiny.store, key))


def test_real_ordinary_days_lose_nothing(sample: Bench, real: Callable[..., None]) -> None:
    """Two January days of three turbines: every row is certified."""
    real("R80711_2014-01", "R80721_2014-01", "R80736_2014-01")
    certificate = sample.certify()
    assert (certificate.rows, certificate.quarantined, len(certificate.coverage)) == (864, 0, 6)


def test_real_faults_are_found(sample: Bench, real: Callable[..., None]) -> None:
    """Doubles of the skipped hour, silent sensors, and a thermometer at absolute zero are quarantined as such."""
    real("R80711_2014-03", "R80721_2014-06")
    certificate = sample.certify()
    spring = quarantine(sample, "R80711_2014-03")
    assert [one["expectation"] for one in spring] == ["site_and_time_are_unique"] * 6
    cold = [one for one in quarantine(sample, "R80721_2014-06") if one["column"] == "Ot_avg"]
    assert len(cold) == 34
    assert certificate.rows == 294 + 720 - certificate.quarantined


def test_a_real_outage_breaks_the_budget(sample: Bench, real: Callable[..., None]) -> None:
    """More than half of the rows without any sensor: the batch is stopped, with the reason from the suite."""
    real("R80721_2015-03")
    with pytest.raises(ValidationBlockedError, match="the sensor was silent"):
        sample.certify()


def test_a_record_written_before_still_reads(tiny: Bench) -> None:
    """Certificates without coverage, from before there was any, can be read."""
    old = Certificate(pipeline="tiny_power", batch="b" * 64, suite="s", group="g").to_dict()
    for name in ("coverage", "claimed_at", "certified_at", "docs", "library"):
        del old[name]
    assert Certificate.from_dict(old).coverage == ()
    assert Batch.kind == "batch"
