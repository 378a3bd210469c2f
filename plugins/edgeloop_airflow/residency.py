"""Where an ``on_premises`` pipeline trains: on a VM at the site, with a log that stays there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.configuration import conf

from edgeloop.residency_guard import require_configuration, require_hosts, require_local_logs
from edgeloop_airflow import hooks

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline
    from edgeloop.ssh.endpoint import Endpoint


def training_vm(spec: Pipeline) -> Endpoint:
    """The VM that data is staged on; raises ``ResidencyError`` if data or the training's words would leave the site."""
    require_configuration(spec)
    require_local_logs(spec, remote=remote_logs())
    endpoint = hooks.ssh_endpoint(spec.training.connection)
    require_hosts(spec, endpoint.connection, (endpoint.host,), what="training data")
    return endpoint


def remote_logs() -> str:
    """Where Airflow sends task logs, or "" if they stay on its own disk."""
    if not conf.getboolean("logging", "remote_logging", fallback=False):
        return ""
    return conf.get("logging", "remote_base_log_folder", fallback="") or "a remote log service"
