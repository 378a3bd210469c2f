"""Which certified batches a training is fed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeloop import catalog
from edgeloop.errors import IntegrityError
from edgeloop.records import Certificate, Dataset, FileRef, ModelVersion, TrainingRun
from edgeloop.training.dataset import (
    Skip,
    already_trained,
    choose_window,
    dataset_json,
    file_names,
    may_train,
    months_of,
    require_certified,
)
from edgeloop.training.plan import job_of, members, plan

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline

FOLDER = Path(catalog.__file__).parents[1] / "pipelines" / "wind_power"
ENDS = {"01": "2014-02-01", "02": "2014-03-01", "03": "2014-04-01", "04": "2014-05-01", "12": "2014-01-01"}


@pytest.fixture(scope="module")
def snapshot() -> catalog.Snapshot:
    """The sample pipeline."""
    found, problems = catalog.read(FOLDER)
    assert found is not None, problems
    return found


@pytest.fixture(scope="module")
def spec(snapshot: catalog.Snapshot) -> Pipeline:
    """Its model."""
    return snapshot.spec


def certificate(group: str, *, claimed: str = "1", rows: int = 10, coverage: tuple[str, ...] = ()) -> Certificate:
    """A certified month."""
    return Certificate(
        pipeline="wind_power",
        batch=f"{group}-{claimed}",
        suite="s",
        group=group,
        files=(FileRef(path=f"data/{group}-{claimed}/R80711_{group}.parquet", size=1, sha256=claimed * 64),),
        rows=rows,
        event_start=f"{group}-01T00:00:00Z",
        event_end=f"{ENDS[group[-2:]]}T00:00:00Z",
        claimed_at=claimed,
        coverage=coverage or (f"{group}-05 R80711 {rows}",),
    )


def window(spec: Pipeline, *certificates: Certificate) -> Dataset:
    """The dataset that is chosen; fails the test when nothing is."""
    chosen = choose_window(certificates, spec)
    assert isinstance(chosen, Dataset), chosen
    return chosen


def test_the_newest_three_months_are_chosen(spec: Pipeline) -> None:
    """The window ends with the newest event, the last fourteen days are held out, older months stay out."""
    months = [certificate(group) for group in ("2013-12", "2014-03", "2014-01", "2014-02")]
    chosen = window(spec, *months)
    assert chosen.certificates == tuple(months[i].id for i in (2, 3, 1))
    assert chosen.window_start == "2014-01-01T00:00:00Z"
    assert chosen.window_end == "2014-04-01T00:00:00Z"
    assert chosen.holdout_start == "2014-03-18T00:00:00Z"


def test_a_later_revision_replaces_the_earlier(spec: Pipeline) -> None:
    """Of two certificates of a month the later claim counts, whichever comes first."""
    months = [certificate(group) for group in ("2014-01", "2014-02", "2014-03")]
    revised = certificate("2014-02", claimed="2")
    assert window(spec, revised, *months) == window(spec, *months, revised)
    assert revised.id in window(spec, revised, *months).certificates
    assert months[1].id not in window(spec, revised, *months).certificates


def test_the_order_of_certificates_does_not_matter(spec: Pipeline) -> None:
    """Two tasks that list the store differently fix the same dataset."""
    months = [certificate(group) for group in ("2014-01", "2014-02", "2014-03")]
    assert window(spec, *months).id == window(spec, *reversed(months)).id


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ((), "no batch is certified yet"),
        (("2014-01",), "holds 1 of the 3 months that are needed: 2014-01"),
        (("2014-01", "2014-03"), "holds 2 of the 3 months that are needed: 2014-01, 2014-03"),
        (("2013-12", "2014-01", "2014-04"), "holds 1 of the 3 months that are needed: 2014-04"),
    ],
)
def test_too_few_months_are_said(spec: Pipeline, groups: tuple[str, ...], why: str) -> None:
    """The reason names what is there; a gap in the window counts as missing."""
    chosen = choose_window([certificate(group) for group in groups], spec)
    assert isinstance(chosen, Skip)
    assert why in chosen.why


def test_an_empty_certificate_is_no_month(spec: Pipeline) -> None:
    """A month whose files were all set aside is not there."""
    months = [certificate("2014-01"), certificate("2014-02"), certificate("2014-03", rows=0)]
    assert isinstance(choose_window(months, spec), Skip)


def test_rows_over_the_edge_of_a_time_zone_are_no_month_of_their_own() -> None:
    """A January that starts on 31 December in UTC is January."""
    spill = certificate("2014-01", coverage=("2013-12-31 R80711 6", "2014-01-01 R80711 144", "2014-01-02 R80711 144"))
    assert months_of(spill) == {"2014-01"}


def test_an_event_end_within_a_second_stays_behind_the_last_event(spec: Pipeline) -> None:
    """The end is exclusive: cutting microseconds off would leave the last event outside."""
    import dataclasses

    months = [certificate(group) for group in ("2014-01", "2014-02", "2014-03")]
    last = dataclasses.replace(months[2], event_end="2014-03-31T23:50:00.000001Z")
    assert window(spec, *months[:2], last).window_end == "2014-03-31T23:50:01Z"


@pytest.mark.parametrize(
    ("key", "retrain_on", "champion", "candidate", "trains"),
    [
        ("2014-03@aa", "drift", "", "", True),
        ("2014-03@aa", "drift", "c", "", False),
        ("2014-03@aa", "drift", "", "c", False),
        ("2014-03@aa", "new_data", "c", "c", True),
        ("drift-0123456789abcdef", "drift", "c", "", True),
        ("code-0123456789ab", "drift", "c", "", True),
        ("cron-2026-11-22T0600Z", "drift", "c", "", True),
        ("waiting-0123456789ab", "drift", "c", "c", False),
    ],
)
def test_new_data_trains_only_while_nobody_serves(
    spec: Pipeline, key: str, retrain_on: str, champion: str, candidate: str, *, trains: bool
) -> None:
    """Under retrain_on: drift new data waits for drift as soon as there is a champion or a candidate."""
    training = spec.training.model_copy(update={"retrain_on": retrain_on})
    skip = may_train([key], spec.model_copy(update={"training": training}), champion=champion, candidate=candidate)
    assert (skip is None) is trains


def test_the_dataset_tells_the_script_what_it_needs(spec: Pipeline) -> None:
    """dataset.json has the columns, the hold-out and the files by the names they have on the VM."""
    chosen = window(spec, *(certificate(group) for group in ("2014-01", "2014-02", "2014-03")))
    body = json.loads(dataset_json(chosen, spec))
    assert body["target"] == "P_avg"
    assert body["holdout_start"] == "2014-03-18T00:00:00Z"
    assert body["parameters"] == {"max_iter": 200}
    assert [one["name"] for one in body["files"]] == [
        "0000-R80711_2014-01.parquet", "0001-R80711_2014-02.parquet", "0002-R80711_2014-03.parquet",
    ]  # fmt: skip


def test_files_of_one_name_do_not_meet_on_the_vm(spec: Pipeline) -> None:
    """Two batches may hold files of the same name."""
    chosen = window(spec, *(certificate(group) for group in ("2014-01", "2014-02", "2014-03")))
    import dataclasses

    twins = dataclasses.replace(chosen, files=(chosen.files[0], chosen.files[0]))
    assert len(set(file_names(twins))) == 2


class Nothing:
    """A source that must not be read."""

    def chunks(self, name: str) -> object:
        """Fail."""
        raise AssertionError(name)


def test_a_training_is_named_by_all_that_goes_in(snapshot: catalog.Snapshot) -> None:
    """Data, image, champion, domain and a force reason each make another training; origin and reason do not."""
    import dataclasses

    data = window(snapshot.spec, *(certificate(group) for group in ("2014-01", "2014-02", "2014-03")))
    champion = ModelVersion(
        pipeline="wind_power", sha256="c" * 64, size=3, blob="models/c.onnx", version=1, training_run="t", metrics="{}"
    )
    without_domain = snapshot.spec.model_copy(update={"model": snapshot.spec.model.model_copy(update={"domain": ""})})
    base = plan(snapshot, data, image="i")
    others = [
        plan(snapshot, data, image="j"),
        plan(snapshot, data, image="i", champion=champion),
        plan(snapshot, data, image="i", forced="why"),
        plan(snapshot, dataclasses.replace(data, holdout_start="2014-03-01T00:00:00Z"), image="i"),
        plan(dataclasses.replace(snapshot, spec=without_domain), data, image="i"),
    ]
    assert len({base.id, *(one.id for one in others)}) == 6
    assert plan(snapshot, data, image="i", reason="cron").id == base.id
    assert plan(snapshot, dataclasses.replace(data, origin="rerun"), image="i").id == base.id


def test_everything_the_script_needs_is_sent(snapshot: catalog.Snapshot) -> None:
    """dataset.json, the Parquet files, the champion and the pipeline's own files, and no byte is read before."""
    data = window(snapshot.spec, *(certificate(group) for group in ("2014-01", "2014-02", "2014-03")))
    champion = ModelVersion(
        pipeline="wind_power", sha256="c" * 64, size=3, blob="models/c.onnx", version=1, training_run="t", metrics="{}"
    )
    paths = [one.path for one in members(snapshot, data, champion, Nothing())]  # type: ignore[arg-type]
    assert paths[0] == "data/dataset.json"
    assert {"data/0002-R80711_2014-03.parquet", "data/champion.onnx", "code/train.py", "code/features.py"} <= {*paths}


