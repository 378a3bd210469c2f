"""The training VM as compute target of a workspace: by ARM id, or by address for a VM that public ARM does not know.

Both are one PUT of a ``VirtualMachine`` compute with a pinned api-version. azure-ai-ml has no field for an address, and
its VirtualMachineCompute fails without a password or a key file (UnboundLocalError in 1.35.2), so with it a VM could
not be registered without handing Azure the means to log in.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from edgeloop.azure_ml.workspace import COMPUTE_VERSION
from edgeloop.errors import CloudError, ConfigurationError, ConflictError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

NAME = re.compile(r"[a-zA-Z](?![a-zA-Z0-9-]*-\d+$)[a-zA-Z0-9-]{2,23}")
"""Microsoft's OpenAPI file: 3 to 24 letters, digits and dashes, a letter first, and no ``-<digits>`` at the end."""
VM_ID = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/virtualMachines/[^/]+", re.IGNORECASE
)
KIND = "VirtualMachine"
CONNECTION_TAG, KEY_TAG = "edgeloop-connection", "edgeloop-key"
MOVING = ("Creating", "Updating", "Deleting", "Unknown")
BROKEN = ("Failed", "Canceled")
SSH_PORT = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class VmTarget:
    """A VM as a workspace should know it; raises ``ConfigurationError`` for what Azure would refuse or misread.

    Args:
        name: The compute's name in the workspace.
        address: Host name or IP of a VM that public ARM does not know; either this or ``resource_id``.
        resource_id: ARM id of the VM.
        user: Who logs in there.
        port: sshd's port.
        connection: The Airflow connection that reaches the same VM; it marks the compute as that one's.
        private_key: Handed to Azure so that it can log in; "" for a compute that Azure only shows.
        fingerprint: Of the key's public half, by which a changed key is noticed: Azure never tells a key.
    """

    name: str
    address: str = ""
    resource_id: str = ""
    user: str = ""
    port: int = SSH_PORT
    connection: str = ""
    private_key: str = field(default="", repr=False)
    fingerprint: str = ""

    def __post_init__(self) -> None:
        """Refuse a name, an id or a pair that cannot be meant."""
        require_name(self.name)
        if bool(self.address) == bool(self.resource_id):
            raise ConfigurationError(
                f"Compute {self.name!r} needs either the VM's address or its ARM id.",
                left="nothing was sent to Azure",
                next="Write azure_ml.resource_id for a VM of Azure; leave it empty for a VM of a Stack Hub, whose "
                "address is the host of training.connection.",
            )
        if self.resource_id and not VM_ID.fullmatch(self.resource_id):
            raise ConfigurationError(
                f"{self.resource_id!r} is no ARM id of a virtual machine.",
                left="nothing was sent to Azure",
                next="Copy it from `az vm show -g GROUP -n VM --query id -o tsv` into azure_ml.resource_id: "
                "/subscriptions/.../providers/Microsoft.Compute/virtualMachines/<name>.",
            )


def require_name(name: str) -> None:
    """Raise ``ConfigurationError`` for a name that the service refuses."""
    if not NAME.fullmatch(name):
        stem, _, digits = name.rpartition("-")
        hint = f"; write for example '{stem}-vm'" if stem and digits.isdigit() else "; write for example 'edge-vm'"
        raise ConfigurationError(
            f"{name!r} cannot be a compute's name: 3 to 24 letters, digits and dashes, a letter first, and not "
            f"'-<digits>' at the end{hint}.",
            left="nothing was sent to Azure",
            next="Correct azure_ml.compute in pipeline.yaml.",
        )


class Step(Enum):
    """What is done about what is there."""

    NOTHING = "already so"
    CREATE = "attach"
    UPDATE = "change"
    WAIT = "wait for what is under way"


def body(target: VmTarget, location: str) -> dict[str, Any]:
    """The resource that is PUT; ``location`` is the workspace's region."""
    inner: dict[str, Any] = {"sshPort": target.port}
    if target.address:
        inner["address"] = target.address
    if target.user:
        inner["administratorAccount"] = {"username": target.user}
        if target.private_key:
            inner["administratorAccount"]["privateKeyData"] = target.private_key
    tags = {CONNECTION_TAG: target.connection, KEY_TAG: target.fingerprint if target.private_key else ""}
    outer: dict[str, Any] = {"computeType": KIND, "description": "Training VM, driven by Edgeloop over SSH"}
    if target.resource_id:
        outer["resourceId"] = target.resource_id
    return {
        "location": location,
        "tags": {name: value for name, value in tags.items() if value},
        "properties": {**outer, "properties": inner},
    }


def differences(found: Mapping[str, Any], target: VmTarget) -> list[str]:
    """What a compute has otherwise than it should, as ``field: is, should be``; a key is told by fingerprint only."""
    outer, tags = found.get("properties") or {}, found.get("tags") or {}
    inner = outer.get("properties") or {}
    account = inner.get("administratorAccount") or {}
    pairs = {
        "address": (inner.get("address") or "", target.address),
        "resource id": ((outer.get("resourceId") or "").casefold(), target.resource_id.casefold()),
        "ssh port": (inner.get("sshPort") or SSH_PORT, target.port),
        "user": (account.get("username") or "", target.user),
        "connection": (tags.get(CONNECTION_TAG) or "", target.connection),
        "key": (tags.get(KEY_TAG) or "none", target.fingerprint if target.private_key else "none"),
    }
    if target.resource_id:
        # Azure looks the address of a VM of its own up itself.
        del pairs["address"]
    return [f"{name} {was or '(none)'} -> {now or '(none)'}" for name, (was, now) in pairs.items() if was != now]


