"""A VM made and removed step by step, each decided from what Azure has: a step may be the last of a task that dies."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop.azure_ml import problems
from edgeloop.errors import CloudError, ConflictError, NotFoundError
from edgeloop.provision.bodies import (
    COMPUTE_VERSION,
    DISK_VERSION,
    EXTENSION,
    GROUP_VERSION,
    NETWORK_VERSION,
    Resource,
    group_body,
    resources,
)
from edgeloop.provision.order import OWNER
from edgeloop.provision.script import host_key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from azure.core.rest import HttpResponse

    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.provision.order import VmOrder

DONE, BROKEN = "Succeeded", ("Failed", "Canceled")
MOVING = ("Creating", "Updating", "Deleting", "Accepted", "Running", "InProgress")
ACCEPTED = 202
LOOK_SECONDS = 5.0
SSH_PORT = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What Azure is at: where it is, and the operation that says how it goes, if this task began it.

    ``gone`` says that its disappearance is waited for.
    """

    what: str
    path: str
    version: str
    operation: str = ""
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A VM that can be logged in to: everything an ``edgeloop_ssh`` connection needs but the private key."""

    host: str
    login: str
    host_key: str
    vm: str
    port: int = SSH_PORT


class Step(Enum):
    """What is done about a resource."""

    NOTHING = "already so"
    PUT = "ask for it"
    WAIT = "wait for what is under way"


def differences(wanted: Any, found: Any, where: str = "") -> list[str]:
    """Where what is there is not as wanted; what is there besides is no difference, but in a list it is.

    Names and ids of Azure are compared without regard to case.
    """
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [one for key, value in wanted.items() for one in differences(value, found.get(key), f"{where}.{key}")]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = zip(wanted, found, strict=True)
        return [one for number, (a, b) in enumerate(pairs) for one in differences(a, b, f"{where}.{number}")]
    same = (
        wanted.casefold() == found.casefold() if isinstance(wanted, str) and isinstance(found, str) else wanted == found
    )
    return [] if same else [where.strip(".")]


def decide(resource: Resource, found: Mapping[str, Any] | None, owner: str) -> Step:
    """What to do about what is there; raises ``ConflictError`` for what is not ours or cannot become what is wanted."""
    if found is None:
        return Step.PUT
    if (found.get("tags") or {}).get(OWNER) != owner:
        raise _not_ours(resource.path, resource.what)
    state = (found.get("properties") or {}).get("provisioningState") or DONE
    if state in MOVING:
        return Step.WAIT
    other = differences(resource.body, found)
    if not other:
        return Step.NOTHING if state == DONE else Step.PUT
    if resource.fixed:
        raise ConflictError(
            f"The {resource.what} {resource.path} is there, but otherwise: {', '.join(other)}.",
            left="the VM as it is, with whatever runs on it",
            next="Order what is there, choose another name, or remove it with DeleteStackHubVmOperator first.",
        )
    return Step.PUT


def _not_ours(path: str, what: str) -> ConflictError:
    return ConflictError(
        f"The {what} {path} does not carry the tag {OWNER} of this VM: it is somebody else's.",
        left="everything as it is",
        next="Choose another name or resource group.",
    )


def advance(arm: ArmClient, order: VmOrder, say: Callable[[str], None]) -> Waiting | Ready:
    """Do the next thing that is to be done; returns what Azure is at then, or the VM if nothing is left to do.

    Raises:
        ConflictError: A name is taken by something that is not this VM's, or the VM is another one.
        CloudError: Azure refused.
    """
    if arm.find(order.group, GROUP_VERSION) is None:
        arm.put(order.group, GROUP_VERSION, group_body(order))
        say(f"Made resource group {order.resource_group}")
    for resource in resources(order):
        found = arm.find(resource.path, resource.version)
        step = decide(resource, found, order.name)
        if step is Step.NOTHING:
            continue
        operation = ""
        if step is Step.PUT:
            reply = arm.send("PUT", resource.path, resource.version, body=resource.body)
            operation = _operation(arm, reply)
            say(f"Asked for the {resource.what} {resource.path.rpartition('/')[2]}")
        return Waiting(what=resource.what, path=resource.path, version=resource.version, operation=operation)
    return _ready(arm, order)


def _operation(arm: ArmClient, reply: HttpResponse) -> str:
    """Where to ask how it goes; raises ``CloudError`` for another host's address, where the token does not go."""
    where = reply.headers.get("Azure-AsyncOperation") or reply.headers.get("Location") or ""
    if where and urlsplit(where).netloc.casefold() != urlsplit(arm.endpoint.base).netloc.casefold():
        raise CloudError(
            f"Azure told us to look for an operation at {urlsplit(where).netloc}, which is not "
            f"{urlsplit(arm.endpoint.base).netloc}; the token stays here.",
            left="what was begun goes on in Azure",
            next="Look for a proxy that answers for Azure, then clear the task.",
        )
    return where


def settled(arm: ArmClient, waiting: Waiting) -> bool:
    """Look once how it goes; raises ``CloudError`` with Azure's words for what ended badly."""
    if waiting.operation:
        try:
            return _operation_ended(arm, waiting)
        except NotFoundError:
            pass  # Azure forgets operations; the resource itself says how it ended.
    found = arm.find(waiting.path, waiting.version)
    if found is None:
        return True
    state = (found.get("properties") or {}).get("provisioningState") or DONE
    if waiting.gone:
        return False
    if state in BROKEN:
        raise problems.failed(waiting.path, state, {"message": _told(found)})
    return state not in MOVING


