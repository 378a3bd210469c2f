"""The train task under a real scheduler and triggerer: what marking, clearing and restarting do to the job."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from edgeloop import catalog
from edgeloop.records import Certificate, FileRef, sha256_hex
from edgeloop.ssh.endpoint import Endpoint
from edgeloop.ssh.shell import Shell
from edgeloop.store import Store
from edgeloop_airflow import pools
from lab import processes
from lab.airflow_api import wait_for
from lab.airflow_http import AirflowApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure.blob import BlobAccount
    from lab.airflow_api import AirflowApi
    from lab.airflow_records import Run, Task
    from lab.airflow_site import AirflowSite
    from lab.site import Site

pytestmark = [pytest.mark.system, pytest.mark.fault, pytest.mark.timeout(600)]
DAG, REAP = "wind_power_train", "wind_power_reap"
MONTHS = ("2199-01", "2199-02", "2199-03")
SECONDS = 180.0
SCRIPT = """
import os, sys, time
for n in range({lines}):
    print('line', n, flush=True)
    time.sleep(0.25)
while not os.path.exists('/outputs/go'):
    time.sleep(0.1)
os.remove('/outputs/go')
open('/outputs/model.onnx', 'wb').write(b'no model')
open('/outputs/metrics.json', 'w').write('{{}}')
"""


@dataclass
class Live:
    """One run of the train DAG whose script is the test's."""

    api: AirflowApi
    endpoint: Endpoint
    run: Run

    def task(self) -> Task:
        """The train task as it is now."""
        return self.api.task(DAG, self.run.run_id, "train")

    def until(self, *states: str) -> Task:
        """Wait until the train task is in one of these states."""
        return wait_for(
            lambda: ((one := self.task()).state in states and one) or None,
            seconds=SECONDS,
            what=f"train to be {states}",
        )

    def containers(self) -> list[str]:
        """Ids of the running containers of this run's training, as the VM knows them."""
        with Shell(self.endpoint) as shell:
            text = "docker ps -q --no-trunc --filter label=edgeloop.pipeline=wind_power"
            return shell.run(text, timeout=30).text.split()

    def remove(self) -> None:
        """Leave nothing on the VM, whatever the test came to."""
        with Shell(self.endpoint) as shell:
            shell.run("docker ps -aq --filter label=edgeloop.pipeline=wind_power | xargs -r docker rm -f", timeout=60)

    def note(self) -> str:
        """What the run says of itself in Airflow's lists."""
        return str(self.api.http.call("GET", f"/dags/{DAG}/dagRuns/{quote(self.run.run_id)}")["note"])

    def reap(self) -> str:
        """Let the reaper come by, as its cron does; what it said."""
        run = self.api.trigger(REAP)
        wait_for(lambda: self.api.run(REAP, run.run_id).done, seconds=SECONDS, what="the reaper's run")
        return self.api.log(self.api.task(REAP, run.run_id, "reap"))

    def let_go(self) -> None:
        """Let the script come to its end; on a busy machine Airflow takes longer to restart than it would."""
        with Shell(self.endpoint) as shell:
            shell.check("for at in edgeloop/jobs/*/outputs; do touch $at/go; done", timeout=30)

    def lines(self, attempt: int | None = None) -> list[str]:
        """The script's lines in the task's log."""
        log = self.api.log(self.task(), try_number=attempt)
        return [line[line.index("line ") :] for line in log.splitlines() if " line " in line]


