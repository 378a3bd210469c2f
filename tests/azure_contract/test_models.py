"""The workspace as registry of models: our numbers, bytes and aliases; whatever dies is finished by the next try."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.azure_contract.conftest import WORKSPACE_ID
from tests.azure_contract.sdk import ml_client

from edgeloop.azure_ml import model_version
from edgeloop.azure_ml.model_bytes import place_of
from edgeloop.azure_ml.models import AzureModels, opened
from edgeloop.errors import (
    CloudError,
    ConfigurationError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    UnreachableError,
)
from edgeloop.records import sha256_hex
from edgeloop.registry.backend import CHALLENGER, CHAMPION, QUARANTINED, Listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

ONNX = b"the bytes of a model"
STORAGE = "edgemlstore.blob.core.windows.net"


def listed(version: int = 1, content: bytes = ONNX, **more: Any) -> Listed:
    """A version as the store has it."""
    sha256 = sha256_hex(content)
    values = {"properties": {"dataset": "d" * 64, "accuracy": "0.93"}, "tags": {"image": "sha256:1"}, **more}
    return Listed(version=version, model=sha256_hex(b"id" + content), sha256=sha256, size=len(content), **values)


@pytest.fixture
def models(workspace: WorkspaceEndpoint) -> Iterator[AzureModels]:
    """The registry of the pipeline tiny_power in the workspace."""
    with opened(workspace, "tiny_power") as found:
        yield found


def puts(azure: Any) -> list[dict[str, Any]]:
    """Every version that was PUT."""
    found: list[dict[str, Any]] = azure.log("PUT", "/models/")
    return found


def test_a_version_is_published_under_our_number_with_its_bytes(azure: Any, models: AzureModels) -> None:
    """Bytes in the datastore under their sha256, then the version; no request asks for a newest one."""
    wanted = listed(7, aliases=frozenset({CHALLENGER}))
    assert models.publish(wanted, ONNX) == wanted == models.find(7)
    put, last = puts(azure)
    assert (put["api_version"], put["exact"]) == ("2024-10-01", True)
    assert put["path"].endswith("/models/tiny_power/versions/7")
    blob = f"edgeloop/tiny_power/{wanted.sha256}/model.onnx"
    uri = WORKSPACE_ID.replace("resourceGroups", "resourcegroups").replace(
        "providers/Microsoft.MachineLearningServices/", ""
    )
    assert put["request_body"]["properties"] == {
        "modelUri": f"azureml:/{uri}/datastores/workspaceblobstore/paths/{blob}",
        "modelType": "custom_model",
        "description": "",
        "flavors": {},
        "isAnonymous": False,
        "isArchived": False,
        "properties": {
            "edgeloop.model": wanted.model,
            "edgeloop.sha256": wanted.sha256,
            "edgeloop.size": str(len(ONNX)),
            "edgeloop.dataset": "d" * 64,
            "edgeloop.accuracy": "0.93",
        },
        "tags": {"edgeloop.image": "sha256:1"},
    }
    assert last["request_body"]["properties"]["tags"] == {"edgeloop.image": "sha256:1", "edgeloop.alias": "challenger"}
    upload = next(one for one in azure.log("PUT") if one["host"] == STORAGE)
    assert upload["path"] == f"/azureml-blobstore/{blob}"
    assert upload["seq"] < put["seq"]
    assert azure.log("GET", "/versions")[0]["path"].endswith("/versions/7")


def test_the_same_again_sends_nothing(azure: Any, models: AzureModels) -> None:
    """Bytes are read back and compared; neither they nor the version are written again."""
    models.publish(listed(), ONNX)
    before = len(azure.log("PUT"))
    assert models.publish(listed(), ONNX) == listed()
    assert len(azure.log("PUT")) == before


def test_a_number_is_never_given_to_other_bytes(azure: Any, models: AzureModels) -> None:
    """The second model under a number is refused before its bytes are sent; the first stays as it is."""
    models.publish(listed(), ONNX)
    before = len(azure.log("PUT"))
    with pytest.raises(ConflictError, match="never changed in place"):
        models.publish(listed(1, b"other"), b"other")
    assert len(azure.log("PUT")) == before
    assert models.find(1) == listed()


def test_two_models_at_once_under_one_number_end_with_one(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """The slower of two finds the number free, uploads, and is refused by the service: its bytes are elsewhere."""
    with opened(workspace, "tiny_power") as mine, opened(workspace, "tiny_power") as theirs:
        real = mine._bytes.keep

        def overtaken(*args: Any) -> bool:
            theirs.publish(listed(1, b"other"), b"other")
            return real(*args)

        mine._bytes.keep = overtaken  # type: ignore[method-assign]
        with pytest.raises(ConflictError, match="never changed in place"):
            mine.publish(listed(), ONNX)
        assert mine.find(1) == listed(1, b"other")


def test_the_same_model_at_once_is_one_version(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """Two tries of one registration write the same."""
    with opened(workspace, "tiny_power") as mine, opened(workspace, "tiny_power") as theirs:
        real = mine._bytes.keep

        def overtaken(*args: Any) -> bool:
            theirs.publish(listed(), ONNX)
            return real(*args)

        mine._bytes.keep = overtaken  # type: ignore[method-assign]
        assert mine.publish(listed(), ONNX) == listed()


class Died(BaseException):
    """The worker was killed."""


def test_a_registration_that_dies_before_any_of_its_requests_is_finished_by_the_next_try(
    azure: Any, models: AzureModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each of its requests to Azure and to storage: in the end the version is there as a whole."""
    import requests

    real, died = requests.adapters.HTTPAdapter.send, 0
    models.publish(listed(100, b"warm"), b"warm")
    for step in range(12):
        count, content = iter(range(99)), b"model %d" % step
        wanted = listed(step, content, aliases=frozenset({CHAMPION}))

        def send(adapter: Any, request: Any, *, step: int = step, count: Any = count, **options: Any) -> Any:
            if next(count) == step:
                raise Died
            return real(adapter, request, **options)

        with monkeypatch.context() as killed:
            killed.setattr(requests.adapters.HTTPAdapter, "send", send)
            try:
                models.publish(wanted, content)
            except Died:
                died += 1
        assert models.publish(wanted, content) == wanted == models.find(step)
    assert died == 12
    assert [one.version for one in models.versions() if CHAMPION in one.aliases] == [11]


