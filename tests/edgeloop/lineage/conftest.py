"""A whole chain in a store in memory: months of batches, a dataset, a training, a model, its image, devices."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.memory import Memory, etag

from edgeloop.catalog import code_digest
from edgeloop.containers.registry import Blob, Manifest
from edgeloop.lineage.reader import Reader
from edgeloop.record_base import canonical_json, sha256_hex
from edgeloop.records import Batch, Certificate, Dataset, FileRef, ModelImage, ModelVersion, Rollout, TrainingRun
from edgeloop.rollout import history
from edgeloop.store import Store

if TYPE_CHECKING:
    from edgeloop.errors import EdgeloopError

SITES = ("R80711", "R80721")
MONTHS = ("2014-01", "2014-02", "2014-03")
PIPELINE = "wind"


@dataclass
class Images:
    """A registry: the labels of each manifest's image, by digest; ``error`` is what it answers instead."""

    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    error: EdgeloopError | None = None
    asked: int = 0

    def find(self, repository: str, reference: str) -> Manifest | None:
        """The manifest, if it is there."""
        self.asked += 1
        if self.error:
            raise self.error
        blob = Blob(digest=reference, size=1)
        return Manifest(digest=reference, config=blob, layers=()) if reference in self.labels else None

    def config(self, repository: str, manifest: Manifest) -> dict[str, Any]:
        """The image's configuration."""
        self.asked += 1
        return {"config": {"Labels": self.labels[manifest.digest]}}


@dataclass
class World:
    """The chain, and the storage it is in."""

    memory: Memory
    images: Images
    months: tuple[str, ...] = MONTHS

    @property
    def store(self) -> Store:
        """Its records."""
        return Store(self.memory)

    @property
    def reader(self) -> Reader:
        """One that has read nothing yet."""
        return Reader(self.store, self.memory, self.images)

    def batch(self, month: str) -> Batch:
        """One file of a site and month."""
        file = FileRef(path=f"R80711_{month}.csv", size=10, sha256=sha256_hex(month.encode()))
        return Batch(pipeline=PIPELINE, group=month, files=(file,), config="c", claimed_at=f"{month}-28T00:00:00Z")

    def certificate(self, month: str) -> Certificate:
        """Its rows, as they were let through."""
        data, batch = self.parquet(month), self.batch(month).id
        file = FileRef(path=f"data/{batch}/{month}.parquet", size=len(data), sha256=sha256_hex(data))
        return Certificate(
            pipeline=PIPELINE, batch=batch, suite="s", group=month, files=(file,), rows=144, etags=(etag(data),)
        )

    def parquet(self, month: str) -> bytes:
        """The certified rows of a month."""
        return f"rows of {month}".encode()

    def data(self, month: str) -> str:
        """The blob that they are in."""
        return self.certificate(month).files[0].path

    @property
    def dataset(self) -> Dataset:
        """All months."""
        found = [self.certificate(one) for one in self.months]
        return Dataset(
            pipeline=PIPELINE,
            files=tuple(file for one in found for file in one.files),
            certificates=tuple(one.id for one in found),
            window_start="2014-01-01T00:00:00Z",
            window_end="2014-04-01T00:00:00Z",
            holdout_start="2014-03-20T00:00:00Z",
        )

    @property
    def code(self) -> list[list[str]]:
        """The pipeline's folder."""
        return [["pipeline.yaml", "name: wind"], ["train.py", "print('trained')"]]

    @property
    def snapshot(self) -> bytes:
        """The pipeline's folder as stored."""
        return canonical_json({"files": self.code})

    def onnx(self, number: int = 1) -> bytes:
        """A model's bytes."""
        return f"model {number}".encode()

    def training(self, number: int = 1) -> TrainingRun:
        """A training that put a model out."""
        digest = sha256_hex(self.onnx(number))
        return TrainingRun(
            pipeline=PIPELINE,
            dataset=self.dataset.id,
            code=code_digest(self.code),
            image="i",
            parameters=f'{{"n":{number}}}',
            outputs=(FileRef(path=f"training/{number}/model.onnx", size=7, sha256=digest),),
            config=sha256_hex(self.snapshot),
        )

    def model(self, number: int = 1) -> ModelVersion:
        """A registered model."""
        digest = sha256_hex(self.onnx(number))
        return ModelVersion(
            pipeline=PIPELINE,
            sha256=digest,
            size=7,
            blob=f"models/{digest}.onnx",
            version=number,
            training_run=self.training(number).id,
            metrics='{"accuracy":0.9}',
            tags=(f"dataset={self.dataset.id}",),
        )

    def image(self, number: int = 1) -> ModelImage:
        """Its image, pushed."""
        digest = "sha256:" + sha256_hex(f"image {number}".encode())
        return ModelImage(
            pipeline=PIPELINE,
            model=self.model(number).id,
            base="b",
            reference=f"10.0.0.1:5000/wind/scorer@{digest}",
            digest=digest,
        )

    def ship(self, number: int = 1) -> ModelImage:
        """From the training to the registry."""
        self.store.put(self.training(number))
        model = self.store.put(self.model(number))
        self.memory.objects[model.blob] = self.onnx(number)
        image = self.store.put(self.image(number))
        self.images.labels[image.digest] = {"edgeloop.model": model.id, "edgeloop.sha256": model.sha256}
        return image

    def fill(self) -> World:
        """Everything up to one model on both devices."""
        for month in self.months:
            self.store.put(self.batch(month))
            self.store.put(self.certificate(month))
            self.memory.objects[self.data(month)] = self.parquet(month)
        self.store.put(self.dataset)
        self.memory.objects[f"configs/{sha256_hex(self.snapshot)}.json"] = self.snapshot
        image = self.ship()
        self.store.put(Rollout(pipeline=PIPELINE, image=image.id, ring=0, attempt="r/1", outcome="passed"))
        for site in SITES:
            self.runs(site, image, datetime(2014, 4, 2, 12, tzinfo=UTC))
        return self

    def runs(self, site: str, image: ModelImage | None, at: datetime) -> None:
        """A device was seen."""
        history.saw(
            self.store,
            site,
            image=image.id if image else "",
            digest=image.digest if image else "",
            at=at,
            by=f"run of {at:%d}",
            reference=image.reference if image else "",
        )

    def spoil(self, name: str, before: bytes, after: bytes) -> None:
        """Somebody edits a stored object."""
        assert before in self.memory.objects[name]
        self.memory.objects[name] = self.memory.objects[name].replace(before, after)


@pytest.fixture
def world() -> World:
    """A sound chain."""
    return World(memory=Memory(), images=Images()).fill()


def months(count: int) -> tuple[str, ...]:
    """That many months in a row."""
    return tuple(f"{2014 + one // 12}-{one % 12 + 1:02d}" for one in range(count))


@pytest.fixture
def long_world() -> World:
    """A sound chain over a year of batches."""
    return replace(World(memory=Memory(), images=Images()), months=months(12)).fill()
