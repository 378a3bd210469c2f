"""Where a device's model came from, in a store of 10,000 records on a real Azurite: seconds, and requests counted.

The peer is the same number of reads of one record, one after the other: what the storage alone would take.
"""

from __future__ import annotations

import http.client
import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from benchmarks.grounds import SITE
from benchmarks.harness import Figure, Pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.azure.account import BlobAccount
    from edgeloop.azure.blob import BlobContainer
    from edgeloop.containers.registry import Registry
    from edgeloop.lineage.chain import Lineage
    from edgeloop.records import Record
    from lab.site import Site

PARTS = ("network", "blob", "registry")
MODELS = 500
GROUPS = 4000
"""Batches, each with its certificate: with datasets, trainings, models and images 10,000 records."""
WINDOW = 12
"""Months in a dataset."""
SWITCHES = 200
"""Lines in the device's history."""
PIPELINE, DEVICE = "wind_power", "R80711"
RUNS = 15
WRITERS = 16
BAR_S, BAR_READS = 1.0, 40
LINKS = 4 * WINDOW + 12
"""Checks that a sound chain of such a window has at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where it is measured."""

    account: BlobAccount
    registry: Registry
    container: str

    def fresh(self) -> BlobContainer:
        """The container as a process that was just started opens it."""
        return replace(self.account).container(self.container)


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Two figures: seconds and requests."""
    with _ground(say) as ground:
        _fill(ground, say)
        found = _trace(ground)
        wrong = [f"{node.kind} {node.id[:16]}: {check.what}? {check.found}" for node, check in found.wrong()]
        if wrong or found.checks < LINKS:
            raise AssertionError(f"The chain does not hold, so its figure means nothing: {wrong or found.checks}")
        seconds, reads = [], []
        for number in range(RUNS):
            ours, count = _timed(lambda: _trace(ground))
            record = f"records/batch/{_batch(0).id}.json"
            container = ground.fresh()
            peer, _ = _timed(lambda: [container.get(record) for _ in range(count)])  # noqa: B023 - called at once
            seconds.append(Pair(ours=ours, peer=peer))
            reads.append(count)
            say(f"{number + 1} of {RUNS}: {ours:.3f} s, {count} requests; as many in a row {peer:.3f} s")
    times = tuple(one.ours for one in seconds)
    return [
        Figure(
            name="lineage: a device in 10,000 records", value=statistics.median(times), unit="s", bar=BAR_S,
            peer="as many reads in a row", ratio=statistics.median(one.ratio for one in seconds), runs=times,
        ),
        Figure(
            name="lineage: requests of all kinds", value=statistics.median(reads), unit="reads", bar=BAR_READS,
            peer="the bar", ratio=statistics.median(reads) / BAR_READS, runs=tuple(map(float, reads)),
        ),
    ]  # fmt: skip


@contextmanager
def _ground(say: Callable[[str], None]) -> Iterator[Ground]:
    import lab
    from edgeloop.azure.blob import BlobAccount
    from edgeloop.containers.endpoint import RegistryEndpoint
    from edgeloop.containers.registry import Registry

    lab.clean(SITE)
    say(f"starting site {SITE}")
    site: Site = lab.up(SITE, parts=PARTS)
    try:
        account = BlobAccount(connection="bench", connection_string=site.blob.private.connection_string)
        registry = Registry(RegistryEndpoint(connection="bench", host=site.registry.host, insecure=True))
        yield Ground(account=account, registry=registry, container=f"c{uuid.uuid4().hex[:16]}")
    finally:
        lab.clean(SITE)


def _trace(ground: Ground) -> Lineage:
    from edgeloop.lineage.reader import Reader
    from edgeloop.lineage.walk import of_device
    from edgeloop.store import Store

    container = ground.fresh()
    return of_device(Reader(Store(container), container, ground.registry), DEVICE)


def _timed(work: Callable[[], Any]) -> tuple[float, int]:
    """Seconds, and HTTP requests that left this process, to storage and registry; kept connections have a way apart."""
    from edgeloop.azure import exchange

    sent: list[str] = []
    put, kept = http.client.HTTPConnection.putrequest, exchange._exchange  # noqa: SLF001 - as below

    def counting(self: http.client.HTTPConnection, method: str, url: str, **more: Any) -> None:
        sent.append(method)
        put(self, method, url, **more)

    def counting_kept(*told: Any, **more: Any) -> Any:
        sent.append("kept")
        return kept(*told, **more)

    http.client.HTTPConnection.putrequest = counting  # type: ignore[method-assign,assignment]
    exchange._exchange = counting_kept  # noqa: SLF001 - the one place where such a request is written
    began = time.perf_counter()
    try:
        work()
        return time.perf_counter() - began, len(sent)
    finally:
        http.client.HTTPConnection.putrequest = put  # type: ignore[method-assign]
        exchange._exchange = kept  # noqa: SLF001 - as it was


def _fill(ground: Ground, say: Callable[[str], None]) -> None:
    """Records and edges as the loop would have left them after years, and one image that is really in the registry."""
    from edgeloop.catalog import code_digest
    from edgeloop.containers.content import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Content, ImageContent
    from edgeloop.record_base import canonical_json, sha256_hex
    from edgeloop.records import FileRef, ModelImage, ModelVersion, TrainingRun
    from edgeloop.rollout import history
    from edgeloop.store import Store

    container = ground.fresh()
    container.ensure()
    files = [["pipeline.yaml", f"name: {PIPELINE}"], ["train.py", "print('trained')"]]
    config = canonical_json({"files": files})
    container.put_new(f"configs/{sha256_hex(config)}.json", config)
    with ThreadPoolExecutor(WRITERS) as pool:
        etags = list(pool.map(lambda n: container.put_whole(_data(n).path, _rows(n), metadata={}), range(GROUPS)))
    records: list[Record] = [made for n in range(GROUPS) for made in (_batch(n), _certificate(n, etags[n]))]
    images: list[ModelImage] = []
    for number in range(MODELS):
        content = f"model {number}".encode() * 4000
        digest = sha256_hex(content)
        dataset = _dataset(number)
        run = TrainingRun(
            pipeline=PIPELINE, dataset=dataset.id, code=code_digest(files), image="i", parameters="{}",
            outputs=(FileRef(path=f"training/{number}/model.onnx", size=len(content), sha256=digest),),
            config=sha256_hex(config),
        )  # fmt: skip
        model = ModelVersion(
            pipeline=PIPELINE, sha256=digest, size=len(content), blob=f"models/{digest}.onnx", version=number + 1,
            training_run=run.id, metrics='{"accuracy":0.9}',
        )  # fmt: skip
        labels = {"edgeloop.model": model.id, "edgeloop.sha256": digest}
        layer = Content.of(content[:1000], OCI_LAYER)
        settings = Content.of(canonical_json({"config": {"Labels": labels}}), OCI_CONFIG)
        described = [
            {"mediaType": one.descriptor.media_type, "digest": one.descriptor.digest, "size": one.descriptor.size}
            for one in (settings, layer)
        ]
        body = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described[0], "layers": described[1:]}
        image = ImageContent(manifest=Content.of(canonical_json(body), OCI_MANIFEST), blobs=(settings, layer))
        host = ground.registry.endpoint.host
        pushed = ModelImage(
            pipeline=PIPELINE, model=model.id, base=f"b{number}", reference=f"{host}/scorer@{image.digest}",
            digest=image.digest,
        )  # fmt: skip
        images.append(pushed)
        records += [dataset, run, model, pushed]
        if number == MODELS - 1:
            container.put_new(model.blob, content)
            ground.registry.push("scorer", f"v{number}", image)
    store = Store(container)
    say(f"writing {len(records)} records")
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(store.put, records))
    start = datetime(2020, 1, 1, tzinfo=UTC)
    for number, one in enumerate(images[-SWITCHES:]):
        at = start + timedelta(days=number)
        history.saw(store, DEVICE, image=one.id, digest=one.digest, at=at, by="bench", reference=one.reference)


def _batch(number: int) -> Any:
    from edgeloop.record_base import sha256_hex
    from edgeloop.records import Batch, FileRef

    file = FileRef(path=f"R80711_{number}.csv", size=100, sha256=sha256_hex(str(number).encode()))
    return Batch(pipeline=PIPELINE, group=f"g{number:05d}", files=(file,), config="c", claimed_at="2014-01-01")


def _rows(number: int) -> bytes:
    return f"rows {number}".encode() * 10


def _data(number: int) -> Any:
    from edgeloop.record_base import sha256_hex
    from edgeloop.records import FileRef

    rows = _rows(number)
    return FileRef(path=f"data/{_batch(number).id}/a.parquet", size=len(rows), sha256=sha256_hex(rows))


def _certificate(number: int, etag: str = "") -> Any:
    from edgeloop.records import Certificate

    batch = _batch(number)
    days = tuple(f"2014-01-{day:02d} {DEVICE} 144" for day in range(1, 32))
    return Certificate(
        pipeline=PIPELINE, batch=batch.id, suite="s", group=batch.group, files=(_data(number),), coverage=days,
        etags=(etag,),
    )  # fmt: skip


def _dataset(number: int) -> Any:
    """The window of one training; each starts a few months after the one before."""
    from edgeloop.records import Dataset

    first = number * (GROUPS - WINDOW) // MODELS
    found = [_certificate(first + month) for month in range(WINDOW)]
    return Dataset(
        pipeline=PIPELINE, files=tuple(file for one in found for file in one.files),
        certificates=tuple(one.id for one in found), window_start="a", window_end="b", holdout_start=str(number),
    )  # fmt: skip
