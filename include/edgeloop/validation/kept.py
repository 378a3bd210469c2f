"""Files of a batch that are gone from the source, or changed there: their certified rows come from an earlier batch.

A batch holds its whole group. A producer may clear away what was claimed, and a late file then makes a revision whose
other files can no longer be read; the rows that were certified of the very same bytes stand for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from edgeloop.records import Batch, Certificate
from edgeloop.validation import times
from edgeloop.validation.rows import Sites

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.records import FileRef
    from edgeloop.store import Store
    from edgeloop.validation.rows import Meaning

LONGEST_CHAIN = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A file's certified rows as an earlier certificate holds them.

    ``span`` are the first and last event time, ``instants`` those of every row in microseconds since 1970 (UTC), and
    ``sites`` the numbers of their sites: no other file of the batch may have one of these too.
    """

    path: str
    file: FileRef
    batch: str
    rows: int
    span: tuple[int, int]
    coverage: dict[tuple[str, str], int]
    """How many rows each day and site has."""
    instants: npt.NDArray[np.int64]
    sites: npt.NDArray[np.int16]

    @property
    def sentence(self) -> str:
        """For the certificate."""
        return f"{self.path} is gone or changed on the source: its rows are those certified with batch {self.batch}"


def find(store: Store, batch: Batch, file: FileRef) -> tuple[str, FileRef] | None:
    """The earlier batch that holds ``file`` with the same bytes, and its certified blob; None if there is none."""
    earlier = batch.replaces
    for _ in range(LONGEST_CHAIN):
        before = store.find(Batch, earlier) if earlier else None
        if before is None:
            return None
        if file in before.files:
            certificates = store.children(before.id, Certificate)
            for one in sorted(certificates, key=lambda one: (one.certified_at, one.id), reverse=True):
                if blob := _blob_of(file.path, one):
                    return before.id, blob
        earlier = before.replaces
    return None


def _blob_of(path: str, certificate: Certificate) -> FileRef | None:
    """``data/<batch>/<stem>.parquet``, or with a piece of its digest where another suite's blob had the name."""
    stem = str(PurePosixPath(path).with_suffix(""))
    for one in certificate.files:
        inner = one.path.split("/", 2)[2]
        if inner in (f"{stem}.parquet", f"{stem}-{one.sha256[:12]}.parquet"):
            return one
    return None


def read(blobs: BlobContainer, path: str, found: tuple[str, FileRef], scratch: Path, meaning: Meaning) -> Kept:
    """What a certificate must say of a file's rows; of the blob only the time and the site column are read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    batch, file = found
    copy = scratch / "kept.parquet"
    with copy.open("wb") as target:
        for chunk in blobs.chunks(file.path):
            target.write(chunk)
    table = pq.read_table(copy, columns=[meaning.time, meaning.site])
    instants = table[meaning.time].cast(pa.int64()).to_numpy()
    names = tuple(sorted(table[meaning.site].unique().to_pylist()))
    own, sites = Sites(names), Sites(meaning.sites)
    own.add(table[meaning.site])
    sites.add(table[meaning.site])
    return Kept(
        path=path,
        batch=batch,
        file=file,
        rows=len(table),
        span=(int(instants.min()), int(instants.max())),
        coverage={(day, names[one]): rows for (day, one), rows in times.coverage(instants, own.numbers()).items()},
        instants=instants,
        sites=sites.numbers(),
    )
