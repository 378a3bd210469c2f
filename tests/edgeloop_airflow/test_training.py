"""The train stage's tasks on the real VM: once per training, whatever dies, and stopped only when really given up."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from tests.edgeloop.training.conftest import eventually

import edgeloop
from edgeloop import registry
from edgeloop.errors import ConfigurationError, TrainingFailedError, UnreachableError
from edgeloop.records import Certificate, Dataset, FileRef, ModelVersion, TrainingRun, sha256_hex
from edgeloop.ssh.shell import Shell
from edgeloop.training import commands, session
from edgeloop.training.job import Job
from edgeloop.training.parked import read as who_waits
from edgeloop.training.remote import TrainingVm
from edgeloop_airflow import hooks, task_log, training_trigger
from edgeloop_airflow.training import AttachComputeOperator, FixDatasetOperator, TrainOnVMOperator
from edgeloop_airflow.training_trigger import TrainingTrigger
from lab import faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.edgeloop_airflow.conftest import Floor

    from edgeloop.ssh.endpoint import Endpoint
    from lab.site import Site

GOOD = """
import json, os
data = json.load(open('/data/dataset.json'))
print(len(data['files']), 'files from', data['holdout_start'], sorted(os.listdir('/data')), flush=True)
open('/outputs/model.onnx', 'wb').write(b'onnx')
open('/outputs/metrics.json', 'w').write('{"accuracy": 0.75}')
"""
SLOW = "import time\nprint('started', flush=True)\nwhile True:\n    time.sleep(0.1)\n"
TI: Any = SimpleNamespace(
    dag_id="tiny_power_train",
    task_id="train",
    run_id="run-1",
    try_number=1,
    map_index=-1,
    get_dr_count=lambda **_: 0,
    hostname="worker",
    dag_version_id="v",
)
CONTEXT: Any = {"ti": TI}


def parquet(at: str, site: str) -> bytes:
    """One certified row; the leak check reads it."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    columns = {"at": [at], "site": [f"north {site}"], "wind": [7.25], "power": [310.5]}
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@dataclass
class Stage:
    """The tiny pipeline with certified months, a VM, and a train.py of the test's choice."""

    floor: Floor
    connection: str = "edgeloop_vm"

    @property
    def key(self) -> str:
        """The partition key of the newest month."""
        return f"2014-03@{sha256_hex(b'2014-03')[:16]}"

    def key_of(self, revision: str) -> str:
        """The partition key of a revision of the newest month."""
        return f"2014-03@{sha256_hex(f'2014-03{revision}'.encode())[:16]}"

    def script(self, text: str) -> None:
        """Let this be the pipeline's train.py."""
        (self.floor.home / "train.py").write_text(text)

    def certify(self, month: str, revision: str = "") -> Certificate:
        """Store a certified month."""
        desk = self.floor.desk()
        raw = parquet(f"{month}-05T00:00:00", f"{month}{revision}")
        path = f"data/{month}{revision}/north_{month}.parquet"
        desk.blobs.put(path, raw)
        return desk.store.put(
            Certificate(
                pipeline="tiny_power",
                batch=sha256_hex(f"{month}{revision}".encode()),
                suite="s",
                group=month,
                files=(FileRef(path=path, size=len(raw), sha256=sha256_hex(raw)),),
                rows=10,
                event_start=f"{month}-01T00:00:00Z",
                event_end=f"{month}-28T00:00:00Z",
                coverage=(f"{month}-05 north 10",),
                claimed_at=f"2014-06-0{1 + len(revision)}",
                config=desk.snapshot.save(desk.blobs),
            )
        )

    def fix(self, key: str = "", force: str = "", context: Any = None) -> str:
        """Run fix_dataset."""
        task = FixDatasetOperator(task_id="fix_dataset", pipeline="tiny_power", key=key or self.key, force=force)
        return task.execute(context or CONTEXT)

    def operator(self, dataset: str, *, force: str = "", run: str = "run-1") -> TrainOnVMOperator:
        """The train task as it is rendered."""
        return TrainOnVMOperator(
            task_id="train",
            pipeline="tiny_power",
            key=self.key,
            dataset=dataset,
            force=force,
            run=run,
            poll_seconds=0.2,
        )

    def deferred(self, operator: TrainOnVMOperator) -> TaskDeferred:
        """Execute until it defers."""
        with pytest.raises(TaskDeferred) as caught:
            operator.execute(CONTEXT)
        return caught.value

    def complete(self, operator: TrainOnVMOperator, parked: TaskDeferred) -> str:
        """Follow by the trigger, then go on as the worker would."""
        event = asyncio.run(fired(trigger_of(parked)))
        return operator.execute_complete(CONTEXT, event=event, **(parked.kwargs or {}))

    def train(self, dataset: str, **options: str) -> str:
        """The whole task."""
        return self.finish(self.operator(dataset, **options))

    def finish(self, operator: TrainOnVMOperator, context: Any = None) -> str:
        """Execute and follow to the end; a short job may have ended before the task parks."""
        try:
            return operator.execute(context or CONTEXT)
        except TaskDeferred as parked:
            return self.complete(operator, parked)

    def containers(self) -> list[str]:
        """Names of the VM's containers of this pipeline."""
        with Shell(hooks.ssh_endpoint(self.connection)) as shell:
            text = "docker ps -a --format '{{.Names}}' --filter label=edgeloop.pipeline=tiny_power"
            return shell.run(text, timeout=30).text.split()