def decide(found: Mapping[str, Any] | None, target: VmTarget) -> Step:
    """What to do; raises ``ConflictError`` for a name that is another kind of compute, or another connection's VM."""
    if found is None:
        return Step.CREATE
    outer = found.get("properties") or {}
    if outer.get("computeType") != KIND:
        raise _taken(target.name, f"is a compute of type {outer.get('computeType')}, no virtual machine")
    owner = (found.get("tags") or {}).get(CONNECTION_TAG)
    if owner and target.connection and owner != target.connection:
        raise _taken(target.name, f"is the VM of connection {owner!r}, not of {target.connection!r}")
    state = outer.get("provisioningState")
    if state in MOVING:
        return Step.WAIT
    return Step.UPDATE if state in BROKEN or differences(found, target) else Step.NOTHING


def attach(
    arm: ArmClient, workspace: WorkspaceEndpoint, target: VmTarget, say: Callable[..., None], *, pause: float = 5.0
) -> Step:
    """Make the workspace know the VM; returns what was done.

    Raises ``ConflictError`` for a name that is taken, ``CloudError`` where Azure began and failed, and
    ``UnreachableError`` if what somebody else began is not finished in the endpoint's ``operation_seconds``.
    """
    where = path(workspace, target.name)
    found = arm.find(where, COMPUTE_VERSION)
    step = decide(found, target)
    if step is Step.WAIT:
        found = _settled(arm, where, pause)
        step = decide(found, target)
    if step is Step.NOTHING:
        say("Compute %s is attached to workspace %s already", target.name, workspace.workspace)
        return step
    if found is not None:
        say("Compute %s changes: %s", target.name, "; ".join(differences(found, target)) or "it had failed")
    arm.put(where, COMPUTE_VERSION, body(target, workspace.describe(arm)["location"]))
    _require_attached(arm.get(where, COMPUTE_VERSION), target.name)
    say(
        "Compute %s is attached to workspace %s (%s)",
        target.name,
        workspace.workspace,
        "Azure holds a key to it" if target.private_key else "without credentials: Azure can show it, not log in",
    )
    return step


def detach(arm: ArmClient, workspace: WorkspaceEndpoint, name: str, connection: str = "") -> bool:
    """Make the workspace forget the VM, which itself is left alone; whether it knew it."""
    require_name(name)
    where = path(workspace, name)
    found = arm.find(where, COMPUTE_VERSION)
    if found is None:
        return False
    outer, owner = found.get("properties") or {}, (found.get("tags") or {}).get(CONNECTION_TAG)
    if outer.get("computeType") != KIND:
        raise _taken(name, f"is a compute of type {outer.get('computeType')}, no virtual machine")
    if connection and owner and owner != connection:
        raise _taken(name, f"is the VM of connection {owner!r}, not of {connection!r}")
    return arm.delete(where, COMPUTE_VERSION, query={"underlyingResourceAction": "Detach"})


def path(workspace: WorkspaceEndpoint, name: str) -> str:
    """The compute's ARM id."""
    return f"{workspace.id}/computes/{name}"


def _settled(arm: ArmClient, where: str, pause: float) -> dict[str, Any] | None:
    """The compute once nobody changes it: a try that died left its operation running in Azure."""
    until = time.monotonic() + arm.endpoint.operation_seconds
    while True:
        found = arm.find(where, COMPUTE_VERSION)
        if found is None or (found.get("properties") or {}).get("provisioningState") not in MOVING:
            return found
        if time.monotonic() + pause > until:
            raise UnreachableError(
                f"Azure has been changing {where} for {arm.endpoint.operation_seconds:g} s and is not done.",
                left="the compute as it is; nothing was sent",
                next="Look at it in the studio under Compute > Attached computes; if it hangs, detach it there, then "
                "clear the task.",
            )
        time.sleep(pause)


def _require_attached(found: Mapping[str, Any], name: str) -> None:
    outer = found.get("properties") or {}
    if outer.get("provisioningState") in BROKEN:
        told = [(one.get("error") or {}).get("message") or "" for one in outer.get("provisioningErrors") or ()]
        raise CloudError(
            f"Azure could not attach compute {name}: {'; '.join(filter(None, told)) or outer['provisioningState']}.",
            left="the compute in its failed state; the next try repairs it",
            next="Look at it in the studio under Compute > Attached computes, correct the cause, then clear the task.",
        )


def _taken(name: str, why: str) -> ConflictError:
    return ConflictError(
        f"{name} {why}.",
        left="the compute that is there",
        next="Give azure_ml.compute in pipeline.yaml another name, or detach what is there if nobody needs it "
        f"(`az ml compute detach -n {name} -g GROUP -w WORKSPACE`).",
    )
