"""Register: a trained model gets its version, and goes on only if it beats the champion on the same hold-out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop import registry
from edgeloop.errors import IntegrityError, NotFoundError, TrainingFailedError
from edgeloop.records import Dataset, ModelVersion, TrainingRun, sha256_hex
from edgeloop.registry import paired, parity
from edgeloop.residency_outputs import require_figures
from edgeloop_airflow import hooks
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.origin import origin, send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from edgeloop.origin import Origin
    from edgeloop_airflow.hooks import Desk

MODEL = "model.onnx"
PARITY_SHARE = 0.01
"""Of what counts as right: how far the ONNX file may be from the model that was trained."""


class RegisterModelOperator(BaseOperator):
    """Registers what a training put out, compares it with the champion, and makes the better one the candidate.

    Args:
        pipeline: The pipeline's name.
        training_run: Id of the finished training; by default what the task ``train`` returned.
        promote: A reason to send the model on although it is no better, older, made by a rerun or backfill, rejected or
            quarantined; written down. By default what the run's conf says, or the run that set this one off.

    Champion and challenger are compared by a paired test on the hold-out (:mod:`edgeloop.registry.paired`); its numbers
    are in the log, in the promotion ledger, and as ``comparison`` among the version's metrics. A hold-out that cannot
    tell leaves the champion.

    Returns the model's id. Emits its partition on every outlet only if it became the candidate (or is it already);
    otherwise the task is skipped with the numbers. The version is registered in any case.
    """

    template_fields: Sequence[str] = ("training_run", "promote")

    def __init__(
        self,
        *,
        pipeline: str,
        training_run: str = "{{ ti.xcom_pull(task_ids='train') }}",
        promote: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.training_run = training_run
        self.promote = promote

    @discreet
    def execute(self, context: Context) -> str:
        """Register, compare, nominate; raises ``AirflowSkipException`` when the champion stays."""
        desk = hooks.desk(self.pipeline)
        run = desk.store.get(TrainingRun, self.training_run)
        desk = desk.at(run.config)
        champion = registry.champion(desk.store)
        model = self._register(desk, run)
        why = self._why(context)
        decision = decide(model, run, champion, registry.Rules.of(desk.snapshot.spec.registry), why)
        self.log.info("Version %d (%s) of training run %s: %s", model.version, model.id, run.id, decision.reason)
        if not decision.better:
            raise AirflowSkipException(f"Version {model.version} is registered but goes no further: {decision.reason}.")
        # Who gives a reason needs no comparison; any other is candidate for the place of whom it was compared with.
        beside = None if why.promote else champion.id if champion else ""
        self._nominate(desk, model, why=decision.reason, evidence=run.id, promote=why.promote, beside=beside)
        send(context, self.outlets, [model.key], why)
        return model.id

    def _why(self, context: Context) -> Origin:
        found = origin(context)
        return replace(found, promote=self.promote) if self.promote else found

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
        metrics = travelling(json.loads(run.metrics))
        spec = desk.snapshot.spec
        require_figures(spec, parity.without_digest(metrics))
        return registry.register(
            desk.store,
            desk.blobs,
            pipeline=self.pipeline,
            onnx=onnx,
            training_run=run,
            metrics=metrics,
            tags={"dataset": run.dataset, "reason": run.reason or (dataset.reason if dataset else "")},
            window_end=dataset.window_end if dataset else "",
            by=self.dag_id,
            features=len(spec.model.features),
            most_apart=spec.model.tolerance * PARITY_SHARE,
        )

    def _nominate(
        self, desk: Desk, model: ModelVersion, *, why: str, evidence: str, promote: str, beside: str | None
    ) -> None:
        now = registry.current(desk.store)
        if model.id in now.rejected | now.quarantined and not promote:
            raise AirflowSkipException(
                f"Version {model.version} is registered but was rejected or quarantined before; "
                "trigger the DAG with the same partition key and 'promote' set to why it may go out after all."
            )
        registry.nominate(
            desk.store, model, by=self.dag_id, why=why, evidence=evidence, force=promote, expected_champion=beside
        )


def travelling(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics as they go with the model: what the paired test found in the place of the counts it was made on.

    The counts of every block stay with the training's record. Raises ``TrainingFailedError`` if they are wrong.
    """
    if paired.NAME not in metrics:
        return metrics
    rest = {name: value for name, value in metrics.items() if name != paired.NAME}
    return rest | {"comparison": paired.read(metrics).figures()}


def decide(
    model: ModelVersion,
    run: TrainingRun,
    champion: ModelVersion | None,
    rules: registry.Rules,
    why: Origin,
) -> registry.Decision:
    """Whether ``model`` may become the candidate: of a run that may send it, and the winner of a fair comparison."""
    allowed = registry.may_go_out(model, champion, why)
    if not allowed.better:
        return allowed
    if not why.promote:
        return _compared(model, run, champion, rules)
    try:
        return replace(_compared(model, run, champion, rules), better=True)
    except TrainingFailedError as error:
        # Somebody who gave a reason is not held up by a script that cannot be compared.
        return registry.Decision(better=True, reason=f"not compared: {error.what}")


def _compared(
    model: ModelVersion, run: TrainingRun, champion: ModelVersion | None, rules: registry.Rules
) -> registry.Decision:
    metrics = json.loads(run.metrics)
    if champion is None:
        return registry.compare(metrics, rules, champion=False)
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
    return registry.compare(metrics, rules, champion=True)
