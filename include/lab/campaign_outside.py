"""A pipeline's share and container as somebody sees them who knows the documented layout and runs none of our code.

The folder is listed and hashed here, and blobs are asked for through azure-storage-blob itself: what the checks rest
on must not pass through what they check.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from edgeloop.errors import EdgeloopError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from azure.storage.blob import ContainerClient

    from lab.campaign_site import Ground

P = ParamSpec("P")
T = TypeVar("T")
Content = tuple[str, str]
"""A name and the sha256 of the bytes under it."""


class NotAnsweredError(EdgeloopError):
    """The account did not answer; a fault may be why."""


def asked(question: Callable[P, T]) -> Callable[P, T]:
    """Tell the SDK's errors as one of ours, which those that wait for something take for no answer."""

    @wraps(question)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        from azure.core.exceptions import AzureError

        try:
            return question(*args, **kwargs)
        except AzureError as error:
            first, *_ = str(error).splitlines()
            raise NotAnsweredError(f"The account said: {first}", left="everything as it is") from error

    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBatch:
    """A batch as its blob says: ``files`` are path and sha256."""

    id: str
    group: str
    files: frozenset[Content]

    @property
    def key(self) -> str:
        """The partition key that intake mints for it."""
        return f"{self.group}@{self.id[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCertificate:
    """A certificate as its blob says: ``files`` are blob and sha256, ``set_aside`` sentences that begin with a path."""

    id: str
    batch: str
    suite: str
    files: frozenset[Content]
    set_aside: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Outside:
    """One pipeline's inbox on the share and its container in the private account."""

    inbox: Path
    client: ContainerClient
    _read: dict[str, Any] = field(default_factory=dict)

    def on_share(self, prefix: str = "") -> dict[str, frozenset[Content]]:
        """The files of every group whose name begins so, as they lie there now."""
        groups: dict[str, set[Content]] = {}
        for path in sorted(self.inbox.rglob(f"*_{prefix}*.csv")):
            group = path.stem.rpartition("_")[2]
            found = (str(path.relative_to(self.inbox)), hashlib.sha256(path.read_bytes()).hexdigest())
            groups.setdefault(group, set()).add(found)
        return {group: frozenset(files) for group, files in groups.items()}

    def batches(self, prefix: str = "") -> list[SeenBatch]:
        """Every batch of the groups whose name begins so, in the order in which the journal of claims took them.

        A record that no claim names is of a run that died, or lost the race, before its claim came true.
        """
        records = dict(self._all("records/batch/", "record"))
        claims = [pair for _, claimed in self._all("ledgers/claims/", "batches") for pair in claimed]
        return [
            SeenBatch(
                id=name,
                group=group,
                files=frozenset((one["path"], one["sha256"]) for one in records[name]["files"]),
            )
            for group, name in claims
            if group.startswith(prefix)
        ]

    def certificates(self, batches: Iterable[str]) -> list[SeenCertificate]:
        """Every certificate of these batches."""
        wanted = set(batches)
        return [
            SeenCertificate(
                id=name,
                batch=body["batch"],
                suite=body["suite"],
                files=frozenset((one["path"], one["sha256"]) for one in body["files"]),
                set_aside=tuple(body["set_aside"]),
            )
            for name, body in self._all("records/certificate/", "record")
            if body["batch"] in wanted
        ]

    @asked
    def made(self) -> None:
        """Make the container if it is not there yet: before the first claim there is nothing in it to ask for."""
        from azure.core.exceptions import ResourceExistsError

        with suppress(ResourceExistsError):
            self.client.create_container()

    @asked
    def names(self) -> list[str]:
        """Every blob there is."""
        return sorted(self.client.list_blob_names())

    @asked
    def sha256(self, name: str) -> str:
        """The sha256 of a blob's bytes."""
        return hashlib.sha256(self.client.download_blob(name).readall()).hexdigest()

    @asked
    def under_way(self, prefix: str) -> dict[str, dict[str, int]]:
        """The blobs that have blocks and are not made yet, with ids and sizes of their blocks."""
        listed = self.client.list_blobs(name_starts_with=prefix, include=["uncommittedblobs"])
        blocks = {one.name: self.client.get_blob_client(one.name).get_block_list("all") for one in listed}
        return {
            name: {str(one.id): int(one.size or 0) for one in waiting}
            for name, (made, waiting) in blocks.items()
            if waiting and not made
        }

    @asked
    def sent(self, name: str) -> tuple[int, bool]:
        """How many bytes of a blob the account has in blocks, and whether the blob is made."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            made, waiting = self.client.get_blob_client(name).get_block_list("all")
        except ResourceNotFoundError:
            return 0, False
        return sum(int(one.size or 0) for one in (*made, *waiting)), bool(made)

    @asked
    def blocks(self, name: str) -> list[str]:
        """The ids of the blocks a blob was made of; none for one that came in one piece."""
        made, _ = self.client.get_blob_client(name).get_block_list("committed")
        return [str(one.id) for one in made]

    @asked
    def _all(self, stem: str, part: str) -> list[tuple[str, Any]]:
        """One part of every JSON blob below ``stem``, by name; what is written once is read once."""
        names = [name for name in self.client.list_blob_names(name_starts_with=stem) if name.endswith(".json")]
        for name in names:
            if name not in self._read:
                self._read[name] = json.loads(self.client.download_blob(name).readall())[part]
        return [(name.removeprefix(stem).removesuffix(".json"), self._read[name]) for name in names]


def of_bulk(ground: Ground) -> Outside:
    """The bulk pipeline from outside."""
    spec = ground.bulk.spec
    one = container(ground, spec.storage.container, ground.site.share.path / spec.source.folder)
    one.made()
    return one


def container(ground: Ground, name: str, inbox: Path) -> Outside:
    """A container of the private account, with the folder its files come from."""
    from azure.storage.blob import ContainerClient

    text = ground.site.blob.private.connection_string
    client = ContainerClient.from_connection_string(text, name, connection_timeout=5, read_timeout=30)
    return Outside(inbox=inbox, client=client)
