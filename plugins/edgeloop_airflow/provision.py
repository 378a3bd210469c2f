"""A training VM on a Stack Hub: made over Azure Resource Manager, and removed again.

Both operators work alone in anybody's DAG. Each try looks at what Azure has and does what is left to do, so a retry, a
second run and a task that died in between end in the same VM.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseHook, BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

import edgeloop
from edgeloop.azure_ml.arm import ArmClient
from edgeloop.errors import ConfigurationError, EdgeloopError, UnreachableError
from edgeloop.provision import machine
from edgeloop.provision.machine import Ready, Waiting
from edgeloop.provision.order import VmOrder
from edgeloop.provision.stack import StackHub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow.sdk import Connection, Context

QUICK_SECONDS = 30.0
DEFER_SPARE = timedelta(minutes=10)


def stack_hub(conn_id: str) -> StackHub:
    """The Stack Hub behind a connection of type ``azure``; raises ``ConfigurationError`` naming the field."""
    return stack_of(conn_id, BaseHook.get_connection(conn_id))


def stack_of(conn_id: str, connection: Connection) -> StackHub:
    """The Stack Hub that a connection's fields name."""
    return StackHub.of(conn_id, connection.login or "", connection.password or "", connection.extra_dejson)


class _StackHubOperator(BaseOperator):
    """What making and removing have in common; the arguments are those of :class:`VmOrder` and of the operators."""

    template_fields: Sequence[str] = ("resource_group", "vm_name", "location", "public_key", "allowed")

    def __init__(
        self,
        *,
        azure_conn_id: str,
        resource_group: str,
        vm_name: str,
        location: str,
        public_key: str,
        allowed: Sequence[str],
        deferrable: bool = True,
        timeout_minutes: float = 60.0,
        poll_seconds: float = 10.0,
        options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.azure_conn_id = azure_conn_id
        self.resource_group = resource_group
        self.vm_name = vm_name
        self.location = location
        self.public_key = public_key
        self.allowed = tuple(allowed)
        self.deferrable = deferrable
        self.timeout_minutes = timeout_minutes
        self.poll_seconds = poll_seconds
        self.options = options or {}

    def _order(self, stack: StackHub) -> VmOrder:
        return VmOrder(
            subscription=stack.subscription,
            resource_group=self.resource_group,
            name=self.vm_name,
            location=self.location,
            public_key=self.public_key,
            allowed=tuple(self.allowed),
            **self.options,
        )

    def execute(self, context: Context) -> Any:
        """Go as far as can be gone, then wait."""
        del context
        return self._go(time.time() + self.timeout_minutes * 60)

    def _go(self, deadline: float) -> Any:
        stack = stack_hub(self.azure_conn_id)
        order = self._order(stack)
        with ArmClient(stack.discover()) as arm:
            while True:
                left = deadline - time.time()
                at = self._next(arm, order)
                if not isinstance(at, Waiting):
                    return at
                if left <= 0:
                    raise self._late(at)
                if not machine.settle(arm, at, min(QUICK_SECONDS, left) if self.deferrable else left):
                    if not self.deferrable:
                        raise self._late(at)
                    self._park(at, deadline)

    def _next(self, arm: ArmClient, order: VmOrder) -> Any:
        raise AssertionError(f"a subclass says what is next for {order.name} at {arm.endpoint.base}")

    def _late(self, at: Waiting) -> UnreachableError:
        return UnreachableError(
            f"The {at.what} of VM {self.vm_name} is not done after {self.timeout_minutes:g} minutes.",
            left="what was begun, which goes on in Azure",
            next="Look at it in the Stack Hub's portal; clearing the task goes on from there.",
        )

    def _park(self, at: Waiting, deadline: float) -> NoReturn:
        left = max(deadline - time.time(), 0.0)
        self.log.info("Waiting for the %s, for %.0f s at most", at.what, left)
        self.defer(
            trigger=OperationTrigger(
                azure_conn_id=self.azure_conn_id,
                waiting=json.dumps(dataclasses.asdict(at)),
                deadline=deadline,
                poll_seconds=self.poll_seconds,
                version=edgeloop.__version__,
            ),
            method_name="execute_complete",
            kwargs={"waiting": json.dumps(dataclasses.asdict(at)), "deadline": deadline},
            timeout=timedelta(seconds=left) + DEFER_SPARE,
        )
        raise AssertionError("unreachable: defer always raises")

    def execute_complete(self, context: Context, event: dict[str, Any], waiting: str, deadline: float) -> Any:
        """Ask again how it ended, in this task where it can fail with Azure's words, and go on."""
        del context
        at = Waiting(**json.loads(waiting))
        with ArmClient(stack_hub(self.azure_conn_id).discover()) as arm:
            if not machine.settled(arm, at) and event["ending"] != "ended":
                raise self._late(at)
        return self._go(deadline)


class CreateStackHubVmOperator(_StackHubOperator):
    """Makes a training VM on a Stack Hub: network, address, firewall, VM, Docker. Returns what reaches it.

    Args:
        azure_conn_id: Connection of type ``azure`` with extra.arm_endpoint and extra.subscriptionId.
        resource_group: Made if it is not there.
        vm_name: Of the VM; its resources begin with it and carry it as tag.
        location: The Stack Hub's region.
        public_key: An ssh-rsa public key; its private half is what an ``edgeloop_ssh`` connection holds.
        allowed: The networks that may reach its SSH port.
        deferrable: Wait in the triggerer; otherwise in the worker.
        timeout_minutes: For all of it.
        poll_seconds: How often the triggerer asks Azure.
        options: Further fields of :class:`edgeloop.provision.order.VmOrder`: user, size, image, disk_gb, subnet,
            network, public_address, prepare.

    Returns host, port, login and host_key for an ``edgeloop_ssh`` connection, and the VM's ARM id. What is there
    already and as wanted is left alone; a firewall that somebody opened is closed again.
    """

    def _next(self, arm: ArmClient, order: VmOrder) -> Any:
        at = machine.advance(arm, order, self.log.info)
        if not isinstance(at, Ready):
            return at
        extra = json.dumps({"host_key": at.host_key, "key_file": "<path of the private key>"})
        self.log.info(
            "VM %s is ready. Its connection: airflow connections add edgeloop_vm --conn-type edgeloop_ssh "
            "--conn-host %s --conn-port %d --conn-login %s --conn-extra '%s'",
            self.vm_name, at.host, at.port, at.login, extra,
        )  # fmt: skip
        return dataclasses.asdict(at)


class DeleteStackHubVmOperator(_StackHubOperator):
    """Removes what :class:`CreateStackHubVmOperator` made with the same arguments, and nothing else.

    Only resources with the VM's tag go, the VM first; what is gone already is no error. The resource group goes if it
    was made with the VM and holds nothing else. Returns nothing.
    """

    def _next(self, arm: ArmClient, order: VmOrder) -> Any:
        return machine.retreat(arm, order, self.log.info)


class OperationTrigger(BaseTrigger):
    """Looks at an operation of Azure, or at the resource itself, until it has ended; fires once.

    Args:
        azure_conn_id: The Stack Hub's connection.
        waiting: :class:`edgeloop.provision.machine.Waiting` as JSON.
        deadline: When it must have ended, seconds since 1970.
        poll_seconds: How often to look.
        version: Of the operator; another version here means a component was not restarted.

    There is no ``on_kill``: Azure goes on with what it began, and the next try or the removal finds it.
    """

    def __init__(
        self,
        *,
        azure_conn_id: str,
        waiting: str,
        deadline: float,
        poll_seconds: float = 10.0,
        version: str = edgeloop.__version__,
    ) -> None:
        super().__init__()
        self.azure_conn_id = azure_conn_id
        self.waiting = waiting
        self.deadline = deadline
        self.poll_seconds = poll_seconds
        self.version = version

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments; none of them is a secret."""
        names = ("azure_conn_id", "waiting", "deadline", "poll_seconds", "version")
        return "edgeloop_airflow.provision.OperationTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until it ended, well or badly: the task asks again and says which."""
        if self.version != edgeloop.__version__:
            raise ConfigurationError(
                f"The operator is of Edgeloop {self.version}, this triggerer of {edgeloop.__version__}.",
                left="what was begun, which goes on in Azure",
                next="Restart the triggerer, then clear the task: it goes on from what is there.",
            )
        at = Waiting(**json.loads(self.waiting))
        stack = stack_of(self.azure_conn_id, await BaseHook.aget_connection(self.azure_conn_id))
        arm: ArmClient | None = None
        try:
            while time.time() < self.deadline:
                try:
                    arm = arm or await asyncio.to_thread(lambda: ArmClient(stack.discover()))
                    if await asyncio.to_thread(machine.settled, arm, at):
                        break
                except UnreachableError as error:
                    self.log.info("%s; trying on until the deadline", error.what)
                except EdgeloopError as error:
                    self.log.info("%s", error.what)
                    break
                await asyncio.sleep(self.poll_seconds)
            else:
                yield TriggerEvent({"ending": "deadline"})
                return
        finally:
            if arm is not None:
                arm.__exit__(None, None, None)
        yield TriggerEvent({"ending": "ended"})
