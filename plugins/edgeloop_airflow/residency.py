"""What tasks and triggers of an ``on_premises`` pipeline ask before they reach for a VM or a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.configuration import conf

from edgeloop import catalog
from edgeloop.residency import permits
from edgeloop.residency_guard import require_configuration, require_hosts, require_local_logs
from edgeloop_airflow import hooks

if TYPE_CHECKING:
    from edgeloop.azure.queue import MessageQueue
    from edgeloop.pipeline import Pipeline
    from edgeloop.ssh.endpoint import Endpoint


def training_vm(spec: Pipeline) -> Endpoint:
    """The VM that data is staged on; raises ``ResidencyError`` if data or the training's words would leave the site."""
    require_configuration(spec)
    require_local_logs(spec, remote=remote_logs())
    endpoint = hooks.ssh_endpoint(spec.training.connection)
    require_hosts(spec, endpoint.connection, endpoint.hosts, what="training data")
    return endpoint


def remote_logs() -> str:
    """Where Airflow sends task logs, or "" if they stay on its own disk."""
    if not conf.getboolean("logging", "remote_logging", fallback=False):
        return ""
    return conf.get("logging", "remote_base_log_folder", fallback="") or "a remote log service"


def require_queue_at_home(queue: MessageQueue) -> None:
    """Raise ``ResidencyError`` if file names of an ``on_premises`` pipeline would pass through a queue elsewhere."""
    for one in catalog.load().pipelines:
        nudge = one.spec.source.nudge
        if nudge is not None and nudge.connection == queue.account.connection and not permits(one.spec, "event_names"):
            require_hosts(one.spec, nudge.connection, queue.hosts, what="names of files")
