"""A Docker engine: what is on it, loading and pulling images, and containers that are asked from inside.

Three time-outs hold: CONNECT_SECONDS to find the engine at all, IDLE_SECONDS between two signs of life, WHOLE_SECONDS
for a load or a pull. An engine that does not answer raises ``UnreachableError`` naming the connection.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from edgeloop.containers.stream import exchange, scan, seconds
from edgeloop.errors import EngineError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from docker import DockerClient

    from edgeloop.containers.endpoint import EngineEndpoint, PullLogin

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 60.0
SETTLE_SECONDS = 2.0
LOG_LINES = 40
CONFLICT, BEING_REMOVED = 409, "already in progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineImage:
    """An image on an engine: ``id`` is its configuration's digest, ``layers`` the digests of its unpacked layers."""

    id: str
    layers: tuple[str, ...]
    config: dict[str, Any]
    """The part of its configuration that containers run with, as the engine tells it."""
    architecture: str
    os: str
    size: int

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.config.get("Labels") or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """A container at one moment; ``started_at`` in seconds since 1970, 0.0 before its first start."""

    status: str
    exit_code: int
    restarts: int
    started_at: float
    out_of_memory: bool = False
    """Whether its own limit ended something in it."""

    @property
    def running(self) -> bool:
        """Whether its process runs now."""
        return self.status == "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command inside a container said and how it ended."""

    exit: int
    out: bytes
    err: bytes


