"""The sections of a pipeline.yaml about training: the VM and what one training may use, the workspace, who wins."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgeloop.pipeline_parts import ConnectionId, Part, Share, wrong

COMPUTE_NAME = r"^[a-zA-Z][a-zA-Z0-9\-]{2,23}$"
"""Microsoft's OpenAPI file of Azure Machine Learning, which also forbids a name that ends in ``-<digits>``."""


class VmSize(Part):
    """What the VM has for trainings."""

    cpus: Annotated[float, Field(gt=0)]
    memory_mb: Annotated[int, Field(ge=64)]
    gpus: Annotated[int, Field(ge=0)] = 0


class Training(Part):
    """Who trains, what one training may use there, and what it trains on."""

    backend: Literal["vm", "azure_ml", "azure_ml_pipeline"] = "vm"
    """Who runs the job; :mod:`edgeloop.residency` says what each may do."""
    connection: ConnectionId = "edgeloop_vm"
    vm: VmSize | None = None
    """What the VM has, so that several jobs share it; without it a job has the whole VM for itself."""
    image: str = "edgeloop/trainer"
    requirements: str = ""
    """A pinned requirements file beside pipeline.yaml, built into a trainer image of the pipeline's own."""
    cpus: Annotated[float, Field(gt=0)] = 1.0
    memory_mb: Annotated[int, Field(ge=64)] = 2048
    gpus: Annotated[int, Field(ge=0)] = 0
    disk_mb: Annotated[int, Field(ge=0)] = 1024
    """Free disk the VM must have beyond the data, for outputs and checkpoints."""
    timeout_minutes: Annotated[float, Field(gt=0)] = 60.0
    grace_seconds: Annotated[float, Field(ge=1, le=3600)] = 120.0
    """Between SIGTERM and SIGKILL: the time for a checkpoint."""
    keep_days: Annotated[float, Field(gt=0, le=365)] = 7.0
    """How long the VM keeps what ended and was not collected, for a retry."""
    staging: Literal["auto", "direct", "worker"] = "auto"
    """How data reaches the VM: fetched there from blob storage with a short-lived SAS, or sent by the worker."""
    cache_gb: Annotated[float, Field(ge=0)] = 20.0
    """How much the VM keeps of data it was sent before."""
    reports: tuple[str, ...] = ()
    """Which files in /outputs are collected beside model.onnx and metrics.json, as glob patterns."""
    reports_mb: Annotated[float, Field(gt=0, le=1024)] = 16.0
    window_months: Annotated[int, Field(ge=1)] = 3
    minimum_months: Annotated[int, Field(ge=1)] = 3
    """How many different months the window must hold before anything is trained."""
    holdout_days: Annotated[int, Field(ge=1)] = 14
    retrain_on: Literal["drift", "new_data"] = "drift"
    """``drift``: new data trains only while there is no champion; ``new_data``: every new batch trains."""
    retrain_on_change: bool = True
    """Whether a changed train.py, trainer image, parameter, feature, column or domain trains the current dataset."""
    parameters: dict[str, int | float | str | bool] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _requirements_are_built_for_the_vm(self) -> Self:
        if self.requirements and self.backend != "vm":
            remedy = "is built into the VM's image only; put the packages into azure_ml.environment and leave it out"
            raise wrong(remedy, "requirements")
        return self

    @model_validator(mode="after")
    def _fits_the_vm(self) -> Self:
        for name in ("cpus", "memory_mb", "gpus") if self.vm else ():
            wanted, there = getattr(self, name), getattr(self.vm, name)
            if wanted > there:
                raise wrong(f"asks for {wanted:g}, training.vm says that the VM has {there:g}", name)
        return self


class Registry(Part):
    """Where model versions are registered and what makes a challenger better."""

    backend: Literal["blob", "azure_ml"] = "blob"
    """``blob``: the store alone; ``azure_ml``: the store, and the workspace of section azure_ml as its mirror."""
    datastore: Annotated[str, Field(min_length=1, max_length=255)] = "workspaceblobstore"
    """Of ``azure_ml``: the workspace's blob datastore that the models' bytes are copied to."""
    minimum_gain: Share = 0.0
    """By how much a challenger's share of right rows must beat the champion's on the same hold-out."""
    minimum_rows: Annotated[int, Field(ge=1)] = 200
    """How many hold-out rows the comparison needs."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """How sure the paired test must be that the challenger is better."""
    block_hours: Annotated[float, Field(gt=0, le=168)] = 24.0
    """How long errors hang together: what the paired test counts are blocks of time, not rows."""


class Workspace(Part):
    """The Azure Machine Learning workspace that mirrors trainings, and the name the VM has there."""

    connection: ConnectionId = "azure_default"
    """The Azure provider's connection (type ``azure``)."""
    subscription: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
    resource_group: Annotated[str, Field(min_length=1, max_length=90)]
    workspace: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][\w-]{2,32}$")]
    compute: Annotated[str, Field(pattern=COMPUTE_NAME)] = "edge-vm"
    resource_id: str = ""
    """ARM id of the VM; "" for a Stack Hub VM that public ARM does not know, which is attached by its address."""
    send_key: bool = False
    """Hand Azure the VM's private key, so that Azure ML itself can run jobs there."""
    experiment: str = ""
    """Where runs are filed; "" is the pipeline's name."""
    datastore: str = "workspaceblobstore"
    environment: str = ""
    """Image of the job for the backends of Azure ML; "" is ``training.image``."""

    @model_validator(mode="after")
    def _compute_may_not_end_in_a_number(self) -> Self:
        stem, dash, digits = self.compute.rpartition("-")
        if dash and digits.isdigit():
            raise wrong(f"may not end in '-<digits>'; write for example '{stem}-vm'", "compute")
        return self
