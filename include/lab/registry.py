"""The container registry: Debian's docker-registry, plain HTTP on the site's own network, deletes allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab import processes, tools
from lab.probes import await_health, http_status

if TYPE_CHECKING:
    from pathlib import Path

    from lab.layout import Layout

_DEADLINE_S = 30.0
_OK = 200


def config(layout: Layout) -> str:
    """The text of config.yml."""
    return f"""version: 0.1
log:
  level: info
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {layout.state}/registry
  delete:
    enabled: true
http:
  addr: {layout.registry}
  relativeurls: true
  headers:
    X-Content-Type-Options: [nosniff]
"""


def serve_command(conf: Path) -> list[str]:
    """The command that serves the registry."""
    return [tools.path("docker-registry"), "serve", str(conf)]


class RegistryServer:
    """The part `registry`."""

    name = "registry"
    needs: tuple[str, ...] = ("network",)

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def healthy(self) -> bool:
        """Whether it answers the API's version question."""
        if processes.find(self._layout, self.name) is None:
            return False
        return http_status(self._layout.gateway, self._layout.ports.registry, "/v2/") == _OK

    def start(self) -> None:
        """Write the configuration, serve, and await an answer."""
        layout = self._layout
        self.stop()
        layout.home("registry").mkdir(parents=True, exist_ok=True)
        conf = layout.home("registry") / "config.yml"
        conf.write_text(config(layout))
        processes.spawn(layout, self.name, serve_command(conf))
        await_health(self.name, self.healthy, layout.state / "logs" / f"{self.name}.log", _DEADLINE_S)

    def stop(self) -> bool:
        """End it."""
        return processes.stop(self._layout, self.name)
