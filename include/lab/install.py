"""What the lab needs from Debian and npm, and how it gets there: only what is missing, no service is started."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lab import blob, tools
from lab.errors import MissingToolError, NeedsRootError
from lab.progress import told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.progress import Progress

# Debian package -> the program that shows it is there.
PACKAGES = {
    "debsecan": "debsecan",
    "docker.io": "dockerd",
    "docker-registry": "docker-registry",
    "iproute2": "ip",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "openssh-server": "sshd",
    "samba": "smbd",
}
_POLICY = Path("/usr/sbin/policy-rc.d")
_APT_DEADLINE_S = 900.0


def missing() -> list[str]:
    """The Debian packages whose program is not there."""
    return [package for package, program in PACKAGES.items() if shutil.which(program, path=tools.PATH) is None]


def install_commands(packages: list[str]) -> list[list[str]]:
    """The commands that install `packages`; none when there are none."""
    if not packages:
        return []
    # The recommended packages are graphical helpers, zfs and apparmor profiles.
    return [["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *packages]]


def install(cache: Path, progress: Progress) -> list[str]:
    """Install what is missing; returns the Debian packages that were. Raises NeedsRootError with what it would do."""
    packages = missing()
    if packages:
        require_root("install Debian packages", [" ".join(command) for command in install_commands(packages)])
        with told(progress, "packages", "started"), _no_services():
            for command in install_commands(packages):
                tools.run(command, deadline=_APT_DEADLINE_S, env={"DEBIAN_FRONTEND": "noninteractive"})
    else:
        with told(progress, "packages", "found"):
            pass
    with told(progress, "azurite", "found" if blob.main_script(cache).exists() else "started"):
        blob.ensure_installed(cache)
    return packages


def check() -> None:
    """Raise MissingToolError when a package is missing."""
    if packages := missing():
        what = f"Debian packages are missing: {', '.join(packages)}"
        raise MissingToolError(what, left="nothing was started", next="python -m lab install")


def require_root(purpose: str, would_do: list[str]) -> None:
    """Raise NeedsRootError, naming what would be done, unless this is root."""
    if os.geteuid() != 0:
        steps = "\n".join(f"  {step}" for step in would_do)
        what = f"only root can {purpose}; it would do:\n{steps}"
        raise NeedsRootError(what, left="nothing was changed", next="the same command as root (sudo)")


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep apt from starting smbd, sshd, dockerd and a registry of the machine's own on the ports we need."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
