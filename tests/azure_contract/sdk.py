"""Microsoft's own SDK for Azure ML, which reads what we wrote and writes what we must read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from edgeloop.azure_ml.workspace import WorkspaceEndpoint


def ml_client(workspace: WorkspaceEndpoint) -> MLClient:
    """A client of the same workspace and identity, in the public cloud."""
    from azure.ai.ml import MLClient

    return MLClient(
        workspace.identity.credential(), workspace.subscription, workspace.resource_group, workspace.workspace,
        cloud="AzureCloud",
    )  # fmt: skip
