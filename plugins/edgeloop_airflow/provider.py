"""Provider metadata: the connection types and their forms, which an Airflow plugin cannot give."""

from __future__ import annotations

from typing import Any

import edgeloop

_TEXT = {"type": ["string", "null"]}


def get_provider_info() -> dict[str, Any]:
    """What Airflow's provider manager reads through the ``apache_airflow_provider`` entry point."""
    return {
        "package-name": "edgeloop",
        "name": "Edgeloop",
        "description": "Keeps machine-learning models at the edge good.",
        "versions": [edgeloop.__version__],
        "connection-types": [
            {
                "connection-type": "edgeloop_ssh",
                "hook-class-name": "edgeloop_airflow.connections.SshConnection",
                "hook-name": "Edgeloop SSH (training VM, edge device)",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "password", "extra"],
                    "relabeling": {"login": "User"},
                    "placeholders": {"host": "10.0.0.4", "port": "22", "login": "trainer"},
                },
                "conn-fields": {
                    "key_file": {"label": "Private key file", "schema": _TEXT},
                    "host_key": {"label": "Pinned host key (ssh-ed25519 AAAA...)", "schema": _TEXT},
                    "share": {"label": "Local share (edge devices only)", "schema": _TEXT},
                },
            },
            {
                "connection-type": "edgeloop_docker",
                "hook-class-name": "edgeloop_airflow.connections.DockerConnection",
                "hook-name": "Edgeloop Docker engine",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "password", "port", "extra"],
                    "relabeling": {"host": "Engine address"},
                    "placeholders": {"host": "unix:///var/run/docker.sock"},
                },
            },
            {
                "connection-type": "edgeloop_airflow",
                "hook-class-name": "edgeloop_airflow.connections.AirflowConnection",
                "hook-name": "Edgeloop's own Airflow (REST API)",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port", "extra"],
                    "relabeling": {"host": "Address", "login": "User (role op)", "password": "Password or token"},
                    "placeholders": {"host": "http://api-server:8080", "login": "oncall"},
                },
            },
            {
                "connection-type": "edgeloop_registry",
                "hook-class-name": "edgeloop_airflow.connections.RegistryConnection",
                "hook-name": "Edgeloop container registry",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port"],
                    "relabeling": {"host": "Registry", "login": "User"},
                    "placeholders": {"host": "registry.example.com:5000"},
                },
            },
        ],
    }
