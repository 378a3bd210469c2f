"""Keep a workspace's models as the store has them: a mirror on which no registration, image or rollout waits."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TriggerRule
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop.azure_ml.model_version import shortened
from edgeloop.azure_ml.models import DATASTORE, opened
from edgeloop.azure_ml.models_told import told
from edgeloop.errors import ConflictError, ResidencyError
from edgeloop.records import ModelVersion, sha256_hex
from edgeloop.registry.backend import Listed
from edgeloop.registry.blob_backend import BlobRegistry
from edgeloop.registry.reconcile import differences, mend
from edgeloop.residency import private
from edgeloop.residency_outputs import require_figures
from edgeloop_airflow import hooks
from edgeloop_airflow.azure_ml import azure_ml_workspace, plain_workspace
from edgeloop_airflow.discreet import discreet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.sdk import Context

    from edgeloop.azure_ml.models import AzureModels
    from edgeloop.pipeline import Pipeline
    from edgeloop.pipeline_training import Workspace
    from edgeloop.registry.reconcile import Difference
    from edgeloop_airflow.hooks import Desk

__all__ = ["MirrorModelsOperator", "PublishModelOperator", "mirror_models"]

WHERE = "azure_ml"


@dataclass(slots=True)
class Mirror:
    """A pipeline's models in its workspace, beside what the store says of them."""

    desk: Desk
    models: AzureModels
    specs: dict[str, Pipeline] = field(default_factory=dict)
    home: dict[int, str] = field(default_factory=dict)
    """Versions that may not leave, with the reason: registered before that was looked at, and nobody's fault today."""

    def truth(self) -> tuple[Listed, ...]:
        """Every version as the workspace may show it: under the stricter residency of today and of when it was made."""
        listed = BlobRegistry(self.desk.store, self.desk.blobs, self.desk.snapshot.spec.name).versions()
        specs = {one.version: self._spec(one.properties.get("config", "")) for one in listed}
        if any(map(private, specs.values())):
            self.home = self._stay(specs)
        return tuple(told(specs[one.version], one) for one in listed if one.version not in self.home)

    def differences(self, truth: tuple[Listed, ...] | None = None) -> tuple[Difference, ...]:
        """What the workspace shows otherwise; nothing about versions that stay at home."""
        truth = self.truth() if truth is None else truth
        shown = [one for one in self.models.versions() if one.version not in self.home]
        return differences(truth, shown, WHERE)

    def mend(self, say: Callable[..., None]) -> tuple[Difference, ...]:
        """Write what differs; returns what still does, looked up again."""
        truth = self.truth()
        found = self.differences(truth)
        if not found:
            return ()
        mend(found, truth, self.models, self._content, say)
        return self.differences(truth)

    def _content(self, version: Listed) -> bytes:
        return self.desk.blobs.get(self.desk.store.get(ModelVersion, version.model).blob)

    def _stay(self, specs: Mapping[int, Pipeline]) -> dict[int, str]:
        found: dict[int, str] = {}
        for record in self.desk.store.all(ModelVersion):
            try:
                require_figures(specs.get(record.version, self.desk.snapshot.spec), json.loads(record.metrics))
            except ResidencyError as error:
                found[record.version] = error.what
        return found

    def _spec(self, config: str) -> Pipeline:
        if config not in self.specs:
            self.specs[config] = self.desk.at(config).snapshot.spec
        return self.specs[config]


@contextmanager
def mirror_of(desk: Desk, section: Workspace) -> Iterator[Mirror]:
    """The mirror of a pipeline whose ``registry.backend`` is ``azure_ml``."""
    spec = desk.snapshot.spec
    with opened(azure_ml_workspace(section), spec.name, spec.registry.datastore) as models:
        yield Mirror(desk=desk, models=models)


def mirrored(spec: Pipeline) -> Workspace | None:
    """The workspace that mirrors a pipeline's models, or None."""
    return spec.azure_ml if spec.registry.backend == "azure_ml" else None


