"""The task of a registry: its text, its source, and a real run of it on a Docker engine."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.shipyard import FEATURES, ROWS, Shipyard, builder, linear, registry, version_of
from tests.tasks import TaskRunner

from edgeloop.acr import builder as acr
from edgeloop.acr import task
from edgeloop.containers.engine import Engine, EngineImage
from edgeloop.containers.registry import Registry
from edgeloop.errors import ConfigurationError
from edgeloop.packaging import build, golden, layer, proof
from edgeloop.problems import parse_spec
from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from edgeloop.packaging.build import Plan

GOOD, OTHER = linear(1.0, 2.0), linear(9.0, 9.0)
NAME = "acr.example/wind:v1-abc"
TINY = Path(__file__).parents[2] / "data" / "pipelines" / "tiny_power" / "pipeline.yaml"


def plan_of(**labels: str) -> Plan:
    """An image of GOOD on a base of nothing."""
    base = EngineImage(
        id="sha256:b", layers=("sha256:1",), config={"Labels": {"base": "x", **labels}}, architecture="amd64",
        os="linux", size=1,
    )  # fmt: skip
    recipe = build.Recipe(base="b", features=FEATURES, host="acr.example", repository="wind")
    model = version_of("wind", GOOD, 1)
    return build.plan(base, model, build.layer_of(model, GOOD, recipe), recipe)


def rows_of(content: bytes) -> golden.Golden:
    """The golden rows of a model."""
    return golden.make(content, "5" * 64, FEATURES, ROWS)


def test_the_task_pushes_only_what_was_proven() -> None:
    """Each step waits for the one before; the served container is locked down as on a device."""
    steps = {one["id"]: one for one in task.steps(NAME)["steps"]}
    assert {name: one["when"] for name, one in steps.items()} == {
        "build": ["-"], "serve": ["build"], "prove": ["serve"], "push": ["prove"],
    }  # fmt: skip
    assert steps["push"]["push"] == [NAME]
    assert steps["serve"]["cmd"] == (
        "--read-only --init --cap-drop=ALL --security-opt=no-new-privileges --memory=1g "
        f"--tmpfs=/share:mode=1777,size=64m {NAME}"
    )
    assert (steps["serve"]["network"], steps["serve"]["user"], steps["serve"]["detach"]) == ("none", proof.USER, True)
    assert steps["prove"]["network"] == "container:serve"
    assert "ignoreErrors" not in json.dumps(steps)


def test_an_image_that_was_recorded_is_proven_again_and_neither_built_nor_pushed() -> None:
    """By its digest: a second build would have another."""
    by_digest = task.steps("acr.example/wind@sha256:1")["steps"]
    assert [(one["id"], one["when"]) for one in by_digest] == [("serve", ["-"]), ("prove", ["serve"])]
    assert by_digest[0]["cmd"].endswith(" acr.example/wind@sha256:1")


def test_the_same_image_is_the_same_source_and_run() -> None:
    """Byte for byte, so that a second try is the same request; a run that failed is begun again by its name."""
    whole = task.context(plan_of(), "acr.example/base@sha256:1", rows_of(GOOD))
    assert whole == task.context(plan_of(), "acr.example/base@sha256:1", rows_of(GOOD))
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(whole))) as tar:
        assert tar.getnames() == ["Dockerfile", "model.tar", "proof", "proof/ask.json", "proof/check.py"]
    body = task.body(NAME, "source/1")
    assert body == task.body(NAME, "source/1")
    assert "forceUpdateTag" not in body["properties"]
    assert task.body(NAME, "source/1", again="yd5")["properties"]["forceUpdateTag"] == "yd5"
    text = base64.b64decode(body["properties"]["runRequest"]["encodedTaskContent"]).decode()
    assert yaml.safe_load(text) == task.steps(NAME)
    assert "{{" not in text


def test_labels_survive_a_dockerfile() -> None:
    """Quotes, dollars and backslashes of a metric or a tag stay what they are."""
    text = task.dockerfile(plan_of(odd='a "b" $c \\d'), "acr.example/base@sha256:1")
    assert text.startswith("FROM acr.example/base@sha256:1\nADD model.tar /\nLABEL ")
    assert '"odd"="a \\"b\\" \\$c \\\\d"' in text
    assert '"edgeloop.metrics"="{\\"accuracy\\":0.9}"' in text


@pytest.mark.parametrize("log", ["", "nothing", f"{task.MARK}no json", f"{task.MARK}{{}}"])
def test_a_log_without_a_proof_proves_nothing(log: str) -> None:
    """Whatever stands there instead."""
    assert task.said(log) is None


def base_in(shipyard: Shipyard, engine: Engine) -> str:
    """The lab's scorer base in the lab's registry."""
    repository = f"{shipyard.site.registry.host}/edgeloop/scorer-base"
    engine.tag(shipyard.site.images.scorer_base, repository, "1")
    assert '"error"' not in str(engine.client.api.push(repository, tag="1"))
    return f"{repository}:1"


@pytest.mark.parametrize(
    ("served", "ended", "steps"),
    [(GOOD, "Succeeded", ["build", "serve", "prove", "push"]), (OTHER, "Failed", ["build", "serve"])],
    ids=["good", "tampered"],
)
def test_a_real_engine_runs_the_task(
    shipyard: Shipyard, tmp_path: Path, served: bytes, ended: str, steps: list[str]
) -> None:
    """What answers as the model does is pushed with the labels of an engine's image; what does not never is."""
    client = Registry(registry(shipyard.site))
    with Engine(builder(shipyard.site)) as engine:
        base = acr.base_of(client, base_in(shipyard, engine))
    model = version_of(shipyard.pipeline, GOOD, 1)
    recipe = shipyard.recipe()
    plan = acr.plan_of(base, model, GOOD, recipe)
    if served != GOOD:
        card = {**build.card(model, FEATURES), "sha256": sha256_hex(served)}
        plan = replace(plan, layer=layer.model_layer(served, card))
    rows = golden.make(GOOD, model.sha256, FEATURES, ROWS)
    runner = TaskRunner(docker=shipyard.site.builder.docker, folder=tmp_path)
    source = task.context(plan, base.reference, rows)
    assert runner.run(task.body(str(plan.name), "source"), source) == ended, runner.log
    assert runner.done == steps
    said = task.said("\n".join(runner.log))
    assert said is not None
    assert (rows.differing(said.answer) == "") == (served == GOOD)
    repository = plan.name.repository.partition("/")[2]
    found = client.find(repository, plan.name.tag)
    assert (found is not None) == (served == GOOD)
    if found is not None:
        stored = client.config(repository, found)
        wanted: dict[str, Any] = json.loads(plan.configuration)
        assert plan.image.base.startswith("acr_task:")
        assert stored["config"]["Labels"] == wanted["config"]["Labels"]
        assert {key: stored["config"].get(key) for key in ("User", "Entrypoint", "Env")} == {
            key: wanted["config"].get(key) for key in ("User", "Entrypoint", "Env")
        }
        assert stored["rootfs"]["diff_ids"][:-1] == list(base.image.layers)
        assert said.memory_bytes > 10_000_000
        assert 0 < said.cpu_seconds < 60
        assert said.start_seconds > 0


