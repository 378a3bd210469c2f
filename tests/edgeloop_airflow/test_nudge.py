"""Azure's events through a real Azurite queue, read as Airflow's triggerer reads them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import TriggerEvent
from airflow.triggers.shared_stream import SharedStreamManager
from tests.edgeloop.transfer.link import Link

from edgeloop import catalog
from edgeloop.azure.blob import BlobAccount
from edgeloop.azure.features import STACK_API_VERSION
from edgeloop.azure.queue import MessageQueue
from edgeloop.errors import ConfigurationError, NotFoundError
from edgeloop.records import Batch
from edgeloop_airflow import nudge
from edgeloop_airflow.assets import Assets
from edgeloop_airflow.nudge import ServiceBusTrigger, StorageQueueTrigger, arrivals, trigger_of
from edgeloop_airflow.share import ArrivalTrigger, ClaimBatchesOperator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.edgeloop_airflow.conftest import Floor

    from lab.site import Site

SECONDS = 60.0
BATCH = Assets("tiny_power").batch


@pytest.fixture(scope="session")
def queue_account(site: Site) -> Iterator[BlobAccount]:
    """The site's private account with its queue service up."""
    from lab import queue

    with queue.serving(site) as connection_string:
        yield BlobAccount(connection="edgeloop_private", connection_string=connection_string)


@dataclass(slots=True, kw_only=True)
class Yard:
    """The tiny pipeline on a blob prefix, nudged through a queue."""

    floor: Floor
    landing: str
    queue: MessageQueue
    account: BlobAccount

    def upload(self, name: str, text: str = "site,at,wind,power\nnorth,2014-01-01T00:00:00Z,5,1\n") -> None:
        """As the cloud share does, with the event that Azure sends of it."""
        self.account.container(self.landing).put(f"exports/{name}", text.encode())
        self.tell(f"exports/{name}")

    def tell(self, path: str, container: str = "") -> None:
        """The event alone."""
        subject = f"/blobServices/default/containers/{container or self.landing}/blobs/{path}"
        event = {"topic": "t", "id": "1", "eventType": "Microsoft.Storage.BlobCreated", "subject": subject}
        self.queue.put(base64.b64encode(json.dumps(event).encode()).decode())

    def left(self) -> int:
        """How many messages the queue holds, received ones included."""
        return int(self.queue._client.get_queue_properties().approximate_message_count or 0)

    def trigger(self) -> StorageQueueTrigger:
        """The pipeline's watcher."""
        found = trigger_of(catalog.load().find("tiny_power").spec)
        assert isinstance(found, StorageQueueTrigger)
        return found

    def claim(self, run: str) -> list[str]:
        """Run intake; the ids of its batches."""
        context = self.floor.context(run=run, dag="tiny_power_intake", task="claim")
        try:
            return ClaimBatchesOperator(task_id="claim", pipeline="tiny_power", outlets=[BATCH]).execute(context)
        except AirflowSkipException:
            return []


