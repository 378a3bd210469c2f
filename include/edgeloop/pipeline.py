"""What a user brings: pipeline.yaml, read into a validated model, and the snapshot of it that a batch pins.

Every problem names the file, the line, the field and what to write instead, and all problems of a file are told at
once. The shape of a DAG depends only on ``name``, ``schedules`` and ``rollout.rings``; everything else is read from
the snapshot that a batch was claimed under, so an edit in the middle changes nothing that runs.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgeloop.pipeline_data import Columns, Nudge, Source, Storage, Transfer, Validation
from edgeloop.pipeline_image import Image, in_registry
from edgeloop.pipeline_parts import ConnectionId, Name, Part, Permit, Share, twice, wrong
from edgeloop.pipeline_training import Registry, Training, Workspace

__all__ = [
    "Columns",
    "Image",
    "Nudge",
    "Pipeline",
    "Registry",
    "Source",
    "Storage",
    "Training",
    "Transfer",
    "Validation",
    "Workspace",
]

CRON_FIELDS = 5


class Site(Part):
    """A place with one edge device; ``device`` is the Airflow connection of that device."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]
    device: ConnectionId


class Feature(Part):
    """One model input and the range it takes, used for synthetic golden rows."""

    name: str
    low: float
    high: float

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        if self.low >= self.high:
            raise wrong(f"must be above low, which is {self.low:g}", "high")
        return self


class Model(Part):
    """What the model predicts and when a prediction counts as right."""

    tolerance: Annotated[float, Field(gt=0)]
    """A row is right when |prediction - label| < tolerance, in the target's unit."""
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    domain: str = ""
    """A pandas query over the source columns; rows outside it are neither trained on nor judged."""

    @model_validator(mode="after")
    def _features_have_names_of_their_own(self) -> Self:
        if names := twice(one.name for one in self.features):
            raise wrong(f"names {', '.join(names)} more than once; each feature is one column of the input", "features")
        return self


class Ring(Part):
    """Devices that change together; ``approval`` asks a person before the next ring."""

    name: Name
    sites: Annotated[tuple[str, ...], Field(min_length=1)]
    approval: bool = False


class Rollout(Part):
    """Which devices change in which order, and what must hold before the next ring."""

    fleet: Literal["ssh_docker"] = "ssh_docker"
    rings: Annotated[tuple[Ring, ...], Field(min_length=1)]
    scorer_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    soak_seconds: Annotated[float, Field(ge=0)] = 30.0
    approval_hours: Annotated[float, Field(gt=0)] = 4.0


class Drift(Part):
    """When accuracy counts as fallen."""

    interval: Literal["month", "day"] = "month"
    fall: Share = 0.1
    """How far below the champion's hold-out accuracy an interval's share of right rows may be."""
    minimum_rows: Annotated[int, Field(ge=1)] = 500


class Schedules(Part):
    """Cron expressions in UTC."""

    sweep: str = "*/10 * * * *"
    full_sweep: str = "17 3 * * *"
    drift: str = "0 6 * * *"
    retrain: str = ""
    """When the current dataset is trained again whatever came in; "" never."""
    reap: str = "*/15 * * * *"
    """When what a crash left on the training VM is finished."""

    @model_validator(mode="after")
    def _five_fields(self) -> Self:
        from croniter import croniter

        for name in ("sweep", "full_sweep", "drift", "retrain", "reap"):
            if name == "retrain" and not self.retrain:
                continue
            if len(getattr(self, name).split()) != CRON_FIELDS or not croniter.is_valid(getattr(self, name)):
                raise wrong("must be a cron expression of five fields, for example '*/10 * * * *'", name)
        return self


class Pipeline(Part):
    """A whole pipeline.yaml."""

    name: Name
    title: str
    owner: Annotated[str, Field(min_length=1)]
    residency: Literal["on_premises", "cloud"]
    residency_permits: tuple[Permit, ...] = ()
    """What may leave the site although the pipeline is ``on_premises``."""
    source: Source
    columns: Columns
    sites: Annotated[tuple[Site, ...], Field(min_length=1)]
    model: Model
    validation: Validation = Validation()
    storage: Storage
    transfer: Transfer = Transfer()
    training: Training = Training()
    registry: Registry = Registry()
    azure_ml: Workspace | None = None
    image: Image
    rollout: Rollout
    drift: Drift = Drift()
    schedules: Schedules = Schedules()

    @model_validator(mode="after")
    def _rings_cover_the_sites(self) -> Self:
        if names := twice(site.name for site in self.sites) + twice(site.device for site in self.sites):
            raise wrong(f"names {', '.join(names)} more than once; each site has its own name and device", "sites")
        if names := twice(ring.name for ring in self.rollout.rings):
            raise wrong(f"has {', '.join(names)} more than once; give each ring a name of its own", "rollout", "rings")
        known = [site.name for site in self.sites]
        ringed = [site for ring in self.rollout.rings for site in ring.sites]
        if unknown := sorted(set(ringed) - set(known)):
            remedy = f"names unknown sites {', '.join(unknown)}; sites are {', '.join(known)}"
            raise wrong(remedy, "rollout", "rings")
        if again := twice(ringed):
            remedy = f"names {', '.join(again)} more than once; a device belongs to one ring"
            raise wrong(remedy, "rollout", "rings")
        if missing := sorted(set(known) - set(ringed)):
            raise wrong(f"leaves out {', '.join(missing)}; add each site to a ring", "rollout", "rings")
        return self

    @model_validator(mode="after")
    def _source_is_not_the_loops_own_container(self) -> Self:
        ours = (self.storage.container, self.storage.predictions)
        source = self.source
        if source.kind == "blob" and source.connection == self.storage.connection and source.container in ours:
            raise wrong(f"leads into the loop's own container {source.container!r}; choose another", "source", "folder")
        return self

    @model_validator(mode="after")
    def _azure_ml_knows_its_workspace(self) -> Self:
        if self.training.backend != "vm" and self.azure_ml is None:
            raise wrong(
                f"is {self.training.backend!r}, which needs a workspace: add the section azure_ml with subscription, "
                "resource_group and workspace",
                "training",
                "backend",
            )
        return self

    @model_validator(mode="after")
    def _the_registry_knows_its_workspace(self) -> Self:
        if self.registry.backend == "azure_ml" and self.azure_ml is None:
            raise wrong(
                "is 'azure_ml', which needs a workspace: add the section azure_ml with subscription, resource_group "
                "and workspace, or write 'blob'",
                "registry",
                "backend",
            )
        return self

    @model_validator(mode="after")
    def _azure_ml_packages_what_it_has(self) -> Self:
        if self.image.builder == "azure_ml_package" and self.registry.backend != "azure_ml":
            raise wrong(
                "is 'azure_ml_package', which packages models that the workspace has: write registry.backend: azure_ml "
                "too, or builder: engine",
                "image",
                "builder",
            )
        if self.image.builder == "azure_ml_package" and not in_registry(self.image.base):
            raise wrong(
                f"is {self.image.base!r}, and Azure ML pulls the base from a registry: name it whole, "
                "<registry>/edgeloop/scorer-base:<tag>",
                "image",
                "base",
            )
        return self
