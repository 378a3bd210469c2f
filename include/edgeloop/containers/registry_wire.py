"""One request to a registry: the login it asks for, three time-outs, retries of what is worth one, and clear errors.

CONNECT_SECONDS to find it, IDLE_SECONDS between two signs of life, and a deadline that whoever asks sets for the whole.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

from edgeloop.containers import registry_problems as problems
from edgeloop.containers.auth import Login, Reply, scope_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from edgeloop.containers.endpoint import RegistryEndpoint

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 30.0
WHOLE_SECONDS = 120.0
"""For a question with all its retries."""
RETRIES = 4
BACKOFF_SECONDS = 0.25
CHUNK_BYTES = 256 * 1024
MOST_BYTES = 512 * 1024 * 1024
"""Of an answer that is kept in memory."""
UNTRUSTED = ("CERTIFICATE_VERIFY", "WRONG_VERSION", "UNKNOWN_PROTOCOL", "record layer", "mismatch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer of a registry."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: ``doing`` is what it is for, in the words of an error; statuses in ``good`` are an answer.

    ``path`` is from ``/v2`` on, or a whole address that the registry gave. ``push`` asks for the right to push to
    ``repository``.
    """

    method: str
    path: str
    doing: str
    repository: str = ""
    push: bool = False
    good: tuple[int, ...] = (200,)
    headers: Mapping[str, str] = field(default_factory=dict)
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """When a whole undertaking must be done."""

    seconds: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """From now on."""
        return cls(seconds=seconds, at=time.monotonic() + seconds)

    @property
    def passed(self) -> bool:
        """Whether it is too late."""
        return time.monotonic() > self.at


class CutError(Exception):
    """A request was cut off, or answered with what a busy or starting registry answers; worth another try."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error
        """What to raise if no try is left."""


@dataclass(slots=True)
class Wire:
    """Requests to one registry, over connections that are kept."""

    endpoint: RegistryEndpoint
    _session: requests.Session | None = None
    _login: Login | None = None

    @property
    def login(self) -> Login:
        """How to get in there."""
        if self._login is None:
            self._login = Login(self.endpoint, self._ask)
        return self._login

    def send(self, call: Call, deadline: Deadline | None = None) -> Answer:
        """One request, tried again while that is worth it; raises the house's errors for any other status."""
        until = deadline or Deadline.after(WHOLE_SECONDS)
        return self._patiently(lambda: self.once(call, until), until)

    def once(self, call: Call, deadline: Deadline) -> Answer:
        """As :meth:`send`, a single time; raises ``CutError`` for what is worth another."""
        scope = scope_of(call.repository, push=call.push)
        url = self.resolve(call.path)
        # What a registry signs elsewhere needs no login, and gets none.
        ours = urlsplit(url).netloc == urlsplit(self.endpoint.url).netloc
        answer = self._request(url, call, self.login.header(scope) if ours else "", deadline)
        if answer.status == problems.UNAUTHORIZED and ours:
            said = answer.headers.get("WWW-Authenticate", "")
            if self.login.answer(said, scope):
                answer = self._request(url, call, self.login.header(scope), deadline)
        if answer.status in call.good:
            return answer
        error = problems.answered(self.endpoint, call.doing, answer.status, answer.body)
        if answer.status in problems.RETRYABLE and not problems.full(answer.body):
            raise CutError(error)
        raise error

    def resolve(self, location: str) -> str:
        """A whole address: what the registry gave may be relative; refuses one that would leave TLS."""
        url = urljoin(self.endpoint.url + "/", location)
        if urlsplit(url).scheme != "https" and not self.endpoint.insecure:
            raise problems.leaves_tls(self.endpoint, url)
        return url

    def _patiently(self, once: Callable[[], Answer], deadline: Deadline) -> Answer:
        """``once``, and again after a moment while it is cut off."""
        for tried in range(1, RETRIES + 1):
            try:
                return once()
            except CutError as cut:
                if tried == RETRIES or deadline.passed:
                    raise cut.error from cut
                time.sleep(BACKOFF_SECONDS * 2**tried)
        raise AssertionError

    def _ask(
        self, url: str, *, query: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None, auth: str = ""
    ) -> Reply:
        """A request for a token."""
        deadline = Deadline.after(WHOLE_SECONDS)
        call = Call(
            method="POST" if form else "GET",
            path=f"{url}?{urlencode(query)}" if query else url,
            doing="log in",
            headers={"Content-Type": "application/x-www-form-urlencoded"} if form else {},
            data=urlencode(form).encode() if form else b"",
        )

        def once() -> Answer:
            answer = self._request(call.path, call, auth, deadline)
            if answer.status in problems.RETRYABLE:
                raise CutError(problems.answered(self.endpoint, call.doing, answer.status, answer.body))
            return answer

        answer = self._patiently(once, deadline)
        return Reply(status=answer.status, body=answer.body)

    def _request(self, url: str, call: Call, auth: str, deadline: Deadline) -> Answer:
        import requests
        from urllib3.util import SKIP_HEADER

        # What requests adds of itself says what goes without saying, and weighed as much as the questions.
        silent = {"Accept": None, "Connection": None, "Accept-Encoding": SKIP_HEADER}

        # urllib3 sends a body under the time-out for connecting, and a registry may well take that long to write it.
        connect = IDLE_SECONDS if call.data else CONNECT_SECONDS
        try:
            with self._open().request(
                call.method,
                url,
                headers={**silent, "User-Agent": "edgeloop", **call.headers},
                data=call.data,
                # Without one of ours, requests would put a login of ~/.netrc in its place.
                auth=lambda request: _with(request, auth),
                timeout=(connect, IDLE_SECONDS),
                stream=True,
                allow_redirects=call.method in {"GET", "HEAD"},
                # Given with the request: a session's own would yield to REQUESTS_CA_BUNDLE.
                verify=self.endpoint.ca_file or True,
            ) as reply:
                return Answer(status=reply.status_code, headers=reply.headers, body=self._read(reply, call, deadline))
        except requests.exceptions.SSLError as error:
            if any(one in str(error) for one in UNTRUSTED):
                raise problems.untrusted(self.endpoint, problems.short(error)) from error
            raise CutError(problems.silent(self.endpoint, call.doing, problems.short(error))) from error
        except OSError as error:
            if isinstance(error, requests.exceptions.InvalidURL) or "invalid path" in str(error):
                raise problems.unusable(self.endpoint, problems.short(error)) from error
            raise CutError(problems.silent(self.endpoint, call.doing, problems.short(error))) from error

    def _read(self, reply: requests.Response, call: Call, deadline: Deadline) -> bytes:
        data = bytearray()
        for chunk in reply.iter_content(CHUNK_BYTES):
            data.extend(chunk)
            if deadline.passed:
                raise problems.late(self.endpoint, call.doing, deadline.seconds)
            if len(data) > MOST_BYTES:
                raise problems.silent(self.endpoint, call.doing, f"its answer is larger than {MOST_BYTES} bytes")
        return bytes(data)

    def _open(self) -> requests.Session:
        import requests

        if self._session is None:
            self._session = requests.Session()
        return self._session


def _with(request: requests.PreparedRequest, auth: str) -> requests.PreparedRequest:
    if auth:
        request.headers["Authorization"] = auth
    return request
