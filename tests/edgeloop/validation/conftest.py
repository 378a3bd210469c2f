"""Batches of a tiny pipeline and of the sample, as files on a share and a record in a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeloop import catalog
from edgeloop.catalog import SUITE, Snapshot
from edgeloop.records import Batch, Certificate, FileRef
from edgeloop.share import Folder
from edgeloop.store import Store
from edgeloop.transfer import file_digest
from edgeloop.validation import Certification

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.azure.blob import BlobContainer

DATA = Path(__file__).parents[2] / "data"


@dataclass(slots=True)
class Bench:
    """A share, a container, and the certification of what lies on the share."""

    folder: Folder
    snapshot: Snapshot
    blobs: BlobContainer
    said: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        """The records in the container."""
        return Store(self.blobs)

    def drop(self, name: str, content: str | bytes) -> None:
        """Put a file on the share."""
        path = self.folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def batch(self) -> Batch:
        """Everything that lies on the share as one batch."""
        files = []
        for one in self.folder.scan():
            size, sha256 = file_digest(self.folder.path / one.path)
            files.append(FileRef(path=one.path, size=size, sha256=sha256))
        name, config = self.snapshot.spec.name, self.snapshot.save(self.blobs)
        batch = Batch(
            pipeline=name, group="g", files=tuple(files), config=config, claimed_at="2015-01-01T00:00:00+00:00"
        )
        return self.store.put(batch)

    def certify(self, batch: Batch | None = None, *, force: str = "", rerun: str = "") -> Certificate:
        """Certify the batch (by default all files) under the bench's snapshot."""
        return self.work(batch or self.batch(), force=force, rerun=rerun).certify()

    def work(self, batch: Batch, *, force: str = "", rerun: str = "", **validation: object) -> Certification:
        """The certification of a batch; ``validation`` are fields of that section to change."""
        spec = self.snapshot.spec
        section = spec.validation.model_copy(update=validation)
        return Certification(
            batch,
            Snapshot(spec=spec.model_copy(update={"validation": section}), files=self.snapshot.files),
            self.folder,
            self.blobs,
            force=force,
            rerun=rerun,
            log=self.said.append,
        )

    def with_suite(self, text: str) -> None:
        """Give the pipeline another expectations.json."""
        files = tuple((name, text if name == SUITE else known) for name, known in self.snapshot.files)
        self.snapshot = Snapshot(spec=self.snapshot.spec, files=files)


def _bench(home: Path, share: Path, blobs: BlobContainer) -> Bench:
    snapshot, problems = catalog.read(home)
    assert snapshot is not None, problems
    source = snapshot.spec.source
    (share / source.folder).mkdir()
    return Bench(
        folder=Folder(connection=source.connection, root=share, below=source.folder, pattern="*.csv"),
        snapshot=snapshot,
        blobs=blobs,
    )


@pytest.fixture
def tiny(tmp_path: Path, container: BlobContainer) -> Bench:
    """The tiny pipeline with an empty share."""
    return _bench(DATA / "pipelines" / "tiny_power", tmp_path, container)


@pytest.fixture
def sample(tmp_path: Path, container: BlobContainer) -> Bench:
    """The wind power pipeline with an empty share."""
    return _bench(catalog.pipelines_folder() / "wind_power", tmp_path, container)


@pytest.fixture
def real(sample: Bench) -> Callable[..., None]:
    """Put committed extracts of the real data on the sample's share."""

    def put(*names: str) -> None:
        for name in names:
            sample.drop(f"{name}.csv", (DATA / "wind_power" / f"{name}.csv").read_bytes())

    return put
