"""Fleets: looking at devices, switching them, restoring them. ``SshDockerFleet`` has one Docker engine per device.

A device that does not answer raises ``UnreachableError`` naming its connection, within the shell's time-outs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgeloop.errors import ConfigurationError, RemoteCommandError, RolloutFailedError, UnreachableError
from edgeloop.rollout import commands, pull_login
from edgeloop.rollout.asking import AskError, ask
from edgeloop.rollout.bytes_ahead import Fetched, read_held, read_pull
from edgeloop.rollout.commands import Scorer
from edgeloop.rollout.device import Found, digest_of, read, restore_step, switch_step
from edgeloop.rollout.gate import Observation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeloop.containers.endpoint import PullLogin
    from edgeloop.packaging.golden import Golden
    from edgeloop.rollout.bytes_ahead import Held
    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.ssh.shell import Completed, Shell

Login = Callable[[str], "PullLogin | None"]
"""What a device needs to pull a reference; None where its registry lets everybody pull."""
PULL_SECONDS = 900.0
COMMAND_SECONDS = 60.0
MOST_STEPS = 12
SILENT = (0, 503)
"""No answer at all, and that of a scorer which cannot log what it would predict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An edge device: where it answers SSH, and its local share as the device itself sees it."""

    endpoint: Endpoint
    share: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a ring should serve: ``reference`` by digest, the model's name and its golden rows.

    ``image`` is the id of the image's record.
    """

    reference: str
    model: str
    golden: Golden
    image: str = ""

    @property
    def digest(self) -> str:
        """``sha256:...`` of the reference."""
        return digest_of(self.reference)


class Fleet(Protocol):
    """What a rollout needs of the devices; every action finds what is already so and does nothing then."""

    def held(self, site: str) -> tuple[Held, ...]:
        """Every image on the device."""
        ...

    def prefetch(self, site: str, reference: str) -> Fetched:
        """Bring the image to the device without running it."""
        ...

    def look(self, site: str) -> Found:
        """What the device has."""
        ...

    def switch(self, site: str, reference: str) -> tuple[str, ...]:
        """Make ``reference`` serve, the one before it kept stopped; returns what was done."""
        ...

    def restore(self, site: str, bad: str, before: str) -> tuple[str, ...]:
        """Bring ``before`` back where ``bad`` is; returns what was done."""
        ...

    def observe(self, site: str, wanted: Wanted) -> Observation:
        """How the device does, asked at the port that the plant uses."""
        ...


class SshDockerFleet:
    """Devices reached over SSH, each with its own engine; ``devices`` by site."""

    def __init__(self, pipeline: str, devices: Mapping[str, Device], port: int, login: Login = lambda _: None) -> None:
        self.pipeline, self.devices, self.port, self.login = pipeline, dict(devices), port, login

    def held(self, site: str) -> tuple[Held, ...]:
        """Every image on the device; one that goes while they are listed is left out."""
        with self._shell(site) as shell:
            done = shell.run(commands.held(), timeout=COMMAND_SECONDS)
            _require_engine(shell, done, "no such image")
            return read_held(done.out.decode())

    def prefetch(self, site: str, reference: str) -> Fetched:
        """Pull ``reference`` unless the device has it. Raises ``RemoteCommandError`` if the pull is refused."""
        with self._shell(site) as shell:
            return _pull(shell, reference, self.login)

    def look(self, site: str) -> Found:
        """What the device has under the scorer's names."""
        with self._shell(site) as shell:
            return _look(shell, self._scorer(site))

    def switch(self, site: str, reference: str) -> tuple[str, ...]:
        """Step by step to ``reference``; returns the commands. A container that will not start is left to the gate."""
        scorer = self._scorer(site)
        with self._shell(site) as shell:
            _pull(shell, reference, self.login)
            return _converge(shell, scorer, lambda found: switch_step(found, scorer, reference))

    def restore(self, site: str, bad: str, before: str) -> tuple[str, ...]:
        """Step by step from ``bad`` to ``before``; returns the commands."""
        scorer = self._scorer(site)
        with self._shell(site) as shell:
            if before:
                _pull(shell, before, self.login)
            return _converge(shell, scorer, lambda found: restore_step(found, scorer, bad, before))

    def observe(self, site: str, wanted: Wanted) -> Observation:
        """One look at a device; a device out of reach is an observation too."""
        try:
            with self._shell(site) as shell:
                return self._observe(shell, site, wanted)
        except (UnreachableError, RemoteCommandError) as error:
            return Observation(site=site, unreachable=error.what)

    def answers(self, site: str) -> bool:
        """Whether the device's scorer says that it is ready."""
        with self._shell(site) as shell:
            return _ready(shell, self.port)

    def serving(self, site: str) -> tuple[str, tuple[str, ...]]:
        """What runs on the device: the reference it was started from, and the digests its image was pulled under."""
        with self._shell(site) as shell:
            current = _look(shell, self._scorer(site)).current
            if current is None or not current.running:
                return "", ()
            return current.reference, _digests(shell, current.image_id)

    def logs(self, site: str) -> str:
        """The last lines of the device's scorer."""
        with self._shell(site) as shell:
            return shell.run(commands.logs(self._scorer(site).name), timeout=COMMAND_SECONDS).text

    def _observe(self, shell: Shell, site: str, wanted: Wanted) -> Observation:
        current = _look(shell, self._scorer(site)).current
        if current is None:
            return Observation(site=site)
        digest = wanted.digest in _digests(shell, current.image_id)
        ready = digest and current.running and _ready(shell, self.port)
        wrong = _differing(shell, self.port, wanted) if ready else None
        return Observation(
            site=site,
            status=current.status,
            digest=digest,
            restarts=current.restarts,
            started_at=current.started_at,
            ready=wrong is not None,
            wrong=wrong or "",
        )

    def _shell(self, site: str) -> Shell:
        from edgeloop.ssh.shell import Shell

        return Shell(self._device(site).endpoint)

    def _scorer(self, site: str) -> Scorer:
        return Scorer(pipeline=self.pipeline, site=site, share=self._device(site).share, port=self.port)

    def _device(self, site: str) -> Device:
        if site not in self.devices:
            raise ConfigurationError(
                f"Site {site!r} has no device in this fleet.", next="Add it to 'sites' in pipeline.yaml."
            )
        return self.devices[site]


