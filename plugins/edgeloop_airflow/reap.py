"""Reap: finish on the training VM what a crash left there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop.errors import EdgeloopError, UnreachableError
from edgeloop.training import compute, parked, reaper
from edgeloop_airflow import hooks
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.pools import CONNECTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from edgeloop.training.parked import Parked
    from edgeloop_airflow.hooks import Desk
    from edgeloop_airflow.rest import AirflowRest

ASK_SECONDS = 10.0


class ReapOperator(BaseOperator):
    """Sees to it that a pipeline's trainings on the VM end as they should, and removes what nobody comes for.

    Args:
        pipeline: The pipeline's name; only jobs with its label are touched.
        force: A reason to remove at once what is kept for a retry; jobs that run are never removed.
        connection: The VM's connection, for jobs without a pipeline.yaml: those of ``TrainOnVMOperator(script=...)``.
        keep_days: How long what ended is kept for a retry; by default what pipeline.yaml says, else 7.

    Returns how many things were done. Skipped while the VM does not answer: the train task is who says so. Of a
    pipeline that Azure ML trains it cancels the jobs that run for nobody any more; Azure itself ends the rest.
    """

    template_fields: Sequence[str] = ("force", "connection")

    def __init__(
        self, *, pipeline: str = "", force: str = "", connection: str = "", keep_days: float = 0.0, **kwargs: Any
    ) -> None:
        if bool(pipeline) == bool(connection):
            raise ValueError("ReapOperator takes either a pipeline's name or a connection")
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.force = force
        self.connection = connection
        self.keep_days = keep_days

    @discreet
    def execute(self, context: Context) -> int:
        """Do it; a job that could not be dealt with keeps no other from it, and fails the task at the end."""
        del context
        if self.pipeline and (desk := hooks.desk(self.pipeline)).snapshot.spec.training.backend != "vm":
            return self._reap_jobs(desk)
        connection, keep = self._terms()
        try:
            with compute.connected(hooks.ssh_endpoint(connection)) as vm:
                report = reaper.reap(
                    vm,
                    self.pipeline or reaper.ALONE,
                    keep=0.0 if self.force else keep,
                    say=self.log.info,
                    given_up=self._given_up,
                )
        except UnreachableError as error:
            raise AirflowSkipException(f"Nothing could be looked at: {error.what}") from error
        if report.failed:
            raise report.failed[0]
        self.log.info("%d done, %d left", len(report.done), len(report.left))
        return len(report.done)

    def _reap_jobs(self, desk: Desk) -> int:
        from edgeloop_airflow import azure_ml_reap

        try:
            return azure_ml_reap.reap(desk, self._given_up, self.log.info)
        except UnreachableError as error:
            raise AirflowSkipException(f"Nothing could be looked at: {error.what}") from error

    def _given_up(self, waiting: tuple[Parked, ...]) -> str:
        """Why nobody waits for a job any more, by Airflow's word; "" where it does not say so of everybody."""
        from airflow.sdk.exceptions import AirflowException

        from edgeloop_airflow.rest import AirflowRest, endpoint

        try:
            with AirflowRest(endpoint(CONNECTION), whole_seconds=ASK_SECONDS) as rest:
                return given_up(rest, waiting)
        except (EdgeloopError, AirflowException) as error:
            said = getattr(error, "what", error)
            self.log.warning("Whether a job that runs is still wanted could not be asked; it goes on: %s", said)
            return ""

    def _terms(self) -> tuple[str, float]:
        if self.connection:
            return self.connection, self.keep_days * reaper.DAY_SECONDS or reaper.KEEP_SECONDS
        training = hooks.desk(self.pipeline).snapshot.spec.training
        return training.connection, (self.keep_days or training.keep_days) * reaper.DAY_SECONDS


def given_up(rest: AirflowRest, waiting: tuple[Parked, ...]) -> str:
    """Why none of these tasks waits any more; "" if one may, or if one is another Airflow's to say."""
    found = []
    for one in waiting:
        why = parked.given_up(one, rest.seen(one))
        # A run that this Airflow does not know may be one of another Airflow that trains on the same VM.
        if not why or not rest.knows(one.dag, one.version):
            return ""
        found.append(why)
    return "; ".join(found)
