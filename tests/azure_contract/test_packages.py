"""`models.package` as builder: what is asked for, what comes of it, what is refused; experimental, Microsoft says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.azure_contract.conftest import WORKSPACE_ID
from tests.azure_contract.sdk import ml_client

from edgeloop.azure_ml import packages
from edgeloop.azure_ml.job_body import environment_path
from edgeloop.azure_ml.model_bytes import ModelBytes, place_of
from edgeloop.azure_ml.models import opened
from edgeloop.azure_ml.packages import Order, Packager, by_digest, require_packageable
from edgeloop.containers.registry import Blob, Manifest
from edgeloop.errors import CloudError, ConfigurationError, NotFoundError, ResidencyError, UnreachableError
from edgeloop.pipeline import Pipeline
from edgeloop.records import sha256_hex
from edgeloop.registry.backend import Listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

TINY = Path(__file__).parents[1] / "data" / "pipelines" / "tiny_power" / "pipeline.yaml"
ONNX = b"the bytes of a model"
BASE = "edgemlacr.example.net/edgeloop/scorer-base:1"
ORDER = Order(pipeline="tiny_power", version=3, sha256=sha256_hex(ONNX), base=BASE, card=b'{"name":"tiny_power"}')
NAME = f"edgeloop-tiny-power:{ORDER.number}"
IMAGE = f"edgemlacr.example.net/{NAME}"


@pytest.fixture
def packager(workspace: WorkspaceEndpoint) -> Iterator[Packager]:
    """A packager in a workspace that has version 3."""
    with opened(workspace, "tiny_power") as models:
        wanted = Listed(version=3, model="m" * 64, sha256=ORDER.sha256, size=len(ONNX))
        models.publish(wanted, ONNX)
    with workspace.connect() as arm, ModelBytes(place_of(arm, workspace, "workspaceblobstore"), workspace) as bytes_:
        yield Packager(arm, workspace, bytes_, lambda *_: None)


def posts(azure: Any) -> list[dict[str, Any]]:
    """Every packaging that was asked for."""
    found: list[dict[str, Any]] = azure.log("POST", "/package")
    return found


def test_a_package_is_asked_for_and_waited_for(azure: Any, packager: Packager) -> None:
    """Model and card beside our own server, with the routes that devices ask; what comes out is named by the order."""
    assert packager.ensure(ORDER).partition("/")[2] == NAME
    (post,) = posts(azure)
    assert (post["api_version"], post["exact"], post["request_valid"]) == ("2023-08-01-preview", True, True)
    assert post["path"].endswith("/models/tiny_power/versions/3/package")
    store = WORKSPACE_ID.replace("resourceGroups", "resourcegroups").replace(
        "providers/Microsoft.MachineLearningServices/", ""
    )
    card = f"edgeloop/tiny_power/{ORDER.sha256}/cards/{sha256_hex(ORDER.card)}/model.json"
    assert post["request_body"] == {
        "targetEnvironmentId": f"azureml:/{WORKSPACE_ID}/environments/edgeloop-tiny-power/versions/{ORDER.number}",
        "baseEnvironmentSource": {
            "baseEnvironmentSourceType": "EnvironmentAsset",
            "resourceId": f"azureml:/{environment_path(WORKSPACE_ID, BASE)}",
        },
        "inferencingServer": {
            "serverType": "Custom",
            "inferenceConfiguration": {
                "livenessRoute": {"path": "/v2/health/live", "port": 8080},
                "readinessRoute": {"path": "/v2/health/ready", "port": 8080},
                "scoringRoute": {"path": "/v2/models/tiny_power/infer", "port": 8080},
            },
        },
        "modelConfiguration": {"mode": "Copy", "mountPath": "model"},
        "inputs": [
            {
                "inputType": "UriFile",
                "mode": "Copy",
                "mountPath": "model",
                "path": {
                    "inputPathType": "Url",
                    "url": f"azureml:/{store}/datastores/workspaceblobstore/paths/{card}",
                },
            }
        ],
        "environmentVariables": {"EDGELOOP_MODEL": "/model"},
        "tags": {"edgeloop.sha256": ORDER.sha256, "edgeloop.version": "3"},
    }
    assert azure.resource(environment_path("", BASE)[1:])["properties"]["image"] == BASE


def test_the_same_order_again_is_found(azure: Any, packager: Packager) -> None:
    """A retry builds nothing; another base, card or number is another image."""
    assert packager.ensure(ORDER) == packager.ensure(ORDER)
    assert len(posts(azure)) == 1
    others = [{"base": f"{BASE}2"}, {"card": b"{}"}, {"version": 4}, {"sha256": "0" * 64}]
    whole = {"pipeline": "tiny_power", "version": 3, "sha256": ORDER.sha256, "base": BASE, "card": ORDER.card}
    assert len({ORDER.number, *(Order(**{**whole, **one}).number for one in others)}) == 5


def test_a_worker_that_dies_while_azure_builds_finds_what_came_of_it(azure: Any, packager: Packager) -> None:
    """The next try looks for the environment first and starts no second build."""
    azure.faults({"match": "__operations", "status": 403, "times": 1, "body": {}})
    with pytest.raises(ConfigurationError):
        packager.ensure(ORDER)
    assert packager.ensure(ORDER).partition("/")[2] == NAME
    assert len(posts(azure)) == 1


def test_two_at_once_end_with_one_image(azure: Any, packager: Packager, workspace: WorkspaceEndpoint) -> None:
    """The service refuses the second build of one environment; the first one's image is as good."""
    real = packager._arm.post

    def overtaken(path: str, version: str, body: Any = None, **options: Any) -> Any:
        if path.endswith("/package"):
            packager._arm.post = real  # type: ignore[method-assign]
            packager.ensure(ORDER)
            azure.faults({"match": "POST .*/package$", "status": 409, "times": 1, "body": {}})
        return real(path, version, body, **options)

    packager._arm.post = overtaken  # type: ignore[method-assign]
    assert packager.ensure(ORDER).partition("/")[2] == NAME


