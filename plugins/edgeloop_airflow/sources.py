"""From a source section and its Airflow connection to where the files are.

- ``folder``: an ``fs`` connection, extra.path is the folder;
- ``smb``: a ``samba`` connection with host, port, login and password, its schema is the share; extra.encrypt false
  takes a server that cannot encrypt;
- ``blob``: a ``wasb`` connection as for storage; the section's folder is the container, and a prefix after ``/``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from edgeloop.errors import ConfigurationError
from edgeloop.share.scan import Folder
from edgeloop_airflow import hooks

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from edgeloop.pipeline import Pipeline, Source
    from edgeloop.share.source import FileSource

TYPES = {"folder": "fs", "smb": "samba", "blob": "wasb"}
SMB_PORT = 445
AZURE = "azure"


def preset_of(spec: Pipeline, connection: str) -> str:
    """Which kind of service the pipeline says answers behind ``connection``; Azure where it says nothing of it."""
    source = [spec.source] if spec.source.kind == "blob" else []
    return next((one.preset for one in (*source, spec.storage) if one.connection == connection), AZURE)


def source_of(section: Source) -> FileSource:
    """The source; raises ``ConfigurationError`` naming the connection's field that is missing or wrong."""
    return _made(section, BaseHook.get_connection(section.connection))


async def source_of_async(section: Source) -> FileSource:
    """As :func:`source_of`, for triggers: the synchronous look-up can deadlock their event loop."""
    connection = await BaseHook.aget_connection(section.connection)
    return await asyncio.to_thread(_made, section, connection)


def _made(section: Source, connection: Connection) -> FileSource:
    wanted = TYPES[section.kind]
    if connection.conn_type != wanted:
        raise ConfigurationError(
            f"source.kind {section.kind!r} needs a connection of type {wanted!r}; "
            f"{section.connection!r} is of type {connection.conn_type!r}.",
            left="nothing was read",
            next=f"Correct source.kind or source.connection in pipeline.yaml, or the type of {section.connection!r} "
            "under Admin > Connections.",
        )
    make = {"folder": _folder, "smb": _smb, "blob": _blob}[section.kind]
    return make(section, connection)


def _folder(section: Source, connection: Connection) -> FileSource:
    path = connection.extra_dejson.get("path")
    if not path:
        raise _lacking(section, "extra.path, the folder of the share as workers and triggerer see it")
    return Folder(
        connection=section.connection,
        root=Path(path),
        below=section.folder,
        pattern=section.pattern,
        exclude=section.exclude,
    )


def _smb(section: Source, connection: Connection) -> FileSource:
    from edgeloop.share.smb import SmbShare

    fields = {"host": connection.host, "login": connection.login, "password": connection.password}
    missing = [name for name, value in fields.items() if not value]
    missing += [] if connection.schema else ["schema (the share)"]
    if missing:
        raise _lacking(section, " and ".join(missing))
    return SmbShare(
        connection=section.connection,
        host=str(connection.host),
        port=connection.port or SMB_PORT,
        share=str(connection.schema).strip("/"),
        user=str(connection.login),
        password=str(connection.password),
        below=section.folder,
        pattern=section.pattern,
        exclude=section.exclude,
        encrypt=str(connection.extra_dejson.get("encrypt", True)).lower() != "false",
    )


def _blob(section: Source, connection: Connection) -> FileSource:
    from edgeloop.share.blob_prefix import BlobPrefix

    return BlobPrefix(
        connection=section.connection,
        container=hooks.account_of(section.connection, connection, section.preset).container(section.container),
        prefix=section.folder.strip("/").removeprefix(section.container).strip("/"),
        pattern=section.pattern,
        exclude=section.exclude,
    )


def _lacking(section: Source, field: str) -> ConfigurationError:
    return ConfigurationError(
        f"Connection {section.connection!r} lacks {field}.",
        left="nothing was read",
        next=f"Edit it under Admin > Connections, or `airflow connections delete {section.connection}` and add it "
        "again.",
    )
