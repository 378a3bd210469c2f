"""On-call types what the runbooks say: only what failed runs again, and the result is as if it never had."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.azure.blob import BlobAccount
from edgeloop.records import Batch, Certificate, sha256_hex
from edgeloop.store import Store
from lab import campaign_site, historian
from lab.airflow_api import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.azure.blob import BlobContainer
    from lab.airflow_api import AirflowApi
    from lab.airflow_records import Run, Task
    from lab.campaign_site import Ground

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]

RUNBOOKS = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
NIGHT, FOLDER = "night", "night"
SECONDS = 180.0
JANUARY, FEBRUARY, NOVEMBER, DECEMBER = MONTHS = ("2014-01", "2014-02", "2014-11", "2014-12")
FAILING = (JANUARY, FEBRUARY, NOVEMBER)
Seen = dict[tuple[str, str, str], tuple[str, int, datetime | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """A pipeline of its own on the running Airflow, with failed batches in it."""

    ground: Ground
    blobs: BlobContainer
    batches: dict[str, Batch]

    @property
    def api(self) -> AirflowApi:
        """Airflow, as its admin."""
        return self.ground.loop.admin

    @property
    def store(self) -> Store:
        """Its records."""
        return Store(self.blobs)

    def last(self, month: str) -> Run:
        """The newest ingest run of a month's batch."""
        return self.api.runs(f"{NIGHT}_ingest", partition_key=self.batches[month].key)[-1]

    def ended(self, month: str, number: int = 1) -> Run:
        """That run, once ``number`` runs of the batch are there and the last has ended."""

        def look() -> Run | None:
            runs = self.api.runs(f"{NIGHT}_ingest", partition_key=self.batches[month].key)
            return runs[-1] if len(runs) >= number and runs[-1].done else None

        return wait_for(look, seconds=SECONDS, what=f"the end of ingest of {month}")

    def seen(self) -> Seen:
        """State, try and start of every task of every ingest run, and of every other run of the pipeline that ended."""
        stages = ("intake", "ingest", "drift_sweep")
        runs = [run for stage in stages for run in self.api.runs(f"{NIGHT}_{stage}") if run.done]
        tasks = [task for run in runs for task in self.api.tasks(run.dag_id, run.run_id)]
        return {(one.dag_id, one.run_id, one.task_id): (one.state, one.try_number, one.started) for one in tasks}

    def type(self, runbook: str, number: int, **placeholders: str) -> subprocess.CompletedProcess[str]:
        """Type the ``number``-th command of a runbook, its placeholders filled in, at this site."""
        return typed(self.ground.site.name, commands(runbook)[number], pipeline=NIGHT, **placeholders)

    def requested(self, before: tuple[Run, ...]) -> Run:
        """The run of `reprocess` that came after ``before``, once it has ended."""

        def look() -> Run | None:
            new = [one for one in self.api.runs("reprocess") if one.run_id not in {old.run_id for old in before}]
            return new[0] if new and new[0].done else None

        return wait_for(look, seconds=SECONDS, what="the request to be carried out")


def commands(runbook: str) -> list[str]:
    """The commands that a runbook says to type, in their order."""
    text = (RUNBOOKS / f"{runbook}.md").read_text(encoding="utf-8").partition("## What to type")[2]
    return re.findall(r"^ {4}airflow (.*)$", text, re.MULTILINE)


