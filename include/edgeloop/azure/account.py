"""Where a storage account answers, and the SDK client that speaks to it as it must be spoken to."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.azure.features import Features, features_of, refuse_newer
from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from azure.core.pipeline import PipelineRequest
    from azure.storage.blob import ContainerClient

    from edgeloop.azure.blob import BlobContainer

CONNECT_SECONDS = 5
IDLE_SECONDS = 30
RETRIES = 4
BLOCK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAccount:
    """A storage account.

    Args:
        connection: The Airflow connection id that errors name.
        connection_string: With a key or a SharedAccessSignature.
        api_version: x-ms-version to speak; "" for the preset's, or the SDK's own.
        preset: ``azure``, ``stack_hub`` or ``stack_edge``.
        ca_file: Certificates of the CA that signed the service's; "" for those that the machine trusts.
        secret_field: Which field of the connection holds key or SAS, for errors.
    """

    connection: str
    connection_string: str = field(repr=False)
    api_version: str = ""
    preset: str = "azure"
    ca_file: str = ""
    secret_field: str = "extra.connection_string"  # noqa: S105 - where the secret is, not the secret

    @property
    def features(self) -> Features:
        """What the service can do; raises ``ConfigurationError`` on a version that a Stack service lacks."""
        return features_of(self.preset, self.api_version, self.connection)

    @property
    def shared_access(self) -> bool:
        """Whether it is a SAS that opens the account: it may open one container only, and not make any."""
        return "sharedaccesssignature=" in self.connection_string.lower()

    def container(self, name: str) -> BlobContainer:
        """The container ``name``, made if it is not there."""
        from edgeloop.azure.blob import BlobContainer

        return BlobContainer(self, name)

    def client(self, container: str) -> ContainerClient:
        """The SDK's client; raises ``ConfigurationError`` if the connection cannot be used."""
        from azure.storage.blob import ContainerClient

        # The SDK logs forty lines of headers for every request at INFO, and [logging] namespace_levels does not hold
        # in a task's process (seen on 3.3.2): a task's own lines drowned in them.
        logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)
        features, options = self.features, self._options()
        try:
            return ContainerClient.from_connection_string(
                self.connection_string,
                container,
                connection_timeout=CONNECT_SECONDS,
                read_timeout=IDLE_SECONDS,
                # The SDK's own pause of 15 s and more keeps a task on a dead account for minutes; these take about 20.
                retry_total=RETRIES,
                initial_backoff=1,
                increment_base=2,
                random_jitter_range=1,
                max_single_put_size=BLOCK_BYTES,
                max_block_size=BLOCK_BYTES,
                # The SDK would send a block once more to whatever host a 307 names.
                permit_redirects=False,
                raw_request_hook=lambda request: _guard(features, request),
                **options,
            )
        except ValueError:
            # The SDK's message and the error's cause may hold a piece of the string, and with it of the key.
            raise ConfigurationError(
                f"{self.secret_field} of connection {self.connection!r} is no connection string.",
                left="nothing was started",
                next="Copy it again from the storage account; it reads 'DefaultEndpointsProtocol=...;AccountName=...'.",
            ) from None

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.features.api_version:
            options["api_version"] = self.features.api_version
        if self.ca_file:
            if not Path(self.ca_file).is_file():
                raise ConfigurationError(
                    f"extra.connection_verify of connection {self.connection!r} names {self.ca_file}, and there is no "
                    "such file on this worker.",
                    left="nothing was started",
                    next="Copy the CA's certificate (PEM) there, on every worker, or correct the path.",
                )
            options["connection_verify"] = self.ca_file
        return options


def _guard(features: Features, request: PipelineRequest[Any]) -> None:
    refuse_newer(features, request.http_request.headers, request.http_request.query)
