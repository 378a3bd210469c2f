"""Checks of what the loop did against the outside parts themselves, never against Edgeloop's own records alone.

Every function reads the part (the share over SMB, blob bytes, the registry's manifest, a device's engine and its HTTP
answers), compares, and returns one sentence of what was seen. What does not hold raises ``LoopProofError``.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING

import httpx

from edgeloop.errors import EdgeloopError
from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.pipeline import Pipeline
    from edgeloop.records import Batch, Certificate, DriftVerdict, ModelImage, ModelVersion
    from lab.site import Device, Site

HTTP_SECONDS = 20.0
ROWS = 50
ROUNDED = 1e-6  # a verdict keeps six digits
MANIFEST_TYPES = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


class LoopProofError(EdgeloopError):
    """An outside part is not as the loop says."""


def _hold(condition: object, what: str) -> None:
    if not condition:
        raise LoopProofError(what, left="everything as it is", next="look at the part itself, then at the task's log")


def share(site: Site, spec: Pipeline, batches: Iterable[Batch]) -> str:
    """The claimed files, read back over SMB, have the sizes and digests that were claimed."""
    import smbclient

    one, count, size = site.share, 0, 0
    smbclient.register_session(one.host, username=one.user, password=one.password, port=one.port)
    for batch in batches:
        for file in batch.files:
            name = file.path.rsplit("/", 1)[-1]
            path = rf"\\{one.host}\{one.share}\{spec.source.folder}\{name}"
            with smbclient.open_file(path, mode="rb", port=one.port) as handle:
                content = handle.read()
            _hold(sha256_hex(content) == file.sha256, f"{path} is not the file that was claimed")
            count, size = count + 1, size + len(content)
    return f"{count} files, {size / 1e6:.1f} MB read over SMB"


def certified(blobs: BlobContainer, certificates: Iterable[Certificate]) -> str:
    """The Parquet blobs hash to what was certified and hold the certified number of rows."""
    import pyarrow.parquet as pq

    count = rows = 0
    for certificate in certificates:
        here = 0
        for file in certificate.files:
            content = blobs.get(file.path)
            _hold(sha256_hex(content) == file.sha256, f"blob {file.path} is not what was certified")
            here += pq.read_metadata(io.BytesIO(content)).num_rows
            count += 1
        _hold(here == certificate.rows, f"certificate of {certificate.group} says {certificate.rows} rows, not {here}")
        rows += here
    return f"{count} blobs, {rows} rows read back"


def vm_clean(site: Site) -> str:
    """No training container is left on the VM's engine."""
    import docker

    client = docker.DockerClient(base_url=site.vm.docker, timeout=20)
    left = [one.name for one in client.containers.list(all=True)]
    _hold(not left, f"containers are left on the VM: {', '.join(left)}")
    return "no container left on the VM"


def model(blobs: BlobContainer, version: ModelVersion) -> str:
    """The registered bytes hash to the version's digest and load."""
    import onnxruntime as ort

    content = blobs.get(version.blob)
    _hold(sha256_hex(content) == version.sha256, f"blob {version.blob} is not v{version.version}")
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return f"{len(content)} bytes hash and load, input {session.get_inputs()[0].name}"


def image(site: Site, pushed: ModelImage, version: ModelVersion) -> str:
    """The registry's manifest hashes to the digest, and its last layer holds the registered model's bytes."""
    repository = pushed.reference.split("@", 1)[0].split("/", 1)[1]
    base = f"http://{site.registry.host}/v2/{repository}"
    with httpx.Client(timeout=HTTP_SECONDS) as client:
        manifest = client.get(f"{base}/manifests/{pushed.digest}", headers={"Accept": MANIFEST_TYPES}).content
        _hold(f"sha256:{sha256_hex(manifest)}" == pushed.digest, "the registry's manifest is not the recorded digest")
        layer = json.loads(manifest)["layers"][-1]
        content = client.get(f"{base}/blobs/{layer['digest']}", follow_redirects=True).content
    _hold(f"sha256:{sha256_hex(content)}" == layer["digest"], "the last layer is not its digest")
    raw = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        members = {member.name.lstrip("./"): member for member in tar.getmembers()}
        _hold("model/model.onnx" in members, "the last layer holds no model/model.onnx")
        handle = tar.extractfile(members["model/model.onnx"])
        found = sha256_hex(handle.read()) if handle else ""
    _hold(found == version.sha256, "the model in the image is not the registered one")
    return f"manifest hashes, last layer of {layer['size']} bytes holds the model"