def mirror_models(pipeline: str) -> MirrorModelsOperator:
    """The task that a stage's DAG ends with.

    Partitions are sent on by the tasks before it, so nothing waits for Azure. Where one of those failed it fails too,
    for a run's state is that of its last tasks.
    """
    return MirrorModelsOperator(
        task_id="mirror_models",
        pipeline=pipeline,
        trigger_rule=TriggerRule.NONE_FAILED,
        retries=2,
        execution_timeout=timedelta(minutes=20),
    )


class MirrorModelsOperator(BaseOperator):
    """Makes the workspace show every version as the store has it: numbers, bytes, figures, tags, aliases.

    Args:
        pipeline: The pipeline's name.

    It brings all of it up to date, not only what its run did: what an earlier one could not tell while Azure was away
    is told by the next. Skipped where ``registry.backend`` is not ``azure_ml``. Returns how many versions there are.
    """

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline

    @discreet
    def execute(self, context: Context) -> int:
        """Write what differs; raises ``ConflictError`` for what no writing can mend."""
        del context
        desk = hooks.desk(self.pipeline)
        section = mirrored(desk.snapshot.spec)
        if section is None:
            raise AirflowSkipException(f"The models of {self.pipeline} are in its store only (registry.backend: blob)")
        with mirror_of(desk, section) as mirror:
            left = mirror.mend(self.log.info)
            count = len(mirror.truth())
        for one in left:
            self.log.warning("%s", one)
        for number, why in mirror.home.items():
            self.log.warning("Version %d stays at home: %s", number, why)
        if left:
            raise ConflictError(
                f"Workspace {section.workspace!r} shows {len(left)} things otherwise than the store of "
                f"{self.pipeline}: {left[0]}.",
                left="the store, which is right, and everything that runs on it",
                next=f"`edgeloop reconcile {self.pipeline}` lists them all with what to do; then clear this task.",
            )
        self.log.info("Workspace %s shows %d versions as the store has them", section.workspace, count)
        return count


class PublishModelOperator(BaseOperator):
    """Publishes a file of one's own as model version of a workspace, under a number of one's own choosing.

    Args:
        name: The model's.
        version: Its number; the same bytes again are found, other bytes are refused.
        path: The file, on the worker.
        properties: Texts that never change of this version.
        tags: Texts that may.
        aliases: Some of ``champion``, ``challenger``, ``quarantined``; the first two are taken off other versions.
        datastore: The workspace's blob datastore that the bytes go to.
        resource_group, workspace: Where it is.
        azure: Connection of type ``azure``.
        subscription: Of the workspace; "" is ``extra.subscriptionId`` of the connection.

    Returns ``azureml:<name>:<version>``.
    """

    template_fields: Sequence[str] = ("name", "version", "path", "properties", "tags", "aliases")

    def __init__(
        self,
        *,
        name: str,
        version: int | str,
        path: str,
        resource_group: str,
        workspace: str,
        properties: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        aliases: Sequence[str] = (),
        datastore: str = DATASTORE,
        azure: str = "azure_default",
        subscription: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name, self.version, self.path, self.aliases = name, version, path, list(aliases)
        self.properties, self.tags = dict(properties or {}), dict(tags or {})
        self.datastore, self.azure, self.subscription = datastore, azure, subscription
        self.resource_group, self.workspace = resource_group, workspace

    def execute(self, context: Context) -> str:
        """Publish it, or find it; raises ``ConflictError`` if the number is other bytes'."""
        del context
        content = Path(self.path).read_bytes()
        sha256 = sha256_hex(content)
        wanted = Listed(
            version=int(self.version),
            model=sha256,
            sha256=sha256,
            size=len(content),
            properties=self.properties,
            tags=self.tags,
            aliases=frozenset(self.aliases),
        )
        place = plain_workspace(self.azure, self.subscription, self.resource_group, self.workspace)
        with opened(place, self.name, self.datastore) as models:
            models.publish(shortened(wanted), content)
        self.log.info("Version %d of %s is %s, %d bytes", wanted.version, self.name, sha256, wanted.size)
        return f"azureml:{self.name}:{wanted.version}"
