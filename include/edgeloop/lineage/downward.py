"""From something on to what was made of it: certificates, datasets, trainings, models, images, rings, devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from edgeloop.lineage import tell
from edgeloop.lineage.links import deployed, names, trained, used, validated
from edgeloop.records import Batch, Certificate, Dataset, ModelImage, ModelVersion, Rollout, TrainingRun

if TYPE_CHECKING:
    from edgeloop.lineage.chain import Check, Node
    from edgeloop.lineage.reader import Read, Reader
    from edgeloop.records import Record

MADE_INTO: dict[type[Record], type[Record]] = {
    Batch: Certificate,
    Certificate: Dataset,
    Dataset: TrainingRun,
    TrainingRun: ModelVersion,
    ModelVersion: ModelImage,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Downward:
    """``sites`` are the pipeline's, whose devices may have run something."""

    reader: Reader
    sites: tuple[str, ...]

    def of(self, read: Read) -> tuple[Node, ...]:
        """Everything that was made of a record; nothing is known to be made of one that is not there."""
        if isinstance(read.record, ModelImage):
            return (*self._rings(read.id), *self._devices(read.record))
        kind = MADE_INTO.get(read.kind)
        if kind is None:
            return ()
        found = self.reader.records(kind, self.reader.made_of(read.id).get(kind.kind, ()))
        return tuple(self._child(read, one) for one in found)

    def _child(self, parent: Read, read: Read) -> Node:
        if read.record is None:
            return read.missing()
        checks = (read.check, *self._tried(parent, read.record))
        return tell.record(read.record, read.id).having(checks, self.of(read))

    def _tried(self, parent: Read, child: Record) -> tuple[Check, ...]:
        """The link from a record to one that was made of it."""
        match parent.record, child:
            case Batch() as batch, Certificate():
                return names(child, parent.id), validated(child, batch), *self.reader.data(child)
            case Certificate() as certificate, Dataset():
                return names(child, parent.id), used(certificate, child)
            case TrainingRun() as run, ModelVersion():
                # Bytes that a training gave again stay the version that an earlier one made: no name, but the bytes.
                content, _ = self.reader.blob(child.blob, child.sha256, "its bytes hash to its sha256")
                return content, trained(child, run)
            case _, ModelImage():
                model = parent.record if isinstance(parent.record, ModelVersion) else None
                return (names(child, parent.id), *self.reader.pushed(child, model))
            case _:
                return (names(child, parent.id),)

    def _rings(self, image_id: str) -> tuple[Node, ...]:
        found = self.reader.records(Rollout, self.reader.made_of(image_id).get(Rollout.kind, ()))
        there = sorted(found, key=lambda one: (cast("Rollout", one.record).ring if one.record else 0, one.id))
        return tuple(
            one.missing() if one.record is None else tell.record(one.record, one.id).having((one.check,))
            for one in there
        )

    def _devices(self, image: ModelImage) -> tuple[Node, ...]:
        spans = self.reader.histories(self.sites)
        return tuple(
            tell.device(one).having((deployed(one, image),))
            for one in spans
            if one.image == image.id or (image.digest and one.digest == image.digest)
        )
