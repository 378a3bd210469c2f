"""What must be so between two things of a chain. Pure: every check is made of records alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lineage.chain import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeloop.records import Batch, Certificate, Dataset, ModelImage, ModelVersion, Record, TrainingRun
    from edgeloop.rollout.history import Served

MODEL = "model.onnx"
NAMED = 3
SHORT = 16


def trained(model: ModelVersion, run: TrainingRun) -> Check:
    """The model is what its training put out, byte for byte."""
    put_out = [one.sha256 for one in run.outputs if one.path.rpartition("/")[2] == MODEL]
    found = ""
    if not put_out:
        found = f"the training's record names no {MODEL}"
    elif model.sha256 not in put_out:
        found = f"the training put out {put_out[0][:SHORT]}, the model is {model.sha256[:SHORT]}"
    return Check.of("is what the training put out", found)


def certified(dataset: Dataset, certificates: Sequence[Certificate]) -> Check:
    """Every file of the dataset is vouched for by one of its certificates, with size and sha256."""
    vouched = {file for one in certificates for file in one.files}
    strange = [one.path for one in dataset.files if one not in vouched]
    return Check.of("each of its files is certified", _listed(strange, "is in none of its certificates"))


def used(certificate: Certificate, dataset: Dataset) -> Check:
    """Everything that the certificate vouches for is in the dataset that names it."""
    held = set(dataset.files)
    left_out = [one.path for one in certificate.files if one not in held]
    return Check.of("its files are in the dataset", _listed(left_out, "is not in the dataset"))


def validated(certificate: Certificate, batch: Batch) -> Check:
    """The certificate and the batch that it names are of one group."""
    found = "" if certificate.group == batch.group else f"it says group {certificate.group}, the batch {batch.group}"
    return Check.of("is of this batch's group", found)


def names(child: Record, parent_id: str) -> Check:
    """What is listed among what was made of something says so itself."""
    named = parent_id in child.parents
    return Check.of("names what it was made of", "" if named else f"it does not name {short(parent_id)}")


def deployed(served: Served, image: ModelImage) -> Check:
    """What the device was seen to run is what was pushed."""
    found = ""
    if served.digest != image.digest:
        found = f"the device ran {short(served.what)}, the record says {short(image.digest)}"
    return Check.of("ran the image of the record", found)


def labelled(labels: dict[str, str], image: ModelImage, model: ModelVersion | None) -> Check:
    """What the image in the registry says of itself is what the records say of it."""
    said = {"edgeloop.model": image.model}
    if model is not None:
        said["edgeloop.sha256"] = model.sha256
    wrong = [
        f"{name} is {labels.get(name, '(none)')[:SHORT]}, not {value[:SHORT]}"
        for name, value in said.items()
        if labels.get(name) != value
    ]
    return Check.of("its labels name the model", "; ".join(wrong))


def short(digest: str) -> str:
    """The start of a digest or an id, enough to find it again."""
    algorithm, colon, rest = digest.rpartition(":")
    return f"{algorithm}{colon}{rest[:SHORT]}"


def _listed(paths: Sequence[str], what: str) -> str:
    if not paths:
        return ""
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f"{', '.join(paths[:NAMED])}{more} {what}"
