"""Certified files and prediction logs of an interval, as they lie in storage."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.certificates import newest_of_each_group
from edgeloop.drift.labels import Part, bounds, intervals_between, length_of, months_of
from edgeloop.records import Certificate, canonical_json, sha256_hex
from edgeloop.transfer import download

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from edgeloop.azure.blob import BlobContainer, BlobItem
    from edgeloop.records import FileRef
    from edgeloop.store import Store
    from edgeloop.transfer import Terms


def newest_certificates(store: Store) -> list[Certificate]:
    """The certificate that stands for each group, by name of the group."""
    return newest_of_each_group(store.all(Certificate))


def covering(certificates: Iterable[Certificate], key: str) -> list[Certificate]:
    """Those whose rows may lie in the interval ``key``."""
    return [
        one for one in certificates if key in set(intervals_between(one.event_start, one.event_end, length_of(key)))
    ]


def parts_of(certificate: Certificate) -> list[Part]:
    """Which sites a certificate has rows of, day by day, by its own coverage: names of files promise nothing."""
    found = []
    for line in certificate.coverage:
        day, site, _ = line.split(" ")
        start, end = bounds(day)
        found.append(Part(certificate_id=certificate.id, site=site, start=start.isoformat(), end=end.isoformat()))
    return found


def table_of(blobs: BlobContainer, file: FileRef, terms: Terms, only: list[str] | None = None) -> pa.Table:
    """A certified Parquet file, or some of its columns, once its sha256 is that of the certificate.

    Raises ``NotFoundError``, or ``IntegrityError`` when the blob is not what was certified.
    """
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(prefix="edgeloop-drift-") as folder:
        path = Path(folder) / "data.parquet"
        download(blobs, file, path, terms=terms)
        return pq.read_table(path, columns=only)


def prediction_logs(predictions: BlobContainer, sites: Iterable[str], key: str) -> list[BlobItem]:
    """The logs that the devices of ``sites`` wrote in the months of an interval."""
    return [
        item
        for site in sorted(sites)
        for month in months_of(key)
        for item in predictions.list(f"{site}/predictions/{month}/")
        if item.name.endswith(".jsonl")
    ]


def evidence(logs: Iterable[BlobItem]) -> str:
    """The sha256 of which logs there are and how long: it changes when more was predicted."""
    return sha256_hex(canonical_json(sorted([one.name, one.size] for one in logs)))
