"""A small plant on real storage: certified files, prediction logs, and a registered champion."""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeloop import catalog, registry
from edgeloop.drift.interval import Bench
from edgeloop.records import Certificate, FileRef, ModelVersion, canonical_json, sha256_hex
from edgeloop.registry.promotions import LEDGER, Change, entry_body
from edgeloop.registry.standing import REGISTERED, standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeloop.azure.blob import BlobAccount, BlobContainer
    from edgeloop.store import Store

SITES = ("R80711", "R80721", "R80736")
WIND_POWER = Path(__file__).resolve().parents[3] / "include" / "pipelines" / "wind_power"
ROWS = 200


def times(month: str, count: int) -> list[datetime]:
    """Ten-minute instants from the start of a month."""
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    return [start + timedelta(minutes=10 * at) for at in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Makes what the other rooms make: certificates, logs, models."""

    bench: Bench

    def certify(
        self, month: str, sites: Sequence[str] = SITES, *, rows: int = ROWS, label: float = 100.0, claimed: str = "1"
    ) -> Certificate:
        """Certified Parquet of a month with the same power in every row."""
        import pandas as pd
        import pyarrow as pa
        import pyarrow.parquet as pq

        files, coverage = [], set()
        for site in sites:
            frame = pd.DataFrame({"Wind_turbine_name": site, "Date_time": times(month, rows), "P_avg": label})
            frame["Date_time"] = frame["Date_time"].astype("datetime64[us, UTC]")
            frame["Ws_avg"], frame["Ot_avg"] = 8.0, 10.0
            buffer = io.BytesIO()
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer)
            path = f"data/{month}-{claimed}/{site}_{month}.parquet"
            self.bench.blobs.put_new(path, buffer.getvalue())
            files.append(FileRef(path=path, size=buffer.tell(), sha256=sha256_hex(buffer.getvalue())))
            coverage |= {f"{at:%Y-%m-%d} {site} 144" for at in times(month, rows)}
        return self.bench.store.put(
            Certificate(
                pipeline="wind_power",
                batch=sha256_hex(f"{month}-{claimed}".encode()),
                suite="s",
                group=month,
                files=tuple(files),
                event_start=times(month, 1)[0].isoformat(),
                event_end=(times(month, rows)[-1] + timedelta(microseconds=1)).isoformat(),
                coverage=tuple(sorted(coverage)),
                claimed_at=claimed,
            )
        )

    def predict(
        self, month: str, model: ModelVersion, y: float, *, site: str = SITES[0], rows: int = ROWS, start: str = "a"
    ) -> str:
        """The log of a device that answered ``y`` in every row."""
        row = {"site": site, "model": "wind_power", "version": str(model.version), "sha256": model.sha256, "y": y}
        lines = [json.dumps({**row, "event_time": at.isoformat().replace("+00:00", "Z")}) for at in times(month, rows)]
        name = f"{site}/predictions/{month}/{start}-0.jsonl"
        self.bench.predictions.put(name, ("\n".join(lines) + "\n").encode())
        return name

    def model(self, number: int, accuracy: float = 0.9) -> ModelVersion:
        """A registered model; no bytes are needed to judge one."""
        model = ModelVersion(
            pipeline="wind_power",
            sha256=sha256_hex(str(number).encode()),
            size=1,
            blob="models/x.onnx",
            version=number,
            training_run="r" * 64,
            metrics=canonical_json({"accuracy": accuracy}).decode(),
        )
        change = Change(event=REGISTERED, by="test", why="registered")
        self.bench.store.append(LEDGER, lambda entries: entry_body(change, model.id, standing(entries), version=number))
        return self.bench.store.put(model)

    def promote(self, model: ModelVersion) -> ModelVersion:
        """Make it champion in place of whoever is."""
        registry.promote(
            self.bench.store,
            model.id,
            by="test",
            why="passed",
            evidence="",
            expected_champion=registry.current(self.bench.store).champion,
        )
        return model


@pytest.fixture
def plant(store: Store, container: BlobContainer, blob_account: BlobAccount) -> Plant:
    """The sample's plant with nothing in it."""
    snapshot, problems = catalog.read(WIND_POWER)
    assert snapshot is not None, problems
    predictions = blob_account.container(f"p{uuid.uuid4().hex[:20]}")
    return Plant(bench=Bench(spec=snapshot.spec, store=store, blobs=container, predictions=predictions))
