"""Intake: the watcher that nudges, and the tasks that claim whatever is due and tell what cannot be claimed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from edgeloop.errors import IntegrityError
from edgeloop.share import Claim, Claims, broken
from edgeloop.share.cursor import full_sweep_is_due, recent, scope_of_sweep
from edgeloop.share.watch import Watch, policy_of
from edgeloop_airflow import hooks
from edgeloop_airflow.assets import dag_id
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.emission import fate_of, holder, listens
from edgeloop_airflow.sources import source_of, source_of_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow.sdk import Context

    from edgeloop.pipeline import Source, Storage
    from edgeloop.share import Intake, Seen
    from edgeloop.share.source import Broken, FileSource, Scope

REREAD_SECONDS = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
LONGEST_SILENCE = 600.0
"""Files that no intake can claim, for want of a right or a group, must not start one every minute for ever."""


class ClaimBatchesOperator(BaseOperator):
    """Claims every complete file that no batch has taken and mints one partition per batch on its outlets.

    What woke the run does not matter: everything due is claimed, and what a run that died left unannounced is
    announced. With ``source.partitions`` it looks at the recent date folders, and at all of them when a full sweep is
    due. Returns the ids of the batches. Skipped when nothing is due.

    Args:
        pipeline: The pipeline's name.
        force: A reason to claim every group as it lies there, reading every file again, and to announce every batch of
            it that has no certificate.
        full: Whether to look at every folder (a template may give the word ``true``).
    """

    template_fields: Sequence[str] = ("force", "full")

    def __init__(self, *, pipeline: str, force: str = "", full: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.force = force
        self.full = full

    @discreet
    def execute(self, context: Context) -> list[str]:
        """Watch, claim, and mint; raises ``UnreachableError`` naming the connection that did not answer."""
        desk = hooks.desk(self.pipeline)
        spec, began = desk.snapshot.spec, datetime.now(UTC)
        source = source_of(spec.source)
        claim = Claim(desk.snapshot, source, desk.store, run=holder(context), fate=fate_of(context), force=self.force)
        state = claim.journal.read()
        asked = bool(self.force) or str(self.full).lower() == "true"
        full = asked or full_sweep_is_due(spec.source, spec.schedules.full_sweep, state.swept_at, began)
        scope = scope_of_sweep(spec.source, state.newest_day, began, full=full)
        if spec.source.partitions:
            self.log.info("Looking at %s", "every folder" if full else f"{len(scope.folders or ())} recent folders")
        watch = Watch(source, policy_of(spec.source), scope, claimed=claim.claimed, digest=claim.digest)
        look = watch.wait()
        intake = claim.take(look.ready, waiting=len(look.waiting), swept_at=began.isoformat() if full else "")
        self._tell(intake)
        wrong = [one for one in look.broken if not _was_cleared_away(one, claim, source)]
        self._note([*wrong, *intake.closed], scope, desk)
        if not intake.emit:
            raise AirflowSkipException(
                f"Nothing is due: {intake.files} complete files are claimed, {intake.unsettled} are not complete."
            )
        ingest = dag_id(self.pipeline, "ingest")
        if not listens(context, ingest):
            # Skipped, this run's rights pass on: the first sweep that finds the DAG listening announces all of them.
            raise AirflowSkipException(
                f"{len(intake.emit)} batches are claimed and wait: {ingest} is paused or not loaded, and Airflow would "
                f"drop what it is told. Unpause it (`airflow dags unpause {ingest} -y`); the next sweep announces them."
            )
        for outlet in self.outlets:
            context["outlet_events"][outlet].add_partitions([batch.key for batch in intake.emit])
        return [batch.id for batch in intake.emit]

    def _tell(self, intake: Intake) -> None:
        self.log.info(
            "%d complete files, %d not complete, %d changed while read; %d batches to announce, %d announced before",
            intake.files, intake.unsettled, intake.changed, len(intake.emit), intake.found,
        )  # fmt: skip
        if intake.kept:
            self.log.info("%d files of these batches were claimed before and not looked at or gone now", intake.kept)
        if intake.ungrouped:
            self.log.warning(
                "%d files match source.pattern but not source.group and belong to no batch; "
                "rename them, exclude them, or widen source.group.",
                intake.ungrouped,
            )
        for batch in intake.emit:
            self.log.info("Batch %s: %d files, configuration %s", batch.key, len(batch.files), batch.config[:16])

    def _note(self, found: list[Broken], scope: Scope, desk: hooks.Desk) -> None:
        before = broken.read(desk.blobs)
        troubles = broken.noted(before, found, scope, datetime.now(UTC))
        for one in troubles:
            self.log.warning("Not claimed: %s. Remedy: %s.", one, broken.REMEDY)
        if troubles != before:
            broken.write(desk.blobs, troubles)


def _was_cleared_away(one: Broken, claim: Claim, source: FileSource) -> bool:
    """Whether a manifest names a file that was claimed and then removed by its producer, as is its right."""
    return claim.journal.state.marks.knows(one.path) and source.look(one.path) is None


class BrokenDeliveryError(IntegrityError, AirflowFailException):
    """Files that no batch can take as they lie there; told at once, because a retry finds the same."""


class CheckDeliveriesOperator(BaseOperator):
    """Fails while something on the source has been broken for longer than a delivery takes.

    A task of its own: what is good was claimed and announced before, which a failing task would not do.
    """

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline

    @discreet
    def execute(self, context: Context) -> None:  # noqa: ARG002 - Airflow's signature
        """Read the report of the claim; raises ``BrokenDeliveryError`` naming each file and its reason."""
        troubles = broken.read(hooks.desk(self.pipeline).blobs)
        lasting = [one for one in troubles if one.lasts(datetime.now(UTC))]
        if lasting:
            raise BrokenDeliveryError(
                f"{len(lasting)} files of {self.pipeline} cannot be claimed as they lie there:\n"
                + "\n".join(f"  {one}" for one in lasting),
                left="the files as they are; everything that is good was claimed",
                next=f"For each: {broken.REMEDY}. The next sweep looks again; nothing needs to be cleared.",
            )
        self.log.info("%d files are broken, none for longer than %s", len(troubles), broken.GRACE)


@dataclass(slots=True, kw_only=True)
class Eye:
    """What the watcher looks with, made anew now and then so that an edited pipeline.yaml needs no restart."""

    watch: Watch
    claims: Claims
    section: Source
    storage: Storage
    read_at: float

    def unclaimed(self) -> tuple[Seen, ...]:
        """Look at the source once more; the complete files that no batch has taken. Blocks: for a thread."""
        return self.claims.unclaimed(self.watch.look().ready)

    def settle_scope(self) -> None:
        """Look at the recent folders only; blocks: for a thread."""
        state = self.claims.journal.read()
        self.watch.scope = recent(self.section, state.newest_day, datetime.now(UTC))


@dataclass(slots=True)
class Telling:
    """When files that nobody claims are told of again: after ``first`` seconds, then after twice as long each time."""

    first: float
    _silence: float = 0.0
    _told: dict[Seen, float] = field(default_factory=dict)

    def due(self, files: Sequence[Seen], now: float) -> bool:
        """Whether to tell of ``files``, all of them, at ``now`` (seconds); at once if one was never told of."""
        self._told = {one: self._told[one] for one in files if one in self._told}
        fresh = len(self._told) < len(files)
        if not fresh and not any(now - at >= self._silence for at in self._told.values()):
            return False
        self._silence = self.first if fresh else min(max(self.first, LONGEST_SILENCE), self._silence * 2)
        self._told = dict.fromkeys(files, now)
        return True


class ArrivalTrigger(BaseEventTrigger):
    """Nudges intake when files that no batch has taken are complete on a pipeline's source.

    One event for everything that is due, with counts; never a work list, because Airflow 3.3.2 strands events that
    arrive in a burst. The same files are announced again after ``reemit_after`` seconds while nobody claimed them, and
    then after twice as long each time, up to ten minutes: a sweep that claimed nothing new will not do so soon. An
    unreachable source or account is logged, and asked again after a pause that grows to a minute.

    Args:
        pipeline: The pipeline's name.
        reemit_after: Seconds.
    """

    def __init__(self, pipeline: str, reemit_after: float = 60.0) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.reemit_after = reemit_after

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments; no secrets are among them."""
        return (
            "edgeloop_airflow.share.ArrivalTrigger",
            {"pipeline": self.pipeline, "reemit_after": self.reemit_after},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch for ever."""
        eye: Eye | None = None
        telling = Telling(self.reemit_after)
        trouble = 0
        while True:
            try:
                eye = await self._refreshed(eye)
                due = await asyncio.to_thread(eye.unclaimed)
            except Exception as error:  # noqa: BLE001 - a watcher that raises is dead until the triggerer restarts
                trouble += 1
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(trouble, 10))
                self.log.warning("Arrivals of %s are not watched, next try in %.0f s: %s", self.pipeline, pause, error)
                eye = None
                await asyncio.sleep(pause)
                continue
            if trouble:
                self.log.info("Arrivals of %s are watched again after %d failed tries", self.pipeline, trouble)
                trouble = 0
            if telling.due(due, time.monotonic()):
                self.log.info("%d complete files of %s are unclaimed", len(due), self.pipeline)
                size = sum(one.size for one in due)
                yield TriggerEvent({"pipeline": self.pipeline, "files": len(due), "bytes": size})
            await asyncio.sleep(eye.watch.pause())

    async def _refreshed(self, eye: Eye | None) -> Eye:
        if eye is not None and time.monotonic() - eye.read_at < REREAD_SECONDS:
            return eye
        desk = await hooks.desk_async(self.pipeline)
        spec = desk.snapshot.spec
        source = await source_of_async(spec.source)
        # What was seen and what is known to be claimed stays: settling must not start anew with every reading.
        claims = eye.claims if eye and eye.storage == spec.storage else Claims(desk.store)
        if eye is not None and eye.section == spec.source:
            watch = eye.watch
            watch.source, watch.claimed = source, claims.claimed
        else:
            watch = Watch(source, policy_of(spec.source), claimed=claims.claimed)
        fresh = Eye(watch=watch, claims=claims, section=spec.source, storage=spec.storage, read_at=time.monotonic())
        await asyncio.to_thread(fresh.settle_scope)
        return fresh
