"""A site as Airflow sees it: one connection per outside part, as `AIRFLOW_CONN_*` variables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.site import Device, Host, Site


def environment(site: Site) -> dict[str, str]:
    """Environment variables that give Airflow every connection of `site`; they hold its secrets."""
    found = {
        "edgeloop_share": {"conn_type": "fs", "extra": {"path": str(site.share.path)}},
        "edgeloop_private": _blob(site.blob.private.connection_string),
        "edgeloop_cloud": _blob(site.blob.cloud.connection_string),
        "edgeloop_vm": _ssh(site.vm),
        "edgeloop_registry": {
            "conn_type": "edgeloop_registry",
            "host": site.registry.host,
            "extra": {"insecure": True},
        },
        "edgeloop_builder": {"conn_type": "edgeloop_docker", "host": site.builder.docker},
    }
    found |= {f"edgeloop_device_{device.name.lower()}": _device(device) for device in site.devices}
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in sorted(found.items())}


def _blob(connection_string: str) -> dict[str, object]:
    return {"conn_type": "wasb", "extra": {"connection_string": connection_string}}


def _device(device: Device) -> dict[str, object]:
    return _ssh(device, share=str(device.share))


def _ssh(host: Host, **extra: str) -> dict[str, object]:
    return {
        "conn_type": "edgeloop_ssh",
        "host": host.host,
        "port": host.port,
        "login": host.user,
        "extra": {"key_file": str(host.key_file), "host_key": host.host_key, **extra},
    }
