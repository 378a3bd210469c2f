"""Which VM a workspace is told of, and that the key to it stays here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from edgeloop.azure_ml.handover import target_of, vm_target
from edgeloop.errors import ConfigurationError, ResidencyError
from edgeloop.pipeline import Pipeline
from edgeloop.residency import refusals
from edgeloop.ssh.endpoint import Endpoint

if TYPE_CHECKING:
    from edgeloop.pipeline_training import Workspace

TINY = Path(__file__).parents[2] / "data" / "pipelines" / "tiny_power" / "pipeline.yaml"
ARM_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm9"


def pipeline(**section: Any) -> Pipeline:
    """The small pipeline, which is on_premises, with a workspace."""
    place = {"subscription": "11111111-1111-1111-1111-111111111111", "resource_group": "g", "workspace": "edge-ws"}
    return Pipeline.model_validate(yaml.safe_load(TINY.read_text()) | {"azure_ml": place | section})


def section(**fields: Any) -> Workspace:
    """The workspace of that pipeline."""
    found = pipeline(**fields).azure_ml
    assert found is not None
    return found


def endpoint(key: Path, **fields: Any) -> Endpoint:
    """The login on a VM."""
    told: dict[str, Any] = {"host": "10.0.0.7", "port": 2222, "user": "trainer", "host_key": "ssh-ed25519 AAAA"}
    return Endpoint(connection="edgeloop_vm", key_file=str(key), **told | fields)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    made = ed25519.Ed25519PrivateKey.generate()
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    (tmp_path / "key").write_bytes(made.private_bytes(encoding, kind, serialization.NoEncryption()))
    return tmp_path / "key"


def test_a_vm_is_told_by_the_address_and_login_of_its_connection(key: Path) -> None:
    """A VM that public ARM does not know; nothing that opens it."""
    found = vm_target(section(), endpoint(key))
    assert (found.name, found.address, found.port, found.user) == ("edge-vm", "10.0.0.7", 2222, "trainer")
    assert (found.resource_id, found.private_key, found.fingerprint) == ("", "", "")


def test_a_vm_of_azure_is_told_by_its_arm_id_alone(key: Path) -> None:
    """Azure looks the address up itself."""
    found = vm_target(section(resource_id=ARM_ID), endpoint(key))
    assert (found.resource_id, found.address) == (ARM_ID, "")


def test_handing_over_the_key_of_an_on_premises_vm_is_refused_at_load_and_at_run(key: Path) -> None:
    """Whoever holds it can read what is trained on; the permit allows it."""
    asked = pipeline(send_key=True)
    assert [one.field for one in refusals(asked)] == ["azure_ml.send_key"]
    assert asked.azure_ml is not None
    with pytest.raises(ResidencyError, match="handed to Azure"):
        target_of(asked, asked.azure_ml, endpoint(key))
    allowed = asked.model_copy(update={"residency_permits": ("azure_ml_outputs",)})
    assert refusals(allowed) == ()
    assert "BEGIN OPENSSH" in target_of(allowed, asked.azure_ml, endpoint(key)).private_key


@pytest.mark.parametrize(
    "fields",
    [
        {"passphrase": "long words"},
        {"key_file": "", "password": "N3ver-guessed/by-anyone!", "allow_password": True},
    ],
)
def test_a_key_that_azure_cannot_use_is_refused(key: Path, fields: dict[str, Any]) -> None:
    """A passphrase is not handed over, and a password is no key."""
    with pytest.raises(ConfigurationError, match="send_key is to hand its key"):
        vm_target(section(send_key=True), replace(endpoint(key), **fields))