def test_a_build_that_failed_says_where_its_log_is(azure: Any, packager: Packager) -> None:
    """A finished operation may still say that the image was not built."""
    body = {"buildState": "Failed", "targetEnvironmentId": "x", "logUrl": "https://x/log?sig=secret"}
    azure.faults({"match": "__operations", "status": 200, "times": 1, "body": body})
    with pytest.raises(CloudError, match="could not package version 3") as told:
        packager.ensure(ORDER)
    assert "studio" in str(told.value)
    assert "secret" not in str(told.value)


def test_a_build_that_never_ends_is_left_to_azure(azure: Any, workspace: WorkspaceEndpoint, packager: Packager) -> None:
    """The time is the builder's own; the next try finds what became of it."""
    azure.config(lro_polls=10_000)
    with workspace.connect(operation_seconds=0.1) as arm:
        slow = Packager(arm, workspace, packager._bytes, lambda *_: None)
        with pytest.raises(UnreachableError, match="has not finished"):
            slow.ensure(ORDER)


def test_a_package_without_an_image_is_an_error(azure: Any, packager: Packager) -> None:
    """The environment is there and names none: nothing is recorded."""
    azure.faults({"match": "GET .*/environments/edgeloop-tiny-power/", "status": 404, "times": 9, "body": {}})
    with pytest.raises(CloudError, match="names no image"):
        packager.ensure(ORDER)


def test_a_version_that_the_workspace_lacks_is_not_packaged(azure: Any, packager: Packager) -> None:
    """Its mirror comes first, and the error says how."""
    lost = Order(pipeline="tiny_power", version=9, sha256=ORDER.sha256, base=BASE, card=ORDER.card)
    with pytest.raises(NotFoundError, match="no version 9") as told:
        packager.ensure(lost)
    assert "edgeloop reconcile tiny_power --mend" in str(told.value)
    assert posts(azure) == []


