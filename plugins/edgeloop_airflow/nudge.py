"""What wakes intake: the watcher that polls the source, or in its place Azure's events from a queue.

An event is a nudge and no more. It is acknowledged when Airflow has stored the asset event made of it, and one that is
lost all the same costs a sweep, never a file.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetWatcher
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from airflow.triggers.shared_stream import SharedStreamProducer

from edgeloop import catalog
from edgeloop.errors import EdgeloopError
from edgeloop.share import nudge
from edgeloop_airflow import hooks
from edgeloop_airflow.residency import require_queue_at_home
from edgeloop_airflow.share import FIRST_PAUSE, LONGEST_PAUSE, ArrivalTrigger
from edgeloop_airflow.sources import AZURE, preset_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Sequence

    from airflow.triggers.shared_stream import AdvanceItem

    from edgeloop.azure.queue import Message, MessageQueue
    from edgeloop.pipeline import Pipeline, Source

log = logging.getLogger(__name__)

HIDDEN_SECONDS = 60
"""How long a received message is kept from others. Storing its event takes a second or two; one that was not stored,
because the triggerer died, comes again after this."""
IDLE_SECONDS = 2.0
MOST_DELIVERIES = 5
MOST_PAGES = 8
"""Answers of the queue on their way to the database at once; Airflow fails a subscriber that lags by 1024 events."""
POISON = "-poison"
BUS_SECONDS = 1.0


def arrivals(spec: Pipeline) -> Asset:
    """The asset that wakes a pipeline's intake, with its watcher."""
    trigger = trigger_of(spec)
    return Asset(
        name=f"{spec.name}_arrivals",
        uri=f"x-edgeloop://{spec.name}/arrivals",
        group="edgeloop",
        watchers=[AssetWatcher(name=f"{spec.name}_arrivals", trigger=trigger)],
    )


def trigger_of(spec: Pipeline) -> BaseEventTrigger:
    """Azure's events where ``source.nudge`` names a queue of them, else a look at the source now and then."""
    found = spec.source.nudge
    if found is None:
        return ArrivalTrigger(pipeline=spec.name)
    kind = {"storage_queue": StorageQueueTrigger, "service_bus": ServiceBusTrigger}[found.kind]
    preset = preset_of(spec, found.connection)
    return kind(pipeline=spec.name, connection=found.connection, queue=found.queue, preset=preset)


def pause_after(trouble: int) -> float:
    """Seconds to wait after so many failed tries in a row."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(trouble, 10))


class QueueTrigger(BaseEventTrigger):
    """Base of both: its arguments name a pipeline, a connection and a queue, and hold no secret."""

    def __init__(self, pipeline: str, connection: str, queue: str, preset: str = AZURE) -> None:
        super().__init__()
        self.pipeline, self.connection, self.queue, self.preset = pipeline, connection, queue, preset

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments; those of a queue in Azure are what they were before there was a preset."""
        arguments = {"pipeline": self.pipeline, "connection": self.connection, "queue": self.queue}
        arguments |= {} if self.preset == AZURE else {"preset": self.preset}
        return f"edgeloop_airflow.nudge.{type(self).__name__}", arguments

    async def told(self, bodies: Sequence[str]) -> TriggerEvent | None:
        """One event for all messages that concern the pipeline, with their count and no names; None if none does."""
        section = await asyncio.to_thread(self._section)
        count = 0
        for body in bodies:
            try:
                count += sum(1 for one in nudge.read(body) if section is None or nudge.concerns(one, section))
            except nudge.PoisonError as why:
                self.log.warning("A message of queue %s tells of no blob: %s", self.queue, why)
        return TriggerEvent({"pipeline": self.pipeline, "queue": self.queue, "events": count}) if count else None

    def _section(self) -> Source | None:
        """The pipeline's source as its folder reads now; None where it cannot be read, and then any event counts."""
        try:
            return catalog.load().find(self.pipeline).spec.source
        except EdgeloopError as error:
            self.log.warning("Events for %s are not filtered: %s", self.pipeline, error)
            return None


