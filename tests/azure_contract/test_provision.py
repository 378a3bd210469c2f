"""A VM on a Stack Hub, made and removed over ARM: every request held to the specification of its profile."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from edgeloop.azure_ml.arm import ArmClient
from edgeloop.errors import CloudError, ConfigurationError, ConflictError, UnreachableError
from edgeloop.provision import machine
from edgeloop.provision.bodies import EXTENSION
from edgeloop.provision.machine import Ready, Waiting
from edgeloop.provision.order import VmOrder
from edgeloop.provision.stack import StackHub
from edgeloop_airflow.provision import CreateStackHubVmOperator, DeleteStackHubVmOperator, OperationTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ARM = "https://management.local.azurestack.external"
SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
HOST_KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(range(32))).decode()
KINDS = ("networkSecurityGroups", "virtualNetworks", "publicIPAddresses", "networkInterfaces", "virtualMachines")


def public_key(bits: int = 2048) -> str:
    """An ssh-rsa public key that no private one belongs to."""
    parts = (b"ssh-rsa", b"\x01\x00\x01", b"\0" + b"\xff" * (bits // 8))
    return "ssh-rsa " + base64.b64encode(b"".join(len(one).to_bytes(4, "big") + one for one in parts)).decode()


ORDER = VmOrder(
    subscription=SUBSCRIPTION, resource_group="edge-vm-rg", name="trainer-vm", location="local",
    public_key=public_key(), allowed=("198.51.100.7/32",),
)  # fmt: skip
ARGUMENTS: dict[str, Any] = {
    "azure_conn_id": "stack", "resource_group": "edge-vm-rg", "vm_name": "trainer-vm", "location": "local",
    "public_key": public_key(), "allowed": ["198.51.100.7/32"], "poll_seconds": 0.01,
}  # fmt: skip


def stack(**changes: str) -> StackHub:
    """The Stack Hub, behind AD FS."""
    extra = {"tenantId": "adfs", "subscriptionId": SUBSCRIPTION, "arm_endpoint": ARM, **changes}
    return StackHub.of("stack", "33333333-3333-3333-3333-333333333333", changes.get("password", "a secret"), extra)


@pytest.fixture
def arm(azure: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArmClient]:
    """The Stack Hub's ARM, looked at without pauses; the operators reach it by the connection `stack`."""
    extra = {"tenantId": "adfs", "subscriptionId": SUBSCRIPTION, "arm_endpoint": ARM}
    connection = {"conn_type": "azure", "login": "client", "password": "a secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_STACK", json.dumps(connection))
    monkeypatch.setattr(machine, "LOOK_SECONDS", 0.0)
    azure.config(lro_polls=1)
    with ArmClient(stack().discover()) as client:
        yield client


def says(azure: Any, message: str, *, address: str = "198.51.100.20") -> None:
    """Let the VM's extension have printed this, and the VM have got its address: Azure fills both in."""
    state = azure.state()
    made: dict[str, Any] = {}
    for resource in state.values():
        properties = resource.get("properties", {})
        if resource["id"].endswith(f"/extensions/{EXTENSION}"):
            status = {"code": "ProvisioningState/succeeded", "level": "Info", "message": message}
            properties["instanceView"] = {"name": EXTENSION, "statuses": [status]}
        elif "/publicIPAddresses/" in resource["id"]:
            properties["ipAddress"] = address
        else:
            continue
        made[resource["id"]] = {"tags": resource["tags"], "location": "local", "properties": properties}
    azure.seed(arm=made)


OUTPUT = f"Enable succeeded: \n[stdout]\nGet:1 focal\nDocker 24.0.5\nedgeloop host key: {HOST_KEY}\n\n[stderr]\n"


def make(azure: Any, arm: ArmClient, order: VmOrder = ORDER) -> Ready:
    """Make the VM, and let its extension say what it says."""
    for _ in range(20):
        try:
            at = machine.advance(arm, order, lambda _: None)
        except CloudError as error:
            if "no address" not in str(error) and "0 host keys" not in str(error):
                raise
            says(azure, OUTPUT)
            continue
        if isinstance(at, Ready):
            return at
        assert machine.settle(arm, at, 30)
    raise AssertionError("it is never ready")


