"""What the train task is asked for: which training, what it is sent, and where what it wrote is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable  # noqa: TC003 - a dataclass field's
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgeloop import registry
from edgeloop.records import Certificate, Dataset, ModelVersion, TrainingRun, canonical_json, sha256_hex
from edgeloop.training import session, trainer_image
from edgeloop.training.dataset import require_certified
from edgeloop.training.job import MIB
from edgeloop.training.leaks import leak_check
from edgeloop.training.plan import cargo, job_of, plan
from edgeloop.training.trainer_image import VmImages
from edgeloop_airflow.links import blob_url
from edgeloop_airflow.residency import training_vm

if TYPE_CHECKING:
    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.training.bundle import Cargo
    from edgeloop.training.job import Found, Job
    from edgeloop.training.remote import TrainingVm
    from edgeloop_airflow.hooks import Desk


class Order(Protocol):
    """One training that is asked for; everything may be asked twice."""

    @property
    def connection(self) -> str:
        """The VM's Airflow connection."""
        ...

    def endpoint(self) -> Endpoint:
        """How the VM is reached."""
        ...

    def fix(self, vm: TrainingVm) -> Job:
        """Decide which training it is; the same for every try."""
        ...

    def finished(self) -> str:
        """What the task returns, once the training is finished; "" before."""
        ...

    def cargo(self) -> Cargo:
        """What the job finds on the VM."""
        ...

    def collect(self, vm: TrainingVm, job: Job, found: Found, say: Callable[[str], None]) -> str:
        """Bring home what the job wrote, tidy up on the VM, and return what the task returns."""
        ...

    def left(self, vm: TrainingVm, job: Job) -> tuple[str, ...]:
        """What the job wrote and nobody collects."""
        ...

    def token(self) -> str:
        """What a later phase of the task makes the same order from."""
        ...


@dataclass(slots=True, kw_only=True)
class PipelineOrder:
    """A pipeline's training: its dataset, the champion, its records and its container.

    Args:
        desk: The pipeline's desk under the snapshot that the training has.
        dataset: Id of the dataset.
        key: The run's key, under which it stands why it trains.
        forced: Why the same is trained once more, with the run that said so.
        mine: What every try of the task has in common.
        why: The origin of the run that asks.
        say: Takes a line of the task's log.
    """

    desk: Desk
    dataset: str = ""
    key: str = ""
    forced: str = ""
    mine: str = ""
    why: str = ""
    say: Callable[[str], None] = print
    _wanted: TrainingRun | None = None

    @classmethod
    def resumed(cls, desk: Desk, token: str) -> PipelineOrder:
        """The order of a token, under the snapshot that its training pinned."""
        wanted = TrainingRun.from_dict(json.loads(token))
        return cls(desk=desk.at(wanted.config), _wanted=wanted)

    @property
    def connection(self) -> str:
        """The VM's Airflow connection."""
        return self.desk.snapshot.spec.training.connection

    @property
    def wanted(self) -> TrainingRun:
        """The training; known once it is fixed."""
        assert self._wanted is not None
        return self._wanted

    def endpoint(self) -> Endpoint:
        """How the VM is reached; raises ``ResidencyError`` when data would leave the site."""
        return training_vm(self.desk.snapshot.spec)

    def fix(self, vm: TrainingVm) -> Job:
        """Decide which training it is: against today's champion, or the one that an earlier try began.

        A champion that changed between two tries made another training of the same data, and nobody came back for the
        container of the first.
        """
        if self._wanted is None:
            wanted = self._plan(vm)
            text = canonical_json(wanted.to_dict()).decode()
            begun = self.desk.store.fix("trainings", sha256_hex(self.mine.encode())[:32], text)
            earlier = TrainingRun.from_dict(json.loads(begun))
            if earlier.id != wanted.id and vm.look(self._job(earlier)).folder:
                self.say(f"An earlier try began training {earlier.id}, before the champion changed; it goes on")
                wanted = earlier
            self._wanted = wanted
        return self._job(self._wanted)

    def _plan(self, vm: TrainingVm) -> TrainingRun:
        desk = self.desk
        data = desk.store.get(Dataset, self.dataset)
        require_certified(data, [desk.store.find(Certificate, one) for one in data.certificates])
        image = vm.image_id(trainer_image.reference(VmImages(vm.shell), desk.snapshot))
        champion, reason = registry.champion(desk.store), self.forced or desk.store.fixed("training_reasons", self.key)
        return plan(
            desk.snapshot,
            data,
            image=image,
            champion=champion,
            forced=self.forced,
            origin=self.why,
            reason=reason or "",
        )

    def _job(self, run: TrainingRun) -> Job:
        return job_of(run, self.desk.snapshot.spec, now=time.time())

    def finished(self) -> str:
        """The id of its record, once that is stored."""
        done = self.desk.store.find(TrainingRun, self.wanted.id)
        return done.id if done is not None else ""

    def cargo(self) -> Cargo:
        """Dataset, code and the champion's model."""
        store, run = self.desk.store, self.wanted
        champion = store.get(ModelVersion, run.champion) if run.champion else None
        return cargo(self.desk.snapshot, store.get(Dataset, run.dataset), champion, self.desk.blobs)

    def collect(self, vm: TrainingVm, job: Job, found: Found, say: Callable[[str], None]) -> str:
        """Bring the outputs home, store the record, tidy up; the record's id."""
        desk = self.desk
        data = desk.store.get(Dataset, self.wanted.dataset)
        check = leak_check(desk.snapshot.spec, data, desk.blobs, say)
        stored = session.harvest(
            vm, job, self.wanted, found=found, blobs=desk.blobs, store=desk.store, say=say, check=check
        )
        collected = ", ".join(f"{one.path} ({one.size} bytes)" for one in stored.outputs)
        say(
            f"Collected {collected}; {stored.seconds:.0f} s of training in attempt {found.attempt}, "
            f"{found.last.peak // MIB} of {job.memory_mb} MiB at its peak"
        )
        for one in stored.outputs:
            if "/reports/" in one.path:
                say(f"Report: {blob_url(desk.blobs, one.path)}")
        return stored.id

    def left(self, vm: TrainingVm, job: Job) -> tuple[str, ...]:
        """Outputs outside the allow-list, each with the reason."""
        return vm.choose(job).left

    def token(self) -> str:
        """The training, as JSON."""
        return canonical_json(self.wanted.to_dict()).decode()
