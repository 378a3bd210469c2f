"""A Docker archive of one new layer on layers that the far side has, written to disk and sent in pieces."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.packaging.layer import EPOCH, RUN_FIELDS
from edgeloop.records import canonical_json, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeloop.containers.engine import EngineImage

PIECE = 1 << 20
FOLDER_MODE, FILE_MODE, PROGRAM_MODE = 0o755, 0o644, 0o755


def pack(folder: Path, target: Path, *, below: str) -> None:
    """Tar the files of a folder under ``below``: sorted, of root, dated 0, every parent an entry; always the same."""
    above = below.split("/")
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for depth in range(1, len(above) + 1):
            tar.addfile(_folder("/".join(above[:depth])))
        for path in sorted(folder.rglob("*"), key=lambda one: one.relative_to(folder).parts):
            name = f"{below}/{path.relative_to(folder).as_posix()}"
            if path.is_symlink():
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(info)
            elif path.is_dir():
                tar.addfile(_folder(name))
            else:
                info, status = tarfile.TarInfo(name), path.stat()
                info.size, info.mode = status.st_size, PROGRAM_MODE if status.st_mode & 0o100 else FILE_MODE
                with path.open("rb") as data:
                    tar.addfile(info, data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What ``docker load`` takes: ``config`` is the image's description, whose sha256 is its id."""

    config: bytes
    manifest: bytes
    layer: Path

    @classmethod
    def on(cls, base: EngineImage, layer: Path, labels: dict[str, str], name: str) -> Archive:
        """``layer`` on the layers of ``base``, which are left out: the engine looks each up by its digest first."""
        run: dict[str, Any] = {one: base.config[one] for one in RUN_FIELDS if base.config.get(one)}
        run["Labels"] = {**base.labels, **labels}
        config = canonical_json(
            {
                "architecture": base.architecture,
                "os": base.os,
                "created": EPOCH,
                "config": run,
                "rootfs": {"type": "layers", "diff_ids": [*base.layers, f"sha256:{_sha256(layer)}"]},
                "history": [{"created": EPOCH, "created_by": "edgeloop"}] * (len(base.layers) + 1),
            }
        )
        absent = [f"base/{one.removeprefix('sha256:')}.tar" for one in base.layers]
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": [*absent, "layer.tar"]}]
        return cls(config=config, manifest=canonical_json(manifest), layer=layer)

    @property
    def image_id(self) -> str:
        """The id that Docker gives the image."""
        return f"sha256:{sha256_hex(self.config)}"

    def chunks(self) -> Iterator[bytes]:
        """The archive piece by piece; no more than a piece is in memory."""
        for name, body in (("config.json", self.config), ("manifest.json", self.manifest)):
            yield _head(name, len(body)) + body + _padding(len(body))
        size = self.layer.stat().st_size
        yield _head("layer.tar", size)
        with self.layer.open("rb") as data:
            while piece := data.read(PIECE):
                yield piece
        yield _padding(size) + b"\0" * (2 * tarfile.BLOCKSIZE)


def _head(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, FILE_MODE
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return b"\0" * (-size % tarfile.BLOCKSIZE)


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, FOLDER_MODE
    return info


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
