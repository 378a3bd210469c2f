"""What may leave the site, pure: decisions on a pipeline marked ``on_premises``, from what its pipeline.yaml says.

Data, quarantine, labels, data docs, reports and prediction logs stay in the pipeline's private account, the one behind
``storage.connection``. What the account's connection leads to is judged at run by :mod:`edgeloop.residency_guard`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.pipeline import Pipeline
    from edgeloop.pipeline_parts import Permit

ON_PREMISES = "on_premises"

AZURE_ML_LEAVES = (
    "{backend} sends job logs, metrics and the job's description to the workspace and its storage account, which is in "
    "the public cloud, and its jobs are not cut off from the network; this pipeline is on_premises. Write 'vm', or "
    "allow exactly that with residency_permits: [azure_ml_outputs]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a configuration is refused: the field's path in pipeline.yaml, and what to write instead."""

    at: tuple[str | int, ...]
    remedy: str

    @property
    def field(self) -> str:
        """The path as a person writes it."""
        return ".".join(map(str, self.at))


def private(spec: Pipeline) -> bool:
    """Whether what belongs to the pipeline stays in its private account."""
    return spec.residency == ON_PREMISES


def permits(spec: Pipeline, permit: Permit) -> bool:
    """Whether the pipeline may do what ``permit`` names: it is no private one, or its owner allowed it."""
    return not private(spec) or permit in spec.residency_permits


def refusals(spec: Pipeline) -> tuple[Refusal, ...]:
    """Everything in one pipeline.yaml that would let something leave; empty if it may run."""
    found = [*_training(spec), *_key(spec), *_builder(spec)]
    if private(spec):
        found += [*_storage(spec), *_source(spec), *_nudge(spec), *_shared_connections(spec)]
    elif spec.residency_permits:
        remedy = "does nothing for residency: cloud, which may send anything anywhere; remove it"
        found.append(Refusal(at=("residency_permits",), remedy=remedy))
    return tuple(found)


def _training(spec: Pipeline) -> Iterator[Refusal]:
    backend = spec.training.backend
    if backend != "vm" and not permits(spec, "azure_ml_outputs"):
        yield Refusal(at=("training", "backend"), remedy=AZURE_ML_LEAVES.format(backend=backend))


def _key(spec: Pipeline) -> Iterator[Refusal]:
    if spec.azure_ml is not None and spec.azure_ml.send_key and not permits(spec, "azure_ml_outputs"):
        remedy = (
            "hands Azure the key to the training VM, with which the data there can be read from outside, and this "
            "pipeline is on_premises; remove it, or allow it with residency_permits: [azure_ml_outputs]"
        )
        yield Refusal(at=("azure_ml", "send_key"), remedy=remedy)


def _builder(spec: Pipeline) -> Iterator[Refusal]:
    # The model and its figures may leave: they are what is deployed. What a build says of them there is another matter.
    if spec.image.builder == "azure_ml_package" and not permits(spec, "azure_ml_outputs"):
        remedy = (
            "'azure_ml_package' lets Azure ML build the image: its build log and an image that nobody has proven yet "
            "are in the public cloud, and this pipeline is on_premises; write 'engine', or allow it with "
            "residency_permits: [azure_ml_outputs]"
        )
        yield Refusal(at=("image", "builder"), remedy=remedy)


def _storage(spec: Pipeline) -> Iterator[Refusal]:
    if spec.storage.preset == "azure":
        remedy = (
            "'azure' is the public cloud and this pipeline is on_premises; write preset: stack_hub or stack_edge, "
            "whichever holds the private account (or residency: cloud, if its data may leave the site)"
        )
        yield Refusal(at=("storage", "preset"), remedy=remedy)


def _source(spec: Pipeline) -> Iterator[Refusal]:
    source, storage = spec.source, spec.storage
    if source.kind == "blob" and source.connection != storage.connection:
        remedy = (
            f"{source.connection!r} is another account than the private one; data of an on_premises pipeline arrives "
            f"in the account of storage.connection: write {storage.connection!r} and let the cloud share upload there"
        )
        yield Refusal(at=("source", "connection"), remedy=remedy)


