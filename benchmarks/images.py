"""What the benches of images share: models as the sample pipeline trains them, and who makes their images."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeloop.containers.engine import Engine
    from edgeloop.packaging.builder import EngineBuilder
    from edgeloop.pipeline import Feature
    from edgeloop.records import ModelVersion
    from edgeloop.store import Store
    from lab.site import Site

PIPELINE = "wind_power"
ROWS, ITERATIONS = 20_000, 200
TRAINER = Path("include") / "images" / "trainer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where images are made and go: an engine with a base on it, the registry by the address it is spoken to."""

    engine: Engine
    base: str
    host: str
    repository: str
    cache: Path


def model(number: int) -> bytes:
    """A model as the sample pipeline trains it, on synthetic wind."""
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingRegressor

    sys.path.insert(0, str(TRAINER))
    from edgeloop_trainer import export

    noise = np.random.default_rng(number)
    rows = noise.uniform(0, 20, (ROWS, 8)).astype(np.float32)
    power = np.clip(rows[:, 0] ** 3 + 40 * noise.standard_normal(ROWS), 0, 2050)
    # As the sample's train.py has it; what else there is to choose would give a third of the trees.
    chosen = {"loss": "absolute_error", "early_stopping": False, "random_state": number}
    trained = HistGradientBoostingRegressor(max_iter=ITERATIONS, **chosen).fit(rows, power)
    return bytes(export.to_onnx(trained, features=rows.shape[1]))


def version(content: bytes, number: int) -> ModelVersion:
    """As the registry would have that model, with tags and figures of the usual length."""
    from edgeloop.record_base import canonical_json, sha256_hex
    from edgeloop.records import ModelVersion

    metrics = dict.fromkeys(("accuracy", "mae", "rmse", "bias", "p95", "coverage"), 0.123456789 * number)
    return ModelVersion(
        pipeline=PIPELINE, sha256=sha256_hex(content), size=len(content), blob=f"models/{sha256_hex(content)}.onnx",
        version=number, training_run=f"{number:064x}", metrics=canonical_json(metrics).decode(),
        tags=(f"dataset={'d' * 64}", "reason=accuracy fell below that of the champion's hold-out in 2014-02"),
        window_end="2014-03-01T00:00:00Z", config="c" * 64,
    )  # fmt: skip


def features() -> tuple[Feature, ...]:
    """Those of the sample pipeline."""
    from edgeloop import catalog

    return catalog.load(Path("include") / "pipelines").find(PIPELINE).spec.model.features


def engine_of(site: Site) -> Engine:
    """The site's engine that builds and proves; to be entered."""
    from edgeloop.containers.endpoint import EngineEndpoint
    from edgeloop.containers.engine import Engine

    return Engine(EngineEndpoint(connection="bench_builder", url=site.builder.docker))


def builder_of(place: Place, store: Store, model: ModelVersion, content: bytes) -> EngineBuilder:
    """Who makes the image of ``model``, whose ONNX file is ``content``."""
    from edgeloop.containers.endpoint import RegistryEndpoint
    from edgeloop.containers.registry import Registry
    from edgeloop.packaging import base_layers, build
    from edgeloop.packaging.builder import EngineBuilder

    recipe = build.Recipe(
        base=place.base, features=features(), host=place.host, repository=place.repository,
        dataset="d" * 64, config="c" * 64,
    )  # fmt: skip
    return EngineBuilder(
        engine=place.engine,
        registry=Registry(RegistryEndpoint(connection="bench", host=place.host, insecure=True)),
        cache=base_layers.Layers(place.cache),
        store=store,
        plan=build.prepare(place.engine, model, content, recipe),
    )