@pytest.fixture
def there(azure: Any, arm: ArmClient, kept: dict[str, Any]) -> ArmClient:
    """A VM that is made already; the first test that asks for it makes it."""
    if not kept:
        make(azure, arm)
        keep(azure, kept)
        azure.require_conforming()
        azure.control("reset", {})
    azure.seed(arm=kept)
    return arm


def keep(azure: Any, kept: dict[str, Any]) -> None:
    """Remember everything that a VM is made of."""
    made = {one["id"]: one for one in azure.state().values() if "/edge-vm-rg" in one["id"]}
    names = ("tags", "location", "properties")
    kept.update({path: {name: one[name] for name in names if name in one} for path, one in made.items()})


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    """The resources of a VM that was made, by their ids."""
    return {}


def test_a_vm_is_made_and_found_again(azure: Any, arm: ArmClient, kept: dict[str, Any]) -> None:
    """Six resources and a group, each asked for once; what reaches it comes back, host key included."""
    found = make(azure, arm)
    assert found == Ready(host="198.51.100.20", login="trainer", host_key=HOST_KEY, vm=ORDER.vm)
    puts = azure.log("PUT")
    assert [one["path"].split("/")[-2] for one in puts] == ["resourceGroups", *KINDS, "extensions"]
    assert {one["api_version"] for one in puts} == {"2019-10-01", "2018-11-01", "2020-06-01"}
    assert all(one["exact"] is True for one in puts)
    assert make(azure, arm) == found
    assert len(azure.log("PUT")) == len(puts)
    keep(azure, kept)


