"""Building by a registry's task: each request held to Microsoft's types, and what becomes of every way it can end."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.azure_contract import task_spec
from tests.azure_contract.conftest import GROUP, SUBSCRIPTION, TENANT
from tests.memory import Memory
from tests.registries import RegistryServer, pullable
from tests.shipyard import FEATURES, ROWS, linear, version_of
from tests.tasks import result

from edgeloop.acr import task
from edgeloop.acr.builder import AcrTaskBuilder, base_of, plan_of
from edgeloop.acr.runs import RegistryResource, Runs
from edgeloop.azure_ml.identity import Identity
from edgeloop.containers.registry import Registry
from edgeloop.errors import (
    CloudError,
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    ProofFailedError,
    UnreachableError,
)
from edgeloop.packaging import build, golden
from edgeloop.packaging.sbom import MEDIA_TYPE
from edgeloop.pipeline import Pipeline
from edgeloop.store import Store
from edgeloop_airflow import builders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.azure_contract.conftest import Azure

GOOD = linear(1.0, 2.0)
NAME, RUN = "edgeacr", "yd5"
TINY = Path(__file__).parents[1] / "data" / "pipelines" / "tiny_power" / "pipeline.yaml"
REGISTRY_ID = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerRegistry/registries/{NAME}"
)


@dataclass
class Cloud:
    """A registry of Azure whose tasks end as a test says."""

    azure: Azure
    builder: AcrTaskBuilder
    rows: golden.Golden

    @property
    def path(self) -> str:
        """The task run."""
        return f"{REGISTRY_ID}/taskRuns/{self.builder.run_name}"

    def ends(self, status: str, *, digest: str = "", log: str = "", run: str = RUN, why: str = "") -> None:
        """From now on the run has ended so, and has this log."""
        self.azure.seed(
            arm={self.path: {"properties": {"provisioningState": "Succeeded", **result(run, status, digest, why)}}},
            blobs={f"edgemlstore/{task_spec.LOGGED}": log or "a line\n"},
        )

    def proven(self, answers: list[float] | None = None) -> str:
        """A log with a proof."""
        data = list(self.rows.answers) if answers is None else answers
        output = {"name": "Y", "datatype": "FP32", "shape": [len(data), 1], "data": data}
        said = {"start_seconds": 0.8, "cpu_seconds": 0.4, "memory_bytes": 31_000_000, "answer": {"outputs": [output]}}
        return f"2026/11/22 noise\n{task.MARK}{json.dumps(said)}\nmore\n"

    def pushes(self, note: str = "by Azure") -> str:
        """What the run's last step does; the digest."""
        image = pullable(note)
        self.builder.registry.push("wind", self.builder.plan.name.tag, image)
        return image.digest

    def puts(self) -> list[dict[str, Any]]:
        """The task runs that were asked for."""
        return [json.loads(one["request_body"]) if isinstance(one["request_body"], str) else one["request_body"]
                for one in self.azure.log("PUT", "/taskRuns/")]  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    """The registry's own API."""
    one = RegistryServer(tmp_path).start()
    yield one
    one.stop()


