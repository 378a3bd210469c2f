"""From Airflow connections to the endpoints the library takes, and from a pipeline's name to its store.

Secrets are read here, at run, and nowhere else: never in YAML, XCom, trigger arguments or logs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from edgeloop import catalog
from edgeloop.azure.connection import Fields
from edgeloop.containers.endpoint import EngineEndpoint
from edgeloop.residency_guard import require_private
from edgeloop.store import Store
from edgeloop_airflow import registry_logins, ssh_logins

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from edgeloop.azure.account import BlobAccount
    from edgeloop.azure.blob import BlobContainer
    from edgeloop.catalog import Snapshot
    from edgeloop.containers.endpoint import RegistryEndpoint
    from edgeloop.rollout.fleet import Device
    from edgeloop.ssh.endpoint import Endpoint


def blob_account(conn_id: str, preset: str = "azure") -> BlobAccount:
    """The storage account behind a ``wasb`` connection; ``preset`` says which kind of blob service answers there."""
    return account_of(conn_id, BaseHook.get_connection(conn_id), preset)


async def blob_account_async(conn_id: str, preset: str = "azure") -> BlobAccount:
    """As :func:`blob_account`, for triggers: the synchronous look-up can deadlock their event loop."""
    return account_of(conn_id, await BaseHook.aget_connection(conn_id), preset)


def account_of(conn_id: str, connection: Connection, preset: str = "azure") -> BlobAccount:
    """The storage account that a connection names, asking nobody; raises ``ConfigurationError`` naming the field."""
    fields = Fields(
        connection=conn_id,
        host=connection.host or "",
        login=connection.login or "",
        password=connection.password or "",
        extra=connection.extra_dejson,
    )
    return fields.account(preset)


def ssh_endpoint(conn_id: str) -> Endpoint:
    """The login behind an ``edgeloop_ssh`` connection, with the jump hosts before it."""
    steps = ssh_logins.steps(conn_id)
    wanted = next(steps)
    try:
        while True:
            try:
                connection = BaseHook.get_connection(wanted)
            except AirflowNotFoundException as error:
                wanted = steps.throw(error)
            else:
                wanted = steps.send(connection)
    except StopIteration as end:
        return cast("Endpoint", end.value)


async def ssh_endpoint_async(conn_id: str) -> Endpoint:
    """As :func:`ssh_endpoint`, for triggers: the synchronous look-up can deadlock their event loop."""
    steps = ssh_logins.steps(conn_id)
    wanted = next(steps)
    try:
        while True:
            try:
                connection = await BaseHook.aget_connection(wanted)
            except AirflowNotFoundException as error:
                wanted = steps.throw(error)
            else:
                wanted = steps.send(connection)
    except StopIteration as end:
        return cast("Endpoint", end.value)


def device(conn_id: str) -> Device:
    """The edge device behind an ``edgeloop_ssh`` connection that also names the device's local share."""
    from edgeloop.rollout.fleet import Device  # every DAG file's parse would pay for the fleet's modules

    share = BaseHook.get_connection(conn_id).extra_dejson.get("share")
    if not share:
        raise ssh_logins.incomplete(conn_id, "extra.share, the folder of the device's local share on the device")
    return Device(endpoint=ssh_endpoint(conn_id), share=share)


def engine_endpoint(conn_id: str) -> EngineEndpoint:
    """The Docker engine behind an ``edgeloop_docker`` connection."""
    host = BaseHook.get_connection(conn_id).host
    if not host:
        raise ssh_logins.incomplete(conn_id, "host, for example unix:///var/run/docker.sock")
    return EngineEndpoint(connection=conn_id, url=host)


def registry_endpoint(conn_id: str) -> RegistryEndpoint:
    """The container registry behind an ``edgeloop_registry`` connection."""
    return registry_logins.endpoint_of(conn_id, BaseHook.get_connection(conn_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a stage's task works with: a pipeline's snapshot, its container and the records in it.

    Raises ``ResidencyError`` when made of an ``on_premises`` pipeline and a container that is not at the site.
    """

    snapshot: Snapshot
    blobs: BlobContainer
    store: Store

    def __post_init__(self) -> None:
        """Refuse before the first request: a connection may have been edited since the pipeline was loaded."""
        require_private(self.snapshot.spec, self.blobs)

    def at(self, config: str) -> Desk:
        """The same desk with the snapshot that a record pinned; today's if it pinned none.

        The stricter residency of the two holds.
        """
        if not config or config == self.snapshot.digest:
            return self
        pinned = catalog.from_json(self.blobs.get(f"configs/{config}.json"))
        return Desk(snapshot=pinned.under(self.snapshot.spec), blobs=self.blobs, store=self.store)


def desk(pipeline: str) -> Desk:
    """The desk of a pipeline as its folder reads now (or as it last was valid)."""
    snapshot = catalog.load().find(pipeline)
    storage = snapshot.spec.storage
    blobs = blob_account(storage.connection, storage.preset).container(storage.container)
    return Desk(snapshot=snapshot, blobs=blobs, store=Store(blobs))


async def desk_async(pipeline: str) -> Desk:
    """As :func:`desk`, for triggers; the connection is awaited, blocking reads run in a thread."""
    snapshot = (await asyncio.to_thread(catalog.load)).find(pipeline)
    storage = snapshot.spec.storage
    account = await blob_account_async(storage.connection, storage.preset)

    def opened() -> Desk:
        blobs = account.container(storage.container)
        return Desk(snapshot=snapshot, blobs=blobs, store=Store(blobs))

    return await asyncio.to_thread(opened)
