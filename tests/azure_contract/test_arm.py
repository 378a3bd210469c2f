from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint


def test_a_workspace_is_described(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """A GET with a pinned api-version, a token of the service principal, and our name as user agent."""
    with workspace.connect() as arm:
        assert workspace.describe(arm)["location"] == "westeurope"
    entry = azure.log("GET", "/workspaces/")[0]
    assert (entry["auth"], entry["exact"]) == ("Bearer", True)
    assert entry["user_agent"].startswith("edgeloop/")
