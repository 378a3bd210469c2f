"""The VM as compute target, held to Microsoft's specification and read back by Microsoft's SDK."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.azure_contract.sdk import ml_client

from edgeloop.azure_ml import compute
from edgeloop.azure_ml.compute import Step, VmTarget
from edgeloop.errors import CloudError, ConfigurationError, ConflictError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

VM = VmTarget(name="edge-vm", address="10.0.0.7", user="trainer", port=2222, connection="edgeloop_vm")
ARM_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm9"


@pytest.fixture
def said() -> list[str]:
    """What was told on the way."""
    return []


@pytest.fixture
def attach(workspace: WorkspaceEndpoint, said: list[str]) -> Iterator[Callable[[VmTarget], Step]]:
    """Attach with a short deadline."""
    with workspace.connect(operation_seconds=20) as arm:

        def run(target: VmTarget) -> Step:
            def say(text: str, *values: object) -> None:
                said.append(text % values)

            return compute.attach(arm, workspace, target, say, pause=0.01)

        yield run


def test_a_vm_is_attached_by_its_address(azure: Any, attach: Any) -> None:
    """ARM PUT with properties.properties.address, without any means to log in."""
    assert attach(VM) is Step.CREATE
    put = azure.log("PUT", "/computes/edge-vm")[0]
    assert (put["api_version"], put["exact"]) == ("2024-10-01", True)
    assert put["request_body"] == {
        "location": "westeurope",
        "tags": {"edgeloop-connection": "edgeloop_vm"},
        "properties": {
            "computeType": "VirtualMachine",
            "description": "Training VM, driven by Edgeloop over SSH",
            "properties": {"sshPort": 2222, "address": "10.0.0.7", "administratorAccount": {"username": "trainer"}},
        },
    }
    assert azure.resource("computes/edge-vm")["properties"]["provisioningState"] == "Succeeded"


def test_attaching_the_same_again_sends_nothing(azure: Any, attach: Any) -> None:
    """What is already so costs one GET."""
    attach(VM)
    before = len(azure.log())
    assert attach(VM) is Step.NOTHING
    new = [one["method"] for one in azure.log()[before:] if one["operation_id"]]
    assert new == ["GET"]


def test_a_vm_that_moved_is_changed_and_the_log_says_from_where_to_where(azure: Any, attach: Any, said: Any) -> None:
    """Another address or user under the same name and connection is an update."""
    attach(VM)
    assert attach(replace(VM, address="10.0.0.8", user="other")) is Step.UPDATE
    assert "Compute edge-vm changes: address 10.0.0.7 -> 10.0.0.8; user trainer -> other" in said
    assert azure.resource("computes/edge-vm")["properties"]["properties"]["address"] == "10.0.0.8"


def test_a_vm_is_attached_by_its_arm_id_and_the_sdk_reads_it(
    azure: Any, attach: Any, workspace: WorkspaceEndpoint
) -> None:
    """Azure's own SDK reads ours as VirtualMachineCompute with that resource id."""
    attach(replace(VM, address="", resource_id=ARM_ID))
    found = ml_client(workspace).compute.get("edge-vm")
    assert (type(found).__name__, found.resource_id, found.ssh_settings.ssh_port) == (
        "VirtualMachineCompute",
        ARM_ID,
        2222,
    )


def test_what_the_sdk_attached_is_taken_over(azure: Any, attach: Any, workspace: WorkspaceEndpoint, said: Any) -> None:
    """A VM attached by azure-ai-ml before Edgeloop came is marked as ours and is then already so."""
    from azure.ai.ml.entities import VirtualMachineCompute, VirtualMachineSshSettings

    sdk = VirtualMachineCompute(
        name="edge-vm",
        resource_id=ARM_ID,
        ssh_settings=VirtualMachineSshSettings(admin_username="trainer", ssh_port=2222, admin_password="Aa1!" * 4),
    )
    ml_client(workspace).compute.begin_create_or_update(sdk).result(timeout=60)
    mine = replace(VM, address="", resource_id=ARM_ID)
    assert [attach(mine), attach(mine)] == [Step.UPDATE, Step.NOTHING]
    assert "Compute edge-vm changes: connection (none) -> edgeloop_vm" in said


def test_a_key_travels_only_if_it_is_given_and_a_new_one_is_noticed(azure: Any, attach: Any, said: Any) -> None:
    """Azure never tells a key, so its fingerprint is kept beside it."""
    attach(replace(VM, private_key="PEM one", fingerprint="SHA256:one"))
    assert attach(replace(VM, private_key="PEM one", fingerprint="SHA256:one")) is Step.NOTHING
    assert attach(replace(VM, private_key="PEM two", fingerprint="SHA256:two")) is Step.UPDATE
    sent = [
        one["request_body"]["properties"]["properties"]["administratorAccount"]["privateKeyData"]
        for one in azure.log("PUT", "/computes/")
    ]
    assert sent == ["PEM one", "PEM two"]
    assert not any("PEM" in line for line in said)
    assert "PEM" not in repr(replace(VM, private_key="PEM one"))


