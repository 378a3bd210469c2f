"""Intake under a real scheduler and triggerer: woken through a real queue, and deaf to backfills."""

from __future__ import annotations

import base64
import json
import shutil
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop_airflow.conftest import TINY

from edgeloop.azure.blob import BlobAccount
from edgeloop.azure.queue import MessageQueue
from edgeloop.records import Batch
from edgeloop.store import Store
from lab import campaign_site, queue
from lab.airflow_api import wait_for
from lab.airflow_http import AirflowApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.airflow_api import AirflowApi
    from lab.airflow_records import Run
    from lab.airflow_site import AirflowSite
    from lab.site import Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
NAME, DAG = "nudged", "nudged_intake"
SECONDS = 240.0
CSV = b"site,at,wind,power\nnorth,2014-01-01T00:00:00Z,5,1\n"


@pytest.fixture
def account(site: Site) -> Iterator[BlobAccount]:
    """The private account with its queues."""
    with queue.serving(site) as connection_string:
        yield BlobAccount(connection="nudge_account", connection_string=connection_string)


@dataclass(frozen=True)
class Wired:
    """A pipeline whose files are blobs in ``landing``, and the queue that wakes its intake."""

    api: AirflowApi
    messages: MessageQueue
    landing: str


@pytest.fixture
def wired(airflow: AirflowSite, site: Site, account: BlobAccount) -> Iterator[Wired]:
    """A pipeline beside the site's own whose files are blobs and whose intake a queue wakes."""
    landing, name = f"landing-{uuid.uuid4().hex[:12]}", f"q-{uuid.uuid4().hex[:12]}"
    messages = MessageQueue(account, name)
    messages.ensure()
    account.container(landing).ensure()
    home = site.state / campaign_site.FOLDER / NAME
    shutil.copytree(TINY, home)
    text = (home / "pipeline.yaml").read_text()
    nudge = f"nudge: {{kind: storage_queue, connection: nudge_account, queue: {name}}}"
    for old, new in {
        "name: tiny_power": f"name: {NAME}",
        "container: tiny-power": f"container: {NAME}",
        "residency: on_premises": "residency: cloud",
        "  folder: exports": f"  kind: blob\n  connection: nudge_account\n  folder: {landing}\n  {nudge}",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (home / "pipeline.yaml").write_text(text)
    extra = json.dumps({"connection_string": account.connection_string})
    body = {"connection_id": "nudge_account", "conn_type": "wasb", "extra": extra}
    with airflow.api() as api:
        api.http.call("POST", "/connections", body=body)
        try:
            yield Wired(api, messages, landing)
        finally:
            shutil.rmtree(home)
            api.http.call("DELETE", "/connections/nudge_account")


def test_intake_is_woken_by_a_queue_and_refuses_backfills(wired: Wired, account: BlobAccount) -> None:
    """An event starts a run that claims, its message goes when the event is stored, and no backfill may start one."""
    api, messages = wired.api, wired.messages
    wait_for(lambda: any(one.dag_id == DAG for one in api.dags()), seconds=SECONDS, what=f"{DAG} in the UI")
    window = {"from_date": "2026-05-01T00:00:00Z", "to_date": "2026-05-02T00:00:00Z"}
    with pytest.raises(AirflowApiError, match="does not allow backfill runs"):
        api.http.call("POST", "/backfills", body={"dag_id": DAG, "max_active_runs": 1, **window})
    api.set_paused(DAG, paused=False)
    account.container(wired.landing).put("north_2014-01.csv", CSV)
    subject = f"/blobServices/default/containers/{wired.landing}/blobs/north_2014-01.csv"
    event = {"topic": "t", "id": "1", "eventType": "Microsoft.Storage.BlobCreated", "subject": subject}
    messages.put(base64.b64encode(json.dumps(event).encode()).decode())

    def woken() -> Run | None:
        return next((one for one in api.runs(DAG) if one.run_type == "asset_triggered" and one.done), None)

    run = wait_for(woken, seconds=SECONDS, what="a run that the event started")
    states = {one.task_id: one.state for one in api.tasks(DAG, run.run_id)}
    assert states["claim"] in ("success", "skipped"), "a sweep may have been a moment faster"
    assert (states["check_deliveries"], run.state) == ("success", "success")
    wait_for(lambda: not messages.receive(hidden_seconds=1), seconds=SECONDS, what="the message to be deleted")
    (batch,) = Store(account.container(NAME)).all(Batch)
    assert [one.path for one in batch.files] == ["north_2014-01.csv"]
