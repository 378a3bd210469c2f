"""Where the conformance test puts files: a folder, a folder that smbd serves, a container. Each with its source."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.azure.blob import BlobAccount, BlobContainer
from edgeloop.share.blob_prefix import BlobPrefix
from edgeloop.share.scan import Folder
from edgeloop.share.smb import SmbShare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.share.source import FileSource
    from lab.site import Site

USUAL: dict[str, Any] = {"pattern": "*.csv", "exclude": ("*.part", ".*")}
CONNECTION = "the_source"


@dataclass(frozen=True, slots=True)
class Place:
    """A source, and the means to change what lies there. ``dead(port)`` is the same behind a server that is silent."""

    kind: str
    source: Callable[..., FileSource]
    put: Callable[[str, bytes], object]
    remove: Callable[[str], object]
    rename: Callable[[str, str], object]
    dead: Callable[[int], FileSource]


@contextlib.contextmanager
def unreadable(prefix: str) -> Iterator[None]:
    """Files whose names begin so may not be opened; the tests run as root, whom no mode of a file keeps out."""
    real = os.open

    def closed(path: Any, *more: Any, **how: Any) -> int:
        if str(path).startswith(prefix):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *more, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", closed)
        yield


def folder_at(root: Path) -> Place:
    """A folder of this machine."""
    (root / "in").mkdir()

    def source(**changes: Any) -> Folder:
        return Folder(connection=CONNECTION, root=root, **{"below": "in", **USUAL, **changes})

    return _on_disk("folder", root, source, lambda _: source())


def smb_at(site: Site) -> Place:
    """A folder of this test's own on the site's share."""
    share = site.share
    name = uuid.uuid4().hex[:12]
    root = Path(share.path) / name
    (root / "in").mkdir(parents=True)

    def source(**changes: Any) -> SmbShare:
        known = {"host": share.host, "port": share.port, "share": share.share, "user": share.user}
        known |= {"password": share.password, **USUAL, **changes}
        below = changes.get("below", "in")
        return SmbShare(connection=CONNECTION, **{**known, "below": below if below[0] == "/" else f"{name}/{below}"})

    return _on_disk("smb", root, source, lambda port: source(host="127.0.0.1", port=port))


def _on_disk(kind: str, root: Path, source: Callable[..., FileSource], dead: Callable[[int], FileSource]) -> Place:
    def put(path: str, content: bytes) -> None:
        file = root / "in" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    return Place(
        kind,
        source,
        put,
        lambda path: (root / "in" / path).unlink(),
        lambda before, after: (root / "in" / before).rename(root / "in" / after),
        dead,
    )


def blob_at(container: BlobContainer) -> Place:
    """A prefix of a container of this test's own."""
    container.ensure()

    def source(**changes: Any) -> BlobPrefix:
        below = changes.pop("below", "in")
        return BlobPrefix(connection=CONNECTION, **{"container": container, "prefix": below, **USUAL, **changes})

    def rename(before: str, after: str) -> None:
        container.put(f"in/{after}", container.get(f"in/{before}"))
        container.delete(f"in/{before}")

    def dead(port: int) -> BlobPrefix:
        key = "a2V5"
        text = f"AccountName=a;AccountKey={key};BlobEndpoint=http://127.0.0.1:{port}/a"
        account = BlobAccount(connection=CONNECTION, connection_string=f"DefaultEndpointsProtocol=http;{text}")
        return source(container=account.container("arrivals"))

    return Place(
        "blob",
        source,
        lambda path, content: container.put(f"in/{path}", content),
        lambda path: container.delete(f"in/{path}"),
        rename,
        dead,
    )


@contextlib.contextmanager
def silence() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            for one in taken:
                one.close()


class Tripwire:
    """Stands for a file to copy to; calls ``spring`` once, in the middle of the copying."""

    def __init__(self, spring: Callable[[], object]) -> None:
        self.spring, self.sprung = spring, False

    def open(self, _: str) -> Tripwire:
        """What a path's open gives."""
        return self

    def close(self) -> None:
        """What an open file's end is."""

    def write(self, _: bytes) -> None:
        """What an open file takes."""
        if not self.sprung:
            self.sprung = True
            self.spring()