def _pull(shell: Shell, reference: str, login: Login) -> Fetched:
    if shell.run(commands.has_image(reference), timeout=COMMAND_SECONDS).exit == 0:
        return Fetched(found=True)
    if (needed := login(reference)) is None:
        done = shell.check(commands.pull(reference), timeout=PULL_SECONDS)
    else:
        done = shell.check(pull_login.pull(reference), stdin=pull_login.stdin(needed), timeout=PULL_SECONDS)
    return read_pull(done.text)


def _digests(shell: Shell, image_id: str) -> tuple[str, ...]:
    """The manifest digests (``sha256:...``) under which the engine pulled an image."""
    pulled = shell.run(commands.digests(image_id), timeout=COMMAND_SECONDS)
    # An engine that was away for this one command would else be a device that runs another image.
    _require_engine(shell, pulled, "no such image")
    known: list[str] = json.loads(pulled.text or "[]") if pulled.exit == 0 else []
    return tuple(digest_of(one) for one in known)


def _look(shell: Shell, scorer: Scorer) -> Found:
    done = shell.run(commands.inspect(scorer), timeout=COMMAND_SECONDS)
    _require_engine(shell, done, "no such container")
    return read(done.out.decode(), scorer)


def _require_engine(shell: Shell, done: Completed, missing: str) -> None:
    """Raise ``RemoteCommandError`` unless a command succeeded or said of what it was asked only ``missing``."""
    if done.exit == 0:
        return
    said = [line.strip() for line in done.err.splitlines() if line.strip()]
    other = [line for line in said if missing not in line.lower()]
    if said and not other:
        return
    # One that was killed says nothing, and nothing said is not "nothing there".
    why = other[0] if other else f"its command ended with exit code {done.exit} and gave no reason"
    raise RemoteCommandError(
        f"The Docker engine behind connection {shell.endpoint.connection!r} does not answer: {why}",
        left="the device's containers",
        next=f"Log in to {shell.endpoint.host} and look at `docker version` and the engine's log.",
    )


def _converge(shell: Shell, scorer: Scorer, step: Callable[[Found], str]) -> tuple[str, ...]:
    """Look and do one step until nothing is left to do; the same step refused twice is left as it is."""
    done: list[str] = []
    for _ in range(MOST_STEPS):
        command = step(_look(shell, scorer))
        if not command:
            return tuple(done)
        refused = shell.run(command, timeout=COMMAND_SECONDS)
        if refused.exit != 0 and done and done[-1] == command:
            raise RemoteCommandError(
                f"Connection {shell.endpoint.connection!r}: {command} was refused twice: {refused.err.strip()[-400:]}",
                left="the containers as they are; the next try goes on from there",
                next="Read the message; the rollout's gate restores the device if this was the new image.",
            )
        done.append(command)
    raise RolloutFailedError(
        f"Connection {shell.endpoint.connection!r} did not settle within {MOST_STEPS} steps: {'; '.join(done[-3:])}",
        left="the containers as they are",
        next="See who else starts and stops the scorer on that device.",
    )


def _ready(shell: Shell, port: int) -> bool:
    try:
        ask(shell, port, "/v2/health/ready")
    except AskError:
        return False
    return True


def _differing(shell: Shell, port: int, wanted: Wanted) -> str | None:
    """Why the golden answers are not the model's; None if the scorer gave none, which proves nothing."""
    try:
        answer = ask(shell, port, f"/v2/models/{wanted.model}/infer", wanted.golden.request())
    except AskError as error:
        # 503 is the device's trouble, not the model's: its share takes no log now.
        return f"refused the golden rows with {error}" if error.status not in SILENT else None
    return wanted.golden.differing(answer)
