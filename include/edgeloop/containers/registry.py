"""A container registry, asked over its own HTTP API: what it really holds, never what an engine says it pushed.

The API is the OCI distribution specification; manifests are taken in its form and in Docker's schema 2.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import IntegrityError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    from edgeloop.containers.endpoint import RegistryEndpoint

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 30.0
WHOLE_SECONDS = 120.0
CHUNK_BYTES = 256 * 1024
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
NOT_FOUND, ERRORS = 404, 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One blob of an image: its digest (``sha256:...``) and size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An image in a registry; ``digest`` is the sha256 of the bytes that were read, ``config`` is the image's id."""

    digest: str
    config: Blob
    layers: tuple[Blob, ...]


class Registry:
    """One registry. Every method raises ``UnreachableError`` if it does not answer in time."""

    def __init__(self, endpoint: RegistryEndpoint) -> None:
        self.endpoint = endpoint

    def find(self, repository: str, reference: str) -> Manifest | None:
        """The manifest of a tag or digest, or None; raises ``IntegrityError`` if its bytes are not their digest's."""
        answer = self._get(f"/v2/{repository}/manifests/{reference}", accept=", ".join(MANIFESTS))
        if answer is None:
            return None
        digest = "sha256:" + hashlib.sha256(answer).hexdigest()
        if reference.startswith("sha256:") and reference != digest:
            raise IntegrityError(
                f"The registry of connection {self.endpoint.connection!r} answers {digest} when asked for {reference}.",
                left="the registry as it is",
                next="Delete that manifest from the registry and push the image again.",
            )
        body = json.loads(answer)
        return Manifest(
            digest=digest,
            config=_blob(body["config"]),
            layers=tuple(_blob(one) for one in body["layers"]),
        )

    def get(self, repository: str, reference: str) -> Manifest:
        """As :meth:`find`, but raises ``NotFoundError``."""
        found = self.find(repository, reference)
        if found is None:
            raise NotFoundError(
                f"The registry of connection {self.endpoint.connection!r} has no {repository} {reference}.",
                left="its other images",
                next="Clear the push task of that image.",
            )
        return found

    def exists(self, repository: str, reference: str) -> bool:
        """Whether the registry holds that tag or digest."""
        return self.find(repository, reference) is not None

    def config(self, repository: str, manifest: Manifest) -> dict[str, Any]:
        """The image's configuration as stored: environment, command, labels, layers."""
        raw = self._get(f"/v2/{repository}/blobs/{manifest.config.digest}", accept="*/*")
        if raw is None or "sha256:" + hashlib.sha256(raw).hexdigest() != manifest.config.digest:
            raise IntegrityError(
                f"The registry of connection {self.endpoint.connection!r} lost or changed {manifest.config.digest}.",
                left="the registry as it is",
                next="Clear the push task of that image.",
            )
        body: dict[str, Any] = json.loads(raw)
        return body

    def _get(self, path: str, *, accept: str) -> bytes | None:
        import requests

        login = (self.endpoint.user, self.endpoint.password) if self.endpoint.user else None
        deadline = time.monotonic() + WHOLE_SECONDS
        try:
            with requests.get(
                self.endpoint.url + path,
                headers={"Accept": accept},
                auth=login,
                timeout=(CONNECT_SECONDS, IDLE_SECONDS),
                stream=True,
            ) as answer:
                if answer.status_code == NOT_FOUND:
                    return None
                if answer.status_code >= ERRORS:
                    raise self._unreachable(f"it answered {answer.status_code} {answer.reason}")
                data = bytearray()
                for chunk in answer.iter_content(CHUNK_BYTES):
                    data.extend(chunk)
                    if time.monotonic() > deadline:
                        raise self._unreachable(f"not done after {WHOLE_SECONDS:.0f} s")
                return bytes(data)
        except (requests.RequestException, OSError) as error:
            raise self._unreachable(str(error)) from error

    def _unreachable(self, why: str) -> UnreachableError:
        return UnreachableError(
            f"The registry of connection {self.endpoint.connection!r} at {self.endpoint.host} did not answer: {why}",
            left="what it holds",
            next=f"Check `curl {self.endpoint.url}/v2/` and the connection's login; then clear the task.",
        )


def _blob(body: dict[str, Any]) -> Blob:
    return Blob(digest=body["digest"], size=body["size"])
