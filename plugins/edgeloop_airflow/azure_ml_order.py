"""What the train task asks Azure ML for: which training, on which compute, and where what it wrote is kept."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop import registry
from edgeloop.azure_ml import compute, course, data_asset, job_body
from edgeloop.azure_ml.handover import target_of
from edgeloop.azure_ml.job_outputs import JobOutputs, unfit_mark
from edgeloop.azure_ml.jobs import job_name
from edgeloop.errors import ConfigurationError, EdgeloopError
from edgeloop.records import Certificate, Dataset, ModelVersion, TrainingRun, canonical_json, sha256_hex
from edgeloop.residency_guard import require_configuration, require_local_logs
from edgeloop.training import session
from edgeloop.training.dataset import require_certified
from edgeloop.training.leaks import leak_check
from edgeloop.training.plan import job_of, plan
from edgeloop_airflow import hooks
from edgeloop_airflow.azure_ml import azure_ml_workspace
from edgeloop_airflow.residency import remote_logs
from edgeloop_airflow.training_order import PipelineOrder

if TYPE_CHECKING:
    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.azure_ml.jobs import FoundJob, Jobs
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint
    from edgeloop_airflow.hooks import Desk


def workspace_for(desk: Desk) -> WorkspaceEndpoint:
    """The workspace that trains; raises ``ResidencyError`` when the training's words would leave without a permit."""
    spec = desk.snapshot.spec
    require_configuration(spec)
    require_local_logs(spec, remote=remote_logs())
    return azure_ml_workspace(course.workspace_of(desk.snapshot))


def ensure_compute(desk: Desk, arm: ArmClient, place: WorkspaceEndpoint, say: object) -> str:
    """Make sure that the workspace has the compute; attaches the training VM if Azure may log in to it.

    Returns the compute's name; raises ``ConfigurationError`` for one that is missing and may not be attached.
    """
    section = course.workspace_of(desk.snapshot)
    if arm.find(compute.path(place, section.compute), compute.COMPUTE_VERSION) is not None:
        return section.compute
    if not section.send_key:
        raise ConfigurationError(
            f"Workspace {section.workspace!r} has no compute {section.compute!r}.",
            left="nothing was submitted",
            next="Name one that is there in azure_ml.compute; or, for the VM of training.connection, write "
            "azure_ml.send_key: true, which hands Azure the key to it: without that Azure ML can run nothing there.",
        )
    target = target_of(desk.snapshot.spec, section, hooks.ssh_endpoint(desk.snapshot.spec.training.connection))
    compute.attach(arm, place, target, say)  # type: ignore[arg-type]  # a logger's info
    return section.compute


@dataclass(slots=True, kw_only=True)
class JobOrder(PipelineOrder):
    """A pipeline's training as a job of Azure ML; the arguments are those of :class:`PipelineOrder`."""

    def decide(self, jobs: Jobs) -> TrainingRun:
        """Decide which training it is: against today's champion, or the one that an earlier try began."""
        if self._wanted is None:
            desk = self.desk
            data = desk.store.get(Dataset, self.dataset)
            require_certified(data, [desk.store.find(Certificate, one) for one in data.certificates])
            reason = self.forced or desk.store.fixed("training_reasons", self.key) or ""
            wanted = plan(
                desk.snapshot,
                data,
                image=job_body.image_of(desk.snapshot.spec),
                champion=registry.champion(desk.store),
                forced=self.forced,
                origin=self.why,
                reason=reason,
            )
            text = canonical_json(wanted.to_dict()).decode()
            begun = desk.store.fix("trainings", sha256_hex(self.mine.encode())[:32], text)
            earlier = TrainingRun.from_dict(json.loads(begun))
            if earlier.id != wanted.id and jobs.look(job_name(earlier.id)).status != "absent":
                self.say(f"An earlier try began training {earlier.id}, before the champion changed; it goes on")
                wanted = earlier
            self._wanted = wanted
        return self._wanted

    def unfit(self, attempt: int) -> bool:
        """Whether an earlier try found that the outputs of an attempt would not do."""
        return self.desk.blobs.exists(unfit_mark(job_body.outputs_folder(self.wanted.id, attempt)))

    def submit(self, jobs: Jobs, place: WorkspaceEndpoint, attempt: int) -> FoundJob:
        """Ask for the job of an attempt, on data that the workspace knows."""
        store, run = self.desk.store, self.wanted
        data = store.get(Dataset, run.dataset)
        asset = data_asset.asset_of(data, self.desk.snapshot.spec, self.desk.blobs.url)
        data_asset.keep_table(data, self.desk.blobs.url, self.desk.blobs)
        order = course.Order(
            snapshot=self.desk.snapshot,
            dataset=data,
            champion=store.get(ModelVersion, run.champion) if run.champion else None,
            run=run,
            blobs=self.desk.blobs,
            asset=data_asset.register(jobs.arm, place, asset, lambda text, *values: self.say(text % values)).reference,
        )
        return course.submit(jobs, order, attempt)

    def bring_home(self, found: FoundJob) -> str:
        """Collect what the job wrote by the rules of the VM, store the record, tidy up; the record's id."""
        desk, run = self.desk, self.wanted
        folder = job_body.outputs_folder(run.id, found.attempt)
        written = JobOutputs(
            desk.blobs, folder, self.say, spare=(f"{folder}-trained", job_body.checkpoint_folder(run.id))
        )
        try:
            stored = session.harvest(
                written,  # type: ignore[arg-type]  # it has what a VM's outputs are collected by
                job_of(run, desk.snapshot.spec, now=time.time()),
                run,
                found=found,  # type: ignore[arg-type]  # its attempt and its seconds are all that is asked
                blobs=desk.blobs,
                store=desk.store,
                say=self.say,
                check=leak_check(desk.snapshot.spec, desk.store.get(Dataset, run.dataset), desk.blobs, self.say),
            )
        except EdgeloopError as error:
            # Two tasks that want the same training collect it at once; the first one takes it away.
            if done := self.finished():
                self.say(f"Somebody else collected it meanwhile: {error.what}")
                return done
            raise
        self.say("Collected " + ", ".join(f"{one.path} ({one.size} bytes)" for one in stored.outputs))
        return stored.id
