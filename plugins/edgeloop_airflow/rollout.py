"""Rollout: one run per ring of one image. Prefetch, switch, gate, approval, then on to the next ring or back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.standard.operators.branch import BaseBranchOperator
from airflow.providers.standard.operators.hitl import HITLBranchOperator
from airflow.sdk import BaseOperator, TaskInstanceState
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from edgeloop.errors import ConflictError, RolloutFailedError
from edgeloop.records import Rollout
from edgeloop.rollout.gate import Outcome
from edgeloop.rollout.plan import following
from edgeloop_airflow import hooks
from edgeloop_airflow.origin import send
from edgeloop_airflow.rollout_stage import Stage, stage, state_in_run
from edgeloop_airflow.rollout_standing import back_on_quarantined, promote, refuse_quarantined, require_wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

APPROVE, REJECT = "Approve", "Reject"
REASON, OUTCOME, ANSWER, ANSWERED_BY = "reason", "outcome", "answer", "answered_by"
NOBODY = "nobody, in time"
PREDICTED, PULLED = "predicted_bytes", "pulled_bytes"


class _RolloutOperator(BaseOperator):
    """Base: a pipeline's name and, where a refusal can be overruled, the reason to do so."""

    template_fields: ClassVar[Sequence[str]] = ("force",)

    def __init__(self, *, pipeline: str, force: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline, self.force = pipeline, force

    def check_wanted(self, now: Stage) -> None:
        """Skip or fail unless the promotion ledger lets the model go out; with ``force``, nominate it again."""
        if done := require_wanted(now, self.force):
            self.log.info("%s", done)


class PrefetchOperator(_RolloutOperator):
    """Bring the image to the ring's devices while the old one serves on.

    What each device will have to pull is predicted from the manifests first. Prediction and outcome are in the log, in
    the ring's record, and in XCom: ``predicted_bytes`` and ``pulled_bytes`` by site, None where an engine is mute.
    """

    def execute(self, context: Context) -> str:
        """Pull by digest on every device; returns the image's reference."""
        now, ti = stage(self.pipeline, context), context["ti"]
        self.check_wanted(now)
        done = now.ring.prefetch(now.source(), self.log.info)
        ti.xcom_push(key=PREDICTED, value={one.site: one.predicted for one in done})
        ti.xcom_push(key=PULLED, value={one.site: one.pulled for one in done})
        reference = now.ring.wanted.reference
        self.log.info("%s is on %s", reference, ", ".join(now.ring.sites))
        return reference


class SwitchOperator(_RolloutOperator):
    """Make the image serve on the ring's devices, what served before kept beside it."""

    def execute(self, context: Context) -> str:
        """Switch every device that does not serve it yet; returns the image's reference."""
        now = stage(self.pipeline, context)
        self.check_wanted(now)
        for site, done in now.ring.switch():
            self.log.info("%s: %s", site, "; ".join(done) or "serves it already")
        return now.ring.wanted.reference


class GateOperator(BaseBranchOperator):
    """Watch the ring's devices and branch: ask a person, go on, or restore.

    What stays inconclusive is tried again while retries are left, and then restored.
    """

    def __init__(
        self,
        *,
        pipeline: str,
        approve: str = "approve",
        advance: str = "advance",
        restore: str = "restore",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline, self.approve, self.advance, self.restore = pipeline, approve, advance, restore

    def choose_branch(self, context: Context) -> str:
        """The task to go on with."""
        now, ti = stage(self.pipeline, context), context["ti"]
        verdict = now.ring.watch(now.spec.rollout.soak_seconds, self.log.info)
        ti.xcom_push(key=REASON, value=verdict.reason)
        ti.xcom_push(key=OUTCOME, value=verdict.outcome.value)
        if verdict.outcome is Outcome.PASS:
            return self.approve if now.ring_spec.approval else self.advance
        if not now.exposed_here:
            # The switch died before it changed anything; earlier rings passed and serve on.
            raise AirflowFailException(f"No device of this ring was switched: {verdict.reason}")
        if verdict.outcome is Outcome.INCONCLUSIVE and ti.try_number <= ti.max_tries:
            raise RolloutFailedError(
                f"The gate of ring {now.ring_spec.name} is inconclusive: {verdict.reason}",
                left="the new image on its devices, what served before beside it",
                next="Nothing yet: the gate is tried again, and after the last try the devices are restored.",
            )
        self.log.warning("Ring %s does not pass: %s", now.ring_spec.name, verdict.reason)
        return self.restore


class ApproveOperator(HITLBranchOperator):
    """Ask a person whether the next ring may start; a refusal or no answer in time restores.

    Airflow's own operator leaves only the branch in XCom; who answered is wanted in the ring's record.
    """

    def __init__(self, *, advance: str = "advance", restore: str = "restore", **kwargs: Any) -> None:
        super().__init__(
            options=[APPROVE, REJECT],
            options_mapping={APPROVE: advance, REJECT: restore},
            defaults=REJECT,
            **kwargs,
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Keep the answer and who gave it, then branch."""
        if "error" not in event:
            user = event.get("responded_by_user") or {}
            context["ti"].xcom_push(key=ANSWER, value=event["chosen_options"][0])
            context["ti"].xcom_push(key=ANSWERED_BY, value=user.get("name") or user.get("id") or NOBODY)
        return super().execute_complete(context=context, event=event)


class AdvanceOperator(_RolloutOperator):
    """Record that the ring passed, and mint the next ring's partition in ``outlets``; after the last, promote."""

    def __init__(self, *, gate: str = "gate", approve: str = "approve", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gate, self.approve = gate, approve

    def execute(self, context: Context) -> str:
        """Returns the Rollout record's id; skips after the last ring, when the model has become champion."""
        now, ti = stage(self.pipeline, context), context["ti"]
        refuse_quarantined(now)
        approved_by = self._approval(context) if now.ring_spec.approval else ""
        exposed = now.ring.exposed()
        record = None if exposed else now.recorded("passed")
        if record is None:
            reason = ti.xcom_pull(task_ids=self.gate, key=REASON) or ""
            record = now.store.put(now.record("passed", reason, exposed, approved_by))
        after = following(now.spec, now.step)
        if after is None:
            self._promote(now, record)
            raise AirflowSkipException(f"Every ring has passed; model version {now.model.version} is champion.")
        send(context, self.outlets, [after.key])
        self.log.info("Ring %d passed; ring %d may start: partition %s", now.step.ring, after.ring, after.key)
        return record.id

    def _approval(self, context: Context) -> str:
        ti = context["ti"]
        if ti.xcom_pull(task_ids=self.approve, key=ANSWER) != APPROVE:
            raise AirflowFailException("This ring asks for approval and nobody gave it; clear the approve task.")
        return str(ti.xcom_pull(task_ids=self.approve, key=ANSWERED_BY))

    def _promote(self, now: Stage, record: Rollout) -> None:
        entry = promote(now, record)
        now.ring.settle()
        self.log.info("Model version %d is champion%s", now.model.version, "" if entry else " already")


class RestoreOperator(_RolloutOperator):
    """Bring every device that the image reached back to what served before, and take the model out of the running.

    Made for the trigger rule ``all_done``, so that a gate or an approval that broke down restores too: it skips by
    itself when the gate was skipped, or failed because nothing of this ring was switched.
    """

    def __init__(self, *, gate: str = "gate", approve: str = "approve", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gate, self.approve = gate, approve

    def execute(self, context: Context) -> str:
        """Returns the Rollout record's id. Raises ``RolloutFailedError`` naming the devices that stay exposed."""
        judged = context["ti"].xcom_pull(task_ids=self.gate)
        if not judged and state_in_run(context, self.gate) != TaskInstanceState.FAILED:
            raise AirflowSkipException("The gate gave no verdict, because nothing was to be switched.")
        now = stage(self.pipeline, context)
        exposed = now.ring.ways_back()
        done = None if exposed else now.recorded("restored")
        if done is not None:
            self.log.info("Found: an earlier try restored %s", ", ".join(done.devices) or "no device")
            return done.id
        if not judged and not now.exposed_here:
            raise AirflowSkipException("The gate gave no verdict, because no device of this ring was switched.")
        for line in now.last_words():
            self.log.warning("%s", line)
        record = now.record("restored", self._take_out(context, now) + back_on_quarantined(now, exposed), exposed)
        now.ring.restore(exposed, now.known, self.log.info)
        # Written before the exposures are closed: from then on only this record knows of them.
        stored = now.store.put(record)
        now.ring.close(exposed)
        self.log.info("Restored %d devices: %s", len(exposed), stored.reason)
        return stored.id

    def _take_out(self, context: Context, now: Stage) -> str:
        """Quarantine a model that was found bad, reject one that was refused or not proven; returns the reason."""
        from edgeloop import registry

        ti, ring = context["ti"], now.ring_spec.name
        outcome, found = (ti.xcom_pull(task_ids=self.gate, key=key) for key in (OUTCOME, REASON))
        by, out = now.ring.by, registry.reject
        if outcome == Outcome.FAIL.value:
            reason, out = f"ring {ring} failed its gate: {found}", registry.quarantine
        elif outcome == Outcome.INCONCLUSIVE.value:
            reason = f"ring {ring} was not proven: {found}"
        elif not ti.xcom_pull(task_ids=self.gate):
            reason = f"the gate of ring {ring} broke down and gave no verdict"
        elif ti.xcom_pull(task_ids=self.approve, key=ANSWER) == REJECT:
            by = str(ti.xcom_pull(task_ids=self.approve, key=ANSWERED_BY))
            reason = f"approval of ring {ring}: refused by {by}"
        else:
            reason = f"approval of ring {ring} broke down and gave no answer"
        try:
            out(now.store, now.model.id, by=by, why=reason)
        except ConflictError as error:
            self.log.warning("The registry stays as it is: %s", error.what)
        return reason


class ReportOperator(_RolloutOperator):
    """Make a restored ring a failed run, so that somebody looks: nothing is left to do for the devices."""

    def __init__(self, *, restore: str = "restore", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.restore = restore

    def execute(self, context: Context) -> None:
        """Fail with the reason and what serves now; retrying would change nothing."""
        record = hooks.desk(self.pipeline).store.get(Rollout, context["ti"].xcom_pull(task_ids=self.restore))
        error = RolloutFailedError(
            record.reason,
            left=f"what served before, proven on each device: {', '.join(record.devices) or 'no device was changed'}",
            next="Read the scorers' last lines in the restore task's log. The model is out of the running; to try it "
            "again, trigger this DAG with the same partition key and the reason as 'force'.",
        )
        raise AirflowFailException(str(error))
