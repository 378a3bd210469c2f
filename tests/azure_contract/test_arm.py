"""Requests to ARM, and what each kind of trouble becomes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.azure_ml.identity import Identity
from edgeloop.errors import (
    CloudError,
    ConfigurationError,
    ConflictError,
    EdgeloopError,
    NotFoundError,
    UnreachableError,
)

if TYPE_CHECKING:
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

HERE = "GET .*/workspaces/edge-ws$"


def describe(workspace: WorkspaceEndpoint) -> dict[str, Any]:
    """Ask for the workspace once."""
    with workspace.connect(whole_seconds=30) as arm:
        return workspace.describe(arm)


def test_a_workspace_is_described(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """A GET with a pinned api-version, a token of the service principal, and our name as user agent."""
    assert describe(workspace)["location"] == "westeurope"
    entry = azure.log("GET", "/workspaces/")[0]
    assert (entry["auth"], entry["exact"]) == ("Bearer", True)
    assert entry["user_agent"].startswith("edgeloop/")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_service_is_asked_again_when_it_says(azure: Any, workspace: WorkspaceEndpoint, status: int) -> None:
    """Three refusals with Retry-After are waited out, as long as asked for."""
    azure.faults({"match": HERE, "status": status, "times": 3, "headers": {"Retry-After": "7"}})
    assert describe(workspace)["name"] == "edge-ws"
    assert azure.slept.count(7) == 3


def test_a_service_that_stays_busy_is_told_as_that(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """After its retries the request fails, and the error names connection, status and what to do."""
    azure.faults({"match": HERE, "status": 503, "times": 99})
    with pytest.raises(UnreachableError, match=r"503 \(Injected: fault\) again and again .*'azure_default'") as failed:
        describe(workspace)
    assert "next try asks again" in failed.value.next
    assert len(azure.log("GET", "/workspaces/")) == 5


def test_a_service_that_asks_for_more_time_than_a_request_has_is_not_waited_for(
    azure: Any, workspace: WorkspaceEndpoint
) -> None:
    """An hour's Retry-After would hold a worker for an hour."""
    azure.faults({"match": HERE, "status": 429, "times": 99, "headers": {"Retry-After": "3600"}})
    with pytest.raises(UnreachableError, match="asks to wait 3600 s"):
        describe(workspace)
    assert 3600 not in azure.slept


def test_a_wrong_secret_names_the_connections_fields(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """Entra ID's refusal is told with the field to correct, and never the secret."""
    wrong = replace(workspace, identity=replace(workspace.identity, secret="wrong"))
    with pytest.raises(ConfigurationError, match="AADSTS7000215") as failed:
        describe(wrong)
    assert "password (client secret)" in failed.value.next
    assert "secret='" not in repr(wrong)


def test_a_token_service_that_is_down_is_no_wrong_secret(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """azure-identity calls both an authentication error; only one of them is worth another try."""
    azure.faults({"match": "login.microsoftonline.com", "status": 503, "times": 99})
    with pytest.raises(UnreachableError, match="did not answer connection 'azure_default'"):
        describe(workspace)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, ConfigurationError, "extra.tenantId of 'azure_default'"),
        (403, ConfigurationError, "az role assignment create --assignee 33333333"),
        (404, NotFoundError, "az ml workspace show -g edge-rg -n edge-ws"),
        (409, ConflictError, "Look at it in the studio"),
        (302, CloudError, "proxy that answers for Azure"),
        (400, CloudError, "azure_ml section of pipeline.yaml"),
    ],
)
def test_a_refusal_says_what_to_correct(
    azure: Any, workspace: WorkspaceEndpoint, status: int, kind: type[EdgeloopError], words: str
) -> None:
    """Each status is an error of its own, with the field, role or command to type next."""
    headers = {"Location": "https://elsewhere.example/"} if status == 302 else {}
    azure.faults({"match": HERE, "status": status, "times": 9, "headers": headers})
    with pytest.raises(kind) as failed:
        describe(workspace)
    assert words in failed.value.next
    assert failed.value.left


