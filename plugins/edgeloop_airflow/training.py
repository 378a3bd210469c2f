"""Train: fix the dataset, make sure of the VM, train there once, and bring the outputs home."""

from __future__ import annotations

import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TaskInstanceState
from airflow.sdk.exceptions import AirflowFailException

import edgeloop
from edgeloop.errors import ConflictError, EdgeloopError, UnreachableError
from edgeloop.training import compute, session
from edgeloop.training.follow import Ending, Place
from edgeloop.training.job import Action, Stop, decide
from edgeloop_airflow import hooks, task_log
from edgeloop_airflow.dagkit import FINAL
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.origin import origin
from edgeloop_airflow.task_state import signature, state_of
from edgeloop_airflow.training_alone import Script, ScriptOrder
from edgeloop_airflow.training_compute import AttachComputeOperator
from edgeloop_airflow.training_dataset import KEY, RUN, FixDatasetOperator, forced_key, pinned_desk
from edgeloop_airflow.training_order import PipelineOrder
from edgeloop_airflow.training_trigger import TrainingTrigger, follower_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from edgeloop.training.job import Found, Job
    from edgeloop.training.remote import TrainingVm
    from edgeloop_airflow.training_order import Order

__all__ = ["AttachComputeOperator", "FixDatasetOperator", "TrainOnVMOperator"]

LINK_SECONDS = 120.0
DEFER_SPARE = timedelta(hours=1)
STOP_SECONDS = 60.0
KILL_SECONDS = 20.0
"""Airflow's supervisor waits about a minute for a task that was told to end."""
RETRIES = 3


