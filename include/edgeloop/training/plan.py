"""From a dataset and a pipeline's snapshot to the training that is asked for: its identity, its job, what is sent."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgeloop.records import FileRef, TrainingRun, canonical_json
from edgeloop.training.bundle import Cargo, Member, member
from edgeloop.training.dataset import dataset_json, file_names
from edgeloop.training.job import Job
from edgeloop.transfer import Terms, stream

if TYPE_CHECKING:
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
) -> TrainingRun:
    """The training that is asked for; its id is known before anything is sent.

    ``image`` is the image's id on the VM: a rebuilt image under the same name is another training. ``origin`` is that
    of the run that asks, by default the dataset's.
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
    )


def cargo(snapshot: Snapshot, dataset: Dataset, champion: ModelVersion | None, source: Target) -> Cargo:
    """What the job is sent, and how."""
    return Cargo(members=members(snapshot, dataset, champion, source))


def members(snapshot: Snapshot, dataset: Dataset, champion: ModelVersion | None, source: Target) -> tuple[Member, ...]:
    """Everything the job finds on the VM: dataset.json, the Parquet files, the code and the champion's model."""
    terms = Terms.of(snapshot.spec.transfer, snapshot.spec.name)
    sent = [member("data/dataset.json", dataset_json(dataset, snapshot.spec))]
    sent += [
        Member(path=f"data/{name}", size=file.size, sha256=file.sha256, read=partial(stream, source, file, terms=terms))
        for name, file in zip(file_names(dataset), dataset.files, strict=True)
    ]
    if champion is not None:
        known = FileRef(path=champion.blob, size=champion.size, sha256=champion.sha256)
        read = partial(stream, source, known, terms=terms)
        sent.append(Member(path="data/champion.onnx", size=champion.size, sha256=champion.sha256, read=read))
    return (*sent, *(member(f"code/{name}", text.encode()) for name, text in snapshot.files))