def trigger_of(parked: TaskDeferred) -> TrainingTrigger:
    """The trigger as a triggerer would make it: from its class and arguments alone."""
    path, arguments = parked.trigger.serialize()
    assert path == f"{TrainingTrigger.__module__}.{TrainingTrigger.__qualname__}"
    return TrainingTrigger(**json.loads(json.dumps(arguments)))


async def fired(trigger: TrainingTrigger) -> Any:
    """What the trigger fires."""
    async for event in trigger.run():
        return event.payload
    return None


@pytest.fixture
def stage(floor: Floor, site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The stage with three certified months; its containers are removed afterwards."""
    from lab.connections import environment

    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_VM", environment(site)["AIRFLOW_CONN_EDGELOOP_VM"])
    one = Stage(floor)
    one.script(GOOD)
    for month in ("2014-01", "2014-02", "2014-03"):
        one.certify(month)
    yield one
    with Shell(hooks.ssh_endpoint(one.connection)) as shell:
        for name in one.containers():
            shell.run(f"docker rm -f {name}; rm -rf edgeloop/jobs/{name.removeprefix('train-')}", timeout=60)


def test_a_dataset_is_fixed_once_under_its_key(stage: Stage) -> None:
    """What a key means is decided by its first task: data that comes later does not change a retry."""
    first = stage.fix()
    stage.certify("2014-04")
    assert stage.fix() == first
    data = stage.floor.desk().store.get(Dataset, first)
    assert (len(data.certificates), data.holdout_start) == (3, "2014-03-14T00:00:00Z")
    assert stage.fix(key="drift-0123456789abcdef") != first


def test_too_little_data_is_skipped_with_the_reason(floor: Floor) -> None:
    """One certified month is no training."""
    one = Stage(floor)
    one.certify("2014-03")
    with pytest.raises(AirflowSkipException, match="holds 1 of the 3 months that are needed: 2014-03"):
        one.fix()


def test_new_data_does_not_train_while_a_champion_serves(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under retrain_on: drift a new batch is skipped with the champion's name; drift, or a force reason, trains."""
    champion = ModelVersion(
        pipeline="tiny_power", sha256="c" * 64, size=1, blob="models/c", version=1, training_run="t", metrics="{}"
    )
    monkeypatch.setattr(registry, "champion", lambda _: champion)
    with pytest.raises(AirflowSkipException, match=champion.id[:12]):
        stage.fix()
    assert stage.fix(force="the sensor was replaced")
    assert stage.fix(key="drift-0123456789abcdef")


def test_the_vm_is_written_down_once(stage: Stage) -> None:
    """The record says where the VM is and which host key it must show, and nothing secret; twice is the same."""
    task = AttachComputeOperator(task_id="attach_compute", pipeline="tiny_power", key=stage.key)
    assert task.execute(CONTEXT) == "edgeloop_vm"
    assert task.execute(CONTEXT) == "edgeloop_vm"
    store = stage.floor.desk().store
    assert store.keys("compute") == ["edgeloop_vm"]
    written = json.loads(store.fixed("compute", "edgeloop_vm") or "")
    assert written["host_key"].startswith("SHA256:")
    assert sorted(written) == ["backend", "docker", "host", "host_key", "port", "user"]


def test_a_changed_vm_is_written_down_beside(stage: Stage) -> None:
    """The first record stays; what is there now gets a key of its own."""
    store = stage.floor.desk().store
    store.fix("compute", "edgeloop_vm", '{"docker":"1.0"}')
    AttachComputeOperator(task_id="attach_compute", pipeline="tiny_power", key=stage.key).execute(CONTEXT)
    assert len(store.keys("compute")) == 2


def test_a_training_runs_and_is_never_run_again(stage: Stage) -> None:
    """The second task of the same training returns the record without starting anything on the VM."""
    data = stage.fix()
    done = stage.train(data)
    store = stage.floor.desk().store
    run = store.get(TrainingRun, done)
    assert (run.dataset, json.loads(run.metrics)) == (data, {"accuracy": 0.75})
    assert stage.containers() == []
    assert stage.operator(data).execute(CONTEXT) == done
    assert stage.containers() == []
    with pytest.raises(AirflowSkipException, match="had the same data, code and parameters"):
        stage.fix(key="2014-02@" + sha256_hex(b"2014-02")[:16])


def test_a_forced_choice_is_made_anew_once_a_run(stage: Stage) -> None:
    """A dataset fixed on bad certificates traps nobody; a retry of the forced run finds what it chose."""
    first = stage.fix()
    stage.certify("2014-03", revision="x")

    assert stage.fix() == first
    forced = stage.fix(force="March was measured again")
    assert forced != first
    stage.certify("2014-03", revision="xx")
    assert stage.fix(force="March was measured again") == forced
    assert stage.fix() == first


def test_records_say_whether_new_data_or_a_person_asked(stage: Stage) -> None:
    """Dataset and training of a run started by hand are a rerun's and keep no live run from training the same."""
    by_hand = {**CONTEXT, "dag_run": SimpleNamespace(run_type="manual", conf={}, run_id="r", partition_key=stage.key)}
    store = stage.floor.desk().store
    data = stage.fix(context=by_hand)
    done = stage.finish(stage.operator(data), context=by_hand)

    assert store.get(Dataset, data).origin == "rerun"
    assert store.get(TrainingRun, done).origin == "rerun"
    other = "2014-02@" + sha256_hex(b"2014-02")[:16]
    with pytest.raises(AirflowSkipException, match="had the same data"):
        stage.fix(key=other, context=by_hand)
    assert stage.fix(key=other) == data


def test_a_force_reason_trains_once_more(stage: Stage) -> None:
    """A forced training is another record; the same run does it only once."""
    data = stage.fix()
    first = stage.train(data)
    forced = stage.train(data, force="a doubt", run="run-2")
    assert forced != first
    assert stage.train(data, force="a doubt", run="run-2") == forced
    assert stage.train(data, force="a doubt", run="run-3") not in {first, forced}


def test_a_retry_attaches_to_the_running_job(stage: Stage) -> None:
    """A worker that died after the submission is followed by one that finds the job, with its first deadline."""
    stage.script(SLOW)
    stage.certify("2014-03", "b")
    key_now = f"2014-03@{sha256_hex(b'2014-03b')[:16]}"
    data = stage.fix(key=key_now)
    one, two = stage.operator(data), stage.operator(data)
    one.key = two.key = key_now
    first, second = trigger_of(stage.deferred(one)), trigger_of(stage.deferred(two))
    assert (first.run_id, first.deadline) == (second.run_id, second.deadline)
    assert stage.containers() == [first.job.name]


def test_a_worker_killed_right_after_the_start_leaves_a_job_that_belongs_to_somebody(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job knows who waits for it before it runs: if that run is deleted, the reaper can ask and stop it."""
    operator = scripted(stage, SLOW, "u")
    submit, jobs = TrainingVm.submit, []

    def dies(vm: TrainingVm, job: Job) -> bool:
        submit(vm, job)
        jobs.append(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingVm, "submit", dies)
    with pytest.raises(KeyboardInterrupt):
        operator.execute(CONTEXT)
    with Shell(hooks.ssh_endpoint(stage.connection)) as shell:
        (waiting,) = who_waits(TrainingVm(shell).signed(jobs[0]))
    assert (waiting.dag, waiting.run, waiting.task, waiting.host) == (TI.dag_id, TI.run_id, TI.task_id, TI.hostname)


def slow(stage: Stage) -> tuple[TrainOnVMOperator, TaskDeferred]:
    """A training that never ends by itself, parked."""
    stage.script(SLOW)
    stage.certify("2014-03", "c")
    key = f"2014-03@{sha256_hex(b'2014-03c')[:16]}"
    operator = stage.operator(stage.fix(key=key))
    operator.key = key
    return operator, stage.deferred(operator)


GATE = "import os, time\nwhile not os.path.exists('/checkpoint/go'):\n    time.sleep(0.05)\n"
"""Waits for a word from the test."""
RESUMES = """
import os, signal, sys, time
saved = os.listdir('/checkpoint')
print('attempt', os.environ['EDGELOOP_ATTEMPT'], 'finds', saved, flush=True)
if saved:
    open('/outputs/model.onnx', 'wb').write(b'onnx')
    open('/outputs/metrics.json', 'w').write('{"accuracy": 0.75}')
    sys.exit(0)
def stopped(*_):
    while not os.path.exists('/checkpoint/go'):
        time.sleep(0.05)
    sys.exit(143)
signal.signal(signal.SIGTERM, stopped)
while True:
    time.sleep(0.05)
"""


def on_vm(command: str) -> str:
    """What a command on the VM says."""
    with Shell(hooks.ssh_endpoint("edgeloop_vm")) as shell:
        return shell.run(command, timeout=60).text


def scripted(stage: Stage, text: str, revision: str, run: str = "run-1") -> TrainOnVMOperator:
    """The task with a script of the test's own: a batch is trained under the snapshot that it was certified under."""
    stage.script(text)
    stage.certify("2014-03", revision)
    operator = stage.operator(stage.fix(key=stage.key_of(revision)), run=run)
    operator.key = stage.key_of(revision)
    return operator


def resuming(stage: Stage) -> TrainOnVMOperator:
    """A training that ends well at its second attempt, if the first one could save."""
    return scripted(stage, RESUMES, "w")


def test_a_clear_while_the_job_takes_its_grace_waits_and_goes_on_from_the_checkpoint(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next try follows the old attempt to its end in the triggerer, then makes attempt 2, which finishes."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    monkeypatch.setattr(
        RuntimeTaskInstance, "get_task_states", staticmethod(lambda *_, **__: {"run-1": {"train": None}})
    )
    operator = resuming(stage)
    parked = stage.deferred(operator)
    job = trigger_of(parked).job
    eventually(lambda: "attempt 1" in on_vm(f"docker logs {job.name}"), "the job's start")
    on_vm(commands.cancel(job, reason="cleared"))
    waiting = stage.deferred(resuming(stage))
    assert (waiting.method_name, trigger_of(waiting).number) == ("resume", 1)
    on_vm(f"touch {job.folder}/checkpoint/go")
    event = asyncio.run(fired(trigger_of(waiting)))
    again = resuming(stage)
    try:
        done = again.resume(CONTEXT, event=event)
    except TaskDeferred as second:
        done = stage.complete(again, second)
    assert json.loads(stage.floor.desk().store.get(TrainingRun, done).metrics) == {"accuracy": 0.75}
    assert stage.containers() == []


def test_two_identical_runs_are_one_training(stage: Stage) -> None:
    """The second run attaches to the first one's job; both return the same record, whoever collects."""
    one, two, three = (scripted(stage, GATE + GOOD, "i", run=f"run-{n}") for n in (1, 2, 3))
    first, second = stage.deferred(one), stage.deferred(two)
    job = trigger_of(first).job
    assert stage.containers() == [job.name]
    on_vm(f"touch {job.folder}/checkpoint/go")
    event = asyncio.run(fired(trigger_of(first)))
    with ThreadPoolExecutor(2) as pool:
        done = [
            each.result()
            for each in [
                pool.submit(one.execute_complete, CONTEXT, event, **(first.kwargs or {})),
                pool.submit(two.execute_complete, CONTEXT, event, **(second.kwargs or {})),
            ]
        ]
    assert done[0] == done[1] == three.execute(CONTEXT)
    assert len(stage.floor.desk().store.all(TrainingRun)) == 1
    assert stage.containers() == []


def test_a_task_killed_while_it_collects_is_collected_by_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies between two outputs: no record, the container is there, and the next try brings all of it home."""
    data = stage.fix()
    fetch, calls = TrainingVm.fetch, []

    def dies(vm: TrainingVm, *args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        fetch(vm, *args, **kwargs)

    monkeypatch.setattr(TrainingVm, "fetch", dies)
    with pytest.raises(KeyboardInterrupt):
        stage.finish(stage.operator(data))
    assert stage.floor.desk().store.all(TrainingRun) == []
    assert len(stage.containers()) == 1
    done = stage.operator(data).execute(CONTEXT)
    assert {one.path.rpartition("/")[2] for one in stage.floor.desk().store.get(TrainingRun, done).outputs} == {
        "model.onnx", "metrics.json",
    }  # fmt: skip
    assert stage.containers() == []


@pytest.mark.fault
@pytest.mark.parametrize("more", ["", "open('/outputs/rows.csv', 'w').write('1,2,3')\n"], ids=["all", "some"])
def test_an_engine_that_goes_away_while_the_vm_is_tidied_leaves_no_container(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    """The record is stored and Docker does not hear that the job may go: the try fails, the next one tidies up."""
    operator, removed = scripted(stage, GOOD + more, "t"), []
    name = "release" if more else "forget"
    remove = getattr(TrainingVm, name)

    def deaf(vm: TrainingVm, job: Job) -> None:
        removed.append(job)
        if len(removed) > 2:
            return remove(vm, job)
        with faults.without_engine(site, "vm", keep_containers=False):
            return remove(vm, job)

    monkeypatch.setattr(TrainingVm, name, deaf)
    with pytest.raises(UnreachableError, match="Docker on"):
        stage.finish(operator)
    (run,) = stage.floor.desk().store.all(TrainingRun)
    assert stage.containers() == [f"train-{run.id[:24]}"]
    assert stage.finish(operator) == run.id
    assert stage.containers() == []
    assert on_vm(f"ls -A {removed[0].folder}/outputs 2>/dev/null").split() == (
        ["metrics.json", "model.onnx", "rows.csv"] if more else []
    )


def collected(operator: TrainOnVMOperator, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The job's lines that the try which collects it tells."""
    drain, said = session.drain, []
    monkeypatch.setattr(session, "drain", lambda vm, one, _, *more: drain(vm, one, said.append, *more))
    operator.execute(CONTEXT)
    return said


def test_the_log_of_a_job_that_nobody_followed_is_told_when_it_is_collected(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VM out of reach, a triggerer that was down: the try that collects has the lines."""
    operator = scripted(stage, f"{GATE}{GOOD}print('the last line', flush=True)\n", "n")
    job = trigger_of(stage.deferred(operator)).job
    on_vm(f"touch {job.folder}/checkpoint/go; docker wait {job.name}")
    assert collected(operator, monkeypatch)[-1] == "the last line"


def test_lines_that_a_trigger_logged_before_its_link_was_cut_are_not_told_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not keep its place on the VM any more; the log on this machine says how far it came."""
    operator = scripted(stage, f"print('logged', flush=True)\n{GATE}{GOOD}print('not yet', flush=True)\n", "p")
    job = trigger_of(stage.deferred(operator)).job
    on_vm(f"touch {job.folder}/checkpoint/go; docker wait {job.name}")
    stamp = on_vm(f"docker logs --timestamps {job.name} | grep ' logged$'").split()[0]
    monkeypatch.setattr(task_log, "stamp_here", lambda ti: stamp if ti is TI else "")
    said = collected(operator, monkeypatch)
    assert "logged" not in said
    assert said[-1] == "not yet"


def test_a_failing_script_fails_the_task_with_its_last_lines(stage: Stage) -> None:
    """The first lines of the error are the script's last ones."""
    # One stream only: Docker orders the lines of two by chance.
    stage.script("print('reading', flush=True)\nprint('no column power', flush=True)\nraise SystemExit(1)\n")
    stage.certify("2014-03", "d")
    key = f"2014-03@{sha256_hex(b'2014-03d')[:16]}"
    operator = stage.operator(stage.fix(key=key))
    operator.key = key
    with pytest.raises(TrainingFailedError) as caught:
        stage.finish(operator)
    assert str(caught.value).startswith("The training's last lines:\n  reading\n  no column power\n")


def test_a_job_past_its_deadline_is_stopped_and_not_retried(stage: Stage) -> None:
    """The trigger keeps the deadline, too: the task has the job stopped and says which setting to raise."""
    operator, parked = slow(stage)
    late = trigger_of(parked)
    late.deadline = int(time.time()) - 1
    event = asyncio.run(fired(late))
    assert event == {"ending": "deadline"}
    with pytest.raises(TaskDeferred) as again:
        operator.execute_complete(CONTEXT, event=event, **(parked.kwargs or {}))
    assert trigger_of(again.value).deadline > time.time() + 60
    with pytest.raises(AirflowFailException, match=r"(?s)last lines:\n  started.*training\.timeout_minutes"):
        stage.complete(operator, again.value)


def test_the_vm_stops_a_job_past_its_deadline_by_itself(stage: Stage) -> None:
    """The trigger that follows sees the end, and the task fails for good with the job's last lines."""
    stage.floor.edit("pipeline.yaml", "image:\n", "training: {timeout_minutes: 0.05, grace_seconds: 5}\nimage:\n")
    stage.script(
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(print('saved', flush=True)))\n" + SLOW
    )
    stage.certify("2014-03", "t")
    operator = stage.operator(stage.fix(key=stage.key_of("t")))
    operator.key = stage.key_of("t")
    with pytest.raises(AirflowFailException, match=r"(?s)saved.*attempt 1: it was stopped: its time was over"):
        stage.finish(operator)


def test_a_vm_out_of_reach_fails_the_task_and_not_the_job(stage: Stage) -> None:
    """The error names the connection; the container is untouched."""
    operator, parked = slow(stage)
    with pytest.raises(UnreachableError, match="edgeloop_vm"):
        operator.execute_complete(CONTEXT, event={"ending": "unreachable"}, **(parked.kwargs or {}))
    assert stage.containers() == [trigger_of(parked).job.name]


@pytest.mark.parametrize(
    ("states", "stopped"),
    [
        ({"run-1": {"train": "deferred"}}, False),
        ({"run-1": {"train": "failed"}}, True),
        ({"run-1": {"train": None}}, True),
        ({}, True),
    ],
    ids=["redistributed", "marked", "cleared", "deleted"],
)
def test_a_kill_stops_the_job_only_when_the_task_was_given_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, states: dict[str, Any], *, stopped: bool
) -> None:
    """Airflow comes here, too, when another triggerer takes over: a task that is deferred keeps its job."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda *_, **__: states))
    _, parked = slow(stage)
    trigger = trigger_of(parked)
    trigger.task_instance = TI
    asyncio.run(trigger.on_kill())
    assert stage.containers() == ([] if stopped else [trigger.job.name])


@pytest.mark.parametrize("later", [False, True], ids=["gone", "cleared and attached again"])
def test_a_kill_that_the_vm_did_not_hear_is_told_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, later: bool
) -> None:
    """Nobody else would stop the job of a task that is gone; one that a later try follows by then goes on."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = {"run-1": {"train": "failed"}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda *_, **__: states))
    monkeypatch.setattr(training_trigger, "STOP_AGAIN_SECONDS", 0.05)
    _, parked = slow(stage)
    trigger = trigger_of(parked)
    trigger.task_instance = TI
    reached, asked = trigger._endpoint, []

    async def endpoint() -> Endpoint:
        asked.append(time.monotonic())
        if len(asked) < 4:
            raise UnreachableError("The VM is dark.", left="the job", next="wait")
        return await reached()

    monkeypatch.setattr(trigger, "_endpoint", endpoint)
    if later:
        with Shell(hooks.ssh_endpoint("edgeloop_vm")) as shell:
            TrainingVm(shell).follow(trigger.job, trigger._who, trigger.attempt + 1)
    asyncio.run(trigger.on_kill())
    assert stage.containers() == ([trigger.job.name] if later else [])
    assert len(asked) >= 4


def test_a_kill_that_cannot_be_confirmed_stops_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Airflow does not say what became of the task, the job lives."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def silent(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no answer")

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(silent))
    _, parked = slow(stage)
    trigger = trigger_of(parked)
    trigger.task_instance = TI
    asyncio.run(trigger.on_kill())
    assert stage.containers() == [trigger.job.name]


