"""The base's layers as a registry keeps them: packed once on this worker, the same bytes every time, found by digest.

A layer is named by the digest of its unpacked tar, a registry names it by its packed one, and another zlib packs
otherwise. So once an image was pushed, the store says for ever how each layer of its base is packed: a worker that
would pack it otherwise names it as the first did, and the registry has it.

    <folder>/<unpacked digest>/<packed digest>-<size>.tar.gz      packed here
    <folder>/<unpacked digest>/inventory.json                     what is inside
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from edgeloop.containers.content import OCI_LAYER, Content, Descriptor
from edgeloop.errors import IntegrityError
from edgeloop.packaging import inventory
from edgeloop.packaging.inventory import Inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LEVEL = 6
PIECE = 1 << 20
PACKED, INVENTORY = "*.tar.gz", "inventory.json"
PART = ".part-"
LEFT_SECONDS = 24 * 3600.0
"""What a killed worker left half packed goes after so long."""
KEPT_SECONDS = 90 * 24 * 3600.0
"""A layer that no image was made of for so long is of a base that is gone."""

_HELD: dict[Path, tuple[int, int, int]] = {}
"""Packed files that this process has unpacked and found right, as they were then."""


def folder() -> Path:
    """Where this worker keeps packed layers: below ``EDGELOOP_CACHE``, else below the user's own cache."""
    root = os.environ.get("EDGELOOP_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "edgeloop"
    return Path(root).expanduser() / "layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Late(Content):
    """A blob that is looked for when somebody reads it: most registries have it already."""

    make: Callable[[], Path]

    def open(self) -> BinaryIO:
        """A reader of the file that ``make`` finds or makes."""
        return self.make().open("rb")


@dataclass(frozen=True, slots=True)
class Layers:
    """Packed layers in a folder; several tasks of a worker may use it at once."""

    root: Path

    def find(self, diff_id: str) -> tuple[Descriptor, Inventory] | None:
        """How a layer is packed here and what is inside, without reading it; None if it is not here."""
        home = self._home(diff_id)
        try:
            said = Inventory.from_json((home / INVENTORY).read_text(encoding="utf-8"))
            path = next(home.glob(PACKED))
        except (OSError, ValueError, KeyError, StopIteration):
            return None
        with contextlib.suppress(OSError):
            os.utime(home)
        digest, _, size = path.name.removesuffix(".tar.gz").partition("-")
        return _descriptor(digest, int(size)), said

    def file(self, diff_id: str, wanted: Descriptor) -> Path | None:
        """The packed file, its bytes compared with their digest; one that was changed is thrown away."""
        path = self._home(diff_id) / _name(wanted)
        try:
            with path.open("rb") as stream:
                if "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest() == wanted.digest:
                    return path
        except FileNotFoundError:
            return None
        path.unlink(missing_ok=True)
        return None

    def holds(self, diff_id: str, wanted: Descriptor) -> bool:
        """Whether the packed file unpacks to the layer it is kept for; one that does not is thrown away."""
        path, digest = self._home(diff_id) / _name(wanted), hashlib.sha256()
        if (seen := _stamp(path)) is not None and seen == _HELD.get(path):
            return True
        try:
            with gzip.open(path) as stream:
                while piece := stream.read(PIECE):
                    digest.update(piece)
        except (OSError, EOFError, zlib.error):
            digest = hashlib.sha256()
        if seen is not None and "sha256:" + digest.hexdigest() == diff_id:
            _HELD[path] = seen
            return True
        path.unlink(missing_ok=True)
        return False

    def take(self, archive: Iterable[bytes], wanted: Iterable[str]) -> None:
        """Pack the layers ``wanted`` out of a docker-archive as it streams by; memory holds a few MB of it."""
        missing = set(wanted)
        self.root.mkdir(parents=True, exist_ok=True)
        self._forget()
        # An archive that ends early lacks a layer, and that is said below.
        with (
            contextlib.suppress(tarfile.TarError),
            tarfile.open(fileobj=_reader(archive), mode="r|", bufsize=PIECE) as tar,
        ):
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() else None
                if stream is not None and (member.name.endswith("layer.tar") or "blobs/sha256/" in member.name):
                    missing.discard(self._pack(cast("BinaryIO", stream), missing))
        if missing:
            raise IntegrityError(
                f"The engine gave the base image without its layers {', '.join(sorted(missing))}.",
                left="the engine's images and the layers packed so far",
                next="Pull or build the base image again on the engine, then clear the build task.",
            )

    def _pack(self, stream: BinaryIO, missing: set[str]) -> str:
        """Pack one file of an archive; returns the layer that it is, or "" if it is none that is wanted."""
        with tempfile.TemporaryDirectory(dir=self.root, prefix=PART) as scratch:
            part = Path(scratch) / "packed"
            with part.open("wb") as target:
                with gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=target, mtime=0) as packed:
                    tee = _Tee(_unpacked(stream), packed)
                    said = _inventory(tee)
                diff_id = "sha256:" + tee.digest.hexdigest()
            if diff_id not in missing:
                return ""
            with part.open("rb") as packed_file:
                digest = hashlib.file_digest(packed_file, "sha256").hexdigest()
            home = self._home(diff_id)
            home.mkdir(exist_ok=True)
            name = _name(_descriptor(digest, part.stat().st_size))
            part.replace(home / name)
            for old in home.glob(PACKED):
                if old.name != name:
                    old.unlink(missing_ok=True)
            note = Path(scratch) / INVENTORY
            note.write_text(said.to_json(), encoding="utf-8")
            note.replace(home / INVENTORY)
            return diff_id

    def _home(self, diff_id: str) -> Path:
        return self.root / diff_id.removeprefix("sha256:")

    def _forget(self) -> None:
        now = time.time()
        for home in self.root.iterdir():
            kept = LEFT_SECONDS if home.name.startswith(PART) else KEPT_SECONDS
            with contextlib.suppress(FileNotFoundError):
                if home.stat().st_mtime < now - kept:
                    shutil.rmtree(home, ignore_errors=True)


