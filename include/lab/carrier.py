"""The stand-in for Azure Stack Edge's cloud share: what a device writes to its local share appears as blobs.

    python -m lab.carrier --site demo

Every file of every device's share is carried to container `edge` of the private account, as `<device>/<path>`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import EdgeloopError, UnreachableError
from lab import site as sites

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lab.site import Site

CONTAINER = "edge"
POLL_SECONDS, LIST_SECONDS = 0.5, 10.0
CONNECT_SECONDS, IDLE_SECONDS, WHOLE_SECONDS = 2.0, 20.0, 120.0
SINGLE_PUT = 256 * 1024 * 1024  # one request is all or nothing; beyond it the SDK commits blocks, which is too


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """One pass: files and bytes uploaded, and files that changed while they were read and wait for the next pass."""

    files: int
    bytes: int
    waiting: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file's state when its content was hashed."""

    size: int
    changed: int
    md5: bytes


@dataclass(frozen=True, slots=True)
class _Blob:
    """What the store holds under a name."""

    size: int
    md5: bytes
    etag: str


@dataclass(slots=True)
class Carrier:
    """Carries folders to a container; knows by (length, MD5) what is there already.

    What is there is asked of the store itself, at the start, after every error and each LIST_SECONDS: the lab's store
    forgets its last seconds when it is killed, and what it forgot is carried again.
    """

    connection_string: str
    folders: Mapping[str, Path]
    container: str = CONTAINER
    _remote: dict[str, _Blob] | None = None
    _listed: float = 0.0
    _local: dict[Path, _Seen] = field(default_factory=dict)
    _client: Any = None

    def once(self) -> Carried:
        """One pass over all folders.

        Raises:
            azure.core.exceptions.AzureError: The store did not answer or refused; the next pass starts from its list.
        """
        try:
            return self._pass()
        except BaseException:
            self._remote = None
            raise

    def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _pass(self) -> Carried:
        remote = self._list()
        files = size = waiting = 0
        for name, path in self._files():
            try:
                content = self._read(path, remote.get(name))
            except FileNotFoundError:
                continue
            except BlockingIOError:
                waiting += 1
                continue
            if content is not None:
                remote[name] = self._upload(name, content, remote.get(name))
                files, size = files + 1, size + len(content)
        return Carried(files=files, bytes=size, waiting=waiting)

    def _files(self) -> Iterator[tuple[str, Path]]:
        for device, folder in self.folders.items():
            for parent, folders, names in os.walk(folder):
                folders[:] = sorted(f for f in folders if not f.startswith("."))
                for name in sorted(names):
                    # Hidden and .part files are somebody's unfinished business; the local share hides them too.
                    path = Path(parent, name)
                    if not name.startswith(".") and not name.endswith(".part") and not path.is_symlink():
                        yield f"{device}/{path.relative_to(folder).as_posix()}", path

    def _read(self, path: Path, held: _Blob | None) -> bytes | None:
        """The content to upload, or None when the store holds it; BlockingIOError when it changed while it was read."""
        before = path.stat()
        seen = self._local.get(path)
        if seen and held and (seen.size, seen.changed) == (before.st_size, before.st_mtime_ns) and seen.md5 == held.md5:
            return None
        with path.open("rb") as stream:
            content = stream.read(before.st_size)
        if path.suffix == ".jsonl":
            # A log only grows, and its whole lines are complete in themselves; a torn one was never answered.
            content = content[: content.rfind(b"\n") + 1]
        elif (path.stat().st_size, path.stat().st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise BlockingIOError(f"{path} is being written")
        md5 = _md5(content)
        self._local[path] = _Seen(before.st_size, before.st_mtime_ns, md5)
        return None if held and (held.size, held.md5) == (len(content), md5) else content

    def _upload(self, name: str, content: bytes, held: _Blob | None) -> _Blob:
        """Put the blob over the version that was seen, then ask the store what it holds now."""
        from azure.core import MatchConditions
        from azure.core.exceptions import AzureError
        from azure.storage.blob import ContentSettings

        blob = self._service().get_blob_client(self.container, name)
        # A second carrier may have put a longer one in between; the store refuses, and the next pass looks again.
        expected = {"etag": held.etag, "match_condition": MatchConditions.IfNotModified} if held else {}
        settings = ContentSettings(content_type="application/x-ndjson", content_md5=bytearray(_md5(content)))
        blob.upload_blob(
            content,
            overwrite=held is not None,
            content_settings=settings,
            validate_content=bool(content),
            **expected,
        )
        now = _blob(blob.get_blob_properties())
        if (now.size, now.md5) != (len(content), _md5(content)):
            raise AzureError(f"blob {name} holds {now.size} bytes after {len(content)} were sent, or others")
        return now

    def _list(self) -> dict[str, _Blob]:
        if self._remote is None or time.monotonic() - self._listed > LIST_SECONDS:
            from azure.core.exceptions import ResourceExistsError

            container = self._service().get_container_client(self.container)
            with contextlib.suppress(ResourceExistsError):
                container.create_container()
            self._remote = {blob.name: _blob(blob) for blob in container.list_blobs()}
            self._listed = time.monotonic()
        return self._remote

    def _service(self) -> Any:
        if self._client is None:
            from azure.storage.blob import BlobServiceClient

            self._client = BlobServiceClient.from_connection_string(
                self.connection_string,
                retry_total=0,  # the next pass is the retry
                connection_timeout=CONNECT_SECONDS,
                read_timeout=IDLE_SECONDS,
                max_single_put_size=SINGLE_PUT,
            )
        return self._client


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def _blob(properties: Any) -> _Blob:
    # A list gives the bare etag, a head the quoted one; a condition takes it quoted.
    etag = '"' + properties.etag.strip('"') + '"'
    return _Blob(int(properties.size), bytes(properties.content_settings.content_md5 or b""), etag)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}".splitlines()[0]