def _operation_ended(arm: ArmClient, waiting: Waiting) -> bool:
    reply = arm.send("GET", waiting.operation)
    body = arm.body(reply)
    status = body.get("status")
    if status in BROKEN:
        raise problems.failed(waiting.path, status, body.get("error") or {})
    return status == DONE if status else reply.status_code != ACCEPTED


def _told(found: Mapping[str, Any]) -> str:
    """What a resource that failed says of itself."""
    view = (found.get("properties") or {}).get("instanceView") or {}
    said = [str(one.get("message") or "") for one in view.get("statuses") or () if one.get("level") == "Error"]
    return "; ".join(filter(None, said)) or "it does not say why; look at the activity log in the portal"


def settle(arm: ArmClient, waiting: Waiting, seconds: float, *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Look until it has ended, for ``seconds`` at most; whether it has."""
    until = time.monotonic() + seconds
    while not settled(arm, waiting):
        if time.monotonic() + LOOK_SECONDS > until:
            return False
        sleep(LOOK_SECONDS)
    return True


def _ready(arm: ArmClient, order: VmOrder) -> Ready:
    """The VM as it is reached, its host key as it said it itself, through ARM."""
    extension = arm.get(f"{order.vm}/extensions/{EXTENSION}", COMPUTE_VERSION, query={"$expand": "instanceView"})
    view = (extension.get("properties") or {}).get("instanceView") or {}
    said = [str(one.get("message") or "") for kind in ("statuses", "substatuses") for one in view.get(kind) or ()]
    return Ready(
        host=_address(arm, order),
        login=order.user,
        host_key=host_key_of("\n".join(said)),
        vm=order.vm,
    )


def _address(arm: ArmClient, order: VmOrder) -> str:
    if order.public_address:
        found = arm.get(order.id("Microsoft.Network/publicIPAddresses", "-ip"), NETWORK_VERSION)
        address = (found.get("properties") or {}).get("ipAddress")
    else:
        found = arm.get(order.id("Microsoft.Network/networkInterfaces", "-nic"), NETWORK_VERSION)
        configs = (found.get("properties") or {}).get("ipConfigurations") or [{}]
        address = (configs[0].get("properties") or {}).get("privateIPAddress")
    if not address:
        raise CloudError(
            f"VM {order.name} has no address.",
            left="the VM as it is",
            next="Is the Stack Hub's pool of public addresses used up? Look at the interface in the portal.",
        )
    return str(address)


def retreat(arm: ArmClient, order: VmOrder, say: Callable[[str], None]) -> Waiting | None:
    """Remove the next thing; returns what Azure is at then, or None if nothing of the VM is left.

    The VM goes first, then what it used, each only if it carries the VM's tag; that it is not there is no error. Azure
    makes the system disk without tags: it gets the VM's before the VM goes. A resource group goes if it was made with
    the VM and nothing else is in it.

    Raises ``ConflictError`` before anything is removed if a name belongs to something that is not ours.
    """
    group = arm.find(order.group, GROUP_VERSION)
    if group is None:
        return None
    there = [(one, arm.find(one.path, one.version)) for one in reversed(resources(order)[:-1])]
    for resource, found in there:
        if found is not None and (found.get("tags") or {}).get(OWNER) != order.name:
            raise _not_ours(resource.path, resource.what)
    for resource, found in there:
        if found is not None:
            _mark_disk(arm, order, found)
            return _remove(arm, resource.what, resource.path, resource.version, say)
    return _retreat_from_group(arm, order, group, say)


def _mark_disk(arm: ArmClient, order: VmOrder, found: Mapping[str, Any]) -> None:
    """Once the VM is gone nobody can say any more whether a disk of that name was its own."""
    its = ((found.get("properties") or {}).get("storageProfile") or {}).get("osDisk") or {}
    path = str((its.get("managedDisk") or {}).get("id") or f"{order.disk.rpartition('/')[0]}/{its.get('name')}")
    if path.casefold() != order.disk.casefold():
        return
    try:
        arm.wait(arm.send("PATCH", order.disk, DISK_VERSION, body={"tags": order.tags}), order.disk)
    except NotFoundError:
        return  # the VM had failed before Azure made the disk


def _retreat_from_group(
    arm: ArmClient, order: VmOrder, group: Mapping[str, Any], say: Callable[[str], None]
) -> Waiting | None:
    ours = (group.get("tags") or {}).get(OWNER) == order.name
    # Page after page: one without a resource may have another behind it.
    listed = {str(one.get("id")).casefold(): one for one in arm.pages(f"{order.group}/resources", GROUP_VERSION)}
    disk = listed.get(order.disk.casefold())
    if ours and len(listed) == (disk is not None):
        return _remove(arm, "resource group", order.group, GROUP_VERSION, say)
    if disk is not None and (disk.get("tags") or {}).get(OWNER) == order.name:
        return _remove(arm, "system disk", order.disk, DISK_VERSION, say)
    if disk is not None:
        say(
            f"Disk {order.disk.rpartition('/')[2]} stays: it does not carry the tag {OWNER} of this VM and may be "
            f"somebody else's. If it is not: az disk delete --ids {order.disk}"
        )
    say(f"Resource group {order.resource_group} stays: it was there before, or others use it ({len(listed)} resources)")
    return None


def _remove(arm: ArmClient, what: str, path: str, version: str, say: Callable[[str], None]) -> Waiting:
    operation = ""
    try:
        operation = _operation(arm, arm.send("DELETE", path, version))
        say(f"Asked for the end of the {what} {path.rpartition('/')[2]}")
    except NotFoundError:
        say(f"The {what} {path.rpartition('/')[2]} went meanwhile")
    return Waiting(what=what, path=path, version=version, operation=operation, gone=True)