def test_a_worker_that_is_shut_down_stops_no_job(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM comes then, too; by Airflow's word the task still runs, and its next try attaches."""
    operator, parked = slow(stage)
    monkeypatch.setattr(TI, "get_task_states", lambda **_: {"run-1": {"train": "running"}}, raising=False)
    operator.on_kill()
    assert stage.containers() == [trigger_of(parked).job.name]
    monkeypatch.setattr(TI, "get_task_states", lambda **_: {"run-1": {"train": None}})
    operator.on_kill()
    assert stage.containers() == []


def test_a_task_killed_on_its_worker_stops_its_job(stage: Stage) -> None:
    """Marked failed between submitting and parking, the job is stopped; a task that started none stops none."""
    operator, parked = slow(stage)
    stage.operator("").on_kill()
    assert stage.containers() == [trigger_of(parked).job.name]
    operator.on_kill()
    assert stage.containers() == []


def test_a_trigger_of_another_version_says_what_to_restart() -> None:
    """Code that was upgraded under a running triggerer is no silent mix."""
    trigger = TrainingTrigger(
        connection="edgeloop_vm", run_id="a" * 64, pipeline="p", image="i", deadline=0, version="0.0.0-other"
    )
    assert trigger.version != edgeloop.__version__
    with pytest.raises(ConfigurationError, match="Restart the triggerer"):
        asyncio.run(fired(trigger))


def test_a_trigger_survives_its_serialisation() -> None:
    """Class path and arguments are enough to make the same trigger again."""
    trigger = TrainingTrigger(connection="c", run_id="a" * 64, pipeline="p", image="i", deadline=7, attempt=3, number=2)
    _, arguments = trigger.serialize()
    again = TrainingTrigger(**arguments)
    assert again.serialize() == trigger.serialize()
    assert dataclasses.replace(again.job) == Job(run_id="a" * 64, pipeline="p", image="i", deadline=7, attempt=2)


def test_the_champion_is_measured_on_the_same_holdout(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The champion's model lies beside the data, and the training's identity names it."""
    desk = stage.floor.desk()
    desk.blobs.put("models/c.onnx", b"champion")
    champion = ModelVersion(
        pipeline="tiny_power", sha256=sha256_hex(b"champion"), size=8, blob="models/c.onnx", version=1,
        training_run="t", metrics="{}",
    )  # fmt: skip
    data = stage.fix()
    desk.store.put(champion)
    monkeypatch.setattr(registry, "champion", lambda _: champion)
    said: list[str] = []
    operator = stage.operator(data)
    monkeypatch.setattr(TrainingVm, "forget", lambda _, job: said.append(job.folder))
    done = stage.finish(operator)
    assert desk.store.get(TrainingRun, done).champion == champion.id
    with Shell(hooks.ssh_endpoint("edgeloop_vm")) as shell:
        assert shell.run(f"cat {said[0]}/data/champion.onnx", timeout=30).out == b"champion"


def test_a_retry_goes_on_with_its_job_although_the_champion_changed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A champion promoted between two tries makes no second job; a later run is measured against the new champion."""
    desk = stage.floor.desk()
    desk.blobs.put("models/c.onnx", b"champion")
    champion = ModelVersion(
        pipeline="tiny_power", sha256=sha256_hex(b"champion"), size=8, blob="models/c.onnx", version=1,
        training_run="t", metrics="{}",
    )  # fmt: skip
    stage.script(GATE + GOOD)
    key = "drift-0123456789abcdef"
    data = stage.fix(key=key)

    def operator(run: str) -> TrainOnVMOperator:
        made = stage.operator(data, run=run)
        made.key = key
        return made

    stage.deferred(operator("run-1"))
    (container,) = stage.containers()
    on_vm("for one in edgeloop/jobs/*/checkpoint; do touch $one/go; done")
    desk.store.put(champion)
    monkeypatch.setattr(registry, "champion", lambda _: champion)
    done = stage.finish(operator("run-1"))
    assert container == f"train-{done[:24]}"
    assert desk.store.get(TrainingRun, done).champion == ""
    assert stage.containers() == []
    with pytest.raises(TaskDeferred) as parked:
        operator("run-2").execute(CONTEXT)
    on_vm("for one in edgeloop/jobs/*/checkpoint; do touch $one/go; done")
    after = stage.complete(operator("run-2"), parked.value)
    assert desk.store.get(TrainingRun, after).champion == champion.id


def test_a_kill_is_carried_out_although_airflow_cancels_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 3.3.2 cancels the hook again with every sync; the job is stopped all the same."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def slow_answer(*_: Any, **__: Any) -> Any:
        time.sleep(0.5)
        return {"run-1": {"train": "failed"}}

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(slow_answer))
    _, parked = slow(stage)
    trigger = trigger_of(parked)
    trigger.task_instance = TI

    async def cancelled() -> None:
        hook = asyncio.create_task(trigger.on_kill())
        await asyncio.sleep(0.1)
        hook.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hook
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    asyncio.run(cancelled())
    assert stage.containers() == []
