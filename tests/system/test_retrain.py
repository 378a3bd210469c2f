"""On a real Airflow: of many keys that wait one run decides for all, and a changed script trains by itself."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from edgeloop.azure.blob import BlobAccount
from edgeloop.records import Certificate, FileRef, sha256_hex
from edgeloop.store import Store
from edgeloop.training.waiting import Waiting
from lab import campaign_site
from lab.airflow_api import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.airflow_api import AirflowApi
    from lab.airflow_records import Run
    from lab.campaign_site import Ground

pytestmark = [pytest.mark.system, pytest.mark.timeout(420, func_only=True)]

MANY = "many"
SECONDS = 360.0
KEYS = tuple(f"2014-01@{number:016x}" for number in range(5))
SLOTS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A pipeline of its own on the running Airflow: one certified month, of the nine that a training would need."""

    ground: Ground
    store: Store

    @property
    def api(self) -> AirflowApi:
        """Airflow, as its admin."""
        return self.ground.loop.admin

    def runs(self) -> tuple[Run, ...]:
        """All trainings that were asked for."""
        return self.api.runs(f"{MANY}_train")

    def slots(self, number: int) -> None:
        """How many tasks may run at once, of any DAG."""
        body = {"slots": number}
        self.api.http.call("PATCH", "/pools/default_pool", params={"update_mask": "slots"}, body=body)

    def log(self, run: Run, task: str) -> str:
        """What a task of a run said."""
        return self.api.log(self.api.task(run.dag_id, run.run_id, task))

    def sweep(self) -> Run:
        """Intake, once, to its end."""
        run = self.api.trigger(f"{MANY}_intake")
        return wait_for(lambda: self._ended(run), seconds=SECONDS, what="the intake")

    def _ended(self, run: Run) -> Run | None:
        now = self.api.run(run.dag_id, run.run_id)
        return now if now.done else None


def certified(store: Store) -> None:
    """A month of data, as ingest leaves it."""
    file = FileRef(path="data/b/R80711_2014-01.parquet", size=1, sha256=sha256_hex(b"r"))
    store.put(
        Certificate(
            pipeline=MANY, batch=sha256_hex(b"b"), suite="s", group="2014-01", rows=1, claimed_at="2014", files=(file,),
            event_start="2014-01-01T00:00:00Z", event_end="2014-01-31T00:00:00Z", coverage=("2014-01-05 R80711 1",),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(ground: Ground) -> Iterator[Place]:
    """The pipeline, taken away with its DAGs afterwards."""
    spare, home, container = ground.pipelines / f".{MANY}", ground.pipelines / MANY, f"many-{uuid.uuid4().hex[:12]}"
    spec = campaign_site.small_pipeline(spare)
    for old, new in (
        ("name: wind_power\n", f"name: {MANY}\n"),
        ("  folder: wind_power ", f"  folder: {MANY} "),
        ("container: wind-power\n", f"container: {container}\n"),
        ("minimum_months: 2", "minimum_months: 9"),
        ("window_months: 2", "window_months: 9"),
        ("retrain_on_change: false", "retrain_on_change: true"),
        # A sweep of the clock's own, in the very minute, was asked for the training before the test's.
        ('sweep: "17 * * * *"', 'sweep: "0 0 29 2 *"'),
    ):
        campaign_site.edit(spec, old, new)
    (ground.site.share.path / MANY).mkdir(exist_ok=True)
    spec.parent.rename(home)
    spare.rmdir()
    account = BlobAccount(connection="edgeloop_private", connection_string=ground.site.blob.private.connection_string)
    one = Place(ground=ground, store=Store(account.container(container)))
    api = one.api
    try:
        certified(one.store)
        wanted = {f"{MANY}_{stage}" for stage in ("intake", "train")}
        wait_for(lambda: wanted <= {dag.dag_id for dag in api.dags()}, seconds=SECONDS, what="the DAGs")
        yield one
    finally:
        for dag in (dag.dag_id for dag in api.dags() if dag.dag_id.startswith(f"{MANY}_")):
            api.set_paused(dag, paused=True)
        shutil.rmtree(home)


def test_of_many_waiting_keys_the_last_decides_for_all(place: Place) -> None:
    """While no task may run all of them queue up; then each gives way but the last, and nobody waits on."""
    place.slots(0)
    try:
        for key in KEYS:
            place.api.emit(f"{MANY}_dataset", partition_key=key)
        wait_for(lambda: len(place.runs()) == len(KEYS), seconds=SECONDS, what="the runs")
    finally:
        place.slots(SLOTS)
    wait_for(lambda: all(run.done for run in place.runs()), seconds=SECONDS, what="the runs to end")
    said = {run.partition_key: place.log(run, "fix_dataset") for run in place.runs()}
    gave_way = {key for key, text in said.items() if "the last of them trains for" in text}
    (last,) = set(said) - gave_way
    assert set(said) == set(KEYS)
    assert "Nothing is trained for" in said[last]
    assert "the window holds 1 of the 9 months" in said[last]
    assert Waiting(place.store).keys() == ()
    assert {run.state for run in place.runs()} == {"success"}


def test_a_changed_script_starts_a_training_that_says_why(place: Place) -> None:
    """The sweep that finds nothing to claim asks for it, once; the run that follows tells what changed."""
    first = place.sweep()
    before = {run.run_id for run in place.runs()}
    assert place.api.task(first.dag_id, first.run_id, "request_retrain").state == "skipped"
    script = place.ground.pipelines / MANY / "train.py"
    campaign_site.write(script, script.read_text(encoding="utf-8") + "# changed\n")

    swept = place.sweep()

    states = {task.task_id: task.state for task in place.api.tasks(swept.dag_id, swept.run_id)}
    said = place.log(swept, "request_retrain")
    assert (states["claim"], states["request_retrain"]) == ("skipped", "success"), said

    def asked() -> Run | None:
        found = [run for run in place.runs() if run.run_id not in before]
        return found[0] if found and found[0].done else None

    run = wait_for(asked, seconds=SECONDS, what="the training that was asked for")
    key = run.partition_key or ""
    assert key.startswith("code-")
    assert "the window holds 1 of the 9 months" in place.log(run, "fix_dataset")
    assert (place.store.fixed("retrain_reasons", key) or "").startswith("code changed: train.py ")
    note = place.api.http.call("GET", f"/dags/{run.dag_id}/dagRuns/{quote(run.run_id)}")["note"]
    assert note.startswith(f"Not trained: {key}: the window holds 1 of the 9 months")
    again = place.sweep()
    assert place.api.task(again.dag_id, again.run_id, "request_retrain").state == "skipped"
    assert len(place.runs()) == len(before) + 1
