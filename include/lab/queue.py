"""Azurite's queue service for a site that is up: the queues of its storage accounts, for whoever needs them.

No part of a site: nothing of the loop needs it but a pipeline with ``source.nudge``.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab import blob, keys, processes
from lab.describe import layout_of
from lab.probes import await_health, http_status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.layout import Layout
    from lab.site import Site

NAME = "queue"
_DEADLINE_S = 60.0
_REFUSED = (400, 403)  # an unsigned question; any answer of these shows that Azurite is up


def main_script(cache: Path) -> Path:
    """Azurite's queue server in the cache shared by all sites."""
    return blob.main_script(cache).parents[1] / "queue" / "main.js"


def serve_command(layout: Layout, port: int) -> list[str]:
    """The command that serves the queues of both accounts on this machine only."""
    where = ["--queueHost", "127.0.0.1", "--queuePort", str(port), "--location", str(layout.state / NAME)]
    return [str(blob.node()), str(main_script(layout.cache)), *where, "--skipApiVersionCheck", "--disableTelemetry"]


@contextmanager
def serving(site: Site) -> Iterator[str]:
    """The queue service of the site's private account, while it is needed; gives a connection string with both."""
    layout = layout_of(site)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    (layout.state / NAME).mkdir(exist_ok=True)
    secrets = keys.ensure(layout)
    processes.stop(layout, NAME, deadline=10.0)  # a test run that was killed left it
    accounts = f"{blob.PRIVATE}:{secrets.private_key};{blob.CLOUD}:{secrets.cloud_key}"
    processes.spawn(layout, NAME, serve_command(layout, port), env={"AZURITE_ACCOUNTS": accounts})
    try:
        await_health(
            NAME,
            lambda: http_status("127.0.0.1", port, f"/{blob.PRIVATE}?comp=list") in _REFUSED,
            layout.state / "logs" / f"{NAME}.log",
            _DEADLINE_S,
        )
        text = site.blob.private.connection_string.rstrip(";")
        yield f"{text};QueueEndpoint=http://127.0.0.1:{port}/{blob.PRIVATE};"
    finally:
        processes.stop(layout, NAME, deadline=10.0)