def carrier_of(site: Site) -> Carrier:
    """The carrier of a site's devices."""
    return Carrier(site.blob.private.connection_string, {device.name: device.share for device in site.devices})


def carry_once(site: Site, whole: float = WHOLE_SECONDS) -> Carried:
    """Carry until everything that is on the devices' shares now is up; return what this call uploaded.

    Raises:
        UnreachableError: The store did not take it within `whole` seconds.
    """
    from azure.core.exceptions import AzureError

    carrier, deadline = carrier_of(site), time.monotonic() + whole
    files = size = 0
    try:
        while True:
            trouble = "files kept changing"
            try:
                carried = carrier.once()
                files, size = files + carried.files, size + carried.bytes
                if not carried.waiting:
                    return Carried(files=files, bytes=size, waiting=0)
            except AzureError as error:
                trouble = _first_line(error)
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"the devices' files were not carried within {whole:.0f} s: {trouble}",
                    left="the files, on the devices' shares",
                    next="check the connection edgeloop_private and that the site's blob server is up",
                )
            time.sleep(POLL_SECONDS)
    finally:
        carrier.close()


def run(carrier: Carrier, stop: threading.Event) -> None:
    """Carry until `stop` is set; one line for each pass that carried, and for each trouble when it begins and ends."""
    from azure.core.exceptions import AzureError

    trouble = ""
    while not stop.wait(POLL_SECONDS):
        try:
            carried = carrier.once()
        except (AzureError, OSError) as error:
            if type(error).__name__ != trouble:
                print(f"waiting: {_first_line(error)}", flush=True)
            trouble = type(error).__name__
            continue
        if trouble or carried.files:
            print(f"carried: {carried.files} files, {carried.bytes} bytes", flush=True)
        trouble = ""


def main(arguments: list[str] | None = None) -> int:
    """Carry a site's device shares until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m lab.carrier", description=main.__doc__)
    parser.add_argument("--site", default="demo")
    chosen = parser.parse_args(arguments)
    try:
        carrier = carrier_of(sites.load(sites.state_of(chosen.site)))
    except EdgeloopError as error:
        print(error, file=sys.stderr)
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    print(f"carrying {len(carrier.folders)} devices of site {chosen.site}", flush=True)
    run(carrier, stop)
    carrier.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