def test_a_version_without_tags_and_aliases_is_finished(azure: Any, models: AzureModels) -> None:
    """Whoever published it last time had not come to them."""
    models.publish(listed(tags={}), ONNX)
    wanted = listed(aliases=frozenset({CHAMPION}))
    assert models.publish(wanted, ONNX) == wanted


def test_bytes_that_are_gone_or_changed_are_seen_and_put_back(azure: Any, models: AzureModels) -> None:
    """The list sees it by size and digest in the metadata, find by reading; publishing again repairs it."""
    models.publish(listed(), ONNX)
    blob = f"edgemlstore/azureml-blobstore/edgeloop/tiny_power/{listed().sha256}/model.onnx"
    changed = ONNX.replace(b"a", b"b")
    azure.seed(blobs={blob: changed.decode()})
    assert models.versions() == (replace(listed(), sha256=""),)
    assert models.find(1) == replace(listed(), sha256=sha256_hex(changed))
    assert models.publish(listed(), ONNX) == listed() == models.find(1)


def test_bytes_that_only_claim_to_be_the_models_are_replaced(azure: Any, models: AzureModels) -> None:
    """The digest in the metadata is right and the bytes are not: publishing reads them and does not believe it."""
    models.publish(listed(), ONNX)
    name, damaged = f"edgeloop/tiny_power/{listed().sha256}/model.onnx", ONNX.replace(b"a", b"b")
    models._bytes._client.upload_blob(name, damaged, overwrite=True, metadata={"sha256": listed().sha256})
    assert models.versions() == (listed(),)
    assert models.find(1) == replace(listed(), sha256=sha256_hex(damaged))
    assert models.publish(listed(), ONNX) == listed() == models.find(1)


def test_content_that_is_not_the_records_is_never_sent(azure: Any, models: AzureModels) -> None:
    """A damaged blob of the store does not become a version."""
    with pytest.raises(IntegrityError, match="not those of its record"):
        models.publish(listed(), b"damaged")
    assert azure.log("PUT") == []


