"""Intake: the watcher that nudges, and the task that claims whatever is due and mints a partition per batch."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from edgeloop.share import Claim, Claims, Folder, rule_of, watch
from edgeloop.share.settle import Watched, next_look, observe, settled
from edgeloop_airflow import hooks
from edgeloop_airflow.emission import fate_of, holder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from airflow.sdk import Context

    from edgeloop.pipeline import Source
    from edgeloop.share import Seen

REREAD_SECONDS = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


def folder_of(source: Source, root: Path) -> Folder:
    """The folder that a source watches, below its connection's folder."""
    return Folder(
        connection=source.connection, root=root, below=source.folder, pattern=source.pattern, exclude=source.exclude
    )


class ClaimBatchesOperator(BaseOperator):
    """Claims every settled file that no batch has taken and mints one partition per batch on its outlets.

    What woke the run does not matter: everything due is claimed, and what a run that died left unannounced is
    announced. Returns the ids of the batches. Skipped when nothing is due.

    Args:
        pipeline: The pipeline's name.
        force: A reason to claim every group as it stands, reading every file again, and to announce every batch of it
            that has no certificate.
    """

    template_fields: Sequence[str] = ("force",)

    def __init__(self, *, pipeline: str, force: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.force = force

    def execute(self, context: Context) -> list[str]:
        """Watch, claim, and mint; raises ``UnreachableError`` naming the connection that did not answer."""
        desk = hooks.desk(self.pipeline)
        source = desk.snapshot.spec.source
        folder = folder_of(source, hooks.share_folder(source.connection))
        ready, waiting = watch(folder, rule_of(source))
        claim = Claim(desk.snapshot, folder, desk.store, run=holder(context), fate=fate_of(context), force=self.force)
        intake = claim.take(ready, waiting=len(waiting))
        self.log.info(
            "%d settled files, %d still written to, %d changed while read; %d batches to announce, %d announced before",
            intake.files, intake.unsettled, intake.changed, len(intake.emit), intake.found,
        )  # fmt: skip
        if intake.ungrouped:
            self.log.warning(
                "%d files match source.pattern but not source.group and belong to no batch; "
                "rename them, exclude them, or widen source.group.",
                intake.ungrouped,
            )
        if not intake.emit:
            raise AirflowSkipException(
                f"Nothing is due: {intake.files} settled files are claimed, {intake.unsettled} are still written to."
            )
        for batch in intake.emit:
            self.log.info("Batch %s: %d files, configuration %s", batch.key, len(batch.files), batch.config[:16])
        for outlet in self.outlets:
            context["outlet_events"][outlet].add_partitions([batch.key for batch in intake.emit])
        return [batch.id for batch in intake.emit]


@dataclass(slots=True, kw_only=True)
class Look:
    """What the watcher looks at, resolved anew now and then so that an edited pipeline.yaml needs no restart."""

    folder: Folder
    source: Source
    claims: Claims
    read_at: float
    watched: dict[str, Watched] = field(default_factory=dict)

    def unclaimed(self) -> tuple[Seen, ...]:
        """List the folder once more; the settled files that no batch has taken. Blocks: for a thread."""
        self.watched = observe(self.watched, self.folder.scan(), time.time_ns())
        return self.claims.unclaimed(settled(self.watched, rule_of(self.source)))

    def pause(self) -> float:
        """Seconds until the next listing: a poll, or less when a file settles before that."""
        return next_look(self.watched, rule_of(self.source), time.time_ns())


class ArrivalTrigger(BaseEventTrigger):
    """Nudges intake when files have settled on a pipeline's share that no batch has taken.

    One event for everything that is due, with counts; never a work list, because Airflow 3.3.2 strands events that
    arrive in a burst. The same files are announced again after ``reemit_after`` seconds while nobody claimed them. An
    unreachable share or account is logged, and asked again after a pause that grows to a minute.

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
        look: Look | None = None
        told: dict[str, float] = {}
        trouble = 0
        while True:
            try:
                look = await self._refreshed(look)
                due = await asyncio.to_thread(look.unclaimed)
            except Exception as error:  # noqa: BLE001 - a watcher that raises is dead until the triggerer restarts
                trouble += 1
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(trouble, 10))
                self.log.warning("Arrivals of %s are not watched, next try in %.0f s: %s", self.pipeline, pause, error)
                look = None
                await asyncio.sleep(pause)
                continue
            if trouble:
                self.log.info("Arrivals of %s are watched again after %d failed tries", self.pipeline, trouble)
                trouble = 0
            now = time.monotonic()
            told = {one.state: told[one.state] for one in due if one.state in told}
            if any(now - told.get(one.state, -self.reemit_after) >= self.reemit_after for one in due):
                told = {one.state: now for one in due}
                self.log.info("%d settled files of %s are unclaimed", len(due), self.pipeline)
                size = sum(one.size for one in due)
                yield TriggerEvent({"pipeline": self.pipeline, "files": len(due), "bytes": size})
            await asyncio.sleep(look.pause())

    async def _refreshed(self, look: Look | None) -> Look:
        if look is not None and time.monotonic() - look.read_at < REREAD_SECONDS:
            return look
        desk = await hooks.desk_async(self.pipeline)
        source = desk.snapshot.spec.source
        folder = folder_of(source, await hooks.share_folder_async(source.connection))
        # What was seen and what is known to be claimed stays: settling must not start anew with every reading.
        return Look(
            folder=folder,
            source=source,
            claims=Claims(desk.store) if look is None else look.claims,
            read_at=time.monotonic(),
            watched={} if look is None else look.watched,
        )