@pytest.fixture
def cloud(azure: Azure, server: RegistryServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A registry that Azure knows, with a base in it, and a model to build."""
    identity = Identity.of("azure_default", "33333333-3333-3333-3333-333333333333", "a secret", {"tenantId": TENANT})
    resource = RegistryResource(identity=identity, subscription=SUBSCRIPTION, resource_group=GROUP, registry=NAME)
    registry = Registry(server.endpoint())
    registry.push("base", "1", pullable("base"))
    base = base_of(registry, f"{server.address}/base:1")
    model = replace(version_of("wind", GOOD, 1), tags=("dataset=abc",))
    recipe = build.Recipe(base=base.reference, features=FEATURES, host=server.address, repository="wind")
    azure.seed(arm={REGISTRY_ID: {"location": "westeurope", "sku": {"name": "Basic"}, "properties": {
        "loginServer": "edgeacr.example.net"}}})  # fmt: skip
    azure.seed(blobs={"edgemlstore/acrsources/before": "x"})
    with resource.connect() as arm:
        builder = AcrTaskBuilder(
            runs=Runs(resource, arm), registry=registry, store=Store(Memory()), base=base,
            plan=plan_of(base, model, GOOD, recipe),
        )  # fmt: skip
        yield Cloud(azure=azure, builder=builder, rows=golden.make(GOOD, model.sha256, FEATURES, ROWS))


def test_a_run_is_begun_once_and_its_proof_is_read(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source goes to the place Azure names, the task stands in the request, nothing secret does."""
    really = cloud.builder.runs.await_end

    def ended(name: str, **kwargs: Any) -> Any:
        cloud.ends("Succeeded", digest=cloud.pushes(), log=cloud.proven())
        return really(name, **kwargs)

    monkeypatch.setattr(cloud.builder.runs, "await_end", ended)
    assert not cloud.builder.build(force=False).found
    passed = cloud.builder.prove(cloud.rows)
    assert (passed.rows, passed.cpu_seconds, passed.memory_bytes) == (ROWS, 0.4, 31_000_000)
    found = cloud.builder.registry.get("wind", cloud.builder.plan.name.tag)
    assert passed.engine_id == found.config.digest
    (put,) = cloud.puts()
    request = put["properties"]["runRequest"]
    assert request["sourceLocation"] == f"source/{task_spec.UPLOADED}"
    assert base64.b64decode(request["encodedTaskContent"])
    assert "a secret" not in json.dumps(put)
    assert cloud.azure.control("state")["blobs"][f"edgemlstore/{task_spec.UPLOADED}"] == len(
        task.context(cloud.builder.plan, cloud.builder.base.reference, cloud.rows)
    )
    exact = {one["operation_id"]: one["exact"] for one in cloud.azure.log() if one["api_version"] == task_spec.VERSION}
    assert exact == dict.fromkeys(["TaskRuns_Get", "TaskRuns_Create", "Registries_GetBuildSourceUploadUrl",
                                   "Runs_GetLogSasUrl"], True)  # fmt: skip


def test_a_second_try_follows_the_run_that_there_is(cloud: Cloud) -> None:
    """It uploads nothing and begins nothing; a run that has ended well is read."""
    cloud.ends("Succeeded", digest=cloud.pushes(), log=cloud.proven())
    assert cloud.builder.build(force=False).found
    first = cloud.builder.prove(cloud.rows)
    assert cloud.builder.prove(cloud.rows) == first
    assert cloud.puts() == []
    assert cloud.azure.log("POST", "listBuildSourceUploadUrl") == []


def test_two_workers_that_begin_at_once_ask_for_the_very_same(cloud: Cloud) -> None:
    """The source of the first is both's, so Azure sees one request twice and runs it once."""
    cloud.builder._begun(cloud.rows)
    cloud.builder.runs.delete(cloud.builder.run_name)
    cloud.builder._begun(cloud.rows)
    first, second = cloud.puts()
    assert first == second
    assert len(cloud.azure.log("POST", "listBuildSourceUploadUrl")) == 1


@pytest.mark.parametrize("status", ["Failed", "Canceled", "Error", "Timeout"])
def test_a_run_that_ended_badly_is_told_and_begun_again(cloud: Cloud, status: str) -> None:
    """With its last lines and Azure's own words; the next try names it, so that Azure runs the task once more."""
    cloud.ends(status, log="step 1\ndenied: no base\n", why="the agent went away")
    cloud.builder.runs.start = lambda name, body: cloud.builder.runs.find(name)  # type: ignore[method-assign,assignment]
    with pytest.raises(CloudError, match=rf"Run yd5 of registry 'edgeacr' ended as {status} \(the agent") as caught:
        cloud.builder.prove(cloud.rows)
    assert "denied: no base" in str(caught.value)
    del cloud.builder.runs.start
    cloud.builder._begun(cloud.rows)
    assert [one["properties"]["forceUpdateTag"] for one in cloud.puts()] == [RUN]


@pytest.mark.parametrize("status", ["Succeeded", "Failed"])
def test_other_answers_are_a_failed_proof_whatever_the_run_says(cloud: Cloud, status: str) -> None:
    """The answers in the log are compared here once more."""
    cloud.ends(status, log=cloud.proven([0.0] * ROWS))
    cloud.builder.runs.start = lambda name, body: cloud.builder.runs.find(name)  # type: ignore[method-assign,assignment]
    with pytest.raises(ProofFailedError, match=f"gave {ROWS} of {ROWS} golden answers other than the model's"):
        cloud.builder.prove(cloud.rows)


def test_a_run_that_tells_of_no_proof_proves_nothing(cloud: Cloud) -> None:
    """Even if Azure calls it a success."""
    cloud.ends("Succeeded", digest=cloud.pushes(), log="all fine\n")
    with pytest.raises(ProofFailedError, match="tells nothing of a proof"):
        cloud.builder.prove(cloud.rows)


def test_a_digest_that_is_not_the_runs_is_an_error(cloud: Cloud) -> None:
    """What stands under the tag was read from the registry; somebody else may have pushed there."""
    cloud.pushes("by somebody else")
    cloud.ends("Succeeded", digest=f"sha256:{'9' * 64}", log=cloud.proven())
    with pytest.raises(IntegrityError, match="pushed sha256:999"):
        cloud.builder.prove(cloud.rows)


def test_a_run_that_does_not_end_goes_on_in_azure(cloud: Cloud) -> None:
    """The task gives up after its time, by the words that one types to look at it."""
    cloud.ends("Running")
    with pytest.raises(UnreachableError, match="is Running and has not ended in 0 s") as caught:
        cloud.builder.runs.await_end(cloud.builder.run_name, whole_seconds=0.0)
    assert f"az acr task logs --registry {NAME} --run-id {RUN}" in caught.value.next


def test_a_run_that_somebody_deleted_is_told(cloud: Cloud) -> None:
    """Not waited for."""
    with pytest.raises(CloudError, match="is gone"):
        cloud.builder.runs.await_end(cloud.builder.run_name)


def test_force_forgets_the_run_that_there_was(cloud: Cloud) -> None:
    """The next proof begins anew."""
    cloud.ends("Succeeded")
    assert not cloud.builder.build(force=True).found
    assert len(cloud.azure.log("DELETE", "/taskRuns/")) == 1


def test_what_was_pushed_gets_its_tags_and_its_bill(cloud: Cloud) -> None:
    """Only what was proven; a second push changes nothing."""
    digest = cloud.pushes()
    proven = cloud.builder.registry.get("wind", digest).config.digest
    pushed = cloud.builder.push(proven=proven)
    assert (pushed.digest, pushed.reference) == (digest, f"{cloud.builder.plan.name.repository}@{digest}")
    assert cloud.builder.registry.get("wind", "dataset-abc").digest == digest
    (bill,) = cloud.builder.registry.attached("wind", digest)
    assert bill.artifact_type == MEDIA_TYPE
    assert cloud.builder.push(proven=proven) == pushed
    with pytest.raises(IntegrityError, match="that was proven"):
        cloud.builder.push(proven=f"sha256:{'0' * 64}")


def test_the_registry_that_builds_is_the_one_that_is_pushed_to(cloud: Cloud) -> None:
    """A connection to another registry, or a registry that Azure does not know, is told by field."""
    with pytest.raises(ConfigurationError, match=r"answers at edgeacr.example.net, but connection 'edgeloop_registry'"):
        cloud.builder.runs.require_host(cloud.builder.registry.endpoint)
    cloud.builder.runs.require_host(replace(cloud.builder.registry.endpoint, host="EdgeAcr.example.net"))
    runs = cloud.builder.runs
    other = Runs(replace(runs.registry, registry="otheracr"), runs.arm)
    with pytest.raises(NotFoundError, match="There is no registry 'otheracr' in resource group 'edge-rg'"):
        other.require_host(cloud.builder.registry.endpoint)


def test_what_was_recorded_is_proven_by_its_digest_and_never_made_anew(cloud: Cloud) -> None:
    """A second build would have another digest than the record."""
    builder, digest = cloud.builder, cloud.pushes()
    repository = builder.plan.name.repository
    builder.store.put(replace(builder.plan.image, digest=digest, reference=f"{repository}@{digest}"))
    assert builder.subject == f"{repository}@{digest}"
    builder._begun(cloud.rows)
    (put,) = cloud.puts()
    text = base64.b64decode(put["properties"]["runRequest"]["encodedTaskContent"]).decode()
    assert "push:" not in text
    assert "build:" not in text
    cloud.builder.registry.push("wind", builder.plan.name.tag, pullable("by somebody else"))
    cloud.ends("Succeeded", log=cloud.proven())
    passed = builder.prove(cloud.rows)
    assert builder.push(proven=passed.engine_id).digest == digest


def test_a_pipelines_section_leads_to_the_registry_that_builds(
    cloud: Cloud, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From pipeline.yaml and two connections to the builder that the package DAG's tasks use."""
    connection = {"conn_type": "edgeloop_registry", "host": server.address, "extra": {"insecure": True}}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_REGISTRY", json.dumps(connection))
    known = {"location": "westeurope", "sku": {"name": "Basic"}, "properties": {"loginServer": server.address}}
    cloud.azure.seed(arm={REGISTRY_ID: known})
    section = {"subscription": SUBSCRIPTION, "resource_group": GROUP, "registry": NAME, "agent_pool": "inside"}
    body = yaml.safe_load(TINY.read_text())
    body["image"] |= {"builder": "acr_task", "acr": section, "base": f"{server.address}/base:1"}
    model, store = version_of(body["name"], GOOD, 1), Store(Memory())
    blobs = Memory({model.blob: GOOD})
    desk = SimpleNamespace(snapshot=SimpleNamespace(spec=Pipeline.model_validate(body)), blobs=blobs, store=store)
    with builders.opened(desk, model) as builder:  # type: ignore[arg-type]
        assert isinstance(builder, AcrTaskBuilder)
        assert builder.build(force=False).name.repository == f"{server.address}/{body['image']['repository']}"
        builder._begun(cloud.rows)
    (put,) = cloud.puts()
    assert put["properties"]["runRequest"]["agentPoolName"] == "inside"
