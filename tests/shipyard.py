"""Real images of small models for tests: good ones, one that ends at start, one that is healthy and answers wrongly."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgeloop.containers.endpoint import EngineEndpoint, RegistryEndpoint
from edgeloop.containers.engine import Engine
from edgeloop.containers.registry import Registry
from edgeloop.packaging import base_layers, build, golden, layer
from edgeloop.packaging.builder import EngineBuilder
from edgeloop.pipeline import Feature
from edgeloop.records import ModelImage, ModelVersion, sha256_hex
from edgeloop.rollout.fleet import Device, SshDockerFleet, Wanted
from edgeloop.ssh.endpoint import Endpoint

if TYPE_CHECKING:
    from edgeloop.store import Store
    from lab.site import Device as LabDevice
    from lab.site import Site

FEATURES = (Feature(name="Ws", low=0.0, high=20.0), Feature(name="Ot", low=-10.0, high=35.0))
ROWS = 16
REPOSITORY = "tests/scorer"
"""One for all yards: a registry takes a base once for each repository."""
MISSING_COMMAND = ["/nowhere/scorer"]
ENDS_AT_START = ["python3", "-c", "import sys; sys.exit('no licence')"]


def linear(*weights: float, bias: float = 0.0) -> bytes:
    """An ONNX model ``X @ weights + bias``, [n, 1], whose output is not even called Y."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    matrix = np.array(weights, dtype=np.float32).reshape(-1, 1)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["X", "W", "B"], ["variable"])],
        "linear",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, len(weights)])],
        [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(matrix, "W"), numpy_helper.from_array(np.array([bias], dtype=np.float32), "B")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def version_of(pipeline: str, content: bytes, version: int) -> ModelVersion:
    """A model version as the registry would have it."""
    return ModelVersion(
        pipeline=pipeline,
        sha256=sha256_hex(content),
        size=len(content),
        blob=f"models/{sha256_hex(content)}.onnx",
        version=version,
        training_run="0" * 64,
        metrics='{"accuracy":0.9}',
        tags=("window=2014-01",),
    )


def builder(site: Site) -> EngineEndpoint:
    """The engine that builds."""
    return EngineEndpoint(connection="edgeloop_builder", url=site.builder.docker)


def registry(site: Site) -> RegistryEndpoint:
    """The site's registry."""
    return RegistryEndpoint(connection="edgeloop_registry", host=site.registry.host, insecure=True)


def endpoint(device: LabDevice) -> Endpoint:
    """A device's login."""
    return Endpoint(
        connection=f"edgeloop_device_{device.name.lower()}",
        host=device.host,
        port=device.port,
        user=device.user,
        key_file=str(device.key_file),
        host_key=device.host_key,
    )


@dataclass(frozen=True)
class Shipyard:
    """Makes and pushes images for one pipeline of a test's own; ``port`` is where its scorers listen."""

    site: Site
    store: Store
    pipeline: str
    port: int
    answers: dict[str, golden.Golden] = field(default_factory=dict)

    @property
    def fleet(self) -> SshDockerFleet:
        """The site's devices."""
        devices = {one.name: Device(endpoint=endpoint(one), share=str(one.share)) for one in self.site.devices}
        return SshDockerFleet(self.pipeline, devices, self.port)

    def recipe(self) -> build.Recipe:
        """What images of this yard stand on."""
        return build.Recipe(
            base=self.site.images.scorer_base,
            features=FEATURES,
            host=self.site.registry.host,
            repository=REPOSITORY,
        )

    def builder(self, engine: Engine, plan: build.Plan) -> EngineBuilder:
        """Who makes the images of this yard."""
        return EngineBuilder(
            engine=engine,
            registry=Registry(registry(self.site)),
            cache=base_layers.Layers(base_layers.folder()),
            store=self.store,
            plan=plan,
        )

    def model(self, content: bytes, version: int) -> ModelVersion:
        """A model of this yard."""
        return version_of(self.pipeline, content, version)

    def plan(self, engine: Engine, content: bytes, version: int) -> build.Plan:
        """A good image as it will be."""
        return build.prepare(engine, self.model(content, version), content, self.recipe())

    def ship(self, content: bytes, version: int) -> ModelImage:
        """A good image, pushed and recorded."""
        with Engine(builder(self.site)) as engine:
            return self._push(engine, self.plan(engine, content, version), content)

    def plan_other(
        self, engine: Engine, claimed: bytes, served: bytes, version: int, entrypoint: list[str] | None = None
    ) -> build.Plan:
        """An image that says it serves ``claimed`` but holds ``served``, or runs another ``entrypoint``."""
        model, base = version_of(self.pipeline, claimed, version), engine.get(self.recipe().base)
        if entrypoint:
            base = replace(base, config={**base.config, "Entrypoint": entrypoint})
        card = {**build.card(model, FEATURES), "sha256": sha256_hex(served)}
        return build.plan(base, model, layer.model_layer(served, card), self.recipe())

    def ship_other(
        self, claimed: bytes, served: bytes, version: int, entrypoint: list[str] | None = None
    ) -> ModelImage:
        """Such an image, pushed and recorded, as no proof would let it."""
        with Engine(builder(self.site)) as engine:
            return self._push(engine, self.plan_other(engine, claimed, served, version, entrypoint), claimed)

    def _push(self, engine: Engine, plan: build.Plan, content: bytes) -> ModelImage:
        makes = self.builder(engine, plan)
        makes.build(force=False)
        pushed = makes.push(proven=plan.engine_id)
        self.answers[pushed.reference] = golden.make(content, plan.model.sha256, FEATURES, ROWS)
        self.store.put(plan.model)
        return self.store.put(replace(plan.image, reference=pushed.reference, digest=pushed.digest))

    def wanted(self, reference: str) -> Wanted:
        """What devices should answer under a reference."""
        image = next(one.id for one in self.store.all(ModelImage) if one.reference == reference)
        return Wanted(reference=reference, model=self.pipeline, golden=self.answers[reference], image=image)

    def ask(self, site: str) -> list[float]:
        """The answers of a device's scorer to the rows of its first model, over the plant's network."""
        rows = next(iter(self.answers.values()))
        return self.get(site, f"/v2/models/{self.pipeline}/infer", rows.request())["outputs"][0]["data"]

    def get(self, site: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A device's scorer asked from outside."""
        url = f"http://{self.site.device(site).host}:{self.port}{path}"
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def clean(self) -> None:
        """Take this yard's containers off every device."""
        import docker

        for device in self.site.devices:
            client = docker.DockerClient(base_url=device.docker, timeout=30)
            for one in client.containers.list(all=True, filters={"label": f"edgeloop.pipeline={self.pipeline}"}):
                one.remove(force=True)
            client.close()
