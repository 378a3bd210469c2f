"""The model as an image layer and the image around it, byte for byte the same wherever and whenever they are made.

A build would stamp times into both, and every device would then pull and every registry keep what it has already.
"""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

from edgeloop.records import canonical_json, sha256_hex

if TYPE_CHECKING:
    from edgeloop.containers.engine import EngineImage

RUN_FIELDS = (
    "Env",
    "Entrypoint",
    "Cmd",
    "User",
    "WorkingDir",
    "ExposedPorts",
    "Healthcheck",
    "StopSignal",
    "Volumes",
    "Labels",
)
EPOCH = "1970-01-01T00:00:00Z"
FILE_MODE, FOLDER_MODE = 0o644, 0o755


def pack(files: dict[str, bytes]) -> bytes:
    """A tar of ``files`` (path -> content) and the folders above them: sorted, of root, dated 0."""
    folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(folders | set(files)):
            info = tarfile.TarInfo(path)
            if path in folders:
                info.type, info.mode = tarfile.DIRTYPE, FOLDER_MODE
                tar.addfile(info)
            else:
                info.size, info.mode = len(files[path]), FILE_MODE
                tar.addfile(info, io.BytesIO(files[path]))
    return buffer.getvalue()


def model_layer(model: bytes, card: dict[str, Any]) -> bytes:
    """The layer with ``/model/model.onnx`` and ``/model/model.json`` (``card``)."""
    return pack({"model/model.onnx": model, "model/model.json": canonical_json(card)})


def base_digest(base: EngineImage) -> str:
    """What an image stands on: the sha256 of its layers and of what its containers run with.

    An image id would not do: it holds the time of the build, so two engines would disagree about the same base.
    """
    return sha256_hex(canonical_json({"layers": list(base.layers), "config": _run_config(base)}))


def config(base: EngineImage, layer: bytes, labels: dict[str, str], created: str = EPOCH) -> bytes:
    """The configuration of ``base`` plus ``layer``; its sha256 is the image's id on every engine and every device.

    It depends on the base's layers, the layer, the labels and ``created`` alone (RFC 3339; never the clock's time).
    """
    run = _run_config(base)
    run["Labels"] = {**base.labels, **labels}
    return canonical_json(
        {
            "architecture": base.architecture,
            "os": base.os,
            "created": created,
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [*base.layers, "sha256:" + sha256_hex(layer)]},
            "history": [{"created": EPOCH, "created_by": "edgeloop"}] * (len(base.layers) + 1),
        }
    )


def archive(base: EngineImage, layer: bytes, configuration: bytes, name: str) -> bytes:
    """A docker-archive of ``layer`` on ``base``, called ``name``, without the layers the engine has already."""
    # The engine looks each layer up by its digest first and opens only the file of one that it lacks.
    absent = [f"base/{digest.removeprefix('sha256:')}.tar" for digest in base.layers]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": [*absent, "model.tar"]}]
    return pack({"config.json": configuration, "manifest.json": canonical_json(manifest), "model.tar": layer})


def _run_config(base: EngineImage) -> dict[str, Any]:
    return {field: base.config[field] for field in RUN_FIELDS if base.config.get(field)}
