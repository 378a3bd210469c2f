"""Register: a trained model gets its version, and goes on only if it beats the champion on the same hold-out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop import registry
from edgeloop.errors import IntegrityError, NotFoundError
from edgeloop.records import Dataset, ModelVersion, TrainingRun, sha256_hex
from edgeloop_airflow import hooks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from edgeloop_airflow.hooks import Desk

MODEL = "model.onnx"


class RegisterModelOperator(BaseOperator):
    """Registers what a training put out, compares it with the champion, and makes the better one the candidate.

    Args:
        pipeline: The pipeline's name.
        training_run: Id of the finished training; by default what the task ``train`` returned.
        force: A reason to send the model on although it is no better, was rejected or quarantined; written down.

    Returns the model's id. Emits its partition on every outlet only if it became the candidate (or is it already);
    otherwise the task is skipped with the numbers. The version is registered in any case.
    """

    template_fields: Sequence[str] = ("training_run", "force")

    def __init__(
        self,
        *,
        pipeline: str,
        training_run: str = "{{ ti.xcom_pull(task_ids='train') }}",
        force: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.training_run = training_run
        self.force = force

    def execute(self, context: Context) -> str:
        """Register, compare, nominate; raises ``AirflowSkipException`` when the champion stays."""
        desk = hooks.desk(self.pipeline)
        run = desk.store.get(TrainingRun, self.training_run)
        desk = desk.at(run.config)
        champion = registry.champion(desk.store)
        model = self._register(desk, run)
        metrics = json.loads(run.metrics)
        decision = decide(model, run, metrics, champion, desk.snapshot.spec.registry.minimum_gain)
        self.log.info("Version %d (%s) of training run %s: %s", model.version, model.id, run.id, decision.reason)
        if not (decision.better or self.force):
            raise AirflowSkipException(f"Version {model.version} is registered but goes no further: {decision.reason}.")
        self._nominate(desk, model, decision.reason, run.id)
        for outlet in self.outlets:
            context["outlet_events"][outlet].add_partitions([model.key])
        return model.id

    def _register(self, desk: Desk, run: TrainingRun) -> ModelVersion:
        file = next((one for one in run.outputs if one.path.rsplit("/", 1)[-1] == MODEL), None)
        if file is None:
            raise NotFoundError(
                f"Training run {run.id[:16]} has no {MODEL} among its outputs.",
                left="the champion serves on",
                next=f"Let train.py write {MODEL}, then clear the train task.",
            )
        onnx = desk.blobs.get(file.path)
        if sha256_hex(onnx) != file.sha256:
            raise IntegrityError(
                f"Blob {file.path} is not the model that training run {run.id[:16]} put out (sha256 differs).",
                left="the blob as it is; nothing was registered",
                next="Find out who changed it, then clear the train task with 'force' to train anew.",
            )
        dataset = desk.store.find(Dataset, run.dataset)
        return registry.register(
            desk.store,
            desk.blobs,
            pipeline=self.pipeline,
            onnx=onnx,
            training_run=run,
            metrics=json.loads(run.metrics),
            tags={"dataset": run.dataset, "reason": dataset.reason if dataset else ""},
            window_end=dataset.window_end if dataset else "",
            by=self.dag_id,
        )

    def _nominate(self, desk: Desk, model: ModelVersion, why: str, evidence: str) -> None:
        now = registry.current(desk.store)
        if model.id in now.rejected | now.quarantined and not self.force:
            raise AirflowSkipException(
                f"Version {model.version} is registered but was rejected or quarantined before; "
                "run the task with 'force' set to the reason why it may go out after all."
            )
        registry.nominate(desk.store, model, by=self.dag_id, why=why, evidence=evidence, force=self.force)


def decide(
    model: ModelVersion,
    run: TrainingRun,
    metrics: Mapping[str, Any],
    champion: ModelVersion | None,
    minimum_gain: float,
) -> registry.Decision:
    """Whether ``model`` may become the candidate: a fair comparison that it wins, and no older than the champion."""
    if champion is None:
        return registry.compare(metrics, None, minimum_gain)
    if model.id == champion.id:
        return registry.Decision(
            better=False, reason=f"the training gave the champion again, version {champion.version}"
        )
    if run.champion != champion.id:
        return registry.Decision(
            better=False,
            reason=f"it was measured against {run.champion[:16] or 'no champion'}, but version {champion.version} is "
            "champion by now; a new retraining is measured against that one",
        )
    age = registry.may_replace(model, champion)
    return registry.compare(metrics, metrics.get("champion") or {}, minimum_gain) if age.better else age
