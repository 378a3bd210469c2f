"""The image of a model: its size, what a start costs, and how soon after its registration it is in the registry.

On the lab's base, with models as the sample pipeline trains them. Size counts what an engine holds unpacked; a start is
the scorer's own process time until it is ready, which a busy machine does not change; the rebuild is everything from
the record of a new model to the record of its image, without the proof. Its peer is that model's proof.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import images
from benchmarks.grounds import SITE
from benchmarks.harness import Figure, Pair, beyond_peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.azure.blob import BlobContainer

MODELS, GOLDEN_ROWS, MB = 5, 64, 1e6
SIZE_BAR_MB, START_BAR_S, REBUILD_BAR_S = 235.0, 0.5, 3.0
REPOSITORY = "bench/image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One model: seconds of its proof and of all around it, of its scorer's start, and bytes of its image."""

    proof: float
    around: float
    cpu: float
    size: int


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Three figures; the first model, whose base is packed and sent, is told and not counted."""
    import lab
    from edgeloop.azure.blob import BlobAccount

    lab.clean(SITE)
    say(f"starting site {SITE}")
    site = lab.up(SITE)
    try:
        account = BlobAccount(connection="bench", connection_string=site.blob.private.connection_string)
        blobs = account.container(f"c{uuid.uuid4().hex[:16]}")
        with tempfile.TemporaryDirectory() as cache, images.engine_of(site) as engine:
            base = site.images.scorer_base
            place = images.Place(
                engine=engine, base=base, host=site.registry.host, repository=REPOSITORY, cache=Path(cache)
            )
            runs = []
            for number in range(1, MODELS + 2):
                runs.append(package(place, blobs, number))
                say(f"model {number}: {runs[-1].around:.2f} s beyond a proof of {runs[-1].proof:.2f} s")
            bare = engine.get(base).size
    finally:
        lab.clean(SITE)
    return figures(runs[1:], bare)


def figures(runs: list[Run], bare: int) -> list[Figure]:
    """From runs over one base of ``bare`` bytes."""
    sizes, starts = tuple(one.size / MB for one in runs), tuple(one.cpu for one in runs)
    pairs = [Pair(ours=one.around + one.proof, peer=one.proof) for one in runs]
    return [
        Figure(
            name="image: size", value=statistics.median(sizes), unit="MB", bar=SIZE_BAR_MB, peer="the base alone",
            ratio=statistics.median(sizes) * MB / bare, runs=sizes,
        ),
        Figure(
            name="image: start", value=statistics.median(starts), unit="s", bar=START_BAR_S, peer="the bar itself",
            ratio=statistics.median(starts) / START_BAR_S, runs=starts,
        ),
        beyond_peer("image: rebuild", pairs, unit="s", bar=REBUILD_BAR_S, peer="the proof"),
    ]  # fmt: skip


def package(place: images.Place, blobs: BlobContainer, number: int) -> Run:
    """Register a model, then build, prove, push and record its image, as the DAG's tasks do."""
    from edgeloop.packaging import golden, golden_rows
    from edgeloop.packaging.builder import bill_of
    from edgeloop.store import Store

    content, store = images.model(number), Store(blobs)
    model = store.put(images.version(content, number))
    blobs.put_new(model.blob, content)
    began = time.perf_counter()
    builder = images.builder_of(place, store, model, blobs.get(model.blob))
    built = builder.build(force=False)
    builder.inventory()
    rows = golden_rows.ensure(
        store, blobs, built.image, lambda: golden.make(content, model.sha256, images.features(), GOLDEN_ROWS)
    )
    before = time.perf_counter()
    passed = builder.prove(rows)
    proof = time.perf_counter() - before
    pushed = builder.push(proven=built.engine_id)
    bill = bill_of(built.image)
    store.put(replace(built.image, reference=pushed.reference, digest=pushed.digest, proof=passed.to_json(), sbom=bill))
    around = time.perf_counter() - began - proof
    return Run(proof=proof, around=around, cpu=passed.cpu_seconds, size=place.engine.get(built.engine_id).size)