def test_a_name_that_is_another_kind_of_compute_is_refused(azure: Any, attach: Any) -> None:
    """A cluster of that name stays what it is."""
    azure.seed(
        arm={
            f"{azure.workspace_id}/computes/edge-vm": {
                "location": "westeurope",
                "properties": {"computeType": "AmlCompute", "provisioningState": "Succeeded", "properties": {}},
            }
        }
    )
    with pytest.raises(ConflictError, match="edge-vm is a compute of type AmlCompute"):
        attach(VM)
    assert azure.log("PUT") == []


def test_the_vm_of_another_connection_is_refused(azure: Any, attach: Any) -> None:
    """Two pipelines with a VM each and one name would change it back and forth."""
    attach(VM)
    with pytest.raises(ConflictError, match="is the VM of connection 'edgeloop_vm', not of 'other_vm'"):
        attach(replace(VM, connection="other_vm", address="10.9.9.9"))
    assert len(azure.log("PUT")) == 1


def test_a_failed_operation_is_told_in_azures_words_and_repaired_by_the_next_try(azure: Any, attach: Any) -> None:
    """The long-running operation's error is the task's."""
    azure.config(lro_final="Failed")
    with pytest.raises(CloudError, match=r"ended as Failed \(ProvisioningFailed: injected LRO failure\)"):
        attach(VM)
    azure.config(lro_final="Succeeded")
    assert [attach(VM), attach(VM)] == [Step.UPDATE, Step.NOTHING]


def test_what_an_earlier_try_began_is_waited_for(azure: Any, attach: Any) -> None:
    """A try that died after its PUT left an operation; nothing is sent while Azure is at it."""
    attach(VM)
    moving = azure.resource("computes/edge-vm")
    moving["properties"]["provisioningState"] = "Updating"
    moving["properties"]["properties"]["address"] = "10.9.9.9"
    azure.faults({"match": "GET .*/computes/edge-vm$", "status": 200, "times": 3, "body": moving})
    before = len(azure.log("PUT"))
    assert attach(VM) is Step.NOTHING
    assert len(azure.log("PUT")) == before


def test_an_operation_without_end_fails_by_its_deadline(azure: Any, workspace: WorkspaceEndpoint) -> None:
    """Azure that works on and on is told as that, and the next try finds what it made."""
    azure.config(lro_polls=1000)
    with workspace.connect(operation_seconds=1.5) as arm, pytest.raises(UnreachableError, match="has not finished"):
        compute.attach(arm, workspace, VM, lambda *_: None)


def test_detaching_leaves_the_vm_alone_and_twice_is_once(azure: Any, attach: Any, workspace: WorkspaceEndpoint) -> None:
    """The action is Detach, never Delete."""
    attach(VM)
    with workspace.connect() as arm:
        assert compute.detach(arm, workspace, "edge-vm", "edgeloop_vm")
        assert not compute.detach(arm, workspace, "edge-vm", "edgeloop_vm")
    assert [one["query"]["underlyingResourceAction"] for one in azure.log("DELETE")] == ["Detach"]


def test_detaching_the_vm_of_another_connection_is_refused(
    azure: Any, attach: Any, workspace: WorkspaceEndpoint
) -> None:
    """Nobody takes away what another pipeline trains on."""
    attach(VM)
    with workspace.connect() as arm, pytest.raises(ConflictError, match="is the VM of connection"):
        compute.detach(arm, workspace, "edge-vm", "other_vm")
    assert azure.log("DELETE") == []


@pytest.mark.parametrize("name", ["vm-1", "c1", "1vm", "a" * 25, "edge_vm", "edge-vm-2026"])
def test_a_name_that_the_service_refuses_is_refused_before_anything_is_sent(name: str) -> None:
    """Names are checked by the pattern of Microsoft's specification."""
    with pytest.raises(ConfigurationError, match="cannot be a compute's name"):
        VmTarget(name=name, address="10.0.0.7")


@pytest.mark.parametrize(
    ("address", "resource_id"), [("", ""), ("10.0.0.7", ARM_ID), ("", "/subscriptions/s/resourceGroups/g")]
)
def test_a_vm_needs_one_good_way_to_be_found(address: str, resource_id: str) -> None:
    """Neither, both, or an id of something else is refused with what to write."""
    with pytest.raises(ConfigurationError):
        VmTarget(name="edge-vm", address=address, resource_id=resource_id)
