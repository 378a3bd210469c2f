"""Blobs of one container, with the conditions and checksums that Edgeloop relies on.

Azurite refuses API versions newer than it knows unless told otherwise, and Azure Stack Hub speaks 2019-02-02, so the
version is the account's. Every call carries its two time-outs; a dead service raises ``UnreachableError``.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from edgeloop.azure.account import BLOCK_BYTES, BlobAccount
from edgeloop.azure.address import Address, plain
from edgeloop.azure.block_list import COMMITTED, UNCOMMITTED
from edgeloop.azure.features import check_name
from edgeloop.azure.listing import BlobItem
from edgeloop.azure.problems import translated
from edgeloop.azure.ranges import in_order
from edgeloop.errors import ConfigurationError, ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from azure.storage.blob import ContainerClient

    from edgeloop.azure.wire import Ranged, Wire

__all__ = ["BLOCK_BYTES", "BlobAccount", "BlobContainer", "BlobItem", "Looked"]
READERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What the service says of a blob without giving its bytes; ``etag`` without quotes."""

    size: int
    etag: str
    metadata: dict[str, str]
    modified_ns: int = 0


class BlobContainer:
    """One container; ``features`` are what its service can do. Safe to use from several threads.

    Raises ``UnreachableError`` when the service does not answer, from every method.
    """

    def __init__(self, account: BlobAccount, name: str) -> None:
        self.account, self.name, self.features = account, name, account.features
        self._address = plain(account, name)
        self._sdk: ContainerClient | None = None if self._address else account.client(name)
        self._kept: Wire | None = None
        self._made = False

    @property
    def url(self) -> str:
        """Its address; with the SAS where one opens it, so for no log."""
        return self._client.url

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that requests may go to: the endpoint's, and that of a secondary which the connection names."""
        named = [self._client.primary_hostname]
        # The SDK makes up a secondary in the public cloud for an endpoint it does not know; nothing ever asks it.
        if "BLOBSECONDARYENDPOINT=" in self.account.connection_string.upper() and self._client.secondary_hostname:
            named.append(self._client.secondary_hostname)
        return tuple(urlsplit(one if "://" in one else f"//{one}").hostname or one for one in named)

    @property
    def _client(self) -> ContainerClient:
        if self._sdk is None:
            self._sdk = self.account.client(self.name)
        return self._sdk

    @property
    def _wire(self) -> Wire:
        from edgeloop.azure.wire import Wire

        if self._kept is None:
            self._kept = Wire(self.account, self._address or Address.of(self._client))
        return self._kept

    def _errors(self, blob: str) -> AbstractContextManager[None]:
        return translated(self.account, f"{self.name}/{blob}")

    def ensure(self) -> None:
        """Make the container if it is not there."""
        if self._made:
            return
        try:
            with self._errors(""):
                self._client.create_container()
        except ConflictError:
            pass
        except ConfigurationError:
            # Who may use one container only may not make it; whether he may do the rest shows at once.
            if not self.account.narrow:
                raise
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
            return self._wire.blocks(name, UNCOMMITTED)
        except NotFoundError:
            return {}

    def stage(self, name: str, block: str, data: bytes) -> None:
        """Send one block, checked by MD5; ids of one blob must have one length."""
        check_name(self.features, name)
        self.ensure()
        self._wire.stage(name, block, data)

    def put_whole(self, name: str, data: bytes, *, metadata: dict[str, str]) -> str:
        """Write a small blob in one request, only if it is not there, checked by MD5; returns its etag."""
        check_name(self.features, name)
        self.ensure()
        return self._wire.put(name, data, metadata)

    def commit(self, name: str, blocks: list[str], *, metadata: dict[str, str] | None = None) -> str:
        """Make the staged ``blocks`` the blob ``name``, only if it is not there; returns its etag.

        Raises ``ConflictError`` if it is there.
        """
        return self._wire.commit(name, blocks, metadata or {})

    def committed(self, name: str) -> dict[str, int]:
        """Ids and sizes of the blocks a blob is made of, in order; none if it was written in one piece."""
        return self._wire.blocks(name, COMMITTED)

    def get(self, name: str) -> bytes:
        """The whole blob; raises ``NotFoundError``."""
        with self._errors(name):
            return bytes(self._client.download_blob(name).readall())

    def fetch(self, name: str, start: int, length: int, etag: str = "") -> Ranged:
        """At most ``length`` bytes from ``start``, of the version ``etag`` if one is given; raises ``NotFoundError``.

        Raises ``IntegrityError`` when the blob is another version by now.
        """
        return self._wire.fetch(name, start, length, etag)

    def chunks(
        self,
        name: str,
        *,
        block: int = BLOCK_BYTES,
        workers: int = READERS,
        start: int = 0,
        seen: Callable[[Ranged], None] = lambda _: None,
    ) -> Iterator[bytes]:
        """The blob from ``start`` on in pieces of ``block`` bytes, all of one version, however often the link breaks.

        ``seen`` is told of the first piece. Raises ``NotFoundError``, or ``IntegrityError`` when the blob is replaced
        meanwhile.
        """
        yield from in_order(partial(self.fetch, name), block, workers, start=start, seen=seen)

    def digest(self, name: str) -> tuple[int, str]:
        """Size and sha256 of the stored bytes, by reading them all back."""
        size, sha256 = 0, hashlib.sha256()
        for chunk in self.chunks(name):
            size += len(chunk)
            sha256.update(chunk)
        return size, sha256.hexdigest()

    def look(self, name: str) -> Looked:
        """Size, etag and metadata of the blob; raises ``NotFoundError``."""
        with self._errors(name):
            found = self._client.get_blob_client(name).get_blob_properties()
        return Looked(
            size=found.size,
            etag=(found.etag or "").strip('"'),
            metadata=dict(found.metadata or {}),
            modified_ns=_ns(found.last_modified),
        )

    def metadata(self, name: str) -> dict[str, str]:
        """The blob's metadata; raises ``NotFoundError``."""
        return self.look(name).metadata

    def exists(self, name: str) -> bool:
        """Whether the blob is there."""
        self.ensure()
        with self._errors(name):
            return bool(self._client.get_blob_client(name).exists())

    def list(self, prefix: str = "", *, make: bool = True) -> Iterator[BlobItem]:
        """All blobs whose name starts with ``prefix``, in order of name.

        With ``make`` false a container that is not there raises ``NotFoundError`` and is not made.
        """
        if make:
            self.ensure()
        marker = ""
        while True:
            items, marker = self._wire.listed(prefix, marker)
            self._made = True
            yield from items
            if not marker:
                return

    def delete(self, name: str) -> None:
        """Remove the blob; that it is not there is no error."""
        try:
            with self._errors(name):
                self._client.delete_blob(name)
        except NotFoundError:
            return


def _ns(at: datetime | None) -> int:
    return 0 if at is None else round(at.timestamp()) * 1_000_000_000
