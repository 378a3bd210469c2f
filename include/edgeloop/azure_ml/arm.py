"""Azure Resource Manager by hand: a few requests with pinned api-versions, three time-outs and explicit polling.

The SDKs of the services that are asked for little cost seconds to import, send api-versions of their own choosing and
cannot express some of what is needed (a VM attached by its address). This is azure-core's pipeline with its own
policies for tokens and retries, and nothing that follows redirects or registers providers unasked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from edgeloop.azure_ml import identity as who
from edgeloop.azure_ml import problems
from edgeloop.errors import CloudError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from azure.core import PipelineClient
    from azure.core.pipeline.policies import RetryPolicy
    from azure.core.rest import HttpRequest, HttpResponse

    from edgeloop.azure_ml.identity import Identity

WHOLE_SECONDS = 120.0
"""For one request with all its retries, waits that the service asked for included."""
OPERATION_SECONDS = 900.0
"""For a long-running operation, from the request that began it."""
POLL_SECONDS = 5.0
"""Between two looks at a long-running operation, where the service names no time."""
MOST_PAGES = 1000
RETRIES = 4
BACKOFF = 0.5
OK, CREATED, ACCEPTED, NO_CONTENT, OTHER = 200, 201, 202, 204, 300
DONE, BROKEN = "Succeeded", ("Failed", "Canceled")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmEndpoint:
    """Where ARM answers and who asks there: a cloud's, or ``https://management.<region>.<fqdn>`` of a Stack Hub."""

    identity: Identity
    url: str = ""
    """"" is the one of the identity's cloud."""
    scope: str = ""
    """What tokens are for; "" is ``<url>/.default``."""
    whole_seconds: float = WHOLE_SECONDS
    operation_seconds: float = OPERATION_SECONDS

    @property
    def base(self) -> str:
        """The address without a slash at its end."""
        return (self.url or self.identity.where.arm).rstrip("/")


