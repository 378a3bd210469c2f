"""Blobs of one container, with the conditions and checksums that Edgeloop relies on.

Azurite refuses API versions newer than it knows unless told otherwise, and Azure Stack Hub speaks 2019-02-02, so the
version is an argument. Every call carries the two time-outs below; a dead service raises ``UnreachableError``.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from edgeloop.errors import ConfigurationError, ConflictError, NotFoundError, ResidencyError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.core.exceptions import HttpResponseError
    from azure.storage.blob import BlobBlock, ContainerClient

CONNECT_SECONDS = 5
IDLE_SECONDS = 30
RETRIES = 4
STACK_HUB_API_VERSION = "2019-02-02"
"""The newest x-ms-version that Azure Stack Hub and Stack Edge blob endpoints take (Azure Stack Hub documentation)."""
REFUSED = (401, 403)
REDIRECTS = (301, 302, 303, 307, 308)
BUSY = (429, 500, 502, 503, 504)
BLOCK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobItem:
    """A blob in a listing; ``size`` in bytes, ``etag`` without quotes."""

    name: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAccount:
    """Where a storage account answers. ``connection`` is the Airflow connection id that errors name."""

    connection: str
    connection_string: str = field(repr=False)
    api_version: str = ""

    def container(self, name: str) -> BlobContainer:
        """The container ``name``, made if it is not there."""
        return BlobContainer(self, name)


class BlobContainer:
    """One container. Safe to use from several threads.

    Raises ``UnreachableError`` when the service does not answer, from every method.
    """

    def __init__(self, account: BlobAccount, name: str) -> None:
        extra: dict[str, Any] = {"api_version": account.api_version} if account.api_version else {}
        self.account, self.name = account, name
        try:
            self._client: ContainerClient = self._connect(extra)
        except ValueError:
            # The SDK's message and the error's cause may hold a piece of the string, and with it of the key.
            raise ConfigurationError(
                f"extra.connection_string of connection {account.connection!r} is no connection string.",
                left="nothing was started",
                next="Copy it again from the storage account; it reads 'DefaultEndpointsProtocol=...;AccountName=...'.",
            ) from None
        self._made = False

    def _connect(self, extra: dict[str, Any]) -> ContainerClient:
        from azure.storage.blob import ContainerClient

        # The SDK logs forty lines of headers for every request at INFO, and [logging] namespace_levels does not hold
        # in a task's process (seen on 3.3.2): a task's own lines drowned in them.
        logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)
        return ContainerClient.from_connection_string(
            self.account.connection_string,
            self.name,
            connection_timeout=CONNECT_SECONDS,
            read_timeout=IDLE_SECONDS,
            # The SDK's own pause of 15 s and more keeps a task on a dead account for minutes; these take about 20 s.
            retry_total=RETRIES,
            initial_backoff=1,
            increment_base=2,
            random_jitter_range=1,
            max_single_put_size=BLOCK_BYTES,
            max_block_size=BLOCK_BYTES,
            # The SDK would send a block once more to whatever host a 307 names.
            permit_redirects=False,
            **extra,
        )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that requests may go to: the endpoint's, and that of a secondary which the connection names."""
        named = [self._client.primary_hostname]
        # The SDK makes up a secondary in the public cloud for an endpoint it does not know; nothing ever asks it.
        if "BLOBSECONDARYENDPOINT=" in self.account.connection_string.upper() and self._client.secondary_hostname:
            named.append(self._client.secondary_hostname)
        return tuple(urlsplit(one if "://" in one else f"//{one}").hostname or one for one in named)

    @contextmanager
    def _errors(self, blob: str) -> Iterator[None]:
        from azure.core import exceptions

        try:
            yield
        except exceptions.ResourceNotFoundError as error:
            raise NotFoundError(
                f"There is no blob {self.name}/{blob} in the account behind connection {self.account.connection!r}.",
                next="Rerun the task that writes it.",
            ) from error
        except (exceptions.ResourceExistsError, exceptions.ResourceModifiedError) as error:
            raise ConflictError(f"Blob {self.name}/{blob} is already there.", left="the blob that is there") from error
        except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as error:
            raise UnreachableError(
                f"The storage account behind connection {self.account.connection!r} did not answer: {error}",
                left="everything already stored",
                next=f"Check the endpoint in `airflow connections get {self.account.connection}`, then clear the task.",
            ) from error
        except exceptions.HttpResponseError as error:
            if (error.status_code or 0) in BUSY:
                raise UnreachableError(
                    f"The storage account behind connection {self.account.connection!r} answered "
                    f"{error.status_code} ({error.reason}) again and again.",
                    left="everything already stored",
                    next="Look at the account's health and its limits, then clear the task.",
                ) from error
            if error.status_code in REDIRECTS:
                raise _redirected(self.account.connection, error) from error
            if error.status_code not in REFUSED:
                raise
            raise ConfigurationError(
                f"The storage account behind connection {self.account.connection!r} refused the key or SAS.",
                left="everything already stored",
                next=f"Correct extra.connection_string of {self.account.connection!r}, then clear the task.",
            ) from error

    def ensure(self) -> None:
        """Make the container if it is not there."""
        if self._made:
            return
        try:
            with self._errors(""):
                self._client.create_container()
        except ConflictError:
            pass
        self._made = True

    def put_new(self, name: str, data: bytes, *, metadata: dict[str, str] | None = None) -> None:
        """Write ``name`` only if it is not there (``If-None-Match: *``); raises ``ConflictError`` if it is."""
        self.ensure()
        with self._errors(name):
            self._client.upload_blob(name, data, overwrite=False, metadata=metadata, validate_content=True)

    def put(self, name: str, data: bytes, *, metadata: dict[str, str] | None = None) -> None:
        """Write ``name``, replacing what is there."""
        self.ensure()
        with self._errors(name):
            self._client.upload_blob(name, data, overwrite=True, metadata=metadata, validate_content=True)

    def put_stream(self, name: str, data: BinaryIO, size: int, *, sha256: str) -> None:
        """Stream ``size`` bytes to a blob that must not exist, sha256 in the metadata, each block checked by MD5."""
        from azure.storage.blob import ContentSettings

        self.ensure()
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()
        with self._errors(name):
            self._client.upload_blob(
                name,
                data,
                length=size,
                overwrite=False,
                metadata={"sha256": sha256, "sha256_base64": digest},
                content_settings=ContentSettings(content_type="application/octet-stream"),
                validate_content=True,
                max_concurrency=2,
            )

    def staged(self, name: str) -> dict[str, int]:
        """Ids and sizes of the blocks that were sent for ``name`` and not committed; none if there are none."""
        self.ensure()
        try:
            with self._errors(name):
                _, waiting = self._client.get_blob_client(name).get_block_list("uncommitted")
        except NotFoundError:
            return {}
        blocks: list[BlobBlock] = waiting
        return {str(one.id): int(one.size or 0) for one in blocks}

    def stage(self, name: str, block: str, data: bytes) -> None:
        """Send one block, checked by MD5; ids of one blob must have one length."""
        self.ensure()
        with self._errors(name):
            self._client.get_blob_client(name).stage_block(block, data, length=len(data), validate_content=True)

    def commit(self, name: str, blocks: list[str], *, metadata: dict[str, str] | None = None) -> None:
        """Make the staged ``blocks`` the blob ``name``, only if it is not there; raises ``ConflictError`` if it is."""
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        with self._errors(name):
            self._client.get_blob_client(name).commit_block_list(
                [BlobBlock(block_id=one) for one in blocks],
                metadata=metadata,
                match_condition=MatchConditions.IfMissing,
            )

    def get(self, name: str) -> bytes:
        """The whole blob; raises ``NotFoundError``."""
        with self._errors(name):
            return bytes(self._client.download_blob(name).readall())

    def chunks(self, name: str) -> Iterator[bytes]:
        """The blob in chunks of at most 4 MiB; raises ``NotFoundError``."""
        with self._errors(name):
            yield from self._client.download_blob(name).chunks()

    def digest(self, name: str) -> tuple[int, str]:
        """Size and sha256 of the stored bytes, by reading them all back."""
        size, sha256 = 0, hashlib.sha256()
        for chunk in self.chunks(name):
            size += len(chunk)
            sha256.update(chunk)
        return size, sha256.hexdigest()

    def metadata(self, name: str) -> dict[str, str]:
        """The blob's metadata; raises ``NotFoundError``."""
        with self._errors(name):
            return dict(self._client.get_blob_client(name).get_blob_properties().metadata or {})

    def exists(self, name: str) -> bool:
        """Whether the blob is there."""
        self.ensure()
        with self._errors(name):
            return bool(self._client.get_blob_client(name).exists())

    def list(self, prefix: str = "") -> Iterator[BlobItem]:
        """All blobs whose name starts with ``prefix``, in order of name."""
        self.ensure()
        with self._errors(prefix):
            for one in self._client.list_blobs(name_starts_with=prefix or None):
                yield BlobItem(name=one.name, size=one.size or 0, etag=(one.etag or "").strip('"'))

    def delete(self, name: str) -> None:
        """Remove the blob; that it is not there is no error."""
        try:
            with self._errors(name):
                self._client.delete_blob(name)
        except NotFoundError:
            return


def _redirected(connection: str, error: HttpResponseError) -> ResidencyError:
    response: Any = error.response
    to = urlsplit(response.headers.get("location") or "").hostname or "another place"
    return ResidencyError(
        f"The storage account behind connection {connection!r} answered {error.status_code}: go to {to}. Redirects are "
        "not followed: whatever is written would leave the account that pipeline.yaml names.",
        left="everything already stored; nothing was sent there",
        next=f"Find out who answers for the endpoint in `airflow connections get {connection}`, then clear the task.",
    )