def test_aliases_are_exactly_those_that_are_asked_for(azure: Any, models: AzureModels) -> None:
    """One champion, any number of quarantined ones, which are archived too and still listed; the rest lose theirs."""
    for number in (1, 2, 10):
        models.publish(listed(number, b"%d" % number), b"%d" % number)
    models.alias({CHAMPION: 1, CHALLENGER: 2})
    models.alias({CHAMPION: 2, QUARANTINED: (1, 10)})
    shown = {one.version: one.aliases for one in models.versions()}
    assert shown == {1: {QUARANTINED}, 2: {CHAMPION}, 10: {QUARANTINED}}
    archived = {one["path"].rsplit("/", 1)[-1]: one["request_body"]["properties"]["isArchived"] for one in puts(azure)}
    assert archived == {"1": True, "2": False, "10": True}
    before = len(puts(azure))
    models.alias({CHAMPION: 2, QUARANTINED: (1, 10)})
    assert len(puts(azure)) == before
    models.alias({})
    assert {one.aliases for one in models.versions()} == {frozenset()}
    with pytest.raises(NotFoundError, match="no version 3"):
        models.alias({CHAMPION: 3})


def test_the_old_champion_steps_down_before_the_new_one_steps_up(azure: Any, models: AzureModels) -> None:
    """Whoever looks in between finds no champion, never two."""
    for number in (1, 2):
        models.publish(listed(number, b"%d" % number), b"%d" % number)
    models.alias({CHAMPION: 2})
    models.alias({CHAMPION: 1})
    last = [
        (one["path"][-1], "edgeloop.alias" in one["request_body"]["properties"]["tags"]) for one in puts(azure)[-2:]
    ]
    assert last == [("2", False), ("1", True)]


def test_tags_are_added_and_what_people_wrote_in_the_studio_stays(azure: Any, models: AzureModels) -> None:
    """The image's digest comes back to the version; foreign tags, properties and the description are kept."""
    models.publish(listed(), ONNX)
    path = f"{WORKSPACE_ID}/models/tiny_power/versions/1"
    resource = azure.resource(path)
    resource["properties"]["tags"]["reviewed"] = "by Ann"
    resource["properties"]["properties"]["azureml.x"] = "1"
    resource["properties"]["description"] = "for the winter"
    azure.seed(arm={path: resource})
    shown = models.tag(1, {"image": "sha256:2", "registry": "acr.example/wind"})
    assert shown.tags == {"image": "sha256:2", "registry": "acr.example/wind"}
    now = azure.resource(path)["properties"]
    assert (now["tags"]["reviewed"], now["properties"]["azureml.x"], now["description"]) == (
        "by Ann",
        "1",
        "for the winter",
    )
    before = len(puts(azure))
    models.tag(1, {"image": "sha256:2"})
    assert len(puts(azure)) == before
    with pytest.raises(NotFoundError, match="no version 9"):
        models.tag(9, {})


def test_a_version_that_somebody_registered_by_hand_is_listed_and_left_alone(azure: Any, models: AzureModels) -> None:
    """It is no model of ours: shown without one, never written, no alias on it; a version with a name is skipped."""
    path = f"{WORKSPACE_ID}/models/tiny_power/versions"
    hand = {"modelUri": "azureml://jobs/x/outputs/artifacts/paths/m", "tags": {}, "properties": {}, "isArchived": False}
    for name in ("1", "by-hand"):
        azure.seed(arm={f"{path}/{name}": {"id": f"{path}/{name}", "name": name, "properties": dict(hand)}})
    assert models.versions() == (Listed(version=1, model="", sha256="", size=0),)
    models.alias({CHAMPION: 1})
    with pytest.raises(ConflictError, match="Edgeloop did not publish"):
        models.publish(listed(), ONNX)
    assert puts(azure) == []


def test_every_page_of_a_long_list_is_read(azure: Any, models: AzureModels) -> None:
    """The service gives a page and the address of the next one; the token goes to no other host than Azure's."""
    for number in (1, 2):
        models.publish(listed(number, b"%d" % number), b"%d" % number)
    pages = [azure.resource(f"models/tiny_power/versions/{number}") for number in (1, 2)]
    more = f"https://management.azure.com{WORKSPACE_ID}/models/tiny_power/versions?api-version=2024-10-01&$skip=1"
    fault = {"match": "GET .*/versions$", "status": 200, "times": 1}
    azure.faults({**fault, "body": {"value": pages[:1], "nextLink": more}}, {**fault, "body": {"value": pages[1:]}})
    assert [one.version for one in models.versions()] == [1, 2]
    assert "$skip" in azure.log("GET", "/versions")[-1]["query"]
    azure.faults({**fault, "body": {"value": [], "nextLink": "https://evil.example/next"}})
    with pytest.raises(CloudError, match=r"evil\.example"):
        models.versions()


def test_no_model_is_no_version(azure: Any, models: AzureModels) -> None:
    """A workspace that never heard of the pipeline has an empty list."""
    azure.faults({"match": "GET .*/versions$", "status": 404, "times": 1, "body": {"error": {"code": "UserError"}}})
    assert (models.versions(), models.find(1)) == ((), None)


