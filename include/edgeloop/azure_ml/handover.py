"""Which VM a workspace is told of, and whether Azure is handed the key to it.

Whoever holds the key can read what is trained on. So it stays here unless ``azure_ml.send_key`` says otherwise, which
only the backends need that let Azure ML run the job there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.azure_ml.compute import VmTarget
from edgeloop.errors import ConfigurationError, ResidencyError
from edgeloop.residency import permits

if TYPE_CHECKING:
    from edgeloop.pipeline import Pipeline
    from edgeloop.pipeline_parts import Permit
    from edgeloop.pipeline_training import Workspace
    from edgeloop.ssh.endpoint import Endpoint

PERMIT: Permit = "azure_ml_outputs"


def target_of(spec: Pipeline, section: Workspace, endpoint: Endpoint) -> VmTarget:
    """The VM of a pipeline, as its workspace should know it.

    Raises:
        ResidencyError: If the key of an ``on_premises`` pipeline's VM were to leave without its permit.
        ConfigurationError: If there is no key that Azure can use.
    """
    if section.send_key and not permits(spec, PERMIT):
        raise ResidencyError(
            f"The key to the training VM of pipeline {spec.name}, which is on_premises, was about to be handed to "
            "Azure (azure_ml.send_key): with it the data on the VM can be read from outside.",
            left="the key here; nothing was sent",
            next=f"Remove azure_ml.send_key, or allow it with residency_permits: [{PERMIT}].",
        )
    return vm_target(section, endpoint)


def vm_target(section: Workspace, endpoint: Endpoint) -> VmTarget:
    """The VM that answers at ``endpoint``; holds its private key if, and only if, the section says so."""
    key, mark = _key(endpoint) if section.send_key else ("", "")
    return VmTarget(
        name=section.compute,
        address="" if section.resource_id else endpoint.host,
        resource_id=section.resource_id,
        user=endpoint.user,
        port=endpoint.port,
        connection=endpoint.connection,
        private_key=key,
        fingerprint=mark,
    )


def _key(endpoint: Endpoint) -> tuple[str, str]:
    """The private key's text and the fingerprint of its public half."""
    from cryptography.hazmat.primitives import serialization

    from edgeloop.ssh.keys import private_key
    from edgeloop.training.compute import fingerprint

    if endpoint.by_password or endpoint.passphrase:
        what = "logs in with a password" if endpoint.by_password else "has a key with a passphrase"
        raise ConfigurationError(
            f"Connection {endpoint.connection!r} {what}, and azure_ml.send_key is to hand its key to Azure.",
            left="nothing was sent to Azure",
            next="Make a key for Azure alone (`ssh-keygen -t ed25519 -N ''`), let it into the VM, and name it in a "
            "connection of its own; or remove azure_ml.send_key.",
        )
    text = private_key(endpoint)
    public = serialization.load_ssh_private_key(text.encode(), None).public_key()
    line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    return text, fingerprint(line)
