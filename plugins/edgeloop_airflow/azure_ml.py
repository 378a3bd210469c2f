"""Azure Machine Learning around the training: from an Airflow connection and a pipeline's section to the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from edgeloop.azure_ml.identity import Identity
from edgeloop.azure_ml.workspace import WorkspaceEndpoint
from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from edgeloop.pipeline_training import Workspace


def azure_identity(conn_id: str) -> Identity:
    """Who asks Azure, by a connection of type ``azure``; raises ``ConfigurationError`` naming the field."""
    try:
        return identity_of(conn_id, BaseHook.get_connection(conn_id))
    except AirflowNotFoundException as error:
        raise _undefined(conn_id) from error


async def azure_identity_async(conn_id: str) -> Identity:
    """As :func:`azure_identity`, for triggers: the synchronous look-up can deadlock their event loop."""
    try:
        return identity_of(conn_id, await BaseHook.aget_connection(conn_id))
    except AirflowNotFoundException as error:
        raise _undefined(conn_id) from error


def _undefined(conn_id: str) -> ConfigurationError:
    return ConfigurationError(
        f"There is no connection {conn_id!r}.",
        left="nothing was asked of Azure",
        next=f"Add it: `airflow connections add {conn_id} --conn-type azure --conn-login <client id> --conn-password "
        '<secret> --conn-extra \'{"tenantId": "<tenant>"}\'`, or name another in azure_ml.connection.',
    )


def identity_of(conn_id: str, connection: Connection) -> Identity:
    """Who asks Azure, by a connection's fields."""
    return Identity.of(conn_id, connection.login or "", connection.password or "", connection.extra_dejson)


def azure_ml_workspace(spec: Workspace) -> WorkspaceEndpoint:
    """The workspace that a pipeline's ``azure_ml`` section names."""
    return endpoint_of(spec, azure_identity(spec.connection))


def endpoint_of(spec: Workspace, identity: Identity) -> WorkspaceEndpoint:
    """The workspace of a section, asked by ``identity``."""
    return WorkspaceEndpoint(
        identity=identity,
        subscription=spec.subscription,
        resource_group=spec.resource_group,
        workspace=spec.workspace,
    )


def plain_section(
    conn_id: str, subscription: str, resource_group: str, workspace: str, **fields: str | bool
) -> Workspace:
    """An ``azure_ml`` section of plain arguments, checked as one of a pipeline.yaml is.

    Raises:
        ConfigurationError: Naming each argument that cannot be meant.
    """
    from pydantic import ValidationError

    from edgeloop.pipeline_training import Workspace

    named = subscription or _subscription(conn_id)
    told = {"subscription": named, "resource_group": resource_group, "workspace": workspace, **fields}
    try:
        return Workspace.model_validate({"connection": conn_id, **told})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigurationError(
            f"These arguments name no workspace: {wrong}.",
            left="nothing was asked of Azure",
            next=f"Correct them in the DAG; subscription may also stand in extra.subscriptionId of {conn_id!r}.",
        ) from error


def _subscription(conn_id: str) -> str:
    try:
        return str(BaseHook.get_connection(conn_id).extra_dejson.get("subscriptionId") or "")
    except AirflowNotFoundException as error:
        raise _undefined(conn_id) from error


def plain_workspace(conn_id: str, subscription: str, resource_group: str, workspace: str) -> WorkspaceEndpoint:
    """The workspace that plain arguments name."""
    return azure_ml_workspace(plain_section(conn_id, subscription, resource_group, workspace))
