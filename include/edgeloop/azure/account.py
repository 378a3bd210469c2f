"""Where a storage account answers, and the SDK client that speaks to it as it must be spoken to."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop.azure.entra import tokens
from edgeloop.azure.features import Features, features_of, refuse_newer
from edgeloop.azure.problems import refuses_token
from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from azure.core.pipeline import PipelineRequest, PipelineResponse
    from azure.storage.blob import BlobServiceClient, ContainerClient

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.azure.entra import Entra, Tokens

CONNECT_SECONDS = 5
IDLE_SECONDS = 30
RETRIES = 4
BLOCK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAccount:
    """A storage account, opened by ``connection_string`` or, at ``url``, by ``entra``.

    Args:
        connection: The Airflow connection id that errors name.
        connection_string: With a key or a SharedAccessSignature.
        url: The address of its blob service, for ``entra``.
        entra: Who logs in there with Entra ID.
        api_version: x-ms-version to speak; "" for the preset's, or the SDK's own.
        preset: ``azure``, ``stack_hub`` or ``stack_edge``.
        ca_file: Certificates of the CA that signed the service's; "" for those that the machine trusts.
        secret_field: Which field of the connection holds key or SAS, for errors.
    """

    connection: str
    connection_string: str = field(default="", repr=False)
    url: str = ""
    entra: Entra | None = None
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

    @property
    def narrow(self) -> bool:
        """Whether what opens the account may be good for one container only, and then cannot make any."""
        return self.entra is not None or self.shared_access

    def endpoint(self, service: str) -> str:
        """Where ``blob`` or ``queue`` answers to tokens; raises ``ConfigurationError`` where none may go."""
        where = urlsplit(self.url)
        if where.scheme != "https":
            raise ConfigurationError(
                f"host of connection {self.connection!r} is {self.url}, without TLS: whoever listens on the way could "
                "use the token of Entra ID for an hour.",
                left="nothing was sent",
                next=f"Write https:// into host of {self.connection!r}, or use the account's key or a SAS there.",
            )
        if service == "blob":
            return self.url
        account, found, rest = where.netloc.partition(".blob.")
        if not found:
            # A queue service at another address has no field in the connection, and must not be made up.
            raise ConfigurationError(
                f"host of connection {self.connection!r} is {where.netloc}; where the account's {service} service "
                "answers follows only from a name like <account>.blob.<...>.",
                left="the queue as it is; the source is looked at by the cron sweep",
                next=f"Write the account's own name into host of {self.connection!r}.",
            )
        return f"https://{account}.{service}.{rest}"

    def container(self, name: str) -> BlobContainer:
        """The container ``name``, made if it is not there."""
        from edgeloop.azure.blob import BlobContainer

        return BlobContainer(self, name)

    def client(self, container: str) -> ContainerClient:
        """The SDK's client; raises ``ConfigurationError`` if the connection cannot be used."""
        from azure.storage.blob import ContainerClient

        options = self._options()
        if self.entra is not None:
            url, credential = self.endpoint("blob"), tokens(self.entra)
            try:
                return ContainerClient(url, container, credential=credential, **options)
            except ValueError as error:
                raise self._unusable(error) from None
        try:
            return ContainerClient.from_connection_string(self.connection_string, container, **options)
        except ValueError:
            # The SDK's message and the error's cause may hold a piece of the string, and with it of the key.
            raise ConfigurationError(
                f"{self.secret_field} of connection {self.connection!r} is no connection string.",
                left="nothing was started",
                next="Copy it again from the storage account; it reads 'DefaultEndpointsProtocol=...;AccountName=...'.",
            ) from None

    def _unusable(self, error: ValueError) -> ConfigurationError:
        said = str(error).partition("\n")[0]
        return ConfigurationError(
            f"host or extra.api_version of connection {self.connection!r} cannot be used: {said}",
            left="nothing was started",
            next="Write https://<account>.blob.<...> into host, and an x-ms-version that this SDK knows, or none.",
        )

    def service(self, entra: Entra) -> BlobServiceClient:
        """The SDK's client for what concerns the whole account, opened by ``entra``."""
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient(self.endpoint("blob"), credential=tokens(entra), **self._options())

    def _options(self) -> dict[str, Any]:
        features = self.features
        return {
            **self.transport(RETRIES),
            "max_single_put_size": BLOCK_BYTES,
            "max_block_size": BLOCK_BYTES,
            "raw_request_hook": lambda request: _guard(features, request),
        }

    def transport(self, retries: int) -> dict[str, Any]:
        """What every client of the account is made with: limits, its version, its CA, and a look at refused tokens."""
        # The SDK logs forty lines of headers for every request at INFO, and [logging] namespace_levels does not hold
        # in a task's process (seen on 3.3.2): a task's own lines drowned in them.
        logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)
        options: dict[str, Any] = {
            "connection_timeout": CONNECT_SECONDS,
            "read_timeout": IDLE_SECONDS,
            # The SDK's own pause of 15 s and more keeps a task on a dead account for minutes; these take about 20.
            "retry_total": retries,
            "initial_backoff": 1,
            "increment_base": 2,
            "random_jitter_range": 1,
            # The SDK would send a block once more to whatever host a 307 names.
            "permit_redirects": False,
        }
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
        if self.entra is not None:
            kept = tokens(self.entra)
            options["raw_response_hook"] = lambda response: _look(kept, response)
        return options


def _guard(features: Features, request: PipelineRequest[Any]) -> None:
    refuse_newer(features, request.http_request.headers, request.http_request.query)


def _look(kept: Tokens, response: PipelineResponse[Any, Any]) -> None:
    """Forget a refused token before the SDK asks for another, which would be the same one."""
    answer = response.http_response
    if refuses_token(answer.status_code, answer.headers.get("x-ms-error-code") or ""):
        kept.refused(answer.request.headers.get("Authorization") or "")