class _Tee:
    """A stream that packs and hashes whatever is read from it."""

    def __init__(self, source: BinaryIO, packed: gzip.GzipFile) -> None:
        self.source, self.packed, self.digest = source, packed, hashlib.sha256()

    def read(self, size: int = PIECE) -> bytes:
        piece = self.source.read(size)
        self.digest.update(piece)
        self.packed.write(piece)
        return piece


class _Pieces(io.RawIOBase):
    """What an engine sends, as a stream."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces: Iterator[bytes] = iter(pieces)
        self.rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self.rest:
            piece = next(self.pieces, None)
            if piece is None:
                return 0
            self.rest = piece
        size = min(len(target), len(self.rest))
        target[:size], self.rest = self.rest[:size], self.rest[size:]
        return size


def _reader(pieces: Iterable[bytes]) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(_Pieces(pieces), PIECE))


def _unpacked(stream: BinaryIO) -> BinaryIO:
    """The layer's tar: an engine with containerd's store gives layers as they were pulled, packed."""
    buffered = stream if hasattr(stream, "peek") else io.BufferedReader(cast("io.RawIOBase", stream), PIECE)
    packed = cast("io.BufferedReader", buffered).peek(2)[:2] == b"\x1f\x8b"
    return cast("BinaryIO", gzip.GzipFile(fileobj=buffered, mode="rb") if packed else buffered)


def _inventory(tee: _Tee) -> Inventory:
    """Read the layer's tar to its last byte; what is no tar has no packages."""
    said = Inventory()
    with (
        contextlib.suppress(tarfile.ReadError),
        tarfile.open(fileobj=cast("Any", tee), mode="r|", bufsize=PIECE) as tar,
    ):
        said = inventory.read(tar)
    while tee.read():
        pass
    return said


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file's bytes; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_ctime_ns


def _descriptor(digest: str, size: int) -> Descriptor:
    return Descriptor(media_type=OCI_LAYER, digest=f"sha256:{digest}", size=size)


def _name(packed: Descriptor) -> str:
    return f"{packed.digest.removeprefix('sha256:')}-{packed.size}.tar.gz"
