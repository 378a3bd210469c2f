"""The frozen records that cross rooms, and how each is named.

A record's id is the sha256 of the canonical JSON of its *identity*: the fields that say what went in, never what came
out or when. So the id is known before the work starts, and "did this already happen?" is one look-up. ``parents`` are
ids of the records it was made from; following them leads from a device's image back to the files on the share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from edgeloop.record_base import SCHEMA_VERSION, FileRef, Record, canonical_json, sha256_hex

__all__ = [
    "KINDS",
    "SCHEMA_VERSION",
    "Batch",
    "Certificate",
    "Dataset",
    "DriftVerdict",
    "FileRef",
    "ModelImage",
    "ModelVersion",
    "Record",
    "Rollout",
    "TrainingRun",
    "canonical_json",
    "sha256_hex",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(Record):
    """Files that settled together on the share.

    ``group`` names which files belong together (for the sample: the month); a late or changed file makes a new batch
    of the same group. ``config`` is the digest of the pipeline snapshot it was claimed under.
    """

    kind: ClassVar[str] = "batch"
    identity: ClassVar[tuple[str, ...]] = ("pipeline", "files")
    identity_if_set: ClassVar[tuple[str, ...]] = ("again",)

    group: str
    files: tuple[FileRef, ...]
    config: str
    claimed_at: str
    """When, ISO 8601 UTC with milliseconds; later than that of the batch it replaces, whatever the clocks say."""
    replaces: str = ""
    """The batch that stood for the group until then; "" for the first."""
    again: str = ""
    """As ``replaces``, where these same files were a batch of the group before that: put back, they are new data."""

    @property
    def key(self) -> str:
        """The partition key: readable group first, then enough of the id to be unique."""
        return f"{self.group}@{self.id[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate(Record):
    """A batch that was validated with one suite, and where its certified Parquet files are.

    ``suite`` is a digest of everything that judged: the suite's text, the versions of what ran it, a reason to force.
    ``files`` are the certified Parquet blobs (path within the pipeline's container), ``set_aside`` source paths with
    the reason, ``quarantined`` the count of rows written beside the data with their reason. ``event_start`` and
    ``event_end`` bound the rows' event time, ISO 8601 UTC, end exclusive.
    """

    kind: ClassVar[str] = "certificate"
    identity: ClassVar[tuple[str, ...]] = ("batch", "suite")

    batch: str
    suite: str
    group: str
    files: tuple[FileRef, ...] = ()
    set_aside: tuple[str, ...] = ()
    rows: int = 0
    quarantined: int = 0
    quarantine: str = ""
    docs: str = ""
    """The blob with the batch's Data Docs."""
    library: str = ""
    """The versions that judged it; part of ``suite``, so that an upgrade validates anew."""
    warnings: tuple[str, ...] = ()
    event_start: str = ""
    event_end: str = ""
    config: str = ""
    coverage: tuple[str, ...] = ()
    """``<day> <site> <rows>`` for every UTC day and site with certified rows, sorted: ``2014-01-05 R80711 144``."""
    claimed_at: str = ""
    """When the batch was claimed, ISO 8601 UTC: of two certificates of a group the later claim is the newer data."""
    certified_at: str = ""
    etags: tuple[str, ...] = ()
    """The version of each of ``files`` that was read back, in their order; older records have none."""

    @property
    def parents(self) -> tuple[str, ...]:
        """The batch."""
        return (self.batch,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Record):
    """The certified batches of one event-time window, fixed once under its partition key.

    ``reason`` is why it was asked for (new data, drift, changed code). Hold-out are the rows from ``holdout_start`` on.
    """

    kind: ClassVar[str] = "dataset"
    identity: ClassVar[tuple[str, ...]] = ("pipeline", "files", "window_start", "window_end", "holdout_start")

    files: tuple[FileRef, ...]
    certificates: tuple[str, ...]
    window_start: str
    window_end: str
    holdout_start: str
    reason: str = ""
    config: str = ""

    @property
    def parents(self) -> tuple[str, ...]:
        """The certificates."""
        return self.certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun(Record):
    """One finished training of a dataset with given code, image and parameters, and what it put out.

    ``code`` and ``image`` are digests, ``parameters`` is canonical JSON. ``outputs`` are blobs in the pipeline's
    container. ``champion`` is the model id compared with on the same hold-out, or empty.
    """

    kind: ClassVar[str] = "training_run"
    identity: ClassVar[tuple[str, ...]] = ("dataset", "code", "image", "parameters", "champion", "forced")
    identity_if_set: ClassVar[tuple[str, ...]] = ("inputs",)

    dataset: str
    code: str
    image: str
    parameters: str
    champion: str = ""
    forced: str = ""
    inputs: str = ""
    """The sha256 of what pipeline.yaml says of columns, features, domain and tolerance."""
    reason: str = ""
    """Why it was asked for, in words: new data, drift, what changed in code, parameters or image, a cron tick."""
    outputs: tuple[FileRef, ...] = ()
    metrics: str = ""
    """Canonical JSON of metrics.json."""
    seconds: float = 0.0
    config: str = ""

    @property
    def parents(self) -> tuple[str, ...]:
        """The dataset, and the champion it was measured against."""
        return (self.dataset, self.champion) if self.champion else (self.dataset,)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(Record):
    """A registered model: the same bytes are the same version, never changed in place."""

    kind: ClassVar[str] = "model"
    identity: ClassVar[tuple[str, ...]] = ("pipeline", "sha256")

    sha256: str
    size: int
    blob: str
    version: int
    training_run: str
    metrics: str
    tags: tuple[str, ...] = ()
    """``name=value`` pairs, sorted."""
    window_end: str = ""
    config: str = ""

    @property
    def parents(self) -> tuple[str, ...]:
        """The training run; none where only a mirror of the version was left."""
        return (self.training_run,) if self.training_run else ()

    @property
    def key(self) -> str:
        """The partition key of the packaging run."""
        return f"v{self.version}@{self.id[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelImage(Record):
    """A container image proven to answer as the model does, by the digest read back from the registry.

    ``reference`` is ``host/repository@sha256:...``, ``golden`` the blob with golden rows and answers, ``proof`` a
    canonical JSON of the proof's figures, ``sbom`` the blob with its bill of materials, ``audit`` canonical JSON of
    what a vulnerability database said; "" where there is none.
    """

    kind: ClassVar[str] = "image"
    identity: ClassVar[tuple[str, ...]] = ("model", "base")

    model: str
    base: str
    reference: str = ""
    digest: str = ""
    golden: str = ""
    proof: str = ""
    sbom: str = ""
    audit: str = ""
    config: str = ""

    @property
    def parents(self) -> tuple[str, ...]:
        """The model."""
        return (self.model,)

    @property
    def also(self) -> tuple[str, ...]:
        """Its manifest's digest, which is all that a device knows of it."""
        return (self.digest.removeprefix("sha256:"),) if self.digest else ()

    @property
    def key(self) -> str:
        """The stem of the ring partition keys: ``<key>@ring<n>``."""
        return self.id[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout(Record):
    """What one ring did with one image: ``outcome`` is ``passed`` or ``restored``, ``devices`` what serves there."""

    kind: ClassVar[str] = "rollout"
    identity: ClassVar[tuple[str, ...]] = ("image", "ring", "attempt")

    image: str
    ring: int
    attempt: str
    devices: tuple[str, ...] = ()
    previous: tuple[str, ...] = ()
    """``device=reference`` of what served before, for the restore."""
    outcome: str = ""
    reason: str = ""
    approved_by: str = ""
    predicted: tuple[str, ...] = ()
    """``device=bytes`` that each had to pull, by the manifests; only of devices that this run brought the image to."""
    pulled: tuple[str, ...] = ()
    """``device=bytes`` that each did pull, ``device=?`` where its engine did not tell."""

    @property
    def parents(self) -> tuple[str, ...]:
        """The image."""
        return (self.image,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftVerdict(Record):
    """What was found for one interval of event time, one deployed model and one label watermark.

    ``verdict`` is ``good``, ``fallen`` or ``inconclusive``; ``accuracy`` and ``reference`` are shares of rows within
    tolerance, ``rows`` how many predictions found their label.
    """

    kind: ClassVar[str] = "drift_verdict"
    identity: ClassVar[tuple[str, ...]] = ("pipeline", "interval", "model", "watermark")

    interval: str
    model: str
    watermark: str
    rows: int = 0
    accuracy: float = 0.0
    reference: float = 0.0
    mae: float = 0.0
    verdict: str = ""
    reason: str = ""
    per_site: str = field(default="")
    """Canonical JSON ``{site: accuracy}``."""

    @property
    def parents(self) -> tuple[str, ...]:
        """The model that was judged."""
        return (self.model,)


KINDS: dict[str, type[Record]] = {
    kind.kind: kind
    for kind in (Batch, Certificate, Dataset, TrainingRun, ModelVersion, ModelImage, Rollout, DriftVerdict)
}
