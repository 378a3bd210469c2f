"""From ``edgeloop_ssh`` connections to a login, jump hosts included; reads nothing by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowNotFoundException

from edgeloop.errors import ConfigurationError
from edgeloop.ssh.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Generator

    from airflow.sdk import Connection

CONN_TYPE = "edgeloop_ssh"
TRUE = {"true", "yes", "on", "1"}


def steps(conn_id: str) -> Generator[str, Connection, Endpoint]:
    """Yields the id of each connection that is needed, is sent it, and returns the login.

    Raises ``ConfigurationError`` that names connection and field.
    """
    chain: dict[str, Connection] = {}
    wanted, by = conn_id, ""
    while wanted:
        if wanted in chain:
            raise _jump(by, f"leads back to {wanted!r}: {' > '.join((*chain, wanted))}")
        try:
            connection = yield wanted
        except AirflowNotFoundException as error:
            if not by:
                raise
            raise _jump(by, f"names {wanted!r}, which is no connection") from error
        if by and connection.conn_type != CONN_TYPE:
            raise _jump(by, f"names {wanted!r}, which is of type {connection.conn_type!r} and may not be pinned")
        chain[wanted] = connection
        wanted, by = str(connection.extra_dejson.get("jump") or "").strip(), wanted
    login: Endpoint | None = None
    for one, connection in reversed(chain.items()):
        login = _endpoint(one, connection, login)
    assert login is not None
    return login


def incomplete(conn_id: str, missing: str) -> ConfigurationError:
    """The error for a connection without something that it needs."""
    return ConfigurationError(
        f"Connection {conn_id!r} lacks {missing}.",
        left="nothing was started",
        next=f"Edit it under Admin > Connections or `airflow connections delete {conn_id}` and add it again.",
    )


def _jump(conn_id: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"The jump host (extra.jump) of connection {conn_id!r} {what}.",
        left="nothing was connected",
        next=f"Put the id of an {CONN_TYPE} connection there, or leave it empty for a machine reached directly.",
    )


def _endpoint(conn_id: str, connection: Connection, jump: Endpoint | None) -> Endpoint:
    extra = connection.extra_dejson
    missing = [name for name, value in (("host", connection.host), ("login", connection.login)) if not value]
    if missing:
        raise incomplete(conn_id, " and ".join(missing))
    password, keyed = connection.password or "", bool(_text(extra, "key_file") or _text(extra, "private_key"))
    return Endpoint(
        connection=conn_id,
        host=connection.host or "",
        port=connection.port or 22,
        user=connection.login or "",
        host_key=_text(extra, "host_key"),
        key_file=_text(extra, "key_file"),
        private_key=_text(extra, "private_key"),
        passphrase=_text(extra, "private_key_passphrase") or (password if keyed else ""),
        password="" if keyed else password,
        allow_password=str(extra.get("allow_password") or "").strip().lower() in TRUE,
        jump=jump,
    )


def _text(extra: dict[str, Any], name: str) -> str:
    return str(extra.get(name) or "").strip()
