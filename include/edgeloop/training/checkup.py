"""What a machine that SSH reaches is like, each part in a sentence: for the connection test of a VM or a device."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError, UnreachableError
from edgeloop.ssh import keys
from edgeloop.training.compute import CLOCK_SECONDS, MINIMUM_FREE_KIB, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.ssh.shell import Completed

LOOK_SECONDS = 20.0
AGREES_SECONDS = 5.0
COMMAND = """echo docker=$(docker version --format '{{.Server.Version}}')
echo free_kib=$(df -Pk . | awk 'NR==2 {print $4}')
echo clock=$(date +%s)"""
"""Asks and changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One part that was looked at: whether it is as it must be, and a sentence for the person who asked."""

    good: bool
    text: str


def checkup(endpoint: Endpoint) -> tuple[Finding, ...]:
    """Reachability, host key, login, Docker, disk and clock; a login that fails is the last finding."""
    from edgeloop.ssh.shell import Shell

    try:
        with Shell(endpoint) as shell:
            before = time.time()
            done = shell.run(COMMAND, timeout=LOOK_SECONDS)
    except (ConfigurationError, UnreachableError) as error:
        return (Finding(good=False, text=" ".join(str(error).split())),)
    return (*_way(endpoint), *_state(endpoint, done, before))


def _way(endpoint: Endpoint) -> Iterator[Finding]:
    yield Finding(good=True, text=f"{endpoint.way} answers.")
    kind, _ = keys.host_key(endpoint)
    pinned = endpoint.host_key[endpoint.host_key.index(kind) :]
    yield Finding(good=True, text=f"Its host key is the pinned one ({kind} {fingerprint(pinned)}).")
    proof = "a password; a private key would be better" if endpoint.by_password else "its private key"
    yield Finding(good=True, text=f"{endpoint.user} logs in with {proof}.")


def _state(endpoint: Endpoint, done: Completed, before: float) -> Iterator[Finding]:
    said = dict(line.partition("=")[::2] for line in done.text.splitlines())
    docker, free, clock = (said.get(name, "") for name in ("docker", "free_kib", "clock"))
    if docker:
        yield Finding(good=True, text=f"Docker {docker} answers.")
    else:
        why = " ".join(done.err.split())[-300:]
        yield Finding(
            good=False,
            text=f"Docker does not answer {endpoint.user} there: {why} Install it, start it, and add "
            f"{endpoint.user} to the group docker.",
        )
    yield _disk(endpoint, free)
    yield _clock(clock, before)


def _disk(endpoint: Endpoint, free: str) -> Finding:
    if not free.isdigit():
        return Finding(good=False, text=f"It does not say how much disk is free in the home of {endpoint.user}.")
    mib, least = int(free) // 1024, MINIMUM_FREE_KIB // 1024
    if int(free) < MINIMUM_FREE_KIB:
        text = f"Only {mib} MiB of disk are free, {least} are the least: remove what is not needed."
        return Finding(good=False, text=text)
    return Finding(good=True, text=f"{mib} MiB of disk are free.")


def _clock(clock: str, before: float) -> Finding:
    if not clock.isdigit():
        return Finding(good=False, text="It does not say what time it is there.")
    # Both whole seconds, and the answer took its time.
    skew = float(clock) - before if float(clock) < before else max(float(clock) - time.time(), 0.0)
    if abs(skew) >= CLOCK_SECONDS:
        return Finding(good=False, text=f"Its clock is {skew:+.0f} s off: let it follow a time server.")
    agrees = f"agrees to within {AGREES_SECONDS:g} s" if abs(skew) <= AGREES_SECONDS else f"is {skew:+.0f} s off"
    return Finding(good=True, text=f"Its clock {agrees}.")
