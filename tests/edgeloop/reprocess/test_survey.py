"""Which partitions a stage has: those the store holds work for, and those that Airflow ran."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from edgeloop import catalog, registry
from edgeloop.records import (
    Batch,
    Certificate,
    Dataset,
    DriftVerdict,
    ModelImage,
    ModelVersion,
    Rollout,
    TrainingRun,
)
from edgeloop.registry.promotions import LEDGER, Change, entry_body
from edgeloop.reprocess import Attempt, State, Unit, survey
from edgeloop.share.journal import Entry, Journal

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.store import Store
AT = datetime(2026, 11, 22, 5, tzinfo=UTC)
SITES = ("R80711", "R80721", "R80736")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> catalog.Pipeline:
    """The sample pipeline."""
    folder: Path = catalog.pipelines_folder()
    return catalog.load(folder, tmp_path_factory.mktemp("last")).find("wind_power").spec


def ran(key: str, state: str = "failed") -> Attempt:
    """A run of a key."""
    return Attempt(key=key, run_id=f"run of {key}", state=state, at=AT)


def found(store: Store, spec: catalog.Pipeline, stage: str, *attempts: Attempt) -> dict[str, Unit]:
    """The units of a stage by key."""
    return {one.key: one for one in survey(store, spec, stage, attempts)}


def batch(store: Store, group: str, *, claimed: str = "2026-11-20T00:00:00+00:00", certified: bool = False) -> Batch:
    """A batch of a group; no file is needed to tell two apart but the claim."""
    from edgeloop.records import FileRef

    one = store.put(
        Batch(
            pipeline="wind_power",
            group=group,
            files=(FileRef(path=f"{group}{claimed}", size=1, sha256="0"),),
            config="",
            claimed_at=claimed,
        )
    )
    if certified:
        days = tuple(sorted(f"{group}-02 {site} 144" for site in SITES))
        store.put(
            Certificate(
                pipeline="wind_power", batch=one.id, suite="s", group=group, rows=1, coverage=days,
                event_start=f"{group}-02T00:00:00Z", event_end=f"{group}-03T00:00:00Z", claimed_at=claimed,
            )
        )  # fmt: skip
    return one


def model(store: Store, version: int, window_end: str, event: str = "candidate") -> ModelVersion:
    """A model with its dataset, as the ledger's ``event`` leaves it."""
    data = store.put(
        Dataset(
            pipeline="wind_power", files=(), certificates=(str(version),), window_start="", window_end=window_end,
            holdout_start="",
        )
    )  # fmt: skip
    run = store.put(TrainingRun(pipeline="wind_power", dataset=data.id, code="", image="", parameters=""))
    one = store.put(
        ModelVersion(
            pipeline="wind_power", sha256=str(version), size=1, blob="", version=version, training_run=run.id,
            metrics="{}", window_end=window_end,
        )
    )  # fmt: skip
    for name in dict.fromkeys(("registered", event)):
        change = Change(event=name, by="t", why="t")
        store.append(LEDGER, lambda _, change=change: entry_body(change, one.id, registry.current(store), version))
    return one


def test_a_batch_is_found_whether_airflow_ran_it_or_not(store: Store, spec: catalog.Pipeline) -> None:
    """The store knows what was claimed and certified; Airflow what failed. Both together say how it stands."""
    lost, failed = batch(store, "2014-01"), batch(store, "2014-02")
    moved = batch(store, "2014-03", certified=True)
    units = found(store, spec, "ingest", ran(failed.key))
    assert {key: (one.state, one.finished) for key, one in units.items()} == {
        lost.key: (State.NEVER, False),
        failed.key: (State.FAILED, False),
        moved.key: (State.NEVER, True),
    }
    assert (str(units[moved.key].span), units[moved.key].span.source) == ("2014-03-02", "certificate")
    assert units[failed.key].span.source == "name"


def test_a_batch_that_a_newer_one_replaced_is_barred(store: Store, spec: catalog.Pipeline) -> None:
    """The newer one holds all files of the group as they stand; nothing needs the older."""
    older = batch(store, "2014-01", claimed="2026-11-20T00:00:00+00:00")
    newer = batch(store, "2014-01", claimed="2026-11-21T00:00:00+00:00")
    units = found(store, spec, "ingest", ran(older.key), ran(newer.key))
    assert units[older.key].barred == f"batch {newer.key} replaced it"
    assert units[newer.key].barred == ""


