"""Transport of the REST client: login, a fresh token when one is refused, retries within a deadline, time-outs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx

from edgeloop.errors import EdgeloopError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = 100
"""Airflow answers at most this many items per request (`[api] maximum_page_limit`), whatever is asked."""

PAUSE = 0.5
_TRY_AGAIN = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_SHOWN = 600


class AirflowApiError(EdgeloopError):
    """Airflow refused a request; `status` is the HTTP status."""

    def __init__(self, what: str, *, left: str = "", next: str = "", status: int = 0) -> None:  # noqa: A002
        super().__init__(what, left=left, next=next)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds: to connect, between two reads, and for one call with all its retries."""

    connect: float = 5.0
    idle: float = 30.0
    whole: float = 60.0


@dataclass(slots=True)
class AirflowHttp:
    """Authenticated calls to one Airflow as one user."""

    url: str
    user: str
    password: str = field(repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    _token: str = field(default="", repr=False)
    _client: httpx.Client = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # A proxy of the user's environment must not carry the site's own calls.
        timeout = httpx.Timeout(self.timeouts.idle, connect=self.timeouts.connect)
        self._client = httpx.Client(base_url=self.url, timeout=timeout, trust_env=False)

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

    def call(self, method: str, path: str, *, params: dict[str, Any] | None = None, body: Any = None) -> Any:
        """One request below `/api/v2`; the decoded JSON, or None without a body.

        Raises:
            UnreachableError: Nothing answered within `timeouts.whole`.
            AirflowApiError: Airflow refused; its own words are in the message.
        """
        if not self._token:
            self._token = self._login()
        answer = self._send(method, f"/api/v2{path}", params=params, body=body)
        if _stale_token(answer):
            self._token = self._login()
            answer = self._send(method, f"/api/v2{path}", params=params, body=body)
        return self._decoded(method, path, answer)

    def public(self, path: str) -> Any:
        """GET without a login and without retries, for questions asked while Airflow starts."""
        return self._decoded("GET", path, self._client.get(f"/api/v2{path}"))

    def items(self, path: str, name: str, params: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Every item of a paged list that Airflow returns under `name`."""
        offset = 0
        while True:
            page = self.call("GET", path, params={**(params or {}), "limit": PAGE, "offset": offset})[name]
            yield from page
            if len(page) < PAGE:
                return
            offset += PAGE

    def _login(self) -> str:
        body = {"username": self.user, "password": self.password}
        answer = self._send("POST", "/auth/token", params=None, body=body)
        return str(self._decoded("POST", "/auth/token", answer)["access_token"])

    def _send(self, method: str, path: str, *, params: dict[str, Any] | None, body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}

        def once() -> httpx.Response:
            return self._client.request(method, path, params=params, json=body, headers=headers)

        return self._patiently(once, method=method, path=path)

    def _patiently(self, once: Callable[[], httpx.Response], *, method: str, path: str) -> httpx.Response:
        deadline = time.monotonic() + self.timeouts.whole
        while True:
            try:
                answer = once()
                if not _again(method, answer.status_code) or time.monotonic() > deadline:
                    return answer
            except httpx.TransportError as error:
                # A POST that was sent may have been done: only a refused connection is safe to repeat.
                safe = method != "POST" or isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                if not safe or time.monotonic() > deadline:
                    raise UnreachableError(
                        f"Airflow at {self.url} did not answer {method} {path}: {error!r}.",
                        left="Whatever had been asked before." if safe else "It may have been done all the same.",
                        next="look at the parts' logs in the site's state folder, airflow/parts/*.log",
                    ) from error
            time.sleep(PAUSE)

    def _decoded(self, method: str, path: str, answer: httpx.Response) -> Any:
        if answer.is_success:
            return answer.json() if answer.content else None
        said = answer.text[:_SHOWN]
        raise AirflowApiError(
            f"Airflow answered {answer.status_code} to {method} {path} as {self.user}: {said}",
            left="Everything: a refused request changes nothing.",
            next=f"check what was asked against {self.url}/docs",
            status=answer.status_code,
        )


def _stale_token(answer: httpx.Response) -> bool:
    # An expired token gets 401; one of other keys (the site was made anew) gets 403 with these words.
    forbidden = answer.status_code == HTTPStatus.FORBIDDEN and "Invalid JWT token" in answer.text
    return forbidden or answer.status_code == HTTPStatus.UNAUTHORIZED


def _again(method: str, status: int) -> bool:
    # 503 says that nothing was done; the others leave it open, so a POST is not repeated after them.
    if method == "POST":
        return status == HTTPStatus.SERVICE_UNAVAILABLE
    return status in _TRY_AGAIN