def _nudge(spec: Pipeline) -> Iterator[Refusal]:
    nudge = spec.source.nudge
    if nudge is None or permits(spec, "event_names"):
        return
    if nudge.kind == "service_bus" or nudge.connection != spec.storage.connection:
        remedy = (
            "each event carries the name and size of a file through a queue outside the private account; remove nudge "
            "(the share is polled), use a storage_queue of "
            f"{spec.storage.connection!r}, or allow it with residency_permits: [event_names]"
        )
        yield Refusal(at=("source", "nudge"), remedy=remedy)


def _shared_connections(spec: Pipeline) -> Iterator[Refusal]:
    """One connection id for the private account and for something else: editing it for one moves the other."""
    used: list[tuple[tuple[str | int, ...], str]] = [
        (("training", "connection"), spec.training.connection),
        (("image", "registry"), spec.image.registry),
        (("image", "engine"), spec.image.engine),
        *((("sites", number, "device"), site.device) for number, site in enumerate(spec.sites)),
    ]
    if spec.source.nudge is not None and spec.source.nudge.kind == "service_bus":
        used.append((("source", "nudge", "connection"), spec.source.nudge.connection))
    for at, connection in used:
        if connection == spec.storage.connection:
            remedy = f"{connection!r} is the private account (storage.connection); give this a connection of its own"
            yield Refusal(at=at, remedy=remedy)


def clash(mine: Pipeline, other: Pipeline) -> Refusal | None:
    """Why ``mine``, which is no private pipeline, would carry away what belongs to the private ``other``; or None."""
    if private(mine) or not private(other):
        return None
    source, theirs = mine.source, other.source
    if source.kind == "blob" and source.connection == other.storage.connection:
        remedy = f"{source.connection!r} is the private account of pipeline {other.name}"
        return Refusal(at=("source", "connection"), remedy=f"{remedy}; {_ON_PREMISES_TOO}")
    same = (source.kind, source.connection) == (theirs.kind, theirs.connection)
    if same and _overlap(source.folder, theirs.folder):
        remedy = (
            f"{source.folder!r} of {source.connection!r} holds files of pipeline {other.name}, which is on_premises"
        )
        return Refusal(at=("source", "folder"), remedy=f"{remedy}; name a folder of its own, or {_ON_PREMISES_TOO}")
    if mine.storage.connection == other.storage.connection and mine.storage.preset == "azure":
        remedy = f"{mine.storage.connection!r} is the private account of pipeline {other.name}, no public one"
        return Refusal(at=("storage", "preset"), remedy=f"{remedy}; write {other.storage.preset!r}")
    return None


_ON_PREMISES_TOO = "mark this pipeline residency: on_premises too"


def _overlap(one: str, other: str) -> bool:
    """Whether one folder is the other or lies in it; "." and empty parts mean nothing, ".." leads nobody out."""
    first, second = (_parts(folder) for folder in (one, other))
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def _parts(folder: str) -> list[str]:
    parts: list[str] = []
    for one in folder.replace("\\", "/").casefold().split("/"):
        if one == "..":
            parts = parts[:-1]
        elif one not in ("", "."):
            parts.append(one)
    return parts


def stricter(pinned: Pipeline, today: Pipeline) -> Pipeline:
    """The pinned configuration under the stricter residency of the two.

    A pipeline that became ``on_premises`` after a batch was claimed keeps that batch at home too, in today's account.
    One that was ``on_premises`` when the batch was claimed stays so for that batch.
    """
    if not private(today):
        return pinned
    allowed = today.residency_permits
    if private(pinned):
        allowed = tuple(one for one in pinned.residency_permits if one in allowed)
    return pinned.model_copy(
        update={"residency": ON_PREMISES, "residency_permits": allowed, "storage": today.storage},
    )
