"""Reprocess: list which partitions of a stage would run again, then clear or start exactly those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop import catalog, registry
from edgeloop.reprocess import Plan, Request, parse, plan, survey
from edgeloop.reprocess.plan import conf_of, run_id_of
from edgeloop.reprocess.report import lines, tally
from edgeloop_airflow import hooks
from edgeloop_airflow.assets import dag_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from edgeloop.reprocess import Unit
    from edgeloop_airflow.rest import AirflowRest

CONNECTION = "edgeloop_airflow"
MOST_ERRORS = 20
"""Logs of failed tasks are read for so many partitions; the others are listed without their error."""
NOTE_LENGTH = 900
PAUSED = "%s is paused: what runs again waits until somebody types `airflow dags unpause %s`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was asked for, and what is to be done about it."""

    request: Request
    plan: Plan
    serving: str

    @property
    def dag_id(self) -> str:
        """The DAG whose partitions these are."""
        return dag_id(self.request.pipeline, self.request.stage)


class _ReprocessOperator(BaseOperator):
    """Base of both: the form, by default the run's own, and the connection to Airflow's REST API."""

    template_fields: Sequence[str] = ("form",)

    def __init__(self, *, form: Mapping[str, Any] | None = None, connection: str = CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.form = form
        self.connection = connection

    def rest(self) -> AirflowRest:
        """A client as the connection's user."""
        from edgeloop_airflow.rest import AirflowRest, endpoint

        return AirflowRest(endpoint(self.connection))

    def find(self, context: Context, rest: AirflowRest) -> Found:
        """Read the form and sort the stage's partitions; raises ``ConfigurationError`` that says what to type."""
        form = self.form
        if form is None:
            # The conf too: a mistyped field is in it, and not among the DAG's own.
            form = {**dict(context["params"]), **(context["dag_run"].conf or {})}
        request = parse(form, [one.spec.name for one in catalog.load().pipelines])
        desk = hooks.desk(request.pipeline)
        attempts = rest.attempts(dag_id(request.pipeline, request.stage))
        units = survey(desk.store, desk.snapshot.spec, request.stage, attempts)
        champion = registry.champion(desk.store)
        serving = f"version {champion.version} (data up to {champion.window_end or 'unknown'})" if champion else ""
        return Found(request=request, plan=plan(request, units), serving=serving)


class ListPartitionsOperator(_ReprocessOperator):
    """Lists what a request would run again and what it will not touch, with event time, state and last error.

    Args:
        form: The fields of :mod:`edgeloop.reprocess.request`; by default the run's params and conf.
        connection: An ``edgeloop_airflow`` connection whose user may look at runs.

    Returns ``{"clear": [keys], "start": [keys], "left": how many}``. Changes nothing.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """List; raises ``ConfigurationError`` for a form that is wrong or a range with nothing in it."""
        with self.rest() as rest:
            found = self.find(context, rest)
            failed = [unit.attempt for unit in found.plan.clear if unit.attempt][:MOST_ERRORS]
            errors = {one.run_id: rest.error(found.dag_id, one.run_id) for one in failed}
            if rest.paused(found.dag_id):
                self.log.warning(PAUSED, found.dag_id, found.dag_id)
        for line in lines(found.request, found.plan, errors, found.serving):
            self.log.info("%s", line)
        return {
            "clear": [unit.key for unit in found.plan.clear],
            "start": [unit.key for unit in found.plan.start],
            "left": len(found.plan.left),
        }


class RerunPartitionsOperator(_ReprocessOperator):
    """Clears the failed tasks of the runs that were listed, and starts runs for those without one. Safe to repeat.

    Args:
        form: As for :class:`ListPartitionsOperator`.
        connection: An ``edgeloop_airflow`` connection whose user may clear and trigger.
        listed: Id of the task whose list is carried out; what came later is left alone.

    Returns the keys. Skipped in a dry run, and when nothing of the list is left to do.
    """

    def __init__(self, *, listed: str = "list", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.listed = listed

    def execute(self, context: Context) -> list[str]:
        """Carry the list out; a partition that changed since it was listed is named and left alone."""
        wanted = context["ti"].xcom_pull(task_ids=self.listed)
        with self.rest() as rest:
            found = self.find(context, rest)
            if found.request.dry_run:
                raise AirflowSkipException("This is a dry run: nothing was changed. Trigger it with dry_run false.")
            run: Any = context["dag_run"]
            note = f"{run.dag_id} {run.run_id}: {found.request.reason or found.request.range}"[:NOTE_LENGTH]
            done = [key for key in wanted["clear"] if self._clear(rest, found, key, note)]
            done += [key for key in wanted["start"] if self._start(rest, found, key, note, run.run_id)]
        if not done:
            raise AirflowSkipException(f"Nothing is left to run again: {tally(found.plan) or 'nothing was listed'}.")
        self.log.info("%d partitions of %s run again", len(done), found.dag_id)
        return done

    def _clear(self, rest: AirflowRest, found: Found, key: str, note: str) -> bool:
        unit = _named(found.plan.clear, key)
        if unit is None or unit.attempt is None:
            self.log.warning("%s is left alone: it is no longer failed", key)
            return False
        cleared = rest.clear_failed(found.dag_id, unit.attempt.run_id, note)
        self.log.info("%s goes on in run %s: %d tasks cleared", key, unit.attempt.run_id, cleared)
        return cleared > 0

    def _start(self, rest: AirflowRest, found: Found, key: str, note: str, asked_by: str) -> bool:
        run_id = run_id_of(key, asked_by)
        if _named(found.plan.start, key) is None:
            self.log.warning("%s is left alone: somebody else, or an earlier try, ran it since it was listed", key)
            return False
        new = rest.start(found.dag_id, run_id, key, conf_of(found.request), note)
        self.log.info("%s: %s run %s", key, "started" if new else "found", run_id)
        return True


def _named(units: tuple[Unit, ...], key: str) -> Unit | None:
    return next((one for one in units if one.key == key), None)
