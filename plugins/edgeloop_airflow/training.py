"""Train: fix the dataset, make sure of the VM, train there once, and bring the outputs home."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

import edgeloop
from edgeloop import registry
from edgeloop.errors import ConfigurationError, ConflictError, EdgeloopError, UnreachableError
from edgeloop.records import Certificate, Dataset, ModelVersion, TrainingRun, canonical_json, sha256_hex
from edgeloop.training import compute, session
from edgeloop.training.dataset import require_certified
from edgeloop.training.follow import Ending
from edgeloop.training.job import Action, Found, Job, decide
from edgeloop.training.plan import cargo, job_of, plan
from edgeloop_airflow import hooks
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.origin import origin
from edgeloop_airflow.residency import training_vm
from edgeloop_airflow.training_dataset import KEY, RUN, FixDatasetOperator, forced_key, pinned_desk
from edgeloop_airflow.training_trigger import TrainingTrigger, follower_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from edgeloop.training.remote import TrainingVm
    from edgeloop_airflow.hooks import Desk

__all__ = ["AttachComputeOperator", "FixDatasetOperator", "TrainOnVMOperator"]

LINK_SECONDS = 120.0
DEFER_SPARE = timedelta(hours=1)


class AttachComputeOperator(BaseOperator):
    """Makes sure of the VM: it answers, Docker answers, the image is there, the disk has room. Returns its connection.

    Args:
        pipeline: The pipeline's name.
        key: The run's key, whose snapshot names the VM.
        force: The reason of a forced run, which trains under today's snapshot. Nothing of this task is kept.
        run: The run's id.

    What was found is written down under ``keys/compute/<connection>``; a changed VM is written down beside it.
    """

    template_fields: Sequence[str] = ("key", "force", "run")

    def __init__(self, *, pipeline: str, key: str = KEY, force: str = "", run: str = RUN, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.key = key
        self.force = force
        self.run = run

    @discreet
    def execute(self, context: Context) -> str:
        """Check and record; raises ``UnreachableError`` or ``ConfigurationError`` that name the connection."""
        del context
        desk = pinned_desk(hooks.desk(self.pipeline), self.key, forced_key(self.key, self.force, self.run))
        training = desk.snapshot.spec.training
        endpoint = training_vm(desk.snapshot.spec)
        with compute.connected(endpoint) as vm:
            found = vm.compute(training.image)
        compute.check(found, endpoint)
        text = compute.record(endpoint, found)
        fixed = desk.store.fix("compute", training.connection, text)
        if fixed != text:
            desk.store.fix("compute", f"{training.connection}@{sha256_hex(text.encode())[:12]}", text)
            self.log.info("The VM of %s changed: %s, it was %s", training.connection, text, fixed)
        self.log.info(
            "%s: Docker %s, image %s, %d MiB free, clock %+.0f s",
            training.connection, found.docker, found.image, found.free_kib // 1024, found.skew,
        )  # fmt: skip
        return training.connection


class TrainOnVMOperator(BaseOperator):
    """Trains a dataset on the VM, once: the same data, code, image and parameters are one job, whoever asks.

    Args:
        pipeline: The pipeline's name.
        key: The run's key.
        dataset: Id of the dataset; by default what the task ``fix_dataset`` returned.
        force: A reason to train the same once more; part of the training's identity together with the run.
        poll_seconds: How often the job is looked at.
        link_seconds: For how long a VM that does not answer is only a line in the log.

    Deferrable. Returns the id of the finished training run.
    """

    template_fields: Sequence[str] = ("key", "dataset", "force", "run")

    def __init__(
        self,
        *,
        pipeline: str,
        key: str = KEY,
        dataset: str = "{{ ti.xcom_pull(task_ids='fix_dataset') }}",
        force: str = "",
        run: str = RUN,
        poll_seconds: float = 1.0,
        link_seconds: float = LINK_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.key = key
        self.dataset = dataset
        self.force = force
        self.run = run
        self.poll_seconds = poll_seconds
        self.link_seconds = link_seconds
        self._engaged: tuple[str, Job] | None = None

    @discreet
    def execute(self, context: Context) -> str:
        """Return what is finished, collect what has ended, or start or find the job and defer."""
        desk = pinned_desk(hooks.desk(self.pipeline), self.key, forced_key(self.key, self.force, self.run))
        data = desk.store.get(Dataset, self.dataset)
        require_certified(data, [desk.store.find(Certificate, one) for one in data.certificates])
        spec = desk.snapshot.spec
        with compute.connected(training_vm(spec)) as vm:
            wanted, champion = self._wanted(desk, vm, data, origin(context).kind)
            job = job_of(wanted, spec, now=time.time())
            self.log.info("Training %s of dataset %s, container %s", wanted.id, data.id, job.name)
            done = desk.store.find(TrainingRun, wanted.id)
            if done is not None:
                self.log.info("It finished before, after %.0f s of training", done.seconds)
                if vm.look(job).status != "absent":
                    # The try that stored the record died before it could tidy up.
                    session.tidy(vm, job, (), self.log.info)
                return done.id
            self._engaged = (spec.training.connection, job)
            found = self._engage(desk, vm, job, data, champion)
            if decide(found, job.run_id).action is Action.COLLECT:
                return self._harvest(desk, vm, job, wanted).id
            if found.ended:
                raise vm.failure(job, found)
            ti = context["ti"]
            vm.follow(job, follower_name(ti.dag_id, ti.run_id), ti.try_number)
        self._defer(job, wanted, found.deadline or job.deadline, spec.training.connection, context)
        raise AssertionError("unreachable: defer always raises")

    def _wanted(self, desk: Desk, vm: TrainingVm, data: Dataset, why: str) -> tuple[TrainingRun, ModelVersion | None]:
        """The training against today's champion, or the one that an earlier try of this run began and left there.

        A champion that changed between two tries made another training of the same data, and nobody came back for the
        container of the first.
        """
        spec, champion = desk.snapshot.spec, registry.champion(desk.store)
        image = vm.image_id(spec.training.image)
        wanted = plan(desk.snapshot, data, image=image, champion=champion, forced=self._forced(), origin=why)
        mine = sha256_hex(f"{self.key} {self.run}".encode())[:32]
        begun = desk.store.fix("trainings", mine, canonical_json(wanted.to_dict()).decode())
        earlier = TrainingRun.from_dict(json.loads(begun))
        if earlier.id == wanted.id or vm.look(job_of(earlier, spec, now=time.time())).status == "absent":
            return wanted, champion
        self.log.info("An earlier try began training %s, before the champion changed; it goes on", earlier.id)
        return earlier, desk.store.get(ModelVersion, earlier.champion) if earlier.champion else None

    def _engage(self, desk: Desk, vm: TrainingVm, job: Job, data: Dataset, champion: ModelVersion | None) -> Found:
        sent = cargo(desk.snapshot, data, champion, desk.blobs)
        return session.engage(vm, job, sent, self.log.info)

    def _forced(self) -> str:
        return f"{self.force} ({self.run})" if self.force else ""

    def _defer(self, job: Job, wanted: TrainingRun, deadline: int, connection: str, context: Context) -> None:
        left = max(deadline - time.time(), 0.0)
        self.log.info("The job runs on the VM; it has %.0f s until its deadline", left)
        self.defer(
            trigger=TrainingTrigger(
                connection=connection,
                run_id=job.run_id,
                pipeline=job.pipeline,
                image=job.image,
                deadline=deadline,
                attempt=context["ti"].try_number,
                poll_seconds=self.poll_seconds,
                link_seconds=self.link_seconds,
                version=edgeloop.__version__,
            ),
            method_name="execute_complete",
            kwargs={"wanted": canonical_json(wanted.to_dict()).decode()},
            # Only a backstop: it calls neither the completion method nor on_kill (tried on 3.3.2).
            timeout=timedelta(seconds=left) + DEFER_SPARE,
        )

    @discreet
    def execute_complete(self, context: Context, event: dict[str, Any], wanted: str) -> str:
        """Look at the VM again, whatever the event says, and collect, fail with the last lines, or wait on."""
        run = TrainingRun.from_dict(json.loads(wanted))
        desk = hooks.desk(self.pipeline).at(run.config)
        spec = desk.snapshot.spec
        job = job_of(run, spec, now=time.time())
        connection = spec.training.connection
        ending = Ending(event["ending"])
        if ending is Ending.UNREACHABLE:
            raise UnreachableError(
                f"The VM behind connection {connection!r} did not answer for {self.link_seconds:g} s.",
                left=f"container {job.name}, which goes on if the VM has power",
                next="Check power and network of the VM. The next try attaches to the job or collects what it wrote.",
            )
        done = desk.store.find(TrainingRun, run.id)
        if done is not None:
            return done.id
        self._engaged = (connection, job)
        with compute.connected(training_vm(spec)) as vm:
            if ending is Ending.DEADLINE:
                self._stop_late(vm, job, spec.training.timeout_minutes)
            found = vm.look(job)
            decision = decide(found, job.run_id)
            if decision.action is Action.COLLECT:
                return self._harvest(desk, vm, job, run).id
            if decision.action is not Action.ATTACH:
                raise vm.failure(job, found)
        self._defer(job, run, found.deadline or job.deadline, connection, context)
        raise AssertionError("unreachable: defer always raises")

    def _stop_late(self, vm: TrainingVm, job: Job, minutes: float) -> None:
        found = vm.look(job)
        if found.ended:
            return
        failure = vm.failure(job, found)
        vm.cancel(job, reason=f"its {minutes:g} minutes were over")
        # No retry: the same job would take as long again.
        raise AirflowFailException(
            f"{failure.what}\nIt was stopped: training.timeout_minutes is {minutes:g}.\n"
            "Next: raise it in pipeline.yaml, or let train.py do less, then clear the run."
        )

    def _harvest(self, desk: Desk, vm: TrainingVm, job: Job, run: TrainingRun) -> TrainingRun:
        stored = session.harvest(
            vm, job, run, found=vm.look(job), blobs=desk.blobs, store=desk.store, say=self.log.info
        )
        self.log.info(
            "Collected %s; %.0f s of training", ", ".join(f"{one.path} ({one.size} bytes)" for one in stored.outputs),
            stored.seconds,
        )  # fmt: skip
        return stored

    def on_kill(self) -> None:
        """Marked failed or cleared while on the worker: stop the job; while deferred it is the trigger that does."""
        if self._engaged is None:
            return
        connection, job = self._engaged
        try:
            with compute.connected(hooks.ssh_endpoint(connection)) as vm:
                vm.cancel(job, reason="the task was killed on its worker")
        except (UnreachableError, ConflictError, ConfigurationError) as error:
            self.log.warning("Container %s may still run: %s", job.name, error)
        except EdgeloopError:
            self.log.exception("Container %s may still run", job.name)
