"""What every rollout task works with, found again by each from its run's partition key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import EdgeloopError
from edgeloop.packaging import golden_rows
from edgeloop.packaging.golden import Golden
from edgeloop.records import ModelImage, ModelVersion, Rollout
from edgeloop.rollout.bytes_source import Source
from edgeloop.rollout.deliveries import deliveries
from edgeloop.rollout.fleet import SshDockerFleet, Wanted
from edgeloop.rollout.plan import Step, ring_of
from edgeloop.rollout.ring import Ring
from edgeloop_airflow import hooks
from edgeloop_airflow.origin import origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from edgeloop.containers.endpoint import PullLogin
    from edgeloop.pipeline import Pipeline
    from edgeloop.pipeline import Ring as RingSpec
    from edgeloop.rollout.exposure import Exposure
    from edgeloop.store import Store
    from edgeloop_airflow.hooks import Desk


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The desk, the step that the run stands for, the model and the ring; ``run_id`` of the Airflow run."""

    desk: Desk
    step: Step
    model: ModelVersion
    ring: Ring
    run_id: str
    origin: str = "live"

    @property
    def store(self) -> Store:
        """The pipeline's records."""
        return self.desk.store

    @property
    def spec(self) -> Pipeline:
        """The pipeline as the model's batch pinned it."""
        return self.desk.snapshot.spec

    @property
    def ring_spec(self) -> RingSpec:
        """The ring as pipeline.yaml describes it."""
        return ring_of(self.spec, self.step)

    @property
    def exposed_here(self) -> bool:
        """Whether a device of this very ring was given the image."""
        return any(one.site in self.ring.sites for one in self.ring.exposed())

    def known(self, reference: str) -> Wanted | None:
        """The golden rows of an image that served before, if it is one of ours."""
        for image in self.store.all(ModelImage):
            if image.reference == reference:
                return wanted_for(self.desk, image)
        return None

    def source(self) -> Source:
        """The registry that the devices pull from, for predicting what they pull."""
        from edgeloop.containers.registry import Registry

        return Source(Registry(hooks.registry_endpoint(self.spec.image.registry)))

    def recorded(self, outcome: str) -> Rollout | None:
        """The record that an earlier try of this run made before it died, once nothing is exposed any more."""
        mine = (
            one
            for one in self.store.children(self.ring.image.id, Rollout)
            if one.ring == self.step.ring and one.outcome == outcome and one.attempt.startswith(f"{self.run_id}/")
        )
        return max(mine, key=lambda one: int(one.attempt.rpartition("/")[2]), default=None)

    def record(self, outcome: str, reason: str, exposed: tuple[Exposure, ...], approved_by: str = "") -> Rollout:
        """What to write down; a run that is cleared after a restore exposes anew, so it makes another record."""
        sites = self.ring.sites if outcome == "passed" else tuple(one.site for one in exposed)
        before = {one.site: one.before for one in exposed}
        came = deliveries(self.store, self.ring.image, by=self.ring.by)
        serves = dict.fromkeys(sites, self.ring.wanted.reference) if outcome == "passed" else before
        return Rollout(
            pipeline=self.spec.name,
            origin=self.origin,
            image=self.ring.image.id,
            ring=self.step.ring,
            attempt=f"{self.run_id}/{max((one.seq for one in exposed), default=0)}",
            devices=tuple(f"{site}={serves[site]}" for site in sites),
            previous=tuple(f"{site}={before[site]}" for site in sites if site in before),
            outcome=outcome,
            reason=reason,
            approved_by=approved_by,
            predicted=tuple(f"{site}={one.predicted}" for site, one in came.items()),
            pulled=tuple(f"{site}={'?' if one.pulled is None else one.pulled}" for site, one in came.items()),
        )

    def last_words(self) -> list[str]:
        """What the new scorers wrote last; a device that cannot say is named."""
        found = []
        for one in self.ring.exposed():
            try:
                found.append(f"{one.site}'s scorer wrote: {self.ring.fleet.logs(one.site) or '(nothing)'}")
            except EdgeloopError as error:
                found.append(f"{one.site}'s scorer cannot be asked: {error.what}")
        return found


def stage(pipeline: str, context: Context) -> Stage:
    """Everything a task of a ring's run needs."""
    run = context["dag_run"]
    step = Step.parse(run.partition_key)
    desk = hooks.desk(pipeline)
    image = desk.store.starting(ModelImage, step.image)
    desk = desk.at(image.config)
    spec = desk.snapshot.spec
    devices = {site.name: hooks.device(site.device) for site in spec.sites}
    ring = Ring(
        store=desk.store,
        fleet=SshDockerFleet(spec.name, devices, spec.rollout.scorer_port, pulls_with(spec.image.registry)),
        image=image,
        wanted=wanted_for(desk, image),
        sites=ring_of(spec, step).sites,
        by=f"{run.dag_id} {run.run_id}",
    )
    model = desk.store.get(ModelVersion, image.model)
    return Stage(desk=desk, step=step, model=model, ring=ring, run_id=run.run_id, origin=origin(context).kind)


def state_in_run(context: Context, task: str) -> str | None:
    """How another task of this run ended, in Airflow's words; None if it never began."""
    ti: Any = context["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[task], run_ids=[ti.run_id])
    found: str | None = states.get(ti.run_id, {}).get(task)
    return found


def pulls_with(conn_id: str) -> Callable[[str], PullLogin | None]:
    """How devices log in to the registry of a connection; asked when one has to pull, and never kept."""
    from edgeloop.containers.registry import Registry

    def login(reference: str) -> PullLogin | None:
        endpoint = hooks.registry_endpoint(conn_id)
        repository, _, digest = reference.removeprefix(f"{endpoint.host}/").partition("@")
        if not reference.startswith(f"{endpoint.host}/") or not (endpoint.user or endpoint.identity):
            return None
        return Registry(endpoint).pull_login(repository, digest)

    return login


def wanted_for(desk: Desk, image: ModelImage) -> Wanted:
    """What devices should serve for an image: its reference and its model's golden answers."""
    golden = Golden.from_json(desk.blobs.get(golden_rows.blob_of(desk.store, image)))
    return Wanted(reference=image.reference, model=image.pipeline, golden=golden, image=image.id)
