from __future__ import annotations

import dataclasses
import json

import pytest

from edgeloop.records import (
    KINDS,
    Batch,
    Certificate,
    DriftVerdict,
    FileRef,
    ModelImage,
    ModelVersion,
    Record,
    Rollout,
    TrainingRun,
    canonical_json,
    sha256_hex,
)

FILE = FileRef(path="R80711_2014-01.csv", size=3, sha256="a" * 64)
BATCH = Batch(pipeline="p", group="2014-01", files=(FILE,), config="c", claimed_at="now")


def test_canonical_json_is_one_text_for_one_value() -> None:
    """Keys sorted, no spaces, umlauts as they are; the order of insertion is no matter."""
    assert canonical_json({"b": [1, "ü"], "a": None}) == '{"a":null,"b":[1,"ü"]}'.encode()
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_what_json_cannot_say_has_no_digest(value: object) -> None:
    """NaN would read back as something else, or not at all."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


def test_a_batchs_id_is_what_it_always_was() -> None:
    """Records on storage are found by it: if this changes, every store in the field is orphaned."""
    assert BATCH.id == sha256_hex(
        b'{"files":[{"path":"R80711_2014-01.csv","sha256":"'
        + b"a" * 64
        + b'","size":3}],"kind":"batch","pipeline":"p"}'
    )
    assert BATCH.key == f"2014-01@{BATCH.id[:16]}"


def test_only_what_went_in_names_a_record() -> None:
    """When, by which configuration and as what it was claimed is no part of its identity; its files are."""
    later = Batch(pipeline="p", group="2014-01", files=(FILE,), config="d", claimed_at="later", origin="rerun")
    other = Batch(
        pipeline="p", group="2014-01", files=(FileRef(path="x", size=3, sha256="a" * 64),), config="c", claimed_at="now"
    )
    assert later.id == BATCH.id
    assert other.id != BATCH.id


def test_files_that_were_put_back_are_a_batch_of_their_own() -> None:
    """Which batch a batch replaces names it only where its files had been a batch before."""
    replacing = dataclasses.replace(BATCH, replaces="b" * 64)
    again = dataclasses.replace(replacing, again="b" * 64)
    assert replacing.id == BATCH.id
    assert again.id != BATCH.id
    assert Batch.from_dict(again.to_dict()) == again


def test_a_training_is_named_before_it_ran() -> None:
    """Outputs, metrics and seconds do not change the id; a forced repetition is another training."""
    before = TrainingRun(pipeline="p", dataset="d", code="c", image="i", parameters="{}")
    after = TrainingRun(
        pipeline="p", dataset="d", code="c", image="i", parameters="{}", outputs=(FILE,), metrics="{}", seconds=9.5
    )
    forced = TrainingRun(pipeline="p", dataset="d", code="c", image="i", parameters="{}", forced="again")
    assert after.id == before.id
    assert forced.id != before.id


def test_kinds_do_not_share_ids() -> None:
    """The kind is part of what is hashed."""
    assert len({kind.kind for kind in KINDS.values()}) == len(KINDS)
    model = ModelVersion(pipeline="p", sha256="s", size=1, blob="b", version=1, training_run="r", metrics="{}")
    assert model.id == sha256_hex(b'{"kind":"model","pipeline":"p","sha256":"s"}')


@pytest.mark.parametrize("kind", list(KINDS.values()), ids=list(KINDS))
def test_every_identity_is_made_of_fields(kind: type[Record]) -> None:
    """A misspelt identity field would fail at the first id only."""
    assert set(kind.identity) <= set(kind.__dataclass_fields__)
    assert "origin" not in kind.identity


@pytest.mark.parametrize(
    "record",
    [
        BATCH,
        Certificate(pipeline="p", batch="b", suite="s", group="g", files=(FILE, FILE), warnings=("w",)),
        TrainingRun(pipeline="p", dataset="d", code="c", image="i", parameters="{}", outputs=(FILE,), seconds=0.5),
        ModelVersion(
            pipeline="p", sha256="s", size=1, blob="b", version=1, training_run="r", metrics="{}", tags=("a=b",)
        ),
        ModelImage(pipeline="p", model="m", base="b"),
        Rollout(pipeline="p", image="i", ring=0, attempt="1", devices=("d",), previous=()),
        DriftVerdict(pipeline="p", interval="2014-11", model="m", watermark="w", accuracy=0.1),
    ],
    ids=lambda record: record.kind,
)
def test_a_record_survives_json(record: Record) -> None:
    """Lists become tuples again, files become file references again."""
    assert type(record).from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_unknown_fields_are_not_swallowed() -> None:
    """A record of another shape is no record of this kind."""
    with pytest.raises(TypeError, match="retired"):
        Batch.from_dict({**BATCH.to_dict(), "retired": 1})


def test_parents_lead_back_to_the_share() -> None:
    """Image to model to training to dataset; a training also names the champion it was measured against."""
    run = TrainingRun(pipeline="p", dataset="d", code="c", image="i", parameters="{}", champion="m0")
    assert run.parents == ("d", "m0")
    assert TrainingRun(pipeline="p", dataset="d", code="c", image="i", parameters="{}").parents == ("d",)
    assert ModelImage(pipeline="p", model="m", base="b").parents == ("m",)
    assert BATCH.parents == ()