def test_the_vm_takes_no_password_and_its_door_is_open_to_the_workers_only(azure: Any, there: ArmClient) -> None:
    """A key and nothing else logs in; the firewall has one way in and shuts the rest, its own network included."""
    profile = azure.resource(ORDER.vm)["properties"]["osProfile"]
    assert profile["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert "adminPassword" not in profile
    assert "customData" not in profile
    rules = azure.resource(ORDER.id("Microsoft.Network/networkSecurityGroups", "-nsg"))["properties"]["securityRules"]
    told = [
        (one["access"], one["sourceAddressPrefix"], one["destinationPortRange"])
        for one in (rule["properties"] for rule in rules)
    ]
    assert told == [("Allow", "198.51.100.7/32", "22"), ("Deny", "*", "*")]


def test_a_task_that_dies_anywhere_is_gone_on_from(azure: Any, arm: ArmClient) -> None:
    """At each step it dies, twice while Azure is still at it; every next try asks for the rest only."""
    azure.config(lro_polls=2)
    for count in range(1, len(KINDS) + 2):
        at = machine.advance(arm, ORDER, lambda _: None)
        assert isinstance(at, Waiting)
        again = machine.advance(arm, ORDER, lambda _: None)
        assert again == dataclasses.replace(at, operation="")
        assert not machine.settled(arm, again), "the resource itself says that Azure is still at it"
        assert machine.settle(arm, at, 30)
        assert machine.settled(arm, again)
        assert len(azure.log("PUT")) == count + 1
    says(azure, OUTPUT)
    assert isinstance(machine.advance(arm, ORDER, lambda _: None), Ready)


def test_a_firewall_that_somebody_opened_is_closed_again(azure: Any, there: ArmClient) -> None:
    """A rule besides ours is a difference; it is put back, and nothing else is asked for."""
    path = ORDER.id("Microsoft.Network/networkSecurityGroups", "-nsg")
    nsg = azure.resource(path)
    nsg["properties"]["securityRules"].append(
        {"name": "x", "properties": {"access": "Allow", "destinationPortRange": "*"}}
    )
    azure.seed(arm={path: {one: nsg[one] for one in ("tags", "location", "properties")}})
    before = len(azure.log("PUT"))
    make(azure, there)
    assert [one["path"] for one in azure.log("PUT")[before:]] == [path]
    assert len(azure.resource(path)["properties"]["securityRules"]) == 2


def test_another_vm_of_that_name_is_not_changed(azure: Any, there: ArmClient) -> None:
    """A VM of another size is refused with the difference; one of somebody else without looking further."""
    with pytest.raises(ConflictError, match=r"otherwise: properties\.hardwareProfile\.vmSize"):
        make(azure, there, dataclasses.replace(ORDER, size="Standard_F2s_v2"))
    vm = azure.resource(ORDER.vm)
    azure.seed(arm={ORDER.vm: {"tags": {}, "location": "local", "properties": vm["properties"]}})
    with pytest.raises(ConflictError, match="somebody else's"):
        make(azure, there)
    before = azure.log("DELETE")
    with pytest.raises(ConflictError, match="somebody else's"):
        machine.retreat(there, ORDER, lambda _: None)
    assert azure.log("DELETE") == before == []


def test_an_operation_that_fails_is_told_in_azures_words_and_tried_again(azure: Any, arm: ArmClient) -> None:
    """Azure's error comes back; the next try asks again for what failed and is done."""
    azure.config(lro_final="Failed")
    at = machine.advance(arm, ORDER, lambda _: None)
    assert isinstance(at, Waiting)
    with pytest.raises(CloudError, match="injected LRO failure"):
        machine.settle(arm, at, 30)
    with pytest.raises(CloudError, match="ended as Failed"):
        machine.settled(arm, dataclasses.replace(at, operation=""))
    azure.config(lro_final="Succeeded")
    again = machine.advance(arm, ORDER, lambda _: None)
    assert isinstance(again, Waiting)
    assert machine.settle(arm, again, 30)
    assert len(azure.log("PUT", "networkSecurityGroups")) == 2


def test_a_busy_stack_hub_is_borne(azure: Any, there: ArmClient) -> None:
    """429 on the PUT of the VM and 503 on the look at its operation, each with how long to wait."""
    there.delete(ORDER.vm, "2020-06-01")
    wait = {"headers": {"Retry-After": "1"}}
    azure.faults(
        {"match": "PUT .*/virtualMachines/trainer-vm$", "status": 429, **wait},
        {"match": "GET .*/__operations/", "status": 503, **wait},
    )
    assert make(azure, there).host == "198.51.100.20"


def test_a_stack_hub_that_refuses_newer_api_versions_gets_none(azure: Any, there: ArmClient) -> None:
    """The server answers anything newer than its profile with 400, as a Stack Hub does; nothing of ours is newer."""
    machine.advance(there, ORDER, lambda _: None)
    assert max(one["api_version"] for one in azure.log() if one["api_version"]) == "2020-06-01"
    azure.config(stackhub_max_api_version="2018-01-01")
    with pytest.raises(CloudError, match="InvalidResourceType"):
        there.find(ORDER.vm, "2020-06-01")
    azure.control("reset", {})


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("Enable succeeded: \n[stdout]\nDocker 24.0.5\n", 0),
        (OUTPUT + OUTPUT.replace("AAAAC3", "BAAAC3"), 2),
        (f"edgeloop host key: ssh-rsa {HOST_KEY.split()[1]}\n", 0),
        ("edgeloop host key: ssh-ed25519 QUFB\n", 1),
    ],
)
def test_a_host_key_is_pinned_from_one_clear_word_or_not_at_all(
    azure: Any, there: ArmClient, said: str, count: int
) -> None:
    """None, two, another kind or a broken one: the VM stays, and nobody guesses."""
    says(azure, said)
    with pytest.raises(CloudError, match=f"names {count} host keys"):
        machine.advance(there, ORDER, lambda _: None)


def removed(arm: ArmClient, order: VmOrder = ORDER) -> list[str]:
    """Remove it, and say what was asked for."""
    said: list[str] = []
    while (at := machine.retreat(arm, order, said.append)) is not None:
        assert machine.settle(arm, at, 30)
    return said