def test_nobody_at_the_other_end_is_unreachable(
    azure: Any, workspace: WorkspaceEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead network names the connection and what to check."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match=r"'azure_default' at management\.azure\.com"):
        describe(workspace)


def test_a_certificate_of_nobody_we_trust_names_the_variable(
    azure: Any, workspace: WorkspaceEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Stack Hub's or a proxy's own CA must be given to the workers."""
    import certifi

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    with pytest.raises(ConfigurationError, match="no CA that is trusted here") as failed:
        describe(workspace)
    assert "REQUESTS_CA_BUNDLE" in failed.value.next


def test_an_operation_at_another_host_gets_no_token(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """Where to look for an operation comes from an answer."""
    headers = {"Azure-AsyncOperation": "https://evil.example/operations/1"}
    azure.faults({"match": "PUT .*/computes/", "status": 201, "times": 1, "headers": headers, "body": {}})
    with workspace.connect() as arm, pytest.raises(CloudError, match=r"evil\.example, which is not management"):
        arm.put(f"{workspace.id}/computes/edge-vm", "2024-10-01", {})
    assert {one["host"] for one in azure.log()} <= {"management.azure.com", "login.microsoftonline.com"}


def test_a_page_in_the_place_of_an_answer_is_told_as_that(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """A proxy's login page comes with 200 too."""
    azure.faults({"match": HERE, "status": 200, "times": 1, "body": ["no object"]})
    with pytest.raises(CloudError, match="no JSON object"):
        describe(workspace)


def test_a_page_in_the_place_of_an_operation_is_told_as_that(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """The operation goes on; the error says so, and not that a list has no `get`."""
    where = {"Azure-AsyncOperation": "https://management.azure.com/subscriptions/x/__operations/1"}
    azure.faults(
        {"match": "PUT .*/computes/", "status": 201, "times": 1, "headers": where, "body": {}},
        {"match": "GET .*/__operations/", "status": 200, "times": 1, "body": ["no object"]},
    )
    with workspace.connect() as arm, pytest.raises(CloudError, match="no JSON object"):
        arm.put(f"{workspace.id}/computes/edge-vm", "2024-10-01", {})


@pytest.mark.parametrize(
    ("login", "password", "extra", "words"),
    [
        ("id", "", {"tenantId": "t"}, "needs password"),
        ("id", "s", {}, "needs extra.tenantId"),
        ("", "s", {}, r"needs login \(client id\) and extra.tenantId"),
        ("", "", {"cloud_environment": "Mars"}, "it may be AzurePublicCloud, AzureUSGovernment, AzureChinaCloud"),
        ("", "", {"key_path": "key.json"}, "not read"),
    ],
)
def test_a_connection_that_cannot_be_meant_is_refused(
    login: str, password: str, extra: dict[str, str], words: str
) -> None:
    """What is missing or unknown is named, before anything is asked of Azure."""
    with pytest.raises(ConfigurationError, match=words):
        Identity.of("azure_default", login, password, extra)


@pytest.mark.parametrize("extra", [{}, {"managed_identity_client_id": "m", "workload_identity_tenant_id": "w"}])
def test_an_empty_connection_is_the_machines_own_identity(extra: dict[str, str]) -> None:
    """Without login and password it is a managed or workload identity; nothing is asked yet."""
    identity = Identity.of("azure_default", "", "", extra)
    assert type(identity.credential()).__name__ == "DefaultAzureCredential"


def test_an_airflow_connection_becomes_the_workspace_of_a_pipelines_section(azure: Any) -> None:
    """The Azure provider's own fields: login, password, extra.tenantId."""
    from edgeloop.pipeline_training import Workspace
    from edgeloop_airflow.azure_ml import azure_ml_workspace

    section = Workspace(
        subscription="11111111-1111-1111-1111-111111111111", resource_group="edge-rg", workspace="edge-ws"
    )
    found = azure_ml_workspace(section)
    assert found.id == azure.workspace_id
    assert json.dumps(describe(found)["id"]) == json.dumps(azure.workspace_id)


def test_a_connection_that_is_not_there_says_how_to_add_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a mistake in a configuration, which no retry mends."""
    from edgeloop_airflow.azure_ml import azure_identity, plain_workspace

    monkeypatch.delenv("AIRFLOW_CONN_AZURE_DEFAULT", raising=False)
    for ask in (lambda: azure_identity("nobody"), lambda: plain_workspace("nobody", "", "g", "edge-ws")):
        with pytest.raises(ConfigurationError, match="There is no connection 'nobody'") as failed:
            ask()
        assert "airflow connections add nobody --conn-type azure" in failed.value.next