def test_a_training_is_as_old_as_what_asked_for_it(store: Store, spec: catalog.Pipeline) -> None:
    """A batch's key as its rows, a drift key as its interval, a fixed one as its window, any other as its run."""
    certified, claimed = batch(store, "2014-01", certified=True), batch(store, "2014-02")
    verdict = store.put(DriftVerdict(pipeline="wind_power", interval="2014-11", model="m", watermark="w"))
    one = model(store, 1, "2014-05-01T00:00:00Z")
    run = store.get(TrainingRun, one.training_run)
    store.fix("datasets", "by-hand", run.dataset)
    drift = f"drift-{verdict.id[:16]}"
    units = found(store, spec, "train", *(ran(key) for key in (drift, "by-hand", "other")))
    assert {key: (str(one.span), one.span.source) for key, one in units.items()} == {
        certified.key: ("2014-01-02", "certificate"),
        drift: ("2014-11-01 to 2014-11-30", "interval"),
        "by-hand": ("2014-04-30", "newest data of the window"),
        "other": ("2026-11-22", "run"),
    }
    assert claimed.key not in units, "nothing is trained on what is not certified"
    assert [key for key, unit in units.items() if unit.finished] == ["by-hand"]


def test_packaging_and_rollout_leave_models_alone_that_are_out_of_the_running(
    store: Store, spec: catalog.Pipeline
) -> None:
    """The candidate's go on; one that was rejected, or that a newer one overtook, only where somebody promotes it."""
    old = model(store, 1, "2014-03-01T00:00:00Z")
    bad = model(store, 2, "2014-04-01T00:00:00Z", "quarantined")
    serving = model(store, 3, "2014-05-01T00:00:00Z", "champion")
    now = model(store, 4, "2014-06-01T00:00:00Z")
    images = {
        one.version: store.put(
            ModelImage(pipeline="wind_power", model=one.id, base="b", digest=f"sha256:{one.version}")
        )
        for one in (old, bad, now)
    }
    units = found(store, spec, "package", ran(serving.key), ran(old.key))
    barred = {
        old.key: "its model, version 1, is no candidate (version 3 serves)",
        bad.key: "its model, version 2, was rejected or quarantined",
        serving.key: "",
        now.key: "",
    }
    assert {key: one.barred for key, one in units.items()} == barred
    assert {key: one.finished for key, one in units.items()} == {
        old.key: True, bad.key: True, serving.key: False, now.key: True,
    }  # fmt: skip
    assert {one.lifted_by for one in units.values()} == {"promote"}
    first, second = f"{images[1].key}@ring0", f"{images[1].key}@ring1"
    store.put(Rollout(pipeline="wind_power", image=images[1].id, ring=0, attempt="a", outcome="passed"))
    rings = found(store, spec, "rollout", ran(first, "success"), ran(second), ran("unknown@ring0"))
    assert {key: (one.state, one.finished, bool(one.barred)) for key, one in rings.items()} == {
        first: (State.DONE, True, True),
        second: (State.FAILED, False, True),
        f"{images[4].key}@ring0": (State.NEVER, False, False),
    }
    assert str(rings[first].span) == "2014-02-28"


def test_intervals_are_those_whose_labels_are_complete_or_that_were_judged(
    store: Store, spec: catalog.Pipeline
) -> None:
    """A complete month that was never judged is found; so is one that Airflow ran and failed on."""
    batch(store, "2014-01", certified=True)
    batch(store, "2014-02", certified=True)
    store.put(DriftVerdict(pipeline="wind_power", interval="2014-02", model="m", watermark="w"))
    units = found(store, spec, "drift", ran("2014-11"))
    assert {key: (one.state, one.finished) for key, one in units.items()} == {
        "2014-01": (State.NEVER, False),
        "2014-02": (State.NEVER, True),
        "2014-11": (State.FAILED, False),
    }


def test_a_batch_that_no_claim_names_replaces_none(store: Store, spec: catalog.Pipeline) -> None:
    """What an intake left that lost the race is barred, however late its record; what was claimed is not."""
    claimed = batch(store, "2014-01")
    lost = batch(store, "2014-01", claimed="2026-11-20T00:00:01+00:00")
    assert found(store, spec, "ingest")[claimed.key].barred == f"batch {lost.key} replaced it"
    assert Journal(store).append(Entry(run="r", at="", batches=(("2014-01", claimed.id),)))
    units = found(store, spec, "ingest")
    assert units[claimed.key].barred == ""
    assert units[lost.key].barred == f"batch {claimed.key} replaced it"