def test_a_vm_is_removed_in_the_right_order_and_twice_is_once(azure: Any, there: ArmClient) -> None:
    """The VM, then what it used, then the group that was made with it, its disk included; nothing is left."""
    azure.seed(arm={ORDER.disk: {"managedBy": ORDER.vm, "location": "local"}})
    azure.faults(DISK_MARKED)
    removed(there)
    deleted = [one["path"] for one in azure.log("DELETE")]
    assert [one.split("/")[-2] for one in deleted] == [*reversed(KINDS), "resourceGroups"]
    assert all(one["exact"] is True for one in azure.log("DELETE"))
    assert not [one for one in azure.state() if "trainer-vm" in one or "edge-vm-rg" in one]
    assert removed(there) == []
    assert len(azure.log("DELETE")) == len(deleted)


def test_what_is_gone_already_is_no_error(azure: Any, there: ArmClient) -> None:
    """Somebody removed the VM by hand; the rest is removed all the same."""
    there.delete(ORDER.vm, "2020-06-01")
    said = removed(there)
    assert "virtual machine" not in "".join(said)
    assert not [one for one in azure.state() if "edge-vm-rg" in one]


THEIRS = f"{ORDER.group}/providers/Microsoft.Network/networkSecurityGroups/theirs"
# Microsoft's OpenAPI file of disks is not among the contract server's: its path is asked for, and not checked.
DISK_MARKED = {"match": "PATCH .*/Microsoft.Compute/disks/trainer-vm-disk", "status": 200, "body": {}}
DISK_GONE = (
    {"match": "DELETE .*/Microsoft.Compute/disks/trainer-vm-disk", "status": 204},
    {"match": "GET .*/Microsoft.Compute/disks/trainer-vm-disk", "status": 404},
)


def lists(*resources: dict[str, Any], **more: str) -> dict[str, Any]:
    """A fault: one answer to what the group holds."""
    return {"match": "GET .*/resources$", "status": 200, "times": 1, "body": {"value": list(resources), **more}}


def test_a_group_with_something_else_in_it_stays(azure: Any, there: ArmClient) -> None:
    """What others put into the group is not removed, nor is a group that was there before; the VM's disk is."""
    azure.seed(arm={THEIRS: {"location": "local"}, ORDER.disk: {"location": "local"}})
    disk = {"id": ORDER.disk, "tags": ORDER.tags}
    azure.faults(DISK_MARKED, *DISK_GONE, lists({"id": THEIRS}, disk), lists({"id": THEIRS}))
    said = removed(there)
    assert said[-1].startswith("Resource group edge-vm-rg stays")
    assert azure.log("PATCH", "/disks/")[0]["request_body"] == {"tags": {"edgeloop.vm": "trainer-vm"}}
    assert azure.log("DELETE", "/disks/")[0]["api_version"] == "2019-07-01"
    assert THEIRS.casefold() in azure.state()


def test_a_disk_of_that_name_that_no_vm_of_ours_had_stays(azure: Any, there: ArmClient) -> None:
    """In a group of others it may be somebody's backup; what is said names it and how to remove it."""
    there.delete(ORDER.vm, "2020-06-01")
    azure.seed(arm={THEIRS: {"location": "local"}, ORDER.disk: {"location": "local"}})
    azure.faults(*DISK_GONE, lists({"id": THEIRS}, {"id": ORDER.disk}))
    said = removed(there)
    assert azure.log("DELETE", "/disks/") == azure.log("PATCH", "/disks/") == []
    assert f"az disk delete --ids {ORDER.disk}" in said[-2]


def test_a_group_is_looked_through_to_the_last_page(azure: Any, there: ArmClient) -> None:
    """ARM may answer with a page of nothing and another one behind it: what is there is not removed with the group."""
    there.delete(ORDER.vm, "2020-06-01")
    more = f"{ARM}{ORDER.group}/resources?api-version=2019-10-01&%24skiptoken=x"
    azure.seed(arm={THEIRS: {"location": "local"}})
    azure.faults(lists(nextLink=more), lists({"id": THEIRS}))
    assert removed(there)[-1].startswith("Resource group edge-vm-rg stays")
    assert THEIRS.casefold() in azure.state()