class Engine:
    """One engine, as a context manager. Raises ``UnreachableError`` and ``EngineError`` from every method."""

    def __init__(self, endpoint: EngineEndpoint) -> None:
        self.endpoint = endpoint
        self._client: DockerClient | None = None

    def __enter__(self) -> Self:
        import docker

        with self._errors("connect"):
            # Making a client asks the engine for its version already, within this first, short time-out.
            self._client = docker.DockerClient(base_url=self.endpoint.url, timeout=int(CONNECT_SECONDS))
            self._client.api.timeout = int(IDLE_SECONDS)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def client(self) -> Any:
        """The SDK's client, for what is not wrapped here."""
        if self._client is None:
            raise EngineError("The engine is used outside its 'with' block.", next="Enter it first.")
        return self._client

    def find(self, reference: str) -> EngineImage | None:
        """The image called ``reference`` on this engine, or None."""
        import docker

        with self._errors(f"inspect image {reference}"):
            try:
                attrs = self.client.images.get(reference).attrs
            except docker.errors.ImageNotFound:
                return None
        return EngineImage(
            id=attrs["Id"],
            layers=tuple(attrs["RootFS"]["Layers"] or ()),
            config=attrs["Config"],
            architecture=attrs["Architecture"],
            os=attrs["Os"],
            size=attrs["Size"],
        )

    def get(self, reference: str) -> EngineImage:
        """As :meth:`find`, but raises ``NotFoundError``.

        A name without a tag means ``latest``, or the newest image of that name where none is called so.
        """
        found = self.find(reference)
        if found is None and ":" not in reference.rpartition("/")[2] and "@" not in reference:
            with self._errors(f"list images {reference}"):
                all_of_it = self.client.images.list(name=reference)
            if all_of_it:
                found = self.find(max(all_of_it, key=lambda one: str(one.attrs["Created"])).id)
        if found is None:
            raise NotFoundError(
                f"The engine of connection {self.endpoint.connection!r} has no image {reference}.",
                left="its other images",
                next=f"Put it there (`docker pull {reference}`, or build it), or rerun the task that makes it.",
            )
        return found

    def load(self, archive: bytes) -> None:
        """Load a docker-archive; layers that the engine has already may be left out of it."""
        with self._errors("load an image"):
            scan(self.client.api.load_image(archive), self.endpoint.connection)

    def save(self, image: str) -> Iterator[bytes]:
        """A docker-archive of a whole image, piece by piece."""
        with self._errors(f"save {image}"):
            yield from self.client.api.get_image(image)

    def tag(self, image: str, repository: str, tag: str) -> None:
        """Give an image another name."""
        with self._errors(f"tag {image}"):
            self.client.api.tag(image, repository, tag, force=True)

    def pull(self, repository: str, digest: str, login: PullLogin | None) -> None:
        """Bring ``repository@digest`` onto the engine; ``repository`` begins with the registry's host."""
        auth = None
        if login is not None:
            auth = (
                {"registrytoken": login.token} if login.token else {"username": login.user, "password": login.password}
            )
        with self._errors(f"pull {repository}@{digest}"):
            lines = self.client.api.pull(repository, tag=digest, stream=True, decode=True, auth_config=auth)
            scan(lines, self.endpoint.connection)

    def remove_image(self, reference: str) -> None:
        """Take a name off the engine; that it is not there is no error."""
        import docker

        with self._errors(f"remove image {reference}"):
            try:
                self.client.api.remove_image(reference, force=True)
            except docker.errors.ImageNotFound:
                return

    def start(self, image: str, name: str, **options: Any) -> None:
        """Start a container in the background; ``options`` as for ``docker.containers.run``."""
        with self._errors(f"run {image}"):
            self.client.containers.run(image, name=name, detach=True, **options)

    def state(self, name: str) -> ContainerState:
        """How the container is now."""
        with self._errors(f"inspect container {name}"):
            attrs = self.client.api.inspect_container(name)
        return ContainerState(
            status=attrs["State"]["Status"],
            exit_code=attrs["State"]["ExitCode"],
            restarts=attrs.get("RestartCount", 0),
            started_at=seconds(attrs["State"]["StartedAt"]),
            out_of_memory=bool(attrs["State"].get("OOMKilled")),
        )

    def logs(self, name: str) -> str:
        """The last lines a container wrote."""
        with self._errors(f"read the log of {name}"):
            return str(self.client.api.logs(name, tail=LOG_LINES).decode(errors="replace")).strip()

    def memory(self, name: str) -> int:
        """Bytes that a running container holds, page cache left out."""
        with self._errors(f"read the figures of {name}"):
            stats = self.client.api.stats(name, stream=False, one_shot=True)["memory_stats"]
        cache = stats.get("stats", {})
        return int(stats.get("usage", 0)) - int(cache.get("total_inactive_file", cache.get("inactive_file", 0)))

    def ask(self, name: str, command: list[str], stdin: bytes, *, timeout: float) -> Answer:
        """Run ``command`` inside a running container, feed it ``stdin`` and wait at most ``timeout`` s for its end."""
        with self._errors(f"run {command[0]} inside {name}"):
            handle = self.client.api.exec_create(name, command, stdin=True)["Id"]
            channel = self.client.api.exec_start(handle, socket=True)
            # The stream holds the socket open by a reference count of its own, so both are closed.
            try:
                sock = getattr(channel, "_sock", channel)
                sock.settimeout(timeout)
                out, err = exchange(sock, stdin, time.monotonic() + timeout)
            finally:
                channel.close()
            exit_code = self._exit_code(handle)
        return Answer(exit=exit_code, out=out, err=err)

    def labels(self, label: str) -> dict[str, dict[str, str]]:
        """The containers that carry ``label``, running or not: their names and all their labels."""
        with self._errors(f"list containers with {label}"):
            found = self.client.api.containers(all=True, filters={"label": label})
        return {one["Names"][0].removeprefix("/"): dict(one["Labels"]) for one in found if one["Names"]}

    def remove(self, name: str) -> None:
        """Kill and remove a container; that it is not there, or that somebody else is at it, is no error."""
        import docker

        with self._errors(f"remove container {name}"):
            try:
                self.client.api.remove_container(name, force=True, v=True)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                # Two proofs that find what a third left both remove it; the second one is refused.
                if error.status_code != CONFLICT or BEING_REMOVED not in str(error):
                    raise

    def _exit_code(self, handle: str) -> int:
        """How a command ended whose streams have ended; Docker takes a moment to know."""
        until = time.monotonic() + SETTLE_SECONDS
        while (found := self.client.api.exec_inspect(handle)["ExitCode"]) is None:
            if time.monotonic() > until:
                raise ConnectionAbortedError("its answer was cut off while the command ran")
            time.sleep(SETTLE_SECONDS / 20)
        return int(found)

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        import docker
        import requests
        import urllib3

        # A progress stream is read past requests, and its errors come as they are.
        cut = (urllib3.exceptions.HTTPError, docker.errors.StreamParseError)
        connection = self.endpoint.connection
        try:
            yield
        except docker.errors.APIError as error:
            raise EngineError(
                f"The engine of connection {connection!r} refused to {doing}: {error.explanation or error}",
                left="everything else on the engine",
                next="Read the message; if it is about space or memory, look at the engine's machine.",
            ) from error
        except (docker.errors.DockerException, requests.RequestException, OSError, *cut) as error:
            raise UnreachableError(
                f"The engine of connection {connection!r} at {self.endpoint.url} did not answer ({doing}): {error}",
                left="everything on the engine",
                next=f"Check that it runs: `docker -H {self.endpoint.url} version`; then clear the task.",
            ) from error
