"""Train: fix the dataset, make sure of the VM, train there once, and bring the outputs home."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

import edgeloop
from edgeloop import registry
from edgeloop.errors import ConfigurationError, ConflictError, EdgeloopError, UnreachableError
from edgeloop.records import Certificate, Dataset, TrainingRun, canonical_json, sha256_hex
from edgeloop.training import compute, dataset, session
from edgeloop.training.follow import Ending
from edgeloop.training.job import Action, Job, decide
from edgeloop.training.plan import job_of, members, parameters_of, plan
from edgeloop_airflow import hooks
from edgeloop_airflow.training_trigger import TrainingTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from edgeloop.records import ModelVersion
    from edgeloop.training.remote import TrainingVm
    from edgeloop_airflow.hooks import Desk

KEY = "{{ dag_run.partition_key or run_id }}"
LINK_SECONDS = 120.0
DEFER_SPARE = timedelta(hours=1)


def _snapshot_of(desk: Desk, key: str) -> Desk:
    """The desk of the snapshot that a key trains under: a batch's own for its key, today's for any other."""
    pinned = desk.store.fixed("training_configs", key)
    if pinned is None:
        batch = key.rpartition("@")[2]
        own = [one for one in desk.store.all(Certificate) if batch and "@" in key and one.batch.startswith(batch)]
        pinned = own[0].config if own else ""
    return desk.at(pinned)


class FixDatasetOperator(BaseOperator):
    """Chooses the certified data of the trailing window and fixes it under the run's key; returns the dataset's id.

    Args:
        pipeline: The pipeline's name.
        key: What the choice is fixed under; by default the run's partition key.
        force: A reason to train although the champion serves well or the same was trained before.

    Skipped with the reason while there are too few months, while nothing asks for a training, or when the same data
    was trained with the same code and parameters.
    """

    template_fields: Sequence[str] = ("key", "force")

    def __init__(self, *, pipeline: str, key: str = KEY, force: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.key = key
        self.force = force

    def execute(self, context: Context) -> str:
        """Find what the key was fixed to, or choose and fix it; raises ``AirflowSkipException``."""
        del context
        desk = hooks.desk(self.pipeline)
        fixed = desk.store.fixed("datasets", self.key)
        if fixed is not None:
            self.log.info("Key %s was fixed to dataset %s before", self.key, fixed)
            return fixed
        desk = _snapshot_of(desk, self.key)
        chosen = self._choose(desk)
        if isinstance(chosen, dataset.Skip):
            raise AirflowSkipException(f"Nothing is trained for {self.key}: {chosen.why}.")
        desk.store.fix("training_configs", self.key, desk.snapshot.save(desk.blobs))
        stored = desk.store.put(chosen)
        self.log.info(
            "Dataset %s: %d files of %d certificates, %s to %s, held out from %s",
            stored.id, len(stored.files), len(stored.certificates),
            stored.window_start, stored.window_end, stored.holdout_start,
        )  # fmt: skip
        return desk.store.fix("datasets", self.key, stored.id)

    def _choose(self, desk: Desk) -> Dataset | dataset.Skip:
        spec = desk.snapshot.spec
        champion, candidate = registry.champion(desk.store), registry.candidate(desk.store)
        skip = dataset.may_train(
            self.key, spec, champion=champion.id if champion else "", candidate=candidate.id if candidate else ""
        )
        if skip and not self.force:
            return skip
        certificates = desk.store.all(Certificate)
        reason = self.force or ("drift" if self.key.startswith(dataset.DRIFT_KEY) else f"new data {self.key}")
        chosen = dataset.choose_window(
            certificates, spec, reason=reason, config=desk.snapshot.digest, origin=_origin(certificates, self.key)
        )
        if isinstance(chosen, dataset.Skip) or self.force:
            return chosen
        trained = dataset.already_trained(
            desk.store.children(chosen.id, TrainingRun),
            code=desk.snapshot.code_digest,
            parameters=parameters_of(spec),
        )
        if trained:
            return dataset.Skip(why=f"training {trained[:12]} had the same data, code and parameters")
        return chosen


def _origin(certificates: list[Certificate], key: str) -> str:
    batch = key.rpartition("@")[2]
    own = (one.origin for one in certificates if "@" in key and batch and one.batch.startswith(batch))
    return next(own, "live")


class AttachComputeOperator(BaseOperator):
    """Makes sure of the VM: it answers, Docker answers, the image is there, the disk has room. Returns its connection.

    Args:
        pipeline: The pipeline's name.
        key: The run's key, whose snapshot names the VM.

    What was found is written down under ``keys/compute/<connection>``; a changed VM is written down beside it.
    """

    template_fields: Sequence[str] = ("key",)

    def __init__(self, *, pipeline: str, key: str = KEY, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.key = key

    def execute(self, context: Context) -> str:
        """Check and record; raises ``UnreachableError`` or ``ConfigurationError`` that name the connection."""
        del context
        desk = _snapshot_of(hooks.desk(self.pipeline), self.key)
        training = desk.snapshot.spec.training
        endpoint = hooks.ssh_endpoint(training.connection)
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
        run: str = "{{ run_id }}",
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

    def execute(self, context: Context) -> str:
        """Return what is finished, collect what has ended, or start or find the job and defer."""
        desk = _snapshot_of(hooks.desk(self.pipeline), self.key)
        data = desk.store.get(Dataset, self.dataset)
        champion = registry.champion(desk.store)
        spec = desk.snapshot.spec
        with compute.connected(hooks.ssh_endpoint(spec.training.connection)) as vm:
            wanted = plan(
                desk.snapshot, data, image=vm.image_id(spec.training.image), champion=champion, forced=self._forced()
            )
            job = job_of(wanted, spec, now=time.time())
            self.log.info("Training %s of dataset %s, container %s", wanted.id, data.id, job.name)
            done = desk.store.find(TrainingRun, wanted.id)
            if done is not None:
                self.log.info("It finished before, after %.0f s of training", done.seconds)
                session.tidy(vm, job, (), self.log.info)
                return done.id
            self._engaged = (spec.training.connection, job)
            found = self._engage(desk, vm, job, data, champion)
            if decide(found, job.run_id).action is Action.COLLECT:
                return self._harvest(desk, vm, job, wanted).id
            if found.ended:
                raise vm.failure(job, found)
        self._defer(job, wanted, found.deadline or job.deadline, spec.training.connection, context)
        raise AssertionError("unreachable: defer always raises")

    def _engage(self, desk: Desk, vm: TrainingVm, job: Job, data: Dataset, champion: ModelVersion | None) -> Any:
        sent = members(desk.snapshot, data, champion, desk.blobs)
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
        with compute.connected(hooks.ssh_endpoint(connection)) as vm:
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