class StorageQueueTrigger(QueueTrigger):
    """Nudges intake with the messages of a storage queue. Pipelines that name one queue share one reader of it.

    A message is deleted when the events made of it are in Airflow's database, or when it concerns nobody. What is no
    event is moved to ``<queue>-poison``.

    Args:
        pipeline: The pipeline's name.
        connection: A ``wasb`` connection of the account.
        queue: The queue.
        preset: Which kind of service answers there: a Stack speaks an old version only.
    """

    def shared_stream_key(self) -> Hashable:
        """One reader for each queue."""
        return ("edgeloop_storage_queue", self.connection, self.queue)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> QueueReader:
        """The reader, which deletes what was stored."""
        return QueueReader(kwargs["connection"], kwargs["queue"], kwargs.get("preset", AZURE))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """One event for each answer of the queue that holds anything of this pipeline's source."""
        async for bodies in shared_stream:
            event = await self.told(bodies)
            if event is not None:
                yield event

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Without a triggerer: what was yielded counts as stored when the next event is asked for."""
        from airflow.triggers.shared_stream import AdvanceItem, AdvanceOutcome

        reader = self.create_shared_stream_producer(self.serialize()[1])
        async for bodies, messages in reader.open_stream():
            event = await self.told(bodies)
            if event is not None:
                yield event
            await reader.advance([AdvanceItem(messages, AdvanceOutcome(acked=1, failed=0))])


class QueueReader(SharedStreamProducer):
    """Reads one storage queue for all triggers that name it.

    Neither reading nor deleting ever raises: Airflow would end every watcher of the queue, until the triggerer starts
    anew.
    """

    def __init__(self, connection: str, queue: str, preset: str = AZURE) -> None:
        self.connection, self.name, self.preset = connection, queue, preset
        self._queue: MessageQueue | None = None
        self._pages = asyncio.Semaphore(MOST_PAGES)
        self._lanes = itertools.count()

    async def open_stream(self) -> AsyncIterator[tuple[tuple[str, ...], tuple[Message, ...]]]:
        """The bodies of each answer with its messages, for ever."""
        trouble = 0
        while True:
            await self._pages.acquire()
            try:
                messages = await self._receive()
            except Exception as error:  # noqa: BLE001 - see above
                self._pages.release()
                trouble += 1
                pause = pause_after(trouble)
                log.warning("Queue %s is not read, next try in %.0f s: %s", self.name, pause, error)
                self._queue = None
                await asyncio.sleep(pause)
                continue
            if trouble:
                log.info("Queue %s is read again after %d failed tries", self.name, trouble)
                trouble = 0
            if messages:
                yield tuple(one.body for one in messages), messages
            else:
                self._pages.release()
                await asyncio.sleep(IDLE_SECONDS)

    async def _receive(self) -> tuple[Message, ...]:
        from edgeloop.azure.queue import MessageQueue

        if self._queue is None:
            account = await hooks.blob_account_async(self.connection, self.preset)
            made = await asyncio.to_thread(MessageQueue, account, self.name)
            await asyncio.to_thread(require_queue_at_home, made)
            self._queue = made
        queue = self._queue
        received = await asyncio.to_thread(lambda: queue.receive(hidden_seconds=HIDDEN_SECONDS))
        return await asyncio.to_thread(self._sorted_out, queue, received)

    def _sorted_out(self, queue: MessageQueue, received: tuple[Message, ...]) -> tuple[Message, ...]:
        """The messages that are events; the others are moved aside, so that they never block the queue."""
        good = []
        for one in received:
            try:
                nudge.read(one.body)
            except nudge.PoisonError as why:
                self._move_aside(queue, one, str(why))
            else:
                good.append(one)
        return tuple(good)

    def _move_aside(self, queue: MessageQueue, message: Message, why: str) -> None:
        from azure.core.exceptions import AzureError

        from edgeloop.azure.queue import MessageQueue

        aside = f"{self.name}{POISON}"
        try:
            other = MessageQueue(queue.account, aside)
            other.ensure()
            other.put(message.body)
        except (EdgeloopError, AzureError) as error:
            if message.deliveries < MOST_DELIVERIES:
                log.warning("Message %s stays in queue %s: %s", message.id, self.name, error)
                return
            aside = ""
        log.warning(
            "Message %s of queue %s is no event of Event Grid (%s); %s",
            message.id, self.name, why, f"moved to {aside}" if aside else "deleted, it could not be moved aside",
        )  # fmt: skip
        queue.delete(message)

    def get_advance_lane(self, broker_payload: Any) -> Hashable:  # noqa: ARG002 - every answer is its own
        """A lane for each answer: one whose event is slow to be stored holds up no other."""
        return next(self._lanes)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Delete what every subscriber is done with; the rest comes again by itself."""
        for item in batch:
            self._pages.release()
            messages: tuple[Message, ...] = item.broker_payload
            if item.outcome.is_clean:
                await asyncio.to_thread(self._delete, messages)
            else:
                worn = tuple(one for one in messages if one.deliveries >= MOST_DELIVERIES)
                if worn:
                    log.warning(
                        "%d messages of queue %s were delivered %d times and their events never stored; deleted, the "
                        "sweep finds what they tell of", len(worn), self.name, MOST_DELIVERIES,
                    )  # fmt: skip
                await asyncio.to_thread(self._delete, worn)

    def _delete(self, messages: tuple[Message, ...]) -> None:
        queue = self._queue
        try:
            for one in messages:
                if queue is not None:
                    queue.delete(one)
        except Exception as error:  # noqa: BLE001 - see above; they come again, and are a nudge too many
            log.warning("Messages of queue %s could not be deleted and come again: %s", self.name, error)


class ServiceBusTrigger(QueueTrigger):
    """Nudges intake with the messages of a Service Bus queue, read by the Azure provider's own trigger.

    That trigger completes a message as it reads it, and ends at the first error; here it is started again, and the
    cron sweep finds what a lost message told of.

    Args:
        pipeline: The pipeline's name.
        connection: An ``azure_service_bus`` connection.
        queue: The queue.
    """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read for ever."""
        trouble = 0
        while True:
            try:
                async for one in self.provider_trigger().run():
                    trouble = 0
                    event = await self.told([str(one.payload["message"])])
                    if event is not None:
                        yield event
            except Exception as error:  # noqa: BLE001 - a watcher that raises is dead until the triggerer restarts
                trouble += 1
                pause = pause_after(trouble)
                self.log.warning("Service Bus queue %s is not read, next try in %.0f s: %s", self.queue, pause, error)
                await asyncio.sleep(pause)

    def provider_trigger(self) -> BaseEventTrigger:
        """The provider's trigger; imported here because its module imports the Service Bus SDK."""
        from airflow.providers.microsoft.azure.triggers.message_bus import AzureServiceBusQueueTrigger

        return AzureServiceBusQueueTrigger(
            queues=[self.queue],
            azure_service_bus_conn_id=self.connection,
            poll_interval=BUS_SECONDS,
            max_wait_time=BUS_SECONDS,
        )
