"""Tell an Azure Machine Learning workspace what is trained at the edge: a mirror, on which no training waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseSensorOperator, TaskInstanceState
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop.azure_ml.handover import target_of
from edgeloop.azure_ml.mirror import NoMemory, RunRecord, State, figures, mirror
from edgeloop.azure_ml.report import Report, begun, tell
from edgeloop.azure_ml.tracking import Tracking
from edgeloop.records import TrainingRun
from edgeloop_airflow import hooks
from edgeloop_airflow.azure_ml import azure_ml_workspace, plain_workspace
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.training_dataset import KEY, RUN, forced_key, pinned_desk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from edgeloop.pipeline import Pipeline
    from edgeloop.pipeline_training import Workspace
    from edgeloop_airflow.hooks import Desk

__all__ = ["MirrorStartSensor", "MirrorTrainingOperator"]

FINISHED = "{{ ti.xcom_pull(task_ids='train') or '' }}"
ENDED = frozenset(
    {
        TaskInstanceState.SUCCESS, TaskInstanceState.FAILED, TaskInstanceState.SKIPPED,
        TaskInstanceState.UPSTREAM_FAILED, TaskInstanceState.REMOVED,
    }
)  # fmt: skip
VM = "vm"


def section_of(spec: Pipeline) -> Workspace:
    """The pipeline's workspace; raises ``AirflowSkipException`` if it has none."""
    if spec.azure_ml is None:
        raise AirflowSkipException(f"Pipeline {spec.name} has no azure_ml section: Azure ML is told nothing")
    return spec.azure_ml


def mirrored(spec: Pipeline) -> Workspace:
    """The workspace that a training is told to; raises ``AirflowSkipException`` if there is nothing to tell."""
    section = section_of(spec)
    if spec.training.backend != VM:
        raise AirflowSkipException(f"Azure ML runs this training itself ({spec.training.backend}) and has its record")
    return section


def tell_workspace(desk: Desk, section: Workspace, run: TrainingRun, state: State, log: Any) -> str:
    """Make the workspace show the VM, the dataset and the training; returns the run's id there."""
    spec = desk.snapshot.spec
    workspace = azure_ml_workspace(section)
    report = Report(
        spec=spec,
        run=run,
        state=state,
        target=target_of(spec, section, hooks.ssh_endpoint(spec.training.connection)),
        container_url=desk.blobs.url,
    )
    with workspace.connect() as arm:
        return tell(report, arm=arm, workspace=workspace, store=desk.store, say=log.info, now=time.time)


class MirrorStartSensor(BaseSensorOperator):
    """Tells the workspace that a training runs, as soon as the task ``train`` has decided which one; waits for that.

    Args:
        pipeline: The pipeline's name.
        key: The run's key.
        force: The reason of a forced run.
        run: The run's id.
        train: The task that trains.

    Between two looks it holds no worker. Skipped with the reason where there is no workspace, and where ``train``
    ended without having begun.
    """

    template_fields: Sequence[str] = ("key", "force", "run")

    def __init__(
        self, *, pipeline: str, key: str = KEY, force: str = "", run: str = RUN, train: str = "train", **kwargs: Any
    ) -> None:
        super().__init__(**{"mode": "reschedule", "poke_interval": 15.0, **kwargs})
        self.pipeline = pipeline
        self.key, self.force, self.run, self.train = key, force, run, train

    @discreet
    def poke(self, context: Context) -> bool:
        """Whether it is told."""
        desk = pinned_desk(hooks.desk(self.pipeline), self.key, forced_key(self.key, self.force, self.run))
        section = mirrored(desk.snapshot.spec)
        # Asked first: a training that is decided on right after was not missed, one that ended did not begin.
        ended = self._ended(context)
        wanted = begun(desk.store, self.key, self.run)
        if wanted is None:
            if ended:
                raise AirflowSkipException(f"Task {self.train} ended before it had decided on a training")
            self.log.info("Task %s has not decided on a training yet", self.train)
            return False
        # One that ended is mirror_run's to tell: it may have said so already, and nobody would take "running" back.
        if not ended and desk.store.find(TrainingRun, wanted.id) is None:
            tell_workspace(desk, section, wanted, State.RUNNING, self.log)
        return True

    def _ended(self, context: Context) -> bool:
        ti: Any = context["ti"]
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[self.train], run_ids=[ti.run_id])
        return bool((states.get(ti.run_id) or {}).get(self.train) in ENDED)