@pytest.fixture
def yard(floor: Floor, queue_account: BlobAccount, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """A landing container and a queue of this test's own."""
    landing, name = f"landing-{uuid.uuid4().hex[:12]}", f"q-{uuid.uuid4().hex[:12]}"
    extra = {"connection_string": queue_account.connection_string}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_PRIVATE", json.dumps({"conn_type": "wasb", "extra": extra}))
    queue_of = f"nudge: {{kind: storage_queue, connection: edgeloop_private, queue: {name}}}"
    source = f"kind: blob\n  connection: edgeloop_private\n  folder: {landing}/exports\n  {queue_of}"
    floor.edit("pipeline.yaml", "folder: exports", source)
    queue = MessageQueue(queue_account, name)
    queue.ensure()
    queue_account.container(landing).ensure()
    return Yard(floor=floor, landing=landing, queue=queue, account=queue_account)


@dataclass(slots=True)
class Triggerer:
    """What the triggerer does with an event trigger: it runs its stream, stores its events, and confirms them."""

    manager: SharedStreamManager = field(default_factory=SharedStreamManager)
    events: list[dict[str, Any]] = field(default_factory=list)
    unconfirmed: list[int] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, trigger: StorageQueueTrigger) -> None:
        """Run the trigger."""
        self.tasks.append(asyncio.create_task(self._run(trigger, len(self.tasks))))

    async def _run(self, trigger: StorageQueueTrigger, number: int) -> None:
        key = trigger.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        async for event in trigger.filter_shared_stream(stream):
            assert isinstance(event, TriggerEvent)
            seq = self.manager.bind_pending_event(trigger_id=number, key=key)
            assert seq is not None
            self.unconfirmed.append(seq)
            self.events.append(dict(event.payload))

    def store(self) -> None:
        """The events are in the database."""
        self.manager.confirm_persisted(self.unconfirmed)
        self.unconfirmed.clear()

    async def stop(self) -> None:
        """End as a killed process does: nothing more is confirmed."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.manager.stop_all()


async def until(check: Callable[[], Any], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + SECONDS
    while not await asyncio.to_thread(check):
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s: {what}"
        await asyncio.sleep(0.05)


async def drained(triggerer: Triggerer, yard: Yard) -> None:
    """Store what comes until the queue is empty."""
    deadline = time.monotonic() + SECONDS
    while await asyncio.to_thread(yard.left):
        assert time.monotonic() < deadline, f"messages are left after {SECONDS:g} s"
        triggerer.store()
        await asyncio.sleep(0.05)


def reading(script: Callable[[Triggerer], Awaitable[None]]) -> None:
    """Run a script beside a triggerer."""

    async def go() -> None:
        triggerer = Triggerer()
        try:
            await script(triggerer)
        finally:
            await triggerer.stop()

    asyncio.run(go())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses."""
    monkeypatch.setattr(nudge, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(nudge, "FIRST_PAUSE", 0.1)


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that nobody deleted come again soon."""
    monkeypatch.setattr(nudge, "HIDDEN_SECONDS", 2)


def test_an_event_is_acknowledged_after_it_is_stored(yard: Yard) -> None:
    """It comes with counts and no names; its message leaves the queue when the database has the event, not before."""
    yard.upload("north_2014-01.csv")

    async def script(triggerer: Triggerer) -> None:
        triggerer.start(yard.trigger())
        await until(lambda: triggerer.events, "an event")
        assert triggerer.events == [{"pipeline": "tiny_power", "queue": yard.queue.name, "events": 1}]
        assert await asyncio.to_thread(yard.left) == 1
        await drained(triggerer, yard)

    reading(script)


def test_a_burst_is_few_events(yard: Yard) -> None:
    """What the queue gives in one answer is one event with its count: Airflow strands events that come in a burst."""
    for number in range(40):
        yard.tell(f"exports/north{number}_2014-01.csv")

    async def script(triggerer: Triggerer) -> None:
        triggerer.start(yard.trigger())
        await until(lambda: sum(one["events"] for one in triggerer.events) >= 40, "all events")
        await drained(triggerer, yard)
        assert len(triggerer.events) < 10

    reading(script)


@pytest.mark.fault
@pytest.mark.usefixtures("again")
def test_a_triggerer_killed_before_the_event_is_stored_loses_nothing(yard: Yard) -> None:
    """The message comes again to the next one."""
    yard.tell("exports/north_2014-01.csv")

    async def script(triggerer: Triggerer) -> None:
        killed = Triggerer()
        killed.start(yard.trigger())
        await until(lambda: killed.events, "an event")
        await killed.stop()
        assert await asyncio.to_thread(yard.left) == 1
        triggerer.start(yard.trigger())
        await until(lambda: triggerer.events, "the event again")
        await drained(triggerer, yard)

    reading(script)


@pytest.mark.fault
def test_two_triggerers_and_two_intakes_claim_once(yard: Yard) -> None:
    """However often an event is told, a file is in one batch."""
    yard.upload("north_2014-01.csv")
    yard.upload("south_2014-01.csv")

    async def script(triggerer: Triggerer) -> None:
        other = Triggerer()
        try:
            for one in (triggerer, other):
                one.start(yard.trigger())
                one.start(yard.trigger())
            await until(lambda: triggerer.events + other.events, "an event")
        finally:
            await other.stop()

    reading(script)
    for run in ("run-1", "run-2"):
        yard.floor.states["tiny_power_intake", "claim", run] = "running"
    with ThreadPoolExecutor(2) as pool:
        claimed = [one for ids in pool.map(yard.claim, ["run-1", "run-2"]) for one in ids]
    batches = yard.floor.desk().store.all(Batch)
    assert len(claimed) == len(set(claimed)) == len(batches)
    assert [file.path for file in max(batches, key=lambda one: len(one.files)).files] == [
        "north_2014-01.csv",
        "south_2014-01.csv",
    ]


def test_a_queue_of_a_stack_is_spoken_to_as_its_blobs_are(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the preset's version, as the pipeline says of that connection; the SDK's own is refused there."""
    yard.floor.edit("pipeline.yaml", "kind: blob", "kind: blob\n  preset: stack_hub")
    yard.tell("exports/north_2014-01.csv")
    yard.queue.put("no event")
    text = yard.account.connection_string
    where = re.search(r"QueueEndpoint=http://([^/:;]+):(\d+)", text)
    assert where is not None
    with Link(host=where[1], port=int(where[2])) as link:
        extra = {"connection_string": text.replace(where[0], f"QueueEndpoint=http://{link.address}")}
        monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_PRIVATE", json.dumps({"conn_type": "wasb", "extra": extra}))

        async def script(triggerer: Triggerer) -> None:
            triggerer.start(yard.trigger())
            await drained(triggerer, yard)

        reading(script)
    assert "/q-" in "".join(path for _, path in link.requests)
    assert set(link.versions) == {STACK_API_VERSION}


def test_watchers_of_one_queue_share_its_reader(yard: Yard) -> None:
    """Each is told, and the message goes when both their events are stored."""
    yard.tell("exports/north_2014-01.csv")

    async def script(triggerer: Triggerer) -> None:
        triggerer.start(yard.trigger())
        triggerer.start(yard.trigger())
        await until(lambda: len(triggerer.events) == 2, "an event each")
        triggerer.manager.confirm_persisted([triggerer.unconfirmed.pop()])
        assert await asyncio.to_thread(yard.left) == 1
        await drained(triggerer, yard)

    reading(script)


def test_what_concerns_nobody_is_deleted_in_silence(yard: Yard) -> None:
    """Another container's blob wakes nobody and does not stay."""
    yard.tell("exports/north_2014-01.csv", container="elsewhere")
    yard.tell("exports/readme.txt")

    async def script(triggerer: Triggerer) -> None:
        triggerer.start(yard.trigger())
        await until(lambda: yard.left() == 0, "the messages are deleted")
        assert triggerer.events == []

    reading(script)


@pytest.mark.fault
def test_poison_is_moved_aside_and_blocks_nothing(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    """What is no event goes to a queue beside, is told without its content, and the next message is read."""
    for body in ("secret text", "{}", "[" * 9):
        yard.queue.put(body)
    yard.tell("exports/north_2014-01.csv")

    async def script(triggerer: Triggerer) -> None:
        triggerer.start(yard.trigger())
        await until(lambda: triggerer.events, "the good event")
        await drained(triggerer, yard)

    with caplog.at_level(logging.WARNING):
        reading(script)
    aside = MessageQueue(yard.account, f"{yard.queue.name}-poison")
    assert sorted(one.body for one in aside.receive(hidden_seconds=30)) == ["[" * 9, "secret text", "{}"]
    assert "is no event of Event Grid (it is neither JSON nor JSON in base64); moved to" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.fault
def test_poison_that_cannot_be_moved_is_deleted_in_the_end(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An account that allows no second queue gets a few tries, and then the message goes."""

    def refused(queue: MessageQueue) -> None:
        raise ConfigurationError(f"no queue {queue.name} for you")

    monkeypatch.setattr(MessageQueue, "ensure", refused)
    monkeypatch.setattr(nudge, "HIDDEN_SECONDS", 1)
    monkeypatch.setattr(nudge, "MOST_DELIVERIES", 2)
    yard.queue.put("poison")

    async def script(triggerer: Triggerer) -> None:
        triggerer.start(yard.trigger())
        await until(lambda: yard.left() == 0, "the message is deleted")

    with caplog.at_level(logging.WARNING):
        reading(script)
    assert "stays in queue" in caplog.text
    assert "deleted, it could not be moved aside" in caplog.text


@pytest.mark.fault
def test_a_queue_that_is_not_there_is_waited_for(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    """The watcher outlives it, says so, and reads when it is there."""
    yard.queue._client.delete_queue()

    async def script(triggerer: Triggerer) -> None:
        triggerer.start(yard.trigger())
        await until(lambda: "is not read, next try" in caplog.text, "a warning")
        await asyncio.to_thread(yard.queue.ensure)
        await asyncio.to_thread(yard.tell, "exports/north_2014-01.csv")
        await until(lambda: triggerer.events, "an event")

    with caplog.at_level(logging.INFO):
        reading(script)
    assert "is read again after" in caplog.text


@pytest.mark.usefixtures("again")
def test_a_failed_deletion_ends_nothing(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The message comes again, which is a nudge too many, and the watcher goes on."""
    real, failures = MessageQueue.delete, iter([True])

    def once(queue: MessageQueue, message: Any) -> bool:
        if next(failures, False):
            raise NotFoundError("gone for a moment")
        return real(queue, message)

    monkeypatch.setattr(MessageQueue, "delete", once)
    yard.tell("exports/north_2014-01.csv")

    async def script(triggerer: Triggerer) -> None:
        triggerer.start(yard.trigger())
        await until(lambda: triggerer.events, "an event")
        triggerer.store()
        await until(lambda: len(triggerer.events) >= 2, "the event again")
        await drained(triggerer, yard)

    with caplog.at_level(logging.WARNING):
        reading(script)
    assert "could not be deleted and come again" in caplog.text


def test_it_runs_without_a_triggerer(yard: Yard) -> None:
    """Asking for the next event says that the one before was taken."""
    yard.tell("exports/north_2014-01.csv")

    async def go() -> None:
        events = yard.trigger().run()
        first = await anext(events)
        assert first.payload["events"] == 1
        assert await asyncio.to_thread(yard.left) == 1
        following = asyncio.ensure_future(anext(events))
        await until(lambda: yard.left() == 0, "the message is deleted")
        following.cancel()
        await asyncio.wait({following})

    asyncio.run(go())


def test_a_queue_of_the_private_account_is_not_looked_for_in_the_cloud(queue_account: BlobAccount) -> None:
    """A string with a BlobEndpoint of its own and no QueueEndpoint would lead to Azure's."""
    without = queue_account.connection_string.partition(";QueueEndpoint=")[0]
    assert "QueueEndpoint" not in without
    with pytest.raises(ConfigurationError, match="names a BlobEndpoint and no QueueEndpoint"):
        MessageQueue(BlobAccount(connection="c", connection_string=without), "q")


@pytest.mark.parametrize(
    ("kind", "trigger"), [("storage_queue", StorageQueueTrigger), ("service_bus", ServiceBusTrigger)]
)
def test_a_nudge_takes_the_place_of_polling(pipelines_folder: Any, kind: str, trigger: type) -> None:
    """The arrivals asset has one watcher: the queue's, or the one that polls; it is rebuilt from its arguments."""
    import shutil

    from tests.edgeloop_airflow.conftest import TINY

    home = pipelines_folder / "tiny_power"
    shutil.copytree(TINY, home)
    (watcher,) = arrivals(catalog.load().find("tiny_power").spec).watchers
    assert isinstance(watcher.trigger, ArrivalTrigger)
    text = (home / "pipeline.yaml").read_text()
    queue = f"folder: exports\n  nudge: {{kind: {kind}, connection: events, queue: arrivals}}"
    text = text.replace("folder: exports", queue).replace("on_premises", "cloud")
    (home / "pipeline.yaml").write_text(text)
    (watcher,) = arrivals(catalog.load().find("tiny_power").spec).watchers
    assert type(watcher.trigger) is trigger
    path, arguments = watcher.trigger.serialize()
    assert path == f"edgeloop_airflow.nudge.{trigger.__name__}"
    assert trigger(**arguments).serialize() == (path, arguments)
    assert arguments == {"pipeline": "tiny_power", "connection": "events", "queue": "arrivals"}


@pytest.mark.fault
def test_service_bus_is_read_by_the_providers_trigger(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages are filtered like others, and an error does not end the watcher as it would end the provider's."""
    from airflow.providers.microsoft.azure.hooks.asb import MessageHook
    from airflow.providers.microsoft.azure.triggers.message_bus import AzureServiceBusQueueTrigger

    subject = f"/blobServices/default/containers/{yard.landing}/blobs/exports/north_2014-01.csv"
    event = {"specversion": "1.0", "type": "Microsoft.Storage.BlobCreated", "subject": subject}
    asked: list[tuple[str, str]] = []

    @dataclass
    class Received:
        body: bytes

    answers = iter([ConnectionError("no route"), None, Received(b"no event"), Received(json.dumps(event).encode())])

    def read_message(hook: MessageHook, queue_name: str, max_wait_time: float | None = None) -> Any:
        assert max_wait_time, "without an end it would wait for ever"
        asked.append((hook.conn_id, queue_name))
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(MessageHook, "read_message", read_message)
    monkeypatch.setattr(nudge, "BUS_SECONDS", 0.05)
    trigger = ServiceBusTrigger(pipeline="tiny_power", connection="bus", queue="arrivals")
    assert isinstance(trigger.provider_trigger(), AzureServiceBusQueueTrigger)

    async def go() -> Any:
        return (await asyncio.wait_for(anext(trigger.run()), SECONDS)).payload

    assert asyncio.run(go()) == {"pipeline": "tiny_power", "queue": "arrivals", "events": 1}
    assert asked == [("bus", "arrivals")] * 4
