"""The files a job of Azure ML runs: the pipeline's pinned folder, the driver, and what the dataset consists of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop.azure_ml import in_job, job_body
from edgeloop.azure_ml.jobs import API_VERSION
from edgeloop.errors import CloudError, ConflictError, UnreachableError
from edgeloop.records import canonical_json, sha256_hex
from edgeloop.training.dataset import dataset_json, file_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.catalog import Snapshot
    from edgeloop.records import Dataset, ModelVersion

PENDING: Mapping[str, str] = {"pendingUploadType": "TemporaryBlobReference"}
CONNECT_SECONDS, IDLE_SECONDS, RETRIES = 10, 60, 4


def files_of(snapshot: Snapshot, dataset: Dataset, champion: ModelVersion | None) -> dict[str, bytes]:
    """Everything that is uploaded, by name. No row of the data is in it: paths, sizes, digests and the pinned texts."""
    wanted: dict[str, Any] = {
        "files": [
            {"name": name, "path": file.path, "size": file.size, "sha256": file.sha256}
            for name, file in zip(file_names(dataset), dataset.files, strict=True)
        ]
    }
    if champion is not None:
        wanted["champion"] = {"path": champion.blob, "size": champion.size, "sha256": champion.sha256}
    return {
        **{name: text.encode() for name, text in snapshot.files},
        in_job.DATASET: dataset_json(dataset, snapshot.spec),
        in_job.WANTED: canonical_json(wanted),
        job_body.DRIVER: Path(in_job.__file__).read_bytes(),
    }


def digest_of(files: Mapping[str, bytes]) -> str:
    """What names the files together."""
    return sha256_hex(canonical_json({name: sha256_hex(data) for name, data in files.items()}))


def ensure_code(arm: ArmClient, workspace: str, files: Mapping[str, bytes]) -> str:
    """See to it that the workspace has these files as a code version; returns its ARM id.

    The version is written last, so one that is there is whole; a try that died before left blobs that nothing names.

    Raises:
        CloudError: The workspace gave no place to upload to, or storage refused.
        UnreachableError: Storage did not answer.
    """
    digest = digest_of(files)
    path = job_body.code_path(workspace, digest)
    if arm.find(path, API_VERSION) is not None:
        return path
    place = arm.post(f"{path}/startPendingUpload", API_VERSION, PENDING).get("blobReferenceForConsumption") or {}
    sas, uri = str((place.get("credential") or {}).get("sasUri") or ""), str(place.get("blobUri") or "")
    if not sas.startswith("https://") or not uri:
        raise CloudError(
            f"The workspace gave no place to upload the code of job files {digest[:12]} to.",
            left="nothing was submitted",
            next="Does the workspace have a default datastore with access by key or SAS? See the studio, under Data.",
        )
    _upload(sas, files)
    try:
        arm.put(path, API_VERSION, job_body.code_body(uri.partition("?")[0], digest))
    except ConflictError:
        # Somebody else uploaded the same files at the same time, elsewhere: theirs are as good.
        if arm.find(path, API_VERSION) is None:
            raise
    return path


def _upload(sas: str, files: Mapping[str, bytes]) -> None:
    """Write every file below the address that the SAS opens; the SAS itself is in no message."""
    from azure.core.exceptions import AzureError, HttpResponseError
    from azure.storage.blob import ContainerClient

    where = urlsplit(sas)
    container, _, folder = where.path.strip("/").partition("/")
    client = ContainerClient.from_container_url(
        where._replace(path=f"/{container}").geturl(),
        connection_timeout=CONNECT_SECONDS,
        read_timeout=IDLE_SECONDS,
        retry_total=RETRIES,
    )
    try:
        with client:
            for name, data in sorted(files.items()):
                client.upload_blob(f"{folder}/{name}" if folder else name, data, overwrite=True)
    except HttpResponseError as error:
        raise CloudError(
            f"The workspace's storage {where.hostname} refused the job's code: {error.status_code} {error.reason}.",
            left="nothing was submitted",
            next="May the workers reach that account (firewall, private endpoint)? Then clear the task.",
        ) from None
    except AzureError as error:
        raise UnreachableError(
            f"The workspace's storage {where.hostname} does not answer: {type(error).__name__}.",
            left="nothing was submitted",
            next="Check the network from the worker (HTTPS_PROXY, DNS, port 443), then clear the task.",
        ) from None


def ensure_environment(arm: ArmClient, workspace: str, image: str) -> str:
    """See to it that the workspace has the image as an environment version; returns its ARM id."""
    path = job_body.environment_path(workspace, image)
    if arm.find(path, API_VERSION) is None:
        try:
            arm.put(path, API_VERSION, job_body.environment_body(image))
        except ConflictError:
            if arm.find(path, API_VERSION) is None:
                raise
    return path