@pytest.fixture
def live(airflow: AirflowSite, site: Site, blob_account: BlobAccount, request: pytest.FixtureRequest) -> Iterator[Live]:
    """A run on certified months of a far future, under a pinned snapshot with a script of the test's own."""
    container = blob_account.container("wind-power")
    before = {one.name for one in container.list()}
    store = Store(container)
    found, _ = catalog.read(catalog.pipelines_folder() / "wind_power")
    assert found is not None
    script = SCRIPT.format(lines=request.param)
    files = tuple((name, script if name == "train.py" else text) for name, text in found.files)
    config = dataclasses.replace(found, files=files).save(container)
    token = uuid.uuid4().hex
    for month in MONTHS:
        raw = f"{month} {token}".encode()
        path = f"data/{token}/{month}.parquet"
        container.put(path, raw)
        store.put(
            Certificate(
                pipeline="wind_power", batch=sha256_hex(raw), suite="s", group=month, rows=10, config=config,
                files=(FileRef(path=path, size=len(raw), sha256=sha256_hex(raw)),),
                event_start=f"{month}-01T00:00:00Z", event_end=f"{month}-28T00:00:00Z",
                coverage=(f"{month}-05 R80711 10",), claimed_at="2199",
            )
        )  # fmt: skip
    vm = site.vm
    with airflow.api() as api:
        api.set_paused(DAG, paused=False)
        key = f"{MONTHS[-1]}@{sha256_hex(raw)[:16]}"
        one = Live(
            api=api,
            endpoint=Endpoint(
                connection="edgeloop_vm", host=vm.host, port=vm.port, user=vm.user, key_file=str(vm.key_file),
                host_key=vm.host_key,
            ),
            run=api.trigger(DAG, partition_key=key),
        )  # fmt: skip
        try:
            yield one
        finally:
            with suppress(AirflowApiError):
                api.mark_run(DAG, one.run.run_id, "failed")
            api.set_paused(DAG, paused=True)
            one.remove()
            for blob in list(container.list()):
                if blob.name not in before:
                    container.delete(blob.name)


@pytest.mark.parametrize("live", [4000], indirect=True)
def test_marking_a_parked_training_failed_stops_its_job(live: Live) -> None:
    """The container is gone soon after, although no worker of ours runs."""
    task = live.until("deferred")
    wait_for(live.lines, seconds=SECONDS, what="the first lines in the task's log")
    assert len(live.containers()) == 1
    # A job that says nothing of its VM has it for itself, parked as it is.
    pool = live.api.http.call("GET", f"/pools/{task.pool}")
    assert live.note().startswith("Trained because: new data 2199-03@")
    assert (task.pool, pool["slots"], pool["deferred_slots"], pool["open_slots"]) == ("vm_edgeloop_vm", 100, 100, 0)
    live.api.mark_task(task, "failed")
    wait_for(lambda: not live.containers(), seconds=60, what="the container to be stopped")