def test_the_deadline_counts_from_now(snapshot: catalog.Snapshot) -> None:
    """Thirty minutes of the sample pipeline are 1,800 seconds."""
    run = TrainingRun(pipeline="p", dataset="d", code="c", image="i", parameters="{}")
    job = job_of(run, snapshot.spec, now=1000.0)
    assert (job.deadline, job.memory_mb, job.cpus) == (2800, 2048, 1.0)


def test_the_same_training_is_recognised() -> None:
    """Same code, parameters and inputs on the same dataset are the same training, whoever was champion then."""
    done = TrainingRun(
        pipeline="p", dataset="d", code="c", image="sha256:1f2e3d", parameters="{}", champion="x", inputs="n"
    )
    wanted = dataclasses.replace(done, image="", champion="")
    for image, found in (("", True), ("1f2e", True), ("1f2e3d", True), ("90ab", False)):
        assert bool(already_trained([done], dataclasses.replace(wanted, image=image))) is found
    for other in ({"code": "other"}, {"parameters": '{"a":1}'}, {"inputs": "m"}):
        assert already_trained([done], dataclasses.replace(wanted, **other)) == ""
    old = dataclasses.replace(done, inputs="")
    assert already_trained([old], wanted) == old.id, "a record of before inputs were told"


def test_a_rerun_keeps_no_live_training_from_going_on() -> None:
    """The model of a rerun stayed where it was: a live run comes by it again, another rerun is told."""
    done = TrainingRun(pipeline="p", origin="rerun", dataset="d", code="c", image="i", parameters="{}")
    assert already_trained([done], done) == ""
    assert already_trained([done], done, live=False) == done.id


def test_data_without_a_certificate_is_refused(spec: Pipeline) -> None:
    """A blob that no certificate names, one with another digest, a certificate that is gone, and no blob at all."""
    certificates = [certificate("2014-01"), certificate("2014-02"), certificate("2014-03")]
    chosen = choose_window(certificates, spec)
    assert isinstance(chosen, Dataset)
    require_certified(chosen, certificates)
    strange = FileRef(path="data/elsewhere/x.parquet", size=1, sha256="f" * 64)
    swapped = dataclasses.replace(chosen.files[0], sha256="e" * 64)
    for files, named in (((*chosen.files, strange), strange), ((swapped, *chosen.files[1:]), swapped), ((), None)):
        with pytest.raises(IntegrityError, match="without a certificate") as caught:
            require_certified(dataclasses.replace(chosen, files=files), certificates)
        assert named is None or named.path in caught.value.what
    with pytest.raises(IntegrityError, match="1 of 3 blobs without a certificate"):
        require_certified(chosen, [None, *certificates[1:]])
