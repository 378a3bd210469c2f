"""Keep a workspace's models as the store has them: a mirror on which no registration, image or rollout waits."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TriggerRule
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop.azure_ml.models import opened
from edgeloop.azure_ml.models_told import told
from edgeloop.errors import ConflictError
from edgeloop.records import ModelVersion
from edgeloop.registry.blob_backend import BlobRegistry
from edgeloop.registry.reconcile import differences, mend
from edgeloop.residency_outputs import require_figures
from edgeloop_airflow import hooks
from edgeloop_airflow.azure_ml import azure_ml_workspace
from edgeloop_airflow.discreet import discreet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from edgeloop.azure_ml.models import AzureModels
    from edgeloop.pipeline import Pipeline
    from edgeloop.pipeline_training import Workspace
    from edgeloop.registry.backend import Listed
    from edgeloop.registry.reconcile import Difference
    from edgeloop_airflow.hooks import Desk

__all__ = ["MirrorModelsOperator", "mirror_models"]

WHERE = "azure_ml"


@dataclass(slots=True)
class Mirror:
    """A pipeline's models in its workspace, beside what the store says of them."""

    desk: Desk
    models: AzureModels
    specs: dict[str, Pipeline] = field(default_factory=dict)

    def truth(self) -> tuple[Listed, ...]:
        """Every version as the workspace may show it: under the stricter residency of today and of when it was made."""
        listed = BlobRegistry(self.desk.store, self.desk.blobs, self.desk.snapshot.spec.name).versions()
        return tuple(told(self._spec(one.properties.get("config", "")), one) for one in listed)

    def differences(self) -> tuple[Difference, ...]:
        """What the workspace shows otherwise."""
        return differences(self.truth(), self.models.versions(), WHERE)

    def mend(self, log: Any) -> tuple[Difference, ...]:
        """Write what differs; returns what still does, looked up again."""
        truth = self.truth()
        found = differences(truth, self.models.versions(), WHERE)
        if not found:
            return ()
        mend(found, truth, self.models, self._content, log.info)
        return differences(truth, self.models.versions(), WHERE)

    def _content(self, version: Listed) -> bytes:
        """The bytes of a version that is about to be published; raises ``ResidencyError`` if its metrics may not go."""
        import json

        record = self.desk.store.get(ModelVersion, version.model)
        require_figures(self._spec(record.config), json.loads(record.metrics))
        return self.desk.blobs.get(record.blob)

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
            left = mirror.mend(self.log)
            count = len(mirror.truth())
        for one in left:
            self.log.warning("%s", one)
        if left:
            raise ConflictError(
                f"Workspace {section.workspace!r} shows {len(left)} things otherwise than the store of "
                f"{self.pipeline}: {left[0]}.",
                left="the store, which is right, and everything that runs on it",
                next=f"`edgeloop reconcile {self.pipeline}` lists them all with what to do; then clear this task.",
            )
        self.log.info("Workspace %s shows all %d versions as the store has them", section.workspace, count)
        return count