class MirrorTrainingOperator(BaseOperator):
    """Tells a workspace how a training ended, with its dataset, code, VM and figures. Returns the run's id there.

    Args:
        pipeline: The pipeline's name; "" for a training of one's own, described by the arguments below.
        key: The run's key.
        force: The reason of a forced run.
        run: The run's id.
        finished: Id of the finished training; "" where it failed.
        training: Without a pipeline: what identifies the training; the same again is the same run.
        azure: Connection of type ``azure``.
        subscription: Of the workspace; "" is ``extra.subscriptionId`` of the connection.
        resource_group, workspace: Where it is.
        experiment: Where the run is filed.
        state: ``RUNNING``, ``FINISHED`` or ``FAILED``.
        metrics: Figures, nested as deep as they are.
        parameters, tags: Texts.
        seconds: How long it trained.
    """

    template_fields: Sequence[str] = (
        *("key", "force", "run", "finished"),
        *("training", "experiment", "state", "metrics", "parameters", "tags"),
    )

    def __init__(
        self,
        *,
        pipeline: str = "",
        key: str = KEY,
        force: str = "",
        run: str = RUN,
        finished: str = FINISHED,
        training: str = "",
        azure: str = "azure_default",
        subscription: str = "",
        resource_group: str = "",
        workspace: str = "",
        experiment: str = "Default",
        state: str = State.FINISHED.value,
        metrics: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        seconds: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if bool(pipeline) == bool(training and resource_group and workspace):
            raise ValueError(
                "MirrorTrainingOperator takes either the name of a pipeline, or training, resource_group and workspace"
            )
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.key, self.force, self.run, self.finished = key, force, run, finished
        self.training, self.experiment, self.state, self.seconds = training, experiment, state, seconds
        self.azure, self.subscription = azure, subscription
        self.resource_group, self.workspace = resource_group, workspace
        self.metrics, self.parameters, self.tags = dict(metrics or {}), dict(parameters or {}), dict(tags or {})

    @discreet
    def execute(self, context: Context) -> str:
        """Tell it; what is told already is one look."""
        del context
        if not self.pipeline:
            return self._alone()
        desk = pinned_desk(hooks.desk(self.pipeline), self.key, forced_key(self.key, self.force, self.run))
        section = mirrored(desk.snapshot.spec)
        wanted = begun(desk.store, self.key, self.run)
        known = self.finished or (wanted.id if wanted else "")
        stored = desk.store.find(TrainingRun, known) if known else None
        if stored is not None:
            return tell_workspace(desk, section, stored, State.FINISHED, self.log)
        if wanted is None:
            raise AirflowSkipException("No training began in this run")
        return tell_workspace(desk, section, wanted, State.FAILED, self.log)

    def _alone(self) -> str:
        place = plain_workspace(self.azure, self.subscription, self.resource_group, self.workspace)
        record = RunRecord(
            training=self.training,
            experiment=self.experiment,
            name=self.training[:100],
            state=State(self.state),
            tags=tuple(sorted((name, str(value)) for name, value in self.tags.items())),
            parameters=tuple(sorted((name, str(value)) for name, value in self.parameters.items())),
            metrics=tuple(sorted(figures(self.metrics))),
            seconds=self.seconds,
        )
        with place.connect() as arm:
            return mirror(Tracking(arm, place), record, NoMemory(), self.log.info, now=time.time)
