"""Where a workspace keeps the bytes of models: a folder of one of its blob datastores, named by what is in it.

The OpenAPI files know no upload for a model (``startPendingUpload`` is for code and for registries), so the datastore
is asked for where it leads and for what opens it, as azure-ai-ml does. Its ``LocalUpload/<hash>`` folder is not used:
that hash is of names and MD5s, and what lies there says nothing of itself.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from edgeloop.azure_ml.workspace import DATASTORE_VERSION
from edgeloop.errors import CloudError, ConfigurationError, IntegrityError, NotFoundError, UnreachableError
from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.storage.blob import ContainerClient

    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

CONNECT_SECONDS, IDLE_SECONDS, RETRIES = 10, 60, 4
ACCOUNT, CONTAINER = re.compile(r"[a-z0-9]{3,24}"), re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9])")
GONE = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A blob container behind a datastore; ``key`` is an account key or a SAS, "" for the identity's own token."""

    datastore: str
    account: str
    container: str
    suffix: str
    key: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Of the account."""
        return f"https://{self.account}.blob.{self.suffix}"


def place_of(arm: ArmClient, workspace: WorkspaceEndpoint, datastore: str) -> Place:
    """Where a datastore leads, and what opens it.

    Raises:
        NotFoundError: The workspace has no such datastore.
        ConfigurationError: It is no blob container, or outside the identity's cloud: a key is for no other host.
    """
    path = f"{workspace.id}/datastores/{datastore}"
    try:
        told = arm.get(path, DATASTORE_VERSION).get("properties") or {}
    except NotFoundError as error:
        raise NotFoundError(
            f"Workspace {workspace.workspace!r} has no datastore {datastore!r}.",
            left="nothing was uploaded",
            next="Correct registry.datastore of pipeline.yaml; `az ml datastore list` names those that are there.",
        ) from error
    account, container = str(told.get("accountName") or ""), str(told.get("containerName") or "")
    suffix, ours = str(told.get("endpoint") or ""), workspace.identity.where.storage
    known = ACCOUNT.fullmatch(account) and CONTAINER.fullmatch(container)
    if told.get("datastoreType") != "AzureBlob" or not known or suffix not in {"", ours}:
        raise ConfigurationError(
            f"Datastore {datastore!r} of workspace {workspace.workspace!r} is no blob container of the cloud "
            f"{ours} (it is {told.get('datastoreType')!r} at {account or '?'}.{suffix or '?'}).",
            left="nothing was uploaded",
            next="Name one of type Azure Blob Storage in registry.datastore, for example workspaceblobstore.",
        )
    kind = str((told.get("credentials") or {}).get("credentialsType") or "None")
    secrets = {} if kind == "None" else arm.post(f"{path}/listSecrets", DATASTORE_VERSION)
    key = str(secrets.get("key") or secrets.get("sasToken") or "")
    return Place(datastore=datastore, account=account, container=container, suffix=ours, key=key)


class ModelBytes:
    """Model bytes in the container of a datastore; use as a context manager.

    Args:
        place: The container.
        workspace: Whose identity asks where the datastore has no key of its own.
    """

    def __init__(self, place: Place, workspace: WorkspaceEndpoint) -> None:
        from azure.storage.blob import ContainerClient

        self.place = place
        self._client: ContainerClient = ContainerClient(
            place.url,
            place.container,
            credential=_credential(place, workspace),
            connection_timeout=CONNECT_SECONDS,
            read_timeout=IDLE_SECONDS,
            retry_total=RETRIES,
            # A redirected upload would go to whatever host the answer names.
            permit_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self._client.close()

    def keep(self, name: str, content: bytes, sha256: str) -> bool:
        """Make the blob hold exactly these bytes; whether anything was sent.

        What is there is read back and compared, and replaced if it is anything else: its name says what it must be.
        """
        if self.seen(name) == (len(content), sha256):
            with self._told(name):
                there = bytes(self._client.download_blob(name).readall())
            if sha256_hex(there) == sha256:
                return False
        with self._told(name):
            self._client.upload_blob(
                name, content, overwrite=True, metadata={"sha256": sha256}, validate_content=True, max_concurrency=2
            )
        if self.seen(name) != (len(content), sha256):
            raise IntegrityError(
                f"Blob {name} of datastore {self.place.datastore!r} is not what was just uploaded.",
                left="the store and its model; the workspace shows no new version",
                next="Look who else writes below edgeloop/ in that container, then clear the task.",
            )
        return True

    def seen(self, name: str) -> tuple[int, str]:
        """Size and sha256 that the blob is said to have, without reading it; (0, "") if it is not there.

        Whoever writes other bytes there leaves no digest, or one that is not its name's.
        """
        with self._told(name):
            try:
                found = self._client.get_blob_client(name).get_blob_properties()
            except _missing():
                return 0, ""
        return int(found.size), str((found.metadata or {}).get("sha256") or "")

    def digest(self, name: str) -> tuple[int, str]:
        """Size and sha256 of the bytes, by reading them all; (0, "") if there are none."""
        with self._told(name):
            try:
                there = bytes(self._client.download_blob(name).readall())
            except _missing():
                return 0, ""
        return len(there), sha256_hex(there)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """The house's errors for the SDK's; a key or a SAS is in no message."""
        from azure.core.exceptions import AzureError, HttpResponseError

        where = f"{self.place.account}/{self.place.container}/{name}"
        try:
            yield
        except HttpResponseError as error:
            raise CloudError(
                f"The storage behind datastore {self.place.datastore!r} refused {where}: {error.status_code} "
                f"{getattr(error, 'error_code', '') or error.reason}.",
                left="the store and its model; the workspace lacks the version or shows it as it was",
                next="May the workers reach that account (firewall, private endpoint), and has the identity the role "
                "'Storage Blob Data Contributor' there? Then clear the task.",
            ) from None
        except AzureError as error:
            raise UnreachableError(
                f"The storage behind datastore {self.place.datastore!r} does not answer for {where}: "
                f"{type(error).__name__}.",
                left="the store and its model",
                next="Check the network from the worker (HTTPS_PROXY, DNS, port 443), then clear the task.",
            ) from None


def _missing() -> type[Exception]:
    from azure.core.exceptions import ResourceNotFoundError

    return ResourceNotFoundError


def _credential(place: Place, workspace: WorkspaceEndpoint) -> Any:
    from azure.core.credentials import AzureSasCredential

    if not place.key:
        return workspace.identity.credential()
    if "sig=" in place.key:
        return AzureSasCredential(place.key)
    return {"account_name": place.account, "account_key": place.key}