class TrainOnVMOperator(BaseOperator):
    """Trains on the VM, once: the same data, code, image and parameters are one job, whoever asks.

    Args:
        pipeline: The pipeline's name; "" for a training of ``script``, without a pipeline.yaml.
        script: Without a pipeline: the script, by its path or URI; docs/operators.md has what goes with it.
        key: The run's key.
        dataset: Id of the dataset; by default what the task ``fix_dataset`` returned.
        force: A reason to train the same once more; part of the training's identity together with the run.
        poll_seconds: How often the job is looked at.
        link_seconds: For how long a VM that does not answer is only a line in the log.

    Deferrable. Returns the id of the finished training run, or without a pipeline the folder of the outputs.

    What a try finds on the VM decides: a job that runs is followed, one that ended well is collected, one that failed,
    ran out of memory or was stopped is followed by another attempt from its checkpoint.
    """

    template_fields: Sequence[str] = (
        *("key", "dataset", "force", "run"),
        *("script", "data", "outputs", "parameters", "image", "connection"),
    )

    def __init__(
        self,
        *,
        pipeline: str = "",
        key: str = KEY,
        dataset: str = "{{ ti.xcom_pull(task_ids='fix_dataset') }}",
        force: str = "",
        run: str = RUN,
        poll_seconds: float = 1.0,
        link_seconds: float = LINK_SECONDS,
        script: str = "",
        data: Sequence[str] = (),
        outputs: str = "",
        collect: Sequence[str] = ("model.onnx", "metrics.json"),
        parameters: Mapping[str, Any] | None = None,
        connection: str = "edgeloop_vm",
        image: str = "edgeloop/trainer",
        cpus: float = 1.0,
        memory_mb: int = 2048,
        gpus: int = 0,
        disk_mb: int = 1024,
        timeout_minutes: float = 60.0,
        grace_seconds: float = 120.0,
        **kwargs: Any,
    ) -> None:
        if bool(pipeline) == bool(script) or bool(script) != bool(outputs):
            raise ValueError(
                "TrainOnVMOperator takes either the name of a pipeline, or a script and a folder `outputs`"
            )
        if script:
            kwargs = {"retries": RETRIES, "retry_policy": FINAL, **kwargs}
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.key, self.dataset, self.force, self.run = key, dataset, force, run
        self.poll_seconds, self.link_seconds = poll_seconds, link_seconds
        self.script, self.data, self.outputs, self.collect = script, list(data), outputs, tuple(collect)
        self.parameters, self.connection, self.image = dict(parameters or {}), connection, image
        self.cpus, self.memory_mb, self.gpus, self.disk_mb = cpus, memory_mb, gpus, disk_mb
        self.timeout_minutes, self.grace_seconds = timeout_minutes, grace_seconds
        self._engaged: tuple[str, Job] | None = None
        self._ti: Any = None

    @discreet
    def execute(self, context: Context) -> str:
        """Return what is finished, collect what has ended, or start or find the job and defer."""
        return self._go(self._order(context), context)

    @discreet
    def resume(self, context: Context, event: dict[str, Any]) -> str:
        """Go on after an attempt that was being stopped has ended; raises ``ConflictError`` if it has not."""
        return self._go(self._order(context), context, patient=Ending(event["ending"]) is not Ending.DEADLINE)

    def _order(self, context: Context) -> Order:
        if self.script:
            return ScriptOrder(script=self._script(), forced=self._forced())
        return PipelineOrder(
            desk=pinned_desk(hooks.desk(self.pipeline), self.key, forced_key(self.key, self.force, self.run)),
            dataset=self.dataset,
            key=self.key,
            forced=self._forced(),
            mine=f"{self.key} {self.run}",
            why=origin(context).kind,
            say=self.log.info,
        )

    def _resumed(self, token: str) -> Order:
        if self.script:
            return ScriptOrder.resumed(self._script(), token)
        return PipelineOrder.resumed(hooks.desk(self.pipeline), token)

    def _script(self) -> Script:
        return Script(
            script=self.script, outputs=self.outputs, data=tuple(self.data), parameters=self.parameters,
            collect=self.collect, connection=self.connection, image=self.image, cpus=self.cpus,
            memory_mb=self.memory_mb, gpus=self.gpus, disk_mb=self.disk_mb, timeout_minutes=self.timeout_minutes,
            grace_seconds=self.grace_seconds,
        )  # fmt: skip

    def _go(self, order: Order, context: Context, *, patient: bool = True) -> str:
        self._ti = context["ti"]
        with compute.connected(order.endpoint()) as vm:
            job = order.fix(vm)
            self.log.info("Training %s, container %s", job.run_id, job.name)
            if done := self._finished(order, vm, job, "It finished before"):
                return done
            self._engaged = (order.connection, job)
            found = vm.look(job)
            if patient and decide(found, job.run_id).action is Action.WAIT:
                self.log.info("Attempt %d is being stopped: %s", found.attempt, found.last.reason)
                self._defer(order, job, found, "resume")
            who = follower_name(self._ti.dag_id, self._ti.run_id)
            engaged = session.engage(
                vm, job, order.cargo(), self.log.info, done=lambda: bool(order.finished()), who=who,
                seen=self._seen(), sign=lambda: self._sign(vm, job),
            )  # fmt: skip
            if engaged is None:
                return order.finished()
            if decide(engaged, job.run_id).action is Action.COLLECT:
                session.drain(vm, job, self.log.info, who, self._seen())
            return self._settle(order, vm, job, engaged)

    def _settle(self, order: Order, vm: TrainingVm, job: Job, found: Found) -> str:
        """Collect what ended well, raise for what ended badly, follow what runs."""
        if decide(found, job.run_id).action is Action.COLLECT:
            return self._collect(order, vm, job, found)
        if found.ended:
            raise _failure(vm, job, found)
        self._engaged = (order.connection, job.at(found.attempt))
        self._sign(vm, job)
        self._defer(order, job, found, "execute_complete")
        raise AssertionError("unreachable: defer always raises")

    def _seen(self) -> Place:
        """The last of the job's lines that a trigger of this task wrote on this machine."""
        return Place(stamp=task_log.stamp_here(self._ti), host=socket.gethostname())

    def _sign(self, vm: TrainingVm, job: Job) -> None:
        """Leave word on the VM that this try of the task waits for the job."""
        who = follower_name(self._ti.dag_id, self._ti.run_id)
        vm.follow(job, who, self._ti.try_number, signature(self._ti))

    def _collect(self, order: Order, vm: TrainingVm, job: Job, found: Found) -> str:
        try:
            return order.collect(vm, job, found, self.log.info)
        except EdgeloopError as error:
            # Two tasks that want the same training collect it at once, and the first one takes it off the VM; or the
            # record was stored, and Docker went away before the VM was tidy.
            if done := self._finished(order, vm, job, f"It is collected, but: {error.what}"):
                return done
            raise

    def _finished(self, order: Order, vm: TrainingVm, job: Job, word: str) -> str:
        """What the task returns if the training is finished, with nothing of it left on the VM; else ""."""
        if done := order.finished():
            self.log.info(word)
            session.sweep(vm, job, lambda: order.left(vm, job), self.log.info)
        return done

    def _forced(self) -> str:
        return f"{self.force} ({self.run})" if self.force else ""

    def _defer(self, order: Order, job: Job, found: Found, method: str) -> None:
        """Park until the attempt has ended; the trigger's deadline is that of the VM with some time to carry it out."""
        deadline = found.deadline or job.deadline
        if found.last.stop or not deadline:
            deadline = time.time()
        deadline += job.grace_seconds + STOP_SECONDS
        left = max(deadline - time.time(), 0.0)
        self.log.info("Attempt %d is on the VM; it is followed for %.0f s at most", found.attempt, left)
        self.defer(
            trigger=TrainingTrigger(
                connection=order.connection,
                run_id=job.run_id,
                pipeline=job.pipeline,
                image=job.image,
                deadline=int(deadline),
                attempt=self._ti.try_number,
                number=found.attempt,
                poll_seconds=self.poll_seconds,
                link_seconds=self.link_seconds,
                version=edgeloop.__version__,
            ),
            method_name=method,
            kwargs={"wanted": order.token()} if method == "execute_complete" else {},
            # Only a backstop: it calls neither the completion method nor on_kill (tried on 3.3.2).
            timeout=timedelta(seconds=left) + DEFER_SPARE,
        )

    @discreet
    def execute_complete(self, context: Context, event: dict[str, Any], wanted: str) -> str:
        """Look at the VM again, whatever the event says, and collect, fail with the last lines, or wait on."""
        self._ti = context["ti"]
        order = self._resumed(wanted)
        ending = Ending(event["ending"])
        if ending is Ending.UNREACHABLE:
            raise UnreachableError(
                f"The VM behind connection {order.connection!r} did not answer for {self.link_seconds:g} s.",
                left="the job, which goes on if the VM has power",
                next="Check power and network of the VM. The next try attaches to the job or collects what it wrote.",
            )
        with compute.connected(order.endpoint()) as vm:
            job = order.fix(vm)
            if done := self._finished(order, vm, job, "Somebody else collected it meanwhile"):
                return done
            self._engaged = (order.connection, job)
            found = vm.look(job)
            if ending is Ending.DEADLINE and not found.ended:
                found = self._stop_late(vm, job.at(found.attempt), found)
            return self._settle(order, vm, job, found)

    def _stop_late(self, vm: TrainingVm, job: Job, found: Found) -> Found:
        """Have an attempt stopped whose watch on the VM did not do so; once that was asked for it has its grace."""
        if found.last.stop:
            return vm.cancel(job, reason=found.last.reason, stop=found.last.stop)
        self.log.warning("The VM did not keep the deadline of attempt %d itself; it is asked to", job.attempt)
        vm.ask(job, reason="its time was over", stop=Stop.DEADLINE)
        return vm.look(job)

    def on_kill(self) -> None:
        """Marked failed or cleared while on the worker: stop the job; while deferred it is the trigger that does.

        A worker that is shut down, or a time-out of this phase, ends here too: the task is still running then by
        Airflow's word, and its next try attaches.
        """
        if self._engaged is None:
            return
        connection, job = self._engaged
        if state_of(self._ti) == TaskInstanceState.RUNNING:
            self.log.info("The task was not given up: job %s goes on", job.name)
            return
        try:
            with compute.connected(hooks.ssh_endpoint(connection)) as vm:
                found = vm.look(job)
                if found.ended or job.attempt not in {0, found.attempt}:
                    return
                this = job.at(found.attempt)
                vm.ask(this, reason="the task was given up while it was on its worker")
                vm.wait_stopped(this, timeout=KILL_SECONDS)
        except ConflictError:
            self.log.info("%s still writes its last; the VM removes it after %g s", job.name, job.grace_seconds)
        except EdgeloopError as error:
            self.log.warning("Container %s may still run; the reaper comes by: %s", job.name, error)


def _failure(vm: TrainingVm, job: Job, found: Found) -> Exception:
    failure = vm.failure(job, found)
    # No retry: the same job would take as long again.
    return AirflowFailException(str(failure)) if found.last.stop is Stop.DEADLINE else failure
