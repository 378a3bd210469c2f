"""Drift: judge what the devices predicted, ask for a retraining when accuracy fell, look for what was missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop import registry
from edgeloop.drift import interval
from edgeloop.drift.interval import Bench
from edgeloop.drift.labels import ended_within
from edgeloop.drift.retrain import refusal, request_key, unasked
from edgeloop.errors import ConfigurationError
from edgeloop.origin import BACKFILL, Origin
from edgeloop.records import DriftVerdict
from edgeloop_airflow import hooks
from edgeloop_airflow.assets import dag_id
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.emission import listens
from edgeloop_airflow.origin import origin, send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context


def bench(pipeline: str) -> Bench:
    """The desk of a pipeline and the container its devices' logs are carried to, as its folder reads now.

    Drift is policy: what counts as fallen is today's answer, not that of the day the labels were claimed.
    """
    desk = hooks.desk(pipeline)
    spec = desk.snapshot.spec
    predictions = desk.blobs.account.container(spec.storage.predictions)
    return Bench(spec=spec, store=desk.store, blobs=desk.blobs, predictions=predictions)


class JudgeIntervalOperator(BaseOperator):
    """Judges the interval of event time that the run's partition key names (``2014-11``); returns the verdict's id.

    Args:
        pipeline: The pipeline's name.
        interval: The interval; by default the run's partition key.
        force: A reason to judge again what was judged already on the same labels.

    Skipped with the reason while no model is deployed, a site's labels are missing, or nothing was predicted.
    """

    template_fields: Sequence[str] = ("interval", "force")

    def __init__(
        self, *, pipeline: str, interval: str = "{{ dag_run.partition_key or '' }}", force: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.interval = interval
        self.force = force

    @discreet
    def execute(self, context: Context) -> str:
        """Find the verdict, or join, count, judge and store it."""
        at = bench(self.pipeline)
        champion = registry.champion(at.store)
        if champion is None:
            raise AirflowSkipException("No model has been promoted yet: there is nothing to judge.")
        ground = self._ground(at)
        known = None if self.force else interval.known_verdict(at, ground, champion.id)
        if known is not None:
            self.log.info("Found verdict %s on %s: %s (%s)", known.id, known.interval, known.verdict, known.reason)
            return known.id
        seen = interval.examine(at, ground)
        self.log.info(
            "%s: %d log files, %d lines (%d malformed, %d repeated), %d certificates, %d ambiguous labels",
            ground.key, len(ground.logs), seen.lines, seen.malformed, seen.repeated,
            len(ground.certificates), seen.ambiguous,
        )  # fmt: skip
        verdict = interval.settle(at, ground, seen, champion, force=self.force, origin=origin(context).kind)
        self.log.info("Verdict %s on model %s: %s (%s)", verdict.id, verdict.model, verdict.verdict, verdict.reason)
        return verdict.id

    def _ground(self, at: Bench) -> interval.Ground:
        try:
            ground = interval.ground_of(at, self.interval)
        except ValueError as error:
            raise ConfigurationError(
                f"{self.interval!r} is no interval of event time.",
                left="nothing was judged",
                next="Trigger the DAG with a partition key like 2014-11 (or 2014-11-03 for days).",
            ) from error
        if ground.missing:
            raise AirflowSkipException(f"{ground.key} has no certified rows of {', '.join(ground.missing)} yet.")
        if not ground.logs:
            raise AirflowSkipException(
                f"No device predicted anything in {ground.key}, or its log was not carried up yet."
            )
        return ground


class RequestRetrainOperator(BaseOperator):
    """Mints the partition of a retraining when a verdict says that the champion's accuracy has fallen.

    Args:
        pipeline: The pipeline's name.
        verdict: Id of the verdict; by default what the task ``judge`` returned.
        force: A reason to ask for a retraining whatever the verdict and the ledger say.

    Returns the partition key. Skipped with the reason when nothing is to be asked; repeating it asks for the same key.
    """

    template_fields: Sequence[str] = ("verdict", "force")

    def __init__(
        self, *, pipeline: str, verdict: str = "{{ ti.xcom_pull(task_ids='judge') }}", force: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.verdict = verdict
        self.force = force

    @discreet
    def execute(self, context: Context) -> str:
        """Mint ``drift-<verdict id, 16 digits>`` on every outlet, or raise ``AirflowSkipException``."""
        store = hooks.desk(self.pipeline).store
        verdict = store.get(DriftVerdict, self.verdict)
        reason = refusal(store, verdict) or unasked(origin(context))
        if reason and not self.force:
            raise AirflowSkipException(f"No retraining: {reason}.")
        key, train = request_key(verdict), dag_id(self.pipeline, "train")
        if not listens(context, train):
            raise AirflowSkipException(
                f"Retraining {key} is asked for and waits: {train} is paused or not loaded, and Airflow would drop "
                f"what it is told. Unpause it (`airflow dags unpause {train} -y`); the next drift sweep asks again."
            )
        self.log.info("Retraining %s: %s%s", key, verdict.reason, f" (forced: {self.force})" if self.force else "")
        send(context, self.outlets, [key])
        return key


class SweepIntervalsOperator(BaseOperator):
    """Announces again the intervals that are complete and predicted in, but have no verdict on their present labels.

    Args:
        pipeline: The pipeline's name.
        force: A reason to announce those that were judged too.

    Returns their keys. Finds what a lost event, late prediction logs or a failed candidate left behind. A backfilled
    run looks at the intervals of event time that ended within its data interval, any other at all.
    """

    template_fields: Sequence[str] = ("force",)

    def __init__(self, *, pipeline: str, force: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.force = force

    @discreet
    def execute(self, context: Context) -> list[str]:
        """Mint the interval partitions on every outlet, or raise ``AirflowSkipException``."""
        due, where = interval.unjudged(bench(self.pipeline), force=bool(self.force)), ""
        found = origin(context)
        # By hand or by cron it looks at what is due now: only a backfill is about the past.
        why = found if found.kind == BACKFILL else Origin()
        if why.kind == BACKFILL:
            start, end = context["data_interval_start"], context["data_interval_end"]
            due, where = ended_within(due, start, end), f" that ended from {start.isoformat()} to {end.isoformat()}"
        if not due:
            raise AirflowSkipException(f"Every complete interval{where} is judged.")
        what = f"are announced again ({self.force})" if self.force else "are not judged yet"
        self.log.info("%d intervals%s %s: %s", len(due), where, what, ", ".join(due))
        send(context, self.outlets, due, why)
        return due