def device(one: Device, spec: Pipeline, pushed: ModelImage, onnx: bytes) -> str:
    """The device's engine runs that digest, and the device answers rows nobody saw before as the model does."""
    import docker
    import numpy as np
    import onnxruntime as ort

    client = docker.DockerClient(base_url=one.docker, timeout=20)
    running = [found for found in client.containers.list() if found.name == f"edgeloop-scorer-{spec.name}"]
    _hold(running, f"no scorer runs on {one.name}")
    digests = client.images.get(running[0].attrs["Image"]).attrs["RepoDigests"]
    _hold(any(pushed.digest in name for name in digests), f"{one.name} runs {digests}, not {pushed.digest}")
    rng = np.random.default_rng()
    columns = [rng.uniform(feature.low, feature.high, ROWS) for feature in spec.model.features]
    rows = np.stack(columns, axis=1).astype(np.float32)
    body = {"inputs": [{"name": "X", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}]}
    url = f"http://{one.host}:{one.scorer_port}/v2/models/{spec.name}/infer"
    answer = httpx.post(url, json=body, timeout=HTTP_SECONDS)
    _hold(answer.status_code == httpx.codes.OK, f"{one.name} answers {answer.status_code}: {answer.text[:200]}")
    got = np.asarray(answer.json()["outputs"][0]["data"], dtype=np.float32).ravel()
    session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    wanted = np.asarray(session.run(None, {session.get_inputs()[0].name: rows})[0], dtype=np.float32).ravel()
    _hold(got.tobytes() == wanted.tobytes(), f"{one.name} answers differently from the registered model")
    return f"{one.name} runs the digest, {ROWS} fresh rows answered byte for byte"


def served(predictions: BlobContainer, spec: Pipeline, version: ModelVersion) -> str:
    """A model that was replaced did serve: each device's own log, in blob storage, holds answers of it."""
    counts = []
    for place in spec.sites:
        lines = (
            line
            for blob in predictions.list(f"{place.name}/predictions/")
            for line in predictions.get(blob.name).decode().splitlines()
        )
        count = sum(json.loads(line)["sha256"] == version.sha256 for line in lines)
        _hold(count, f"the log of {place.name} holds no answer of v{version.version}")
        counts.append(f"{place.name} {count}")
    return f"answers of v{version.version} in the devices' logs: {', '.join(counts)}"


def verdict(site: Site, spec: Pipeline, predictions: BlobContainer, judged: DriftVerdict, version: ModelVersion) -> str:
    """The accuracy, computed again from the devices' logs in blob storage and the historian's own CSV files."""
    right = rows = 0
    for place in spec.sites:
        known = labels(site, spec, place.name, judged.interval)
        for event_time, y in _predictions(predictions, place.name, judged.interval, version.sha256).items():
            if event_time in known:
                rows += 1
                right += abs(y - known[event_time]) < spec.model.tolerance
    _hold(rows, f"no prediction of {judged.interval} found its label")
    accuracy = right / rows
    _hold(
        rows == judged.rows, f"the verdict on {judged.interval} rests on {judged.rows} rows, outside there are {rows}"
    )
    _hold(abs(accuracy - judged.accuracy) < ROUNDED, f"accuracy {accuracy:.6f} outside, {judged.accuracy:.6f} judged")
    return f"{rows} rows joined again outside: accuracy {accuracy:.4f}"


def _predictions(container: BlobContainer, site: str, interval: str, sha256: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for blob in container.list(f"{site}/predictions/{interval}/"):
        for line in container.get(blob.name).decode().splitlines():
            row = json.loads(line)
            if row["sha256"] == sha256:
                found[instant(row["event_time"])] = float(row["y"])
    return found


def labels(site: Site, spec: Pipeline, place: str, interval: str) -> dict[str, float]:
    """Event time to label of the rows inside the model's domain, from the CSV on the share; the first of two counts."""
    import pandas as pd

    path = site.share.path / spec.source.folder / f"{place}_{interval}.csv"
    with path.open(newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row[spec.columns.target]]
    frame = pd.DataFrame(rows)
    numeric = [name for name in frame.columns if name not in (spec.columns.time, spec.columns.site)]
    frame[numeric] = frame[numeric].apply(pd.to_numeric, errors="coerce")
    kept = frame.query(spec.model.domain) if spec.model.domain else frame
    found: dict[str, float] = {}
    for when, value in zip(kept[spec.columns.time], kept[spec.columns.target], strict=True):
        found.setdefault(instant(when), float(value))
    return found


def instant(text: str) -> str:
    """The one spelling of an instant that predictions and labels are joined by."""
    from datetime import UTC, datetime

    return datetime.fromisoformat(text).astimezone(UTC).isoformat()
