"""Provider metadata: the connection types and their forms, which an Airflow plugin cannot give."""

from __future__ import annotations

from typing import Any

import edgeloop

_TEXT = {"type": ["string", "null"]}
_LINES = {"type": ["string", "null"], "format": "multiline"}
_SECRET = {"type": ["string", "null"], "format": "password"}
_SWITCH = {"type": ["boolean", "null"]}
"""Without a default: Airflow masks a value whose name says password, and the form would begin with ***."""
_SSH_FIELDS = {
    "host_key": {
        "label": "Pinned host key",
        "schema": _TEXT,
        "description": "Who the machine must prove to be: 'ssh-ed25519 AAAA...' as `ssh-keyscan -t ed25519 <host>` "
        "prints it, compared with the fingerprint on the machine's console. Without it nothing is connected.",
    },
    "key_file": {
        "label": "Private key file",
        "schema": _TEXT,
        "description": "Path of an ed25519, ecdsa or rsa key on every machine where Airflow runs tasks and triggers.",
    },
    "private_key": {
        "label": "Private key",
        "schema": _LINES,
        "description": "The key's text instead of a file, where the connection comes from a secrets backend.",
    },
    "private_key_passphrase": {
        "label": "Passphrase of the private key",
        "schema": _SECRET,
        "description": "May stand in the field above, too.",
    },
    "allow_password": {
        "label": "Allow password",
        "schema": _SWITCH,
        "description": "Log in with the password where there is no private key. A weak one is refused all the same.",
    },
    "jump": {
        "label": "Jump host",
        "schema": _TEXT,
        "description": "Id of another connection of this type that the machine is reached through; it is pinned, too.",
    },
    "share": {"label": "Local share", "schema": _TEXT, "description": "Edge devices only: its folder on the device."},
}
_REGISTRY_FIELDS = {
    "azure": {
        "label": "Azure connection",
        "schema": _TEXT,
        "description": "Azure Container Registry by a token of Entra ID: the id of a connection of type azure whose "
        "identity has AcrPush and AcrPull there. User and password stay empty then.",
    },
    "ca_file": {
        "label": "Authority's certificate file",
        "schema": _TEXT,
        "description": "PEM, on every worker, for a registry whose certificate an authority of your own signed.",
    },
    "insecure": {
        "label": "Plain HTTP",
        "schema": _SWITCH,
        "description": "For a registry without TLS on a network of your own.",
    },
}


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
                    "hidden-fields": ["schema", "extra"],
                    "relabeling": {
                        "host": "Machine",
                        "login": "User",
                        "password": "Passphrase of the private key (or password)",
                        "port": "SSH port",
                    },
                    "placeholders": {"host": "10.0.0.4", "port": "22", "login": "trainer"},
                },
                "conn-fields": _SSH_FIELDS,
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
                    "hidden-fields": ["schema", "port", "extra"],
                    "relabeling": {"host": "Registry", "login": "User", "password": "Password or token"},
                    "placeholders": {"host": "registry.example.com:5000", "login": "edgeloop"},
                },
                "conn-fields": _REGISTRY_FIELDS,
            },
        ],
    }
