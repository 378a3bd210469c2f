"""An Azure Machine Learning workspace: where it is, who asks, and how it is spoken with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeloop.azure_ml.arm import OPERATION_SECONDS, WHOLE_SECONDS, ArmClient, ArmEndpoint
from edgeloop.errors import NotFoundError

if TYPE_CHECKING:
    from edgeloop.azure_ml.identity import Identity

WORKSPACE_VERSION = "2024-10-01"
COMPUTE_VERSION = "2024-10-01"
DATA_VERSION = "2024-10-01"
MODEL_VERSION = "2024-10-01"
DATASTORE_VERSION = "2024-10-01"
"""The newest stable api-version whose OpenAPI file the contract tests hold every request to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceEndpoint:
    """A workspace and the identity that asks there; holds a secret that its repr does not show."""

    identity: Identity
    subscription: str
    resource_group: str
    workspace: str

    @property
    def id(self) -> str:
        """The workspace's ARM id, with which the paths of all it holds begin."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace}"
        )

    @property
    def arm(self) -> ArmEndpoint:
        """ARM of the identity's cloud."""
        return ArmEndpoint(identity=self.identity)

    def connect(
        self, *, whole_seconds: float = WHOLE_SECONDS, operation_seconds: float = OPERATION_SECONDS
    ) -> ArmClient:
        """A client for pinned REST requests; use as a context manager."""
        return ArmClient(replace(self.arm, whole_seconds=whole_seconds, operation_seconds=operation_seconds))

    def describe(self, arm: ArmClient) -> dict[str, Any]:
        """The workspace's own resource; raises ``NotFoundError`` that says which field to correct."""
        try:
            return arm.get(self.id, WORKSPACE_VERSION)
        except NotFoundError as error:
            raise NotFoundError(
                f"There is no workspace {self.workspace!r} in resource group {self.resource_group!r} of subscription "
                f"{self.subscription}, or the identity of connection {self.identity.connection!r} may not see it.",
                left="nothing was changed in Azure",
                next="Compare azure_ml.subscription, resource_group and workspace of pipeline.yaml with "
                f"`az ml workspace show -g {self.resource_group} -n {self.workspace}`, then clear the task.",
            ) from error