@contextmanager
def nobody_takes_triggers_up(airflow: AirflowSite) -> Iterator[None]:
    """The moment after a task was parked, held on to: the triggerer stands still, and lives."""
    found = processes.find(airflow.plan, "airflow-triggerer")
    assert found is not None
    os.kill(found.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(found.pid, signal.SIGCONT)


@pytest.mark.parametrize("live", [4000], indirect=True)
def test_a_training_given_up_before_its_trigger_was_taken_up_is_stopped_by_the_reaper(
    live: Live, airflow: AirflowSite
) -> None:
    """Airflow calls no hook then. A job that is waited for goes on; with its task marked or deleted it is cancelled."""
    live.api.set_paused(REAP, paused=False)
    try:
        with nobody_takes_triggers_up(airflow):
            task = live.until("deferred")
            job = live.containers()
            assert "it runs" in live.reap()
            assert live.containers() == job
            live.api.mark_task(task, "failed")
        assert live.containers() == job
        assert "train of run" in live.reap()
        wait_for(lambda: not live.containers(), seconds=60, what="the end of what was marked")

        with nobody_takes_triggers_up(airflow):
            live.api.clear_tasks(DAG, live.run.run_id, ["train"])
            live.until("deferred")
            job = live.containers()
            live.api.mark_run(DAG, live.run.run_id, "failed")
            live.api.http.call("DELETE", f"/dags/{DAG}/dagRuns/{quote(live.run.run_id)}")
        assert live.containers() == job
        assert "was deleted" in live.reap()
        wait_for(lambda: not live.containers(), seconds=60, what="the end of what was deleted")
    finally:
        live.api.set_paused(REAP, paused=True)


def test_the_pool_of_a_new_pipelines_vm_is_made(
    site: Site, airflow: AirflowSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task whose pool is missing would wait for ever: attach_compute makes it, once, with the rights of on-call."""
    environment = airflow.environment()
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_AIRFLOW", environment["AIRFLOW_CONN_EDGELOOP_AIRFLOW"])
    found, _ = catalog.read(catalog.pipelines_folder() / "wind_power")
    assert found is not None
    training = found.spec.training.model_copy(update={"connection": f"vm_{uuid.uuid4().hex[:8]}"})
    spec = found.spec.model_copy(update={"training": training})
    assert "was made" in pools.ensure(spec)
    assert "was there" in pools.ensure(spec)
    with airflow.api() as api:
        made = api.http.call("GET", f"/pools/{pools.seat(spec)['pool']}")
    assert (made["slots"], made["include_deferred"]) == (100, True)
    command = [str(airflow.plan.bin / "python"), "-m", "edgeloop_airflow.pools"]
    for _ in range(2):
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert "pool vm_edgeloop_vm: 100 slots, deferred tasks included" in said


def test_a_pool_that_cannot_be_asked_for_is_a_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the connection nothing fails: the pool may be there all the same."""
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_AIRFLOW", '{"conn_type": "edgeloop_airflow"}')
    found, _ = catalog.read(catalog.pipelines_folder() / "wind_power")
    assert found is not None
    said = pools.ensure(found.spec)
    assert "lacks its host" in said
    assert "python -m edgeloop_airflow.pools" in said


@pytest.mark.parametrize("live", [4000], indirect=True)
def test_clearing_a_parked_training_starts_it_anew(live: Live) -> None:
    """The old container ends, one new one runs, and never two at once."""
    live.until("deferred")
    # A clear before a triggerer has taken the trigger up calls no hook of it: the next try then attaches.
    wait_for(live.lines, seconds=SECONDS, what="the first lines in the task's log")
    old = wait_for(live.containers, seconds=SECONDS, what="the container")
    live.api.clear_tasks(DAG, live.run.run_id, ["train"])
    new = wait_for(
        lambda: ((now := live.containers()) and now != old and now) or None, seconds=SECONDS, what="another container"
    )
    assert len(new) == 1
    assert live.until("deferred", "success").state == "deferred"


@pytest.mark.parametrize("live", [120], indirect=True)
def test_a_triggerer_that_is_killed_loses_neither_job_nor_line(live: Live, airflow: AirflowSite) -> None:
    """The job lives on, and the triggerer that comes back goes on after the last line."""
    live.until("deferred")
    wait_for(live.lines, seconds=SECONDS, what="the first lines in the task's log")
    job = live.containers()
    airflow.kill("triggerer")
    assert live.containers() == job
    airflow.restart("triggerer")
    assert live.containers() == job
    live.let_go()
    # What it put out is no model and is not collected; the log of its first try is whole by then.
    live.until("success", "up_for_retry", "failed")
    assert live.lines(1) == [f"line {n}" for n in range(120)]


@pytest.mark.parametrize("live", [120], indirect=True)
def test_a_triggerer_that_is_restarted_does_not_stop_the_job(live: Live, airflow: AirflowSite) -> None:
    """A rolling restart ends the trigger in order, and the job is none of its business."""
    live.until("deferred")
    job = wait_for(live.containers, seconds=SECONDS, what="the container")
    airflow.restart("triggerer")
    assert live.containers() == job
    live.let_go()
    # What it put out is no model and is not collected; the log of its first try is whole by then.
    live.until("success", "up_for_retry", "failed")
    assert live.lines(1) == [f"line {n}" for n in range(120)]