def test_a_base_of_another_registry_is_refused(shipyard: Shipyard) -> None:
    """A task takes its base from the registry that runs it, and the error says where to put it."""
    with pytest.raises(ConfigurationError, match="takes its base from there") as caught:
        acr.base_of(Registry(registry(shipyard.site)), "other.example/base:1")
    assert f"image.base: {shipyard.site.registry.host}/edgeloop/scorer-base:<tag>" in caught.value.next


TASK = {"subscription": "11111111-1111-1111-1111-111111111111", "resource_group": "edge-rg", "registry": "edgeacr"}


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        ({"base": "edgeacr.example.net/base:1"}, "image.builder", "subscription, resource_group and registry"),
        ({"acr": TASK}, "image.base", "name it whole"),
        ({"base": "edgeacr.example.net/base:1", "acr": {**TASK, "registry": "edge-acr"}}, "image.acr.registry", ""),
        ({"base": "edgeacr.example.net/base:1", "acr": {**TASK, "subscription": "x"}}, "image.acr.subscription", ""),
    ],
)
def test_a_pipeline_that_lacks_what_a_task_needs_is_refused_at_load(
    changes: dict[str, Any], field: str, remedy: str
) -> None:
    """By field, with what to write."""
    body = yaml.safe_load(TINY.read_text())
    body["image"] |= {"builder": "acr_task", **changes}
    parsed, problems = parse_spec(yaml.safe_dump(body, sort_keys=False), "pipeline.yaml")
    assert parsed is None
    assert [one.field for one in problems] == [field]
    assert remedy in problems[0].remedy


def test_a_pipeline_may_be_built_by_a_task() -> None:
    """With a registry, and a base in it."""
    body = yaml.safe_load(TINY.read_text())
    body["image"] |= {"builder": "acr_task", "acr": TASK, "base": "edgeacr.example.net/base:1"}
    parsed, problems = parse_spec(yaml.safe_dump(body, sort_keys=False), "pipeline.yaml")
    assert not problems
    assert parsed is not None
    assert parsed.image.acr is not None
    assert parsed.image.acr.connection == "azure_default"
