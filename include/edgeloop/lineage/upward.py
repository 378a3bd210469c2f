"""From something back to where it came from: image, model, training, code and dataset, certificates, batches, files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from edgeloop.catalog import code_digest
from edgeloop.lineage import tell
from edgeloop.lineage.chain import Check, Node, State
from edgeloop.lineage.links import certified, short, trained, used, validated
from edgeloop.records import Batch, Certificate, Dataset, ModelImage, ModelVersion, TrainingRun

if TYPE_CHECKING:
    from edgeloop.lineage.reader import Reader

CODE_KEPT = "its code is kept as it was"
DATASET_TAG = "dataset="


def image(reader: Reader, record_id: str, *more: Check) -> Node:
    """An image and the model in it; ``more`` was tried by who got here."""
    read = reader.record(ModelImage, record_id)
    one = cast("ModelImage | None", read.record)
    if one is None:
        return read.missing()
    held = cast("ModelVersion | None", reader.record(ModelVersion, one.model).record)
    checks = (read.check, *more, *reader.pushed(one, held))
    return tell.image(one, read.id).having(checks, (model(reader, one.model),))


def model(reader: Reader, record_id: str) -> Node:
    """A model, its bytes, and the training that put it out."""
    read = reader.record(ModelVersion, record_id)
    one = cast("ModelVersion | None", read.record)
    if one is None:
        return read.missing()
    content, _ = reader.blob(one.blob, one.sha256, "its bytes hash to its sha256")
    run = cast("TrainingRun | None", reader.record(TrainingRun, one.training_run).record)
    checks = (read.check, content, *(() if run is None else (trained(one, run),)))
    # Where the training's record is lost, the model's tags still name the dataset.
    known = next((tag.removeprefix(DATASET_TAG) for tag in one.tags if tag.startswith(DATASET_TAG)), "")
    return tell.model(one, read.id).having(checks, (training(reader, one.training_run, known),))


def training(reader: Reader, record_id: str, known_dataset: str = "") -> Node:
    """A training, the code that ran and the dataset it ran on."""
    read = reader.record(TrainingRun, record_id)
    run = cast("TrainingRun | None", read.record)
    if run is None:
        links = (dataset(reader, known_dataset),) if known_dataset else ()
        return read.missing().having((read.check,), links)
    return tell.training(run, read.id).having((read.check,), (code(reader, run), dataset(reader, run.dataset)))


def code(reader: Reader, run: TrainingRun) -> Node:
    """The pipeline's folder as the training took it, and whether its scripts are those that ran."""
    if not run.config:
        check = Check(what=CODE_KEPT, state=State.UNPROVEN, found="the training's record names no configuration")
        return Node(kind="code", id=run.code, name=short(run.code), checks=(check,))
    kept, raw = reader.blob(f"configs/{run.config}.json", run.config, CODE_KEPT)
    checks: tuple[Check, ...] = (kept,)
    names: list[str] = []
    if raw:
        try:
            files = json.loads(raw)["files"]
            names, now = [name for name, _ in files], code_digest(files)
        except (ValueError, KeyError, TypeError) as error:
            now = f"nothing ({type(error).__name__})"
        found = "" if now == run.code else f"its scripts hash to {short(now)}, {short(run.code)} was trained with"
        checks = (kept, Check.of("its scripts are those that ran", found))
    return Node(kind="code", id=run.config, name=short(run.config), facts=tuple(names), checks=checks)


def dataset(reader: Reader, record_id: str) -> Node:
    """A dataset, its certificates, and the batches that they are of."""
    read = reader.record(Dataset, record_id)
    one = cast("Dataset | None", read.record)
    if one is None:
        return read.missing()
    found = reader.records(Certificate, one.certificates)
    there = [cast("Certificate", each.record) for each in found if each.record is not None]
    reader.records(Batch, [each.batch for each in there])
    reader.look(there)
    links = tuple(certificate(reader, each, one) for each in one.certificates)
    return tell.dataset(one, read.id).having((read.check, certified(one, there)), links)


def certificate(reader: Reader, record_id: str, into: Dataset | None = None) -> Node:
    """A certificate and its batch; ``into`` is the dataset that named it."""
    read = reader.record(Certificate, record_id)
    one = cast("Certificate | None", read.record)
    if one is None:
        return read.missing()
    of = cast("Batch | None", reader.record(Batch, one.batch).record)
    checks = (
        read.check,
        *(() if into is None else (used(one, into),)),
        *(() if of is None else (validated(one, of),)),
        *reader.data(one),
    )
    return tell.certificate(one, read.id).having(checks, (batch(reader, one.batch),))


def batch(reader: Reader, record_id: str) -> Node:
    """A batch and its files on the share."""
    read = reader.record(Batch, record_id)
    one = cast("Batch | None", read.record)
    if one is None:
        return read.missing()
    return tell.batch(one, read.id).having((read.check,), tell.files(one, reader.sources(one)))