def test_the_operators_wait_in_the_triggerer(azure: Any, there: ArmClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes long is parked, the trigger fires when Azure is done, and the task goes on; no secret travels."""
    monkeypatch.setattr("edgeloop_airflow.provision.QUICK_SECONDS", 0.0)
    there.delete(ORDER.vm, "2020-06-01")
    azure.config(lro_polls=2)
    operator = CreateStackHubVmOperator(task_id="make", **ARGUMENTS)
    run: Callable[[], Any] = lambda: operator.execute({})  # noqa: E731 - replaced below
    for _ in range(20):
        try:
            made = run()
            break
        except TaskDeferred as parked:
            path, arguments = parked.trigger.serialize()
            assert path == "edgeloop_airflow.provision.OperationTrigger"
            assert "a secret" not in json.dumps(arguments)
            event = asyncio.run(fired(OperationTrigger(**arguments)))
            kwargs = parked.kwargs or {}
            run = lambda event=event, kwargs=kwargs: operator.execute_complete({}, event=event, **kwargs)  # noqa: E731
        except CloudError:
            says(azure, OUTPUT)
            run = lambda: operator.execute({})  # noqa: E731
    assert made == {
        "host": "198.51.100.20", "login": "trainer", "host_key": HOST_KEY, "vm": ORDER.vm, "port": 22,
    }  # fmt: skip
    azure.faults(DISK_MARKED)
    delete = DeleteStackHubVmOperator(task_id="remove", deferrable=False, **ARGUMENTS)
    assert delete.execute({}) is None
    assert not [one for one in azure.state() if "edge-vm-rg" in one]


async def fired(trigger: OperationTrigger) -> Any:
    """What the trigger fires."""
    async for event in trigger.run():
        return event.payload
    return None


def test_a_deadline_that_passes_names_what_is_not_done(
    azure: Any, arm: ArmClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the worker and in the triggerer; what was begun goes on, and the error says so."""
    azure.config(lro_polls=1000)
    operator = CreateStackHubVmOperator(task_id="make", deferrable=False, timeout_minutes=0.001, **ARGUMENTS)
    with pytest.raises(UnreachableError, match="network security group of VM trainer-vm is not done"):
        operator.execute({})
    at = machine.advance(arm, ORDER, lambda _: None)
    assert isinstance(at, Waiting)
    trigger = OperationTrigger(azure_conn_id="stack", waiting=json.dumps(dataclasses.asdict(at)), deadline=0)
    event = asyncio.run(fired(trigger))
    assert event == {"ending": "deadline"}
    with pytest.raises(UnreachableError, match="is not done after"):
        operator.execute_complete({}, event=event, waiting=json.dumps(dataclasses.asdict(at)), deadline=0)


def test_tokens_are_asked_for_where_the_stack_hub_says(azure: Any, there: ArmClient) -> None:
    """AD FS of the Stack Hub, its audience, and never Entra ID, which knows no Stack Hub."""
    assert there.find(ORDER.vm, "2020-06-01") is not None
    hosts = {one["host"] for one in azure.log() if one["path"].endswith("/token")}
    assert hosts == {"adfs.local.azurestack.external"}


def test_a_wrong_secret_names_the_connection(azure: Any) -> None:
    """AD FS refuses; the error says which connection's field to correct, and nothing was changed."""
    bad = dataclasses.replace(stack(), identity=dataclasses.replace(stack().identity, secret="wrong"))
    with ArmClient(bad.discover()) as client, pytest.raises(ConfigurationError, match="'stack'"):
        machine.advance(client, ORDER, lambda _: None)
    assert azure.log("PUT") == []


def test_an_operation_elsewhere_gets_no_token(azure: Any, arm: ArmClient) -> None:
    """An answer that names another host for the operation is not followed."""
    azure.faults({
        "match": "PUT .*/networkSecurityGroups/", "status": 201,
        "headers": {"Azure-AsyncOperation": "https://management.azure.com/subscriptions/x/__operations/1"},
    })  # fmt: skip
    with pytest.raises(CloudError, match="token stays here"):
        machine.advance(arm, ORDER, lambda _: None)
    assert not [one for one in azure.log() if one["host"] == "management.azure.com"]