def test_long_texts_are_cut_as_the_service_would_refuse_them(models: AzureModels) -> None:
    """And publishing them again is nothing new."""
    shown = models.publish(listed(tags={"why": "x" * 300}), ONNX)
    assert shown.tags["why"] == "x" * 253 + "..."
    assert model_version.shortened(listed(tags={"why": "x" * 300})) == shown


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"datastoreType": "AzureFile"}, ConfigurationError, "no blob container"),
        ({"endpoint": "evil.example"}, ConfigurationError, "no blob container"),
        ({"accountName": "evil.example/"}, ConfigurationError, "no blob container"),
    ],
)
def test_a_datastore_that_leads_elsewhere_gets_no_bytes(
    azure: Any, workspace: WorkspaceEndpoint, told: dict[str, str], error: type[Exception], words: str
) -> None:
    """Its address comes from an answer, and the model and a key go where it leads."""
    good = {"datastoreType": "AzureBlob", "accountName": "edgemlstore", "containerName": "azureml-blobstore"}
    body = {"properties": {**good, "endpoint": "core.windows.net", "credentials": {}, **told}}
    azure.faults({"match": "GET .*/datastores/", "status": 200, "times": 1, "body": body})
    with workspace.connect() as arm, pytest.raises(error, match=words):
        place_of(arm, workspace, "workspaceblobstore")
    assert azure.log("POST", "listSecrets") == []


def test_a_datastore_that_is_not_there_is_named(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """The error says which field to correct."""
    with pytest.raises(NotFoundError, match="no datastore 'nowhere'"), opened(workspace, "tiny_power", "nowhere"):
        pass


def test_a_datastore_without_a_key_is_opened_by_the_identity(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """A workspace whose datastores have no secrets takes the identity's own token."""
    path = f"{WORKSPACE_ID}/datastores/workspaceblobstore"
    with workspace.connect() as arm:
        arm.find(path, "2024-10-01")
    resource = azure.resource(path)
    resource["properties"]["credentials"] = {"credentialsType": "None"}
    azure.seed(arm={path: resource})
    with opened(workspace, "tiny_power") as models:
        assert models.publish(listed(), ONNX) == listed()
    assert azure.log("POST", "listSecrets") == []
    assert {one["auth"] for one in azure.log() if one["host"] == STORAGE} == {"Bearer"}


def test_storage_that_refuses_is_told_without_its_key(azure: Any, models: AzureModels) -> None:
    """A firewall's 403 names the account, the datastore and the role; no version was made."""
    azure.faults({"match": f"PUT {STORAGE}", "status": 403, "times": 9, "body": {}})
    with pytest.raises(
        CloudError, match="'workspaceblobstore' refused edgemlstore/azureml-blobstore/edgeloop/tiny_power"
    ):
        models.publish(listed(), ONNX)
    assert puts(azure) == []


def test_a_busy_workspace_is_asked_again_and_a_dead_one_is_an_error(azure: Any, models: AzureModels) -> None:
    """A version that Azure answers 503 for comes through; one that it never takes raises, and the bytes are found."""
    azure.faults({"match": "PUT .*/versions/1$", "status": 503, "times": 2})
    assert models.publish(listed(), ONNX) == listed()
    azure.faults({"match": "PUT .*/versions/2$", "status": 503, "times": 99})
    with pytest.raises(UnreachableError, match="again and again"):
        models.publish(listed(2, b"2"), b"2")
    azure.faults()
    uploads = len([one for one in azure.log("PUT") if one["host"] == STORAGE])
    assert models.publish(listed(2, b"2"), b"2") == listed(2, b"2")
    assert len([one for one in azure.log("PUT") if one["host"] == STORAGE]) == uploads


def test_microsofts_sdk_reads_the_version(azure: Any, models: AzureModels, workspace: WorkspaceEndpoint) -> None:
    """azure-ai-ml finds number, path, properties and tags as we wrote them."""
    azure.fallbacks = True
    models.publish(listed(4, aliases=frozenset({CHAMPION})), ONNX)
    found = ml_client(workspace).models.get("tiny_power", version="4")
    assert (found.version, found.type, found.tags["edgeloop.alias"]) == ("4", "custom_model", "champion")
    assert (found.path.rsplit("/", 2)[-2], found.properties["edgeloop.model"]) == (listed().sha256, listed().model)
