"""From a dataset and a pipeline's snapshot to the training that is asked for: its identity, its job, what is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.records import FileRef, TrainingRun, canonical_json
from edgeloop.training.bundle import GIB, KIB, Cargo, Member, member
from edgeloop.training.dataset import dataset_json, file_names
from edgeloop.training.job import Job
from edgeloop.training.recipe import inputs_digest
from edgeloop.transfer import Terms, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.catalog import Snapshot
    from edgeloop.pipeline import Pipeline
    from edgeloop.records import Dataset, ModelVersion
    from edgeloop.transfer.target import Target

MINUTE = 60


def parameters_of(spec: Pipeline) -> str:
    """The training parameters as canonical JSON."""
    return canonical_json(spec.training.parameters).decode()


def plan(
    snapshot: Snapshot,
    dataset: Dataset,
    *,
    image: str,
    champion: ModelVersion | None = None,
    forced: str = "",
    origin: str = "",
    reason: str = "",
) -> TrainingRun:
    """The training that is asked for; its id is known before anything is sent.

    ``image`` is the image's id on the VM: a rebuilt image under the same name is another training. ``origin`` and
    ``reason`` are those of the run that asks, by default the dataset's.
    """
    return TrainingRun(
        pipeline=snapshot.spec.name,
        origin=origin or dataset.origin,
        dataset=dataset.id,
        code=snapshot.code_digest,
        image=image,
        parameters=parameters_of(snapshot.spec),
        champion=champion.id if champion else "",
        forced=forced,
        inputs=inputs_digest(snapshot.spec),
        reason=reason or dataset.reason,
        config=snapshot.digest,
    )


def job_of(run: TrainingRun, spec: Pipeline, *, now: float) -> Job:
    """The job of a training; its deadline counts from ``now``, seconds since 1970."""
    return Job(
        run_id=run.id,
        pipeline=run.pipeline,
        image=run.image,
        cpus=spec.training.cpus,
        memory_mb=spec.training.memory_mb,
        deadline=int(now + spec.training.timeout_minutes * MINUTE),
        gpus=spec.training.gpus,
        disk_mb=spec.training.disk_mb,
        grace_seconds=spec.training.grace_seconds,
        reports=spec.training.reports,
        reports_mb=spec.training.reports_mb,
    )


def cargo(snapshot: Snapshot, dataset: Dataset, champion: ModelVersion | None, source: BlobContainer) -> Cargo:
    """What the job is sent, and how the pipeline wants it sent."""
    training = snapshot.spec.training
    return Cargo(
        members=members(snapshot, dataset, champion, source),
        source=source,
        way=training.staging,
        cache_bytes=int(training.cache_gb * GIB),
        spare_kib=training.disk_mb * KIB,
    )


def members(snapshot: Snapshot, dataset: Dataset, champion: ModelVersion | None, source: Target) -> tuple[Member, ...]:
    """Everything the job finds on the VM: dataset.json, the Parquet files, the code and the champion's model."""
    terms = Terms.of(snapshot.spec.transfer, snapshot.spec.name)
    sent = [member("data/dataset.json", dataset_json(dataset, snapshot.spec))]
    sent += [
        stored(source, file, f"data/{name}", terms)
        for name, file in zip(file_names(dataset), dataset.files, strict=True)
    ]
    if champion is not None:
        known = FileRef(path=champion.blob, size=champion.size, sha256=champion.sha256)
        sent.append(stored(source, known, "data/champion.onnx", terms))
    return (*sent, *(member(f"code/{name}", text.encode()) for name, text in snapshot.files))


def stored(source: Target, file: FileRef, path: str, terms: Terms) -> Member:
    """A blob as a member; no byte of it is read before it is sent."""

    def read(start: int) -> Iterator[bytes]:
        return stream(source, file, terms=terms, start=start)

    return Member(path=path, size=file.size, sha256=file.sha256, read=read, blob=file.path)