def test_microsofts_sdk_sends_the_same_kind_of_request(
    azure: Any, workspace: WorkspaceEndpoint, packager: Packager
) -> None:
    """azure-ai-ml asks the same address with the same version and the same names of fields."""
    from azure.ai.ml.entities import AzureMLOnlineInferencingServer, ModelPackage
    from azure.ai.ml.entities._assets._artifacts._package.model_configuration import ModelConfiguration

    azure.fallbacks = True
    packager.ensure(ORDER)
    wanted = ModelPackage(
        target_environment="pkg-env",
        inferencing_server=AzureMLOnlineInferencingServer(),
        model_configuration=ModelConfiguration(mode="copy", mount_path="model"),
        environment_variables={"A": "b"},
    )
    ml_client(workspace).models.package("tiny_power", "3", wanted)
    ours, theirs = posts(azure)
    assert (ours["path"], ours["api_version"]) == (theirs["path"], theirs["api_version"])
    assert set(theirs["request_body"]) <= set(ours["request_body"])
    assert theirs["request_body"]["modelConfiguration"].keys() == ours["request_body"]["modelConfiguration"].keys()


def manifest(digest: str = "sha256:" + "d" * 64) -> Manifest:
    """What a registry has."""
    return Manifest(digest=digest, config=Blob(digest=digest, size=1), layers=())


def test_a_package_goes_on_by_the_digest_that_the_registry_has() -> None:
    """Asked by repository and tag of what Azure ML says; the answer's digest is what counts."""
    asked: list[tuple[str, str]] = []

    def find(repository: str, tag: str) -> Manifest:
        asked.append((repository, tag))
        return manifest()

    found = by_digest("EdgemlACR.example.net/azureml/a:1", "edgemlacr.example.net", find)
    assert found == f"edgemlacr.example.net/azureml/a@{manifest().digest}"
    assert asked == [("azureml/a", "1")]


def test_a_package_in_another_registry_or_in_none_is_refused() -> None:
    """Devices pull from the pipeline's registry and from nowhere else."""
    with pytest.raises(ConfigurationError, match=r"pull from acr\.example"):
        by_digest(IMAGE, "acr.example", lambda *_: manifest())
    with pytest.raises(NotFoundError, match="does not have it"):
        by_digest(IMAGE, "edgemlacr.example.net", lambda *_: None)


def spec(**more: Any) -> Pipeline:
    """The small pipeline, packaged by Azure ML; not refused, whatever it says."""
    told = yaml.safe_load(TINY.read_text())
    workspace = {"subscription": WORKSPACE_ID.split("/")[2], "resource_group": "edge-rg", "workspace": "edge-ws"}
    told |= {"registry": {"backend": "azure_ml"}, "azure_ml": workspace, "residency": "cloud"}
    told["image"] |= {"base": BASE}
    return Pipeline.model_validate(told | more)


def test_what_cannot_work_is_refused_before_anything_is_asked() -> None:
    """No workspace, no model there, a base that nobody can pull, a build in the cloud that nobody permitted."""
    assert require_packageable(spec()).workspace == "edge-ws"
    image = {"image": {"repository": "a/b", "base": "edgeloop/scorer-base"}}
    for wrong, error, words in (
        ({"azure_ml": None, "registry": {}}, ConfigurationError, "no section azure_ml"),
        ({"registry": {}}, ConfigurationError, "registry.backend is not azure_ml"),
        (image, ConfigurationError, "pulls the base from a registry"),
        ({"residency": "on_premises"}, ResidencyError, "on_premises"),
    ):
        with pytest.raises(error, match=words):
            require_packageable(spec(**wrong))
    assert require_packageable(spec(residency="on_premises", residency_permits=[packages.PERMIT]))
