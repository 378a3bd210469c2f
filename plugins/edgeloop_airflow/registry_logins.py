"""From an ``edgeloop_registry`` connection to where a registry answers and who asks there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from edgeloop.containers.endpoint import RegistryEndpoint
from edgeloop.errors import ConfigurationError
from edgeloop_airflow.ssh_logins import TRUE, incomplete

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from edgeloop.azure_ml.identity import Identity


def endpoint_of(conn_id: str, connection: Connection) -> RegistryEndpoint:
    """The registry that a connection names, asking nobody; raises ``ConfigurationError`` naming the field."""
    extra = connection.extra_dejson
    host = (connection.host or "").strip().rstrip("/")
    if not host:
        raise incomplete(conn_id, "host, the login server of the registry")
    if "/" in host:
        raise _wrong(conn_id, f"host is {host!r}: write the name and port alone, as image references begin with it")
    found = RegistryEndpoint(
        connection=conn_id,
        host=f"{host}:{connection.port}" if connection.port and ":" not in host else host,
        user=connection.login or "",
        password=connection.password or "",
        insecure=str(extra.get("insecure") or "").lower() in TRUE,
        ca_file=str(extra.get("ca_file") or ""),
        identity=_identity(conn_id, str(extra.get("azure") or "")),
    )
    if contradiction := _contradiction(found):
        raise _wrong(conn_id, contradiction)
    return found


def _contradiction(found: RegistryEndpoint) -> str:
    if bool(found.user) != bool(found.password):
        given, missing = ("login", "password") if found.user else ("password", "login")
        return f"it has a {given} but no {missing}"
    if found.identity is not None and found.user:
        return "it has a login and extra.azure: an identity of Entra ID asks by itself, so keep one of the two"
    if found.insecure and (found.ca_file or found.identity is not None):
        other = "extra.ca_file" if found.ca_file else "extra.azure"
        return f"it has extra.insecure, which is plain HTTP, and {other}, which is for TLS: take one out"
    return ""


def _identity(conn_id: str, azure: str) -> Identity | None:
    if not azure:
        return None
    from edgeloop_airflow.azure_ml import identity_of

    try:
        return identity_of(azure, BaseHook.get_connection(azure))
    except AirflowNotFoundException as error:
        raise _wrong(conn_id, f"extra.azure names {azure!r}, and there is no such connection") from error


def _wrong(conn_id: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"Connection {conn_id!r} cannot be used: {what}.",
        left="nothing was asked of the registry",
        next=f"Edit it under Admin > Connections, or `airflow connections delete {conn_id}` and add it again "
        "(docs/connections.md).",
    )