def typed(site: str, command: str, **placeholders: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a runbook as its reader would."""
    for name, value in placeholders.items():
        command = command.replace(f"<{name}>", value)
    assert "<" not in command, f"the runbook names a placeholder that this test does not know: {command}"
    words = [sys.executable, "-m", "lab.airflow_cli", "--site", site, *shlex.split(command)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"airflow {command}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
    return done


def changed(before: Seen, after: Seen) -> set[tuple[str, str, str]]:
    """The task instances that were there before and ran again."""
    return {name for name, was in before.items() if after.get(name) != was}


def bring(ground: Ground) -> None:
    """A second pipeline beside the first, which never trains."""
    spare = ground.pipelines / f".{NIGHT}"
    spec = campaign_site.small_pipeline(spare)
    campaign_site.edit(spec, "name: wind_power\n", f"name: {NIGHT}\n")
    campaign_site.edit(spec, "  folder: wind_power ", f"  folder: {FOLDER} ")
    campaign_site.edit(spec, "container: wind-power\n", f"container: night-{uuid.uuid4().hex[:12]}\n")
    campaign_site.edit(spec, "minimum_months: 2", "minimum_months: 9")
    campaign_site.edit(spec, "window_months: 2", "window_months: 9")
    spec.parent.rename(ground.pipelines / NIGHT)
    spare.rmdir()


def take_away(ground: Ground) -> None:
    """The pipeline and its DAGs."""
    for dag in (one.dag_id for one in ground.loop.admin.dags() if one.dag_id.startswith(f"{NIGHT}_")):
        ground.loop.admin.set_paused(dag, paused=True)
    shutil.rmtree(ground.pipelines / NIGHT)


@pytest.fixture(scope="module")
def night(ground: Ground) -> Iterator[Night]:
    """Three batches that failed because their files were moved off the share, and are back now; one was never run."""
    from edgeloop import catalog

    bring(ground)
    api = ground.loop.admin
    try:
        wanted = {f"{NIGHT}_{stage}" for stage in ("intake", "ingest", "train", "drift", "drift_sweep")} | {"reprocess"}
        wait_for(lambda: wanted <= {dag.dag_id for dag in api.dags()}, seconds=SECONDS, what="the DAGs")
        # What is announced to a paused DAG is lost: nothing starts before the files are gone, and nothing follows.
        for stage in ("ingest", "train", "drift"):
            api.set_paused(f"{NIGHT}_{stage}", paused=True)
        spec = catalog.load(ground.pipelines, ground.site.state / "last_valid").find(NIGHT).spec
        account = BlobAccount(
            connection=spec.storage.connection, connection_string=ground.site.blob.private.connection_string
        )
        one = Night(ground=ground, blobs=account.container(spec.storage.container), batches={})
        historian.export(ground.site, FOLDER, ground.extracts(*MONTHS))
        one.batches.update(claimed(one))
        fail(one)
        yield one
    finally:
        take_away(ground)


def claimed(night: Night) -> dict[str, Batch]:
    """The batch of each month, once intake has announced all; intake then sees nothing of what follows."""

    def look() -> dict[str, Batch] | None:
        found = {one.group: one for one in night.store.all(Batch)}
        runs = night.api.runs(f"{NIGHT}_intake")
        return found if set(MONTHS) <= set(found) and runs and all(run.done for run in runs) else None

    found = wait_for(look, seconds=SECONDS, what="the claims")
    night.api.set_paused(f"{NIGHT}_intake", paused=True)
    return found


def fail(night: Night) -> None:
    """Announce three batches while their files are away, wait until each has failed, and put the files back."""
    share = night.ground.site.share.path / FOLDER
    away = share.with_name(f".{FOLDER}-away")
    away.mkdir()
    gone = [path for path in sorted(share.iterdir()) if any(month in path.name for month in FAILING)]
    for path in gone:
        path.rename(away / path.name)
    night.api.set_paused(f"{NIGHT}_ingest", paused=False)
    for month in FAILING:
        night.api.emit(f"{NIGHT}_batch", partition_key=night.batches[month].key)
    for month in FAILING:
        assert night.ended(month).state == "failed"
    for path in gone:
        (away / path.name).rename(path)
    away.rmdir()


def never_failed(night: Night, month: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> tuple[Certificate, Any]:
    """The certificate, and the data by name, of the same batch certified in a container of its own."""
    from edgeloop_airflow.validation import CertifyBatchOperator
    from lab.connections import environment

    batch, name = night.batches[month], f"never-{uuid.uuid4().hex[:12]}"
    fresh = night.blobs.account.container(name)
    for blob in night.blobs.list("configs/"):
        fresh.put_new(blob.name, night.blobs.get(blob.name))
    Store(fresh).put(batch)
    shutil.copytree(night.ground.pipelines / NIGHT, tmp_path / NIGHT)
    spec = tmp_path / NIGHT / "pipeline.yaml"
    spec.write_text(re.sub(r"container: night-\w+", f"container: {name}", spec.read_text()))
    for variable, value in environment(night.ground.site).items():
        patch.setenv(variable, value)
    patch.setenv("EDGELOOP_PIPELINES", str(tmp_path))
    patch.setenv("EDGELOOP_LAST_VALID", str(tmp_path / "last_valid"))
    ti = SimpleNamespace(dag_id=f"{NIGHT}_ingest", task_id="certify", run_id="never", try_number=1)
    run = SimpleNamespace(partition_key=batch.key, run_id="never", run_type="asset_triggered", conf={})
    context: Any = {"ti": ti, "dag_run": run}
    certificate = CertifyBatchOperator(task_id="certify", pipeline=NIGHT).execute(context)
    return Store(fresh).get(Certificate, certificate), data_of(fresh, batch)


def data_of(blobs: BlobContainer, batch: Batch) -> dict[str, str]:
    """Name and sha256 of everything that was stored of a batch's rows."""
    prefixes = (f"{kind}/{batch.id}/" for kind in ("data", "quarantine", "set_aside"))
    return {blob.name: sha256_hex(blobs.get(blob.name)) for prefix in prefixes for blob in blobs.list(prefix)}


def only(night: Night, month: str, before: Seen) -> None:
    """Of all that was there, only the failed tasks of this month's run ran again, each once."""
    run, after = night.ended(month), night.seen()
    assert run.state == "success"
    assert changed(before, after) == {name for name in before if name[1] == run.run_id and name[0] == run.dag_id}
    tries = {name[2]: after[name][1] - before[name][1] for name in before if name[1] == run.run_id}
    assert tries["certify"] == 1
    assert {name[1] for name in before} >= {run.run_id}, "the same run went on"


def test_one_batch_goes_on_where_it_failed(night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runbook's command reruns the failed tasks of that run alone; data and certificate are as if nothing was."""
    before = night.seen()
    night.type("rerun-one-batch", 0, key=night.batches[JANUARY].key)
    only(night, JANUARY, before)
    (certificate,) = night.store.children(night.batches[JANUARY].id, Certificate)
    fresh, data = never_failed(night, JANUARY, tmp_path, monkeypatch)
    # The service makes an etag of the time of a write.
    assert replace(certificate, certified_at="", etags=()) == replace(fresh, certified_at="", etags=())
    assert data_of(night.blobs, night.batches[JANUARY]) == data
    assert certificate.origin == "live"


def test_a_range_is_listed_and_then_only_its_failures_run(night: Night) -> None:
    """The dry run names the failed batch with its error and the done one and changes nothing; then that one runs."""
    asked = {"stage": "ingest", "from": "2014-01-01", "to": "2014-02-28"}
    before, requests = night.seen(), night.api.runs("reprocess")
    night.type("rerun-a-range", 0, **asked)
    run = night.requested(requests)
    log = night.api.log(night.api.task("reprocess", run.run_id, "list"))
    listed = night.api.xcom("reprocess", run.run_id, "list")
    assert listed == {"clear": [night.batches[FEBRUARY].key], "start": [], "left": 1}
    assert re.search(rf"{night.batches[FEBRUARY].key} .*failed, run .*: certify: \w*Blocked\w*: ", log)
    assert re.search(rf"{night.batches[JANUARY].key} .* it is done", log)
    assert night.api.task("reprocess", run.run_id, "rerun").state == "skipped"
    assert changed(before, night.seen()) == set()
    requests = night.api.runs("reprocess")
    night.type("rerun-a-range", 1, **asked)
    run = night.requested(requests)
    assert night.api.xcom("reprocess", run.run_id, "rerun") == [night.batches[FEBRUARY].key]
    only(night, FEBRUARY, before)
    assert night.last(NOVEMBER).state == "failed"


def test_all_that_failed_on_a_day_runs_again(night: Night) -> None:
    """By the clock, whatever the event time: what failed today and still is failed goes on, the rest is left."""
    ended = night.last(NOVEMBER).ended
    assert ended is not None
    day = f"{ended.astimezone(UTC):%Y-%m-%d}"
    before, requests = night.seen(), night.api.runs("reprocess")
    night.type("rerun-failed-of-a-day", 1, stage="ingest", day=day)
    run = night.requested(requests)
    assert night.api.xcom("reprocess", run.run_id, "rerun") == [night.batches[NOVEMBER].key]
    only(night, NOVEMBER, before)


def test_a_batch_that_airflow_never_ran_is_started_as_a_rerun(night: Night) -> None:
    """What was announced to a paused DAG, or is of another database, is claimed in the store: it gets one run."""
    asked = {"pipeline": NIGHT, "stage": "ingest", "from": "2014-12-01", "to": "2014-12-31"}
    before = night.seen()
    run = night.api.trigger("reprocess", conf={**asked, "only_failed": False, "dry_run": False})
    wait_for(lambda: night.api.run("reprocess", run.run_id).done, seconds=SECONDS, what="the request")
    assert night.api.xcom("reprocess", run.run_id, "rerun") == [night.batches[DECEMBER].key]
    assert night.ended(DECEMBER).state == "success"
    (certificate,) = night.store.children(night.batches[DECEMBER].id, Certificate)
    assert certificate.origin == "rerun"
    assert changed(before, night.seen()) == set()
    night.api.clear_tasks("reprocess", run.run_id, ["rerun"])
    again = wait_for(lambda: second_try(night, run), seconds=SECONDS, what="the request's second try")
    assert again.state == "skipped"
    assert len(night.api.runs(f"{NIGHT}_ingest", partition_key=night.batches[DECEMBER].key)) == 1


def second_try(night: Night, run: Run) -> Task | None:
    """The request's task once it was carried out a second time."""
    task = night.api.task("reprocess", run.run_id, "rerun")
    return task if task.try_number > 1 and task.state in {"success", "skipped", "failed"} else None


def test_a_form_that_is_wrong_fails_at_once_and_says_what_to_type(night: Night) -> None:
    """A range with nothing in it is no empty list: the task fails without a retry and says what there is."""
    before = night.seen()
    asked = {"pipeline": NIGHT, "stage": "ingest", "from": "2019-01-01", "to": "2019-01-31", "dry_run": False}
    run = night.api.trigger("reprocess", conf=asked)
    wait_for(lambda: night.api.run("reprocess", run.run_id).done, seconds=SECONDS, what="the refusal")
    task = night.api.task("reprocess", run.run_id, "list")
    assert (task.state, task.try_number) == ("failed", 1)
    assert "its 4 lie between 2014-01-" in night.api.log(task)
    assert changed(before, night.seen()) == set()


def test_the_sweep_is_backfilled_by_airflow_and_only_what_failed_again(night: Night) -> None:
    """One run for each day's data interval; of them only the one that failed runs again at the same command."""
    dag, days = f"{NIGHT}_drift_sweep", {"from": "2014-11-29", "to": "2014-12-01"}
    night.type("rerun-a-range", 2, **days)
    runs = swept(night, dag)
    assert [run.run_type for run in runs] == ["backfill"] * len(runs)
    failed = runs[0]
    night.api.mark_task(night.api.task(dag, failed.run_id, "find_unjudged"), "failed")
    night.api.mark_run(dag, failed.run_id, "failed")
    before = tasks_of(night, dag)
    wait_for(
        lambda: backfilled_again(night, days), seconds=SECONDS, what="Airflow to close the first backfill", every=3
    )
    wait_for(lambda: tasks_of(night, dag) != before and swept(night, dag), seconds=SECONDS, what="the run again")
    after = tasks_of(night, dag)
    assert {run_id for run_id in before if before[run_id] != after.get(run_id)} == {failed.run_id}
    assert night.api.run(dag, failed.run_id).state == "success"


def swept(night: Night, dag: str) -> tuple[Run, ...]:
    """The sweep's runs of the days that were backfilled, once all have ended."""

    def look() -> tuple[Run, ...] | None:
        runs = tuple(run for run in night.api.runs(dag) if "2014" in run.run_id)
        return runs if len(runs) >= 2 and all(run.done for run in runs) else None

    return wait_for(look, seconds=SECONDS, what="the backfill")


def backfilled_again(night: Night, days: dict[str, str]) -> bool:
    """Whether the same command was taken; Airflow refuses a backfill while it counts an earlier one as open."""
    try:
        night.type("rerun-a-range", 2, **days)
    except AssertionError as error:
        if "AlreadyRunningBackfill" in str(error):
            return False
        raise
    return True


def tasks_of(night: Night, dag: str) -> dict[str, Task]:
    """The sweep's task of each run."""
    return {run.run_id: night.api.task(dag, run.run_id, "find_unjudged") for run in night.api.runs(dag)}