class ArmClient:
    """Requests to one ARM endpoint, and to data planes that take its tokens; use as a context manager."""

    def __init__(self, endpoint: ArmEndpoint, *, transport: Any = None) -> None:
        from azure.mgmt.core import ARMPipelineClient

        self.endpoint = endpoint
        self._pipeline: PipelineClient[Any, Any] = ARMPipelineClient(
            endpoint.base, policies=_policies(endpoint), **({"transport": transport} if transport else {})
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipeline.close()

    def find(self, path: str, version: str, *, query: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """GET a resource, or None where there is none."""
        try:
            return self.get(path, version, query=query)
        except NotFoundError:
            return None

    def get(self, path: str, version: str, *, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """GET a resource; raises ``NotFoundError``."""
        return self.body(self.send("GET", path, version, query=query))

    def pages(self, path: str, version: str, *, query: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """Everything of a listing, page after page; raises ``NotFoundError``."""
        page = self.get(path, version, query=query)
        for _ in range(MOST_PAGES):
            yield from page.get("value") or ()
            if not page.get("nextLink"):
                return
            self._require_same_host(str(page["nextLink"]))
            page = self.get(str(page["nextLink"]), "")
        raise CloudError(
            f"The listing {path} has no end: {MOST_PAGES} pages and still more.",
            left="what is there, as it is",
            next="Look for a proxy that answers for Azure, then clear the task.",
        )

    def put(self, path: str, version: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """PUT a resource and wait until Azure has made it; raises ``CloudError`` with Azure's words if it could not.

        The answer is that of the PUT: a property that Azure fills in later is in :meth:`get`.
        """
        reply = self.send("PUT", path, version, body=body)
        self.wait(reply, path)
        return self.body(reply)

    def post(
        self, path: str, version: str, body: Mapping[str, Any] | None = None, *, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """POST an action and wait until it is done; returns what it came to."""
        return self.body(self.wait(self.send("POST", path, version, body=body, query=query), path))

    def delete(self, path: str, version: str, *, query: Mapping[str, str] | None = None) -> bool:
        """DELETE a resource and wait until it is gone; whether there was one."""
        try:
            reply = self.send("DELETE", path, version, query=query)
        except NotFoundError:
            return False
        self.wait(reply, path)
        return bool(reply.status_code != NO_CONTENT)

    def send(
        self,
        method: str,
        path: str,
        version: str = "",
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """One request with its retries; raises the house's errors for every answer that is none.

        Args:
            method: The HTTP method.
            path: From ``/subscriptions`` on, or a whole https URL of a data plane.
            version: The api-version, "" for a data plane without one.
            body: Sent as JSON.
            query: Beside the api-version.
        """
        from azure.core.rest import HttpRequest

        params = {**(query or {}), **({"api-version": version} if version else {})}
        url = path if path.startswith("https://") else self.endpoint.base + path
        request = HttpRequest(method, url, params=params, json=body)
        reply = self._sent(request)
        if reply.status_code >= OTHER:
            raise problems.answered(self.endpoint, method, url, reply)
        return reply

    def _sent(self, request: HttpRequest) -> HttpResponse:
        from azure.core.exceptions import AzureError

        try:
            reply: HttpResponse = self._pipeline.send_request(
                request,
                connection_timeout=who.CONNECT_SECONDS,
                read_timeout=who.IDLE_SECONDS,
                timeout=self.endpoint.whole_seconds,
            )
        except AzureError as error:
            raise problems.silent(self.endpoint, error) from error
        return reply

    def wait(self, reply: HttpResponse, path: str) -> HttpResponse:
        """Follow a long-running operation to its end and return the last answer: ``reply`` itself if it began none.

        Raises ``CloudError`` for one that failed and ``UnreachableError`` for one that goes on after
        ``operation_seconds``; the next try finds what it left.
        """
        where = reply.headers.get("Azure-AsyncOperation") or reply.headers.get("Location")
        if not where or reply.status_code not in {OK, CREATED, ACCEPTED}:
            return reply
        self._require_same_host(where)
        until, follows_status = (
            time.monotonic() + self.endpoint.operation_seconds,
            "Azure-AsyncOperation" in reply.headers,
        )
        while True:
            pause = min(_retry_after(reply) or POLL_SECONDS, max(until - time.monotonic(), 0.0))
            if not pause:
                raise self._endless(path)
            time.sleep(pause)
            reply = self.send("GET", where)
            if not follows_status and reply.status_code != ACCEPTED:
                return reply
            if follows_status and _succeeded(self.body(reply), path):
                return reply

    def _require_same_host(self, url: str) -> None:
        """The address of an operation or of a next page comes from an answer, and the token goes where it leads."""
        named, ours = urlsplit(url.casefold()), urlsplit(self.endpoint.base.casefold())
        if (named.scheme, named.netloc) != (ours.scheme, ours.netloc):
            raise CloudError(
                f"Azure told connection {self.endpoint.identity.connection!r} to go on at "
                f"{urlsplit(url).netloc}, which is not {urlsplit(self.endpoint.base).netloc}; the token stays here.",
                left="what was begun goes on in Azure",
                next="Look for a proxy that answers for Azure, then clear the task.",
            )

    def _endless(self, path: str) -> UnreachableError:
        return UnreachableError(
            f"Azure has not finished {path} in {self.endpoint.operation_seconds:g} s "
            f"(connection {self.endpoint.identity.connection!r}).",
            left="the operation, which goes on in Azure",
            next="Look at it in the portal's activity log; the next try finds what became of it.",
        )

    def body(self, reply: HttpResponse) -> dict[str, Any]:
        """An answer's JSON object, ``{}`` for one without content; raises ``CloudError`` for anything else."""
        if not reply.content:
            return {}
        try:
            return dict(reply.json())
        except (ValueError, TypeError) as error:
            raise CloudError(
                f"{urlsplit(str(reply.request.url)).hostname} answered {reply.status_code} with something that is no "
                "JSON object.",
                left="whatever Azure did; the next try looks first",
                next="Look for a proxy or a login page that answers for Azure, then clear the task.",
            ) from error


def _succeeded(body: Mapping[str, Any], path: str) -> bool:
    status = body.get("status", DONE)
    if status in BROKEN:
        raise problems.failed(path, status, body.get("error") or {})
    return bool(status == DONE)


def _retry_after(reply: HttpResponse) -> float:
    try:
        return float(reply.headers.get("Retry-After") or 0)
    except ValueError:
        return 0.0


def _policies(endpoint: ArmEndpoint) -> list[Any]:
    from azure.core.pipeline.policies import (
        HeadersPolicy,
        ProxyPolicy,
        RequestIdPolicy,
        UserAgentPolicy,
    )
    from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

    import edgeloop

    return [
        RequestIdPolicy(),
        HeadersPolicy(),
        UserAgentPolicy(base_user_agent=f"edgeloop/{edgeloop.__version__}"),
        ProxyPolicy(),
        _patience(endpoint.whole_seconds),
        ARMChallengeAuthenticationPolicy(endpoint.identity.credential(), endpoint.scope or f"{endpoint.base}/.default"),
    ]


def _patience(whole: float) -> RetryPolicy[Any, Any]:
    from azure.core.pipeline.policies import RetryPolicy

    class Patience(RetryPolicy[Any, Any]):
        """azure-core's own sleeps as long as it is told to: a Retry-After of an hour would hold a worker for it."""

        def is_retry(self, settings: dict[str, Any], response: Any) -> bool:
            if (self.get_retry_after(response) or 0) > whole:
                return False
            return super().is_retry(settings, response)

    return Patience(
        retry_total=RETRIES,
        retry_connect=2,
        retry_read=2,
        retry_status=RETRIES,
        retry_backoff_factor=BACKOFF,
        retry_backoff_max=30,
    )
