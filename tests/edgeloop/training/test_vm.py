"""Trainings on a real VM: sshd, Docker and the trainer's image."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.edgeloop.training.conftest import GOOD_ENDING, Bench, eventually, sent

from edgeloop.errors import (
    ConfigurationError,
    ConflictError,
    IntegrityError,
    TrainingFailedError,
    TrainingInterruptedError,
)
from edgeloop.records import TrainingRun
from edgeloop.ssh.shell import Shell
from edgeloop.training import commands, guard, session
from edgeloop.training.bundle import Cargo, Member
from edgeloop.training.follow import Ending
from edgeloop.training.job import Action, Stop, decide, describe_end
from edgeloop.training.remote import TrainingVm

if TYPE_CHECKING:
    from edgeloop.azure.blob import BlobContainer
    from edgeloop.store import Store
    from edgeloop.training.job import Job

COUNT = "import time\nfor n in range({lines}):\n    print('line', n, flush=True)\n    time.sleep({pause})\n"
FOREVER = "import time\nprint('started', flush=True)\nwhile True:\n    time.sleep(0.1)\n"


def steps(bench: Bench) -> list[str]:
    """What was decided, one word each."""
    return [word for line in bench.said if (word := line.partition(":")[0]) in set(Action)]


def test_a_job_runs_and_its_outputs_come_home(bench: Bench, container: BlobContainer, store: Store) -> None:
    """The record names both files by digest, the log came line by line, and nothing is left on the VM."""
    job, said = bench.job(), []
    bench.engage(job, COUNT.format(lines=5, pause=0.1) + GOOD_ENDING)
    assert bench.follow(job, said) is Ending.ENDED
    assert said == [f"line {n}" for n in range(5)]
    run = TrainingRun(pipeline="test", dataset="d", code="c", image=bench.image, parameters="{}")
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        found = vm.look(job)
        stored = session.harvest(vm, job, run, found=found, blobs=container, store=store, say=said.append)
    assert store.get(TrainingRun, run.id) == stored
    assert json.loads(stored.metrics) == {"accuracy": 0.5}
    assert [container.digest(one.path) for one in stored.outputs] == [(one.size, one.sha256) for one in stored.outputs]
    assert container.get(f"training/{run.id}/model.onnx") == b"onnx" * 1000
    assert bench.on_vm(f"{commands.present(job)}; ls -d {job.folder} 2>/dev/null") == ""


def test_collecting_again_after_a_crash_replaces_what_was_half_done(
    bench: Bench, container: BlobContainer, store: Store
) -> None:
    """An attempt that died between the upload and the record is done over."""
    job = bench.job()
    bench.engage(job, GOOD_ENDING)
    bench.follow(job, [])
    run = TrainingRun(pipeline="test", dataset="d2", code="c", image=bench.image, parameters="{}")
    container.put_new(f"training/{run.id}/model.onnx", b"of an earlier attempt")
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        session.harvest(vm, job, run, found=vm.look(job), blobs=container, store=store, say=print)
    assert container.get(f"training/{run.id}/model.onnx") == b"onnx" * 1000


def test_a_second_submission_attaches(bench: Bench) -> None:
    """The name is the lock: the same job is started once, and keeps the deadline of its first submission."""
    job = bench.job()
    bench.engage(job, FOREVER)
    with Shell(bench.endpoint) as shell:
        assert TrainingVm(shell).submit(job) is False
        assert len(bench.look(job).attempts) == 1
    token = f"cat {job.folder}/attempt-1/watch"
    eventually(lambda: bench.on_vm(token) != "", "the first guard")
    first = bench.on_vm(token)
    found = bench.engage(job, FOREVER)
    assert (found.status, found.deadline) == ("running", job.deadline)
    # Whoever attaches sees to it that the VM keeps deadline and stops itself, should what did so have been killed.
    eventually(lambda: bench.on_vm(token) not in {"", first}, "another guard")
    assert steps(bench) == ["submit", "attach", "attach"]
    assert len(bench.on_vm(commands.present(job)).split()) == 1


def test_a_flood_of_lines_is_passed_on_to_the_last(bench: Bench) -> None:
    """Three megabytes written at once arrive whole, the last line included, though a piece holds only one."""
    job, said = bench.job(), []
    bench.engage(
        job, "for n in range(30000):\n    print(n, 'x' * 90)\nprint('last', flush=True)\nraise SystemExit(4)\n"
    )
    assert bench.follow(job, said) is Ending.ENDED
    assert len(said) == 30001
    assert said[-1] == "last"
    assert [int(line.split()[0]) for line in said[:-1]] == list(range(30000))


@pytest.mark.fault
def test_a_killed_job_is_noticed(bench: Bench) -> None:
    """A container whose process is killed from outside ends the following; the words name the signal."""
    job, said = bench.job(), []
    bench.engage(job, FOREVER)
    eventually(lambda: bench.look(job).status == "running", "the job")
    bench.on_vm(f"docker kill -s KILL {job.name}")
    assert bench.follow(job, said) is Ending.ENDED
    assert "SIGKILL" in describe_end(bench.look(job))


@pytest.mark.fault
def test_a_removed_container_is_noticed(bench: Bench) -> None:
    """Somebody's docker rm -f is an end, too, and is told as that."""
    job = bench.job()
    bench.engage(job, FOREVER)
    bench.on_vm(f"docker rm -f {job.name}")
    assert bench.follow(job, []) is Ending.ENDED
    assert "somebody removed it" in describe_end(bench.look(job))


def test_errors_stand_where_they_were_said(bench: Bench) -> None:
    """What a script prints and what it complains about keep the order in which it said them."""
    job, said = bench.job(), []
    bench.engage(
        job, "import sys\nfor n in range(400):\n    print(n, file=(sys.stdout, sys.stderr)[n % 2], flush=True)\n"
    )
    assert bench.follow(job, said) is Ending.ENDED
    assert said == [str(n) for n in range(400)]


def test_a_failing_script_is_quoted_first(bench: Bench) -> None:
    """The error begins with the last lines, then says the exit code, what was left and what to do."""
    job = bench.job()
    bench.engage(job, "print('about to fail', flush=True)\nraise ValueError('no such column: Ws_avg')\n")
    bench.follow(job, [])
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        text = str(vm.failure(job, vm.look(job)))
    assert text.startswith("The training's last lines:\n  about to fail\n")
    assert "ValueError: no such column: Ws_avg" in text
    assert text.index("no such column") < text.index("exit code 1")
    assert "Left in place:" in text


def test_a_failed_attempt_is_kept_and_the_next_one_runs(bench: Bench) -> None:
    """The log and outputs of the first attempt stay beside; the second starts with empty outputs."""
    job = bench.job()
    script = "import os\nprint(os.listdir('/outputs'))\nos.mkdir('/outputs/mine')\nraise SystemExit(1)\n"
    bench.engage(job, script)
    bench.follow(job, [])
    bench.engage(job, script)
    said: list[str] = []
    bench.follow(job, said)
    assert steps(bench).count("submit") == 2
    assert said == ["[]"]
    assert bench.on_vm(f"ls {job.folder}/attempt-1 {job.folder}/attempt-1/outputs") != ""


def failed(bench: Bench, job: Job) -> TrainingFailedError:
    """The error for an attempt that ended badly."""
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        return vm.failure(job, vm.look(job))


def test_out_of_memory_is_told_as_that(bench: Bench) -> None:
    """The failure names memory, what it was allowed and the setting to raise; no retry would help."""
    job = bench.job(memory_mb=64)
    bench.engage(job, "held = []\nwhile True:\n    held.append(bytearray(8_000_000))\n")
    bench.follow(job, [])
    error = failed(bench, job)
    assert "ran out of its memory of 64 MiB" in str(error)
    assert "training.memory_mb" in str(error)
    assert not isinstance(error, TrainingInterruptedError)


CHILD = """
import subprocess, sys, time
held = bytearray(20_000_000)
time.sleep(3)
greedy = "held = []\\nwhile True:\\n    held.append(bytearray(4_000_000))"
code = subprocess.run([sys.executable, '-c', greedy]).returncode
time.sleep(3)
sys.exit(f'the child ended with {code}')
"""


def test_a_child_that_ran_out_of_memory_is_told_with_the_peak(bench: Bench) -> None:
    """The script itself ended with code 1; what the kernel did to its child and how much was used is told."""
    job = bench.job(memory_mb=64)
    bench.engage(job, CHILD)
    bench.follow(job, [])
    found = bench.look(job)
    assert found.last.killed >= 1
    assert 60 * 2**20 < found.last.peak <= 64 * 2**20
    text = str(failed(bench, job))
    assert "the child ended with -9" in text
    assert "ran out of its memory of 64 MiB" in text
    assert "MiB at its peak" in text


SAVES = """
import os, signal, sys, time
print('attempt', os.environ['EDGELOOP_ATTEMPT'], sorted(os.listdir(os.environ['EDGELOOP_CHECKPOINT'])), flush=True)
def end(*_):
    open('/checkpoint/step-' + os.environ['EDGELOOP_ATTEMPT'], 'w').write('x')
    os.makedirs('/outputs/mine', exist_ok=True)
    print('saved', flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('ready', flush=True)
while True:
    time.sleep(0.05)
"""
DEAF = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(600)\n"


def ready(bench: Bench, job: Job, script: str) -> None:
    """Start a script and wait until it says that it is ready."""
    bench.engage(job, script)
    eventually(lambda: "ready" in bench.on_vm(commands.tail(job)), "the job's start")


def test_a_cancelled_job_saves_and_the_next_attempt_goes_on(bench: Bench) -> None:
    """The container is gone, log, outputs and checkpoint are kept; attempt 2 finds what attempt 1 saved."""
    job = bench.job()
    ready(bench, job, SAVES)
    with Shell(bench.endpoint) as shell:
        found = TrainingVm(shell).cancel(job.at(1), reason="it's a test")
    assert (found.status, found.last.stopped, found.last.reason) == ("absent", True, "it's a test")
    assert bench.on_vm(commands.present(job.at(1))) == ""
    assert "saved" in bench.on_vm(f"cat {job.folder}/attempt-1/log")
    assert bench.on_vm(f"ls {job.folder}/attempt-1/outputs") == "mine"
    assert isinstance(failed(bench, job), TrainingInterruptedError)
    ready(bench, job, SAVES)
    assert bench.on_vm(commands.tail(job)).splitlines() == ["attempt 2 ['step-1']", "ready"]
    assert bench.on_vm(f"docker inspect -f '{{{{index .Config.Labels \"edgeloop.attempt\"}}}}' {job.name}") == "2"


def test_a_stop_meant_for_one_attempt_never_stops_the_next(bench: Bench) -> None:
    """A cancel of attempt 1 that arrives late does nothing to attempt 2, nor does the watch that it starts."""
    job = bench.job()
    script = "import os\nif os.environ['EDGELOOP_ATTEMPT'] == '1':\n    raise SystemExit(3)\n" + SAVES
    bench.engage(job, script)
    bench.follow(job, [])
    ready(bench, job, script)
    with Shell(bench.endpoint) as shell:
        assert TrainingVm(shell).cancel(job.at(1), reason="late").attempt == 2
        TrainingVm(shell).ask(job.at(7), reason="of an attempt that never was")
    eventually(lambda: "watch 1" not in bench.on_vm("ps -eo args | grep 'watch [0-9]'"), "the end of the late watch")
    found = bench.look(job)
    assert (found.status, found.attempt, found.last.stop) == ("running", 2, Stop.NONE)
    assert [one.number for one in found.attempts] == [1, 2]


def test_a_deaf_job_is_killed_after_its_grace(bench: Bench) -> None:
    """SIGTERM is ignored, SIGKILL is not; asked twice, it has its grace once and is gone."""
    job = bench.job(grace=2)
    ready(bench, job, DEAF)
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        vm.ask(job.at(1), reason="first")
        vm.ask(job.at(1), reason="second")
        assert vm.wait_stopped(job.at(1), timeout=30).status == "absent"
    assert '"ExitCode": 137' in bench.on_vm(f"cat {job.folder}/attempt-1/container.json")


def test_the_vm_keeps_the_deadline_itself(bench: Bench) -> None:
    """Nobody of ours is connected when the time is over: the job is stopped, its end is told, its log can be read."""
    job = bench.job(seconds=3)
    ready(bench, job, SAVES)
    eventually(lambda: bench.look(job).ended, "the stop at the deadline")
    found = bench.look(job)
    assert (found.status, found.exit_code, found.last.stop, found.last.stopped) == ("exited", 0, Stop.DEADLINE, True)
    said: list[str] = []
    bench.follow(job, said)
    assert said[-1] == "saved"
    error = failed(bench, job)
    assert "it was stopped: its time was over" in str(error)
    assert "training.timeout_minutes" in str(error)
    assert not isinstance(error, TrainingInterruptedError)


def test_a_job_that_fills_a_scarce_disk_is_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds more than it declared while the VM's disk is nearly full: stopped before it takes the others with it."""
    monkeypatch.setattr(guard, "SCARCE_KIB", 10**12)
    job = bench.job()
    bench.engage(job, "open('/checkpoint/big', 'wb').write(b'x' * 3_000_000)\n" + FOREVER)
    eventually(lambda: bench.look(job).ended, "the stop")
    assert bench.look(job).last.stop is Stop.DISK
    assert "declared were 0" in str(failed(bench, job))


def test_a_dead_watch_is_replaced_by_whoever_looks(bench: Bench) -> None:
    """The intent stays on the VM when what should carry it out was killed; the next try sees to it and goes on."""
    job = bench.job()
    ready(bench, job, SAVES)
    bench.on_vm("pkill -f 'watch 1$'")
    bench.on_vm(f"echo cancelled by nobody >{job.folder}/attempt-1/cancel")
    assert bench.look(job).status == "running"
    assert bench.engage(job, SAVES).attempt == 2
    assert steps(bench) == ["submit", "attach", "wait", "submit", "attach"]


def test_a_stop_after_the_end_changes_nothing(bench: Bench) -> None:
    """What had ended well before it was cancelled is not trained again: the next try collects it."""
    job = bench.job()
    bench.engage(job, GOOD_ENDING)
    bench.follow(job, [])
    with Shell(bench.endpoint) as shell:
        TrainingVm(shell).ask(job.at(1), reason="late")
    eventually(lambda: bench.on_vm(commands.present(job.at(1))) == "", "the verification")
    assert decide(bench.look(job), job.run_id).action is Action.COLLECT


def test_unfit_outputs_are_trained_again(bench: Bench, container: BlobContainer, store: Store) -> None:
    """Exit code 0 without a model is a failure: the next try keeps the log and makes another attempt."""
    job = bench.job()
    bench.engage(job, "print('forgot the model')\nraise SystemExit(0)\n")
    bench.follow(job, [])
    run = TrainingRun(pipeline="test", dataset="d5", code="c", image=bench.image, parameters="{}")
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        with pytest.raises(TrainingFailedError, match=r"model\.onnx is missing"):
            session.harvest(vm, job, run, found=vm.look(job), blobs=container, store=store, say=print)
    assert bench.engage(job, FOREVER).attempt == 2


def test_lines_nobody_read_are_passed_on_before_the_next_attempt(bench: Bench) -> None:
    """A job that failed while nobody followed it has its whole log in the next try's."""
    job = bench.job()
    bench.engage(job, COUNT.format(lines=5, pause=0.01) + "raise SystemExit(1)\n")
    eventually(lambda: bench.look(job).ended, "the job's end")
    bench.engage(job, FOREVER)
    assert [line for line in bench.said if line.startswith("line ")] == [f"line {n}" for n in range(5)]


def test_a_training_that_somebody_finished_is_not_begun(bench: Bench) -> None:
    """Who collects stores the record and then removes the container: that it is gone is no reason to train again."""
    job = bench.job()
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        assert session.engage(vm, job, Cargo(members=sent("")), print, done=lambda: True) is None
        assert vm.look(job).folder is False
        answers = iter([False, False, True])
        assert session.engage(vm, job, Cargo(members=sent(FOREVER)), print, done=lambda: next(answers)) is None
    assert bench.on_vm(f"{commands.present(job)}; ls -d {job.folder} 2>/dev/null") == ""


@pytest.mark.parametrize(
    ("more", "words"),
    [({"gpus": 1}, r"GPUs \(training.gpus\)"), ({"cpus": 999.0}, r"processors \(training.cpus\)")],
)
def test_what_the_vm_lacks_is_said(bench: Bench, more: dict[str, Any], words: str) -> None:
    """A GPU or processors it does not have: told as that, nothing is left that the next try would stumble over."""
    job = dataclasses.replace(bench.job(), **more)
    with Shell(bench.endpoint) as shell, pytest.raises(ConfigurationError, match=words):
        session.engage(TrainingVm(shell), job, Cargo(members=sent("")), print)
    found = bench.look(job)
    assert (found.status, found.attempts) == ("absent", ())


def test_too_little_disk_for_what_is_declared_starts_nothing(bench: Bench) -> None:
    """disk_mb is asked for before the container is made."""
    job = dataclasses.replace(bench.job(), disk_mb=10**9)
    with Shell(bench.endpoint) as shell, pytest.raises(ConflictError, match="too full"):
        session.engage(TrainingVm(shell), job, Cargo(members=sent("")), print)
    assert bench.look(job).status == "absent"


@pytest.mark.parametrize("target", ["/etc/passwd", "/data/dataset.json", "/nowhere"])
def test_a_link_among_the_outputs_is_refused(bench: Bench, container: BlobContainer, store: Store, target: str) -> None:
    """A model.onnx that points elsewhere is not followed, and nothing is stored."""
    job = bench.job()
    bench.engage(
        job,
        f"import os\nos.symlink('{target}', '/outputs/model.onnx')\nopen('/outputs/metrics.json','w').write('{{}}')",
    )
    bench.follow(job, [])
    run = TrainingRun(pipeline="test", dataset="d3", code="c", image=bench.image, parameters="{}")
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        with pytest.raises(TrainingFailedError, match=r"model\.onnx is a link"):
            session.harvest(vm, job, run, found=vm.look(job), blobs=container, store=store, say=print)
        # Should a link slip in after the listing, Docker gives the link and not what it points to.
        assert shell.run(commands.fetch(job, "model.onnx"), timeout=30).out == b""
    assert list(container.list("training/")) == []


def test_other_outputs_stay_and_are_named(bench: Bench, container: BlobContainer, store: Store) -> None:
    """A file outside the allow-list is not collected; the data leaves the VM all the same."""
    job, said = bench.job(), []
    bench.engage(job, GOOD_ENDING + "open('/outputs/rows.csv', 'w').write('1,2,3')\n")
    bench.follow(job, [])
    run = TrainingRun(pipeline="test", dataset="d4", code="c", image=bench.image, parameters="{}")
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        session.harvest(vm, job, run, found=vm.look(job), blobs=container, store=store, say=said.append)
    assert said == [f"Left on the VM in ~/{job.folder}/outputs: 'rows.csv' (5 bytes, not in the allow-list)"]
    assert sorted(one.name for one in container.list("training/")) == [
        f"training/{run.id}/metrics.json", f"training/{run.id}/model.onnx",
    ]  # fmt: skip
    assert bench.on_vm(f"ls {job.folder}").split() == ["job", "outputs"]


def test_a_file_that_changed_in_storage_is_not_trained_on(bench: Bench) -> None:
    """The digest is compared on the VM; nothing is staged when it differs."""
    job = bench.job()
    good = sent("print(1)")
    bad = Member(path=good[1].path, size=good[1].size, sha256="0" * 64, read=good[1].read)
    with Shell(bench.endpoint) as shell, pytest.raises(IntegrityError, match="not what was sent"):
        session.engage(TrainingVm(shell), job, Cargo(members=(good[0], bad)), print)
    assert bench.look(job).staged is False


def test_an_image_that_is_not_there_is_not_pulled(bench: Bench) -> None:
    """A training never goes to a registry; the message says how to bring the image."""
    with Shell(bench.endpoint) as shell, pytest.raises(ConfigurationError, match="docker load"):
        TrainingVm(shell).compute("edgeloop/nothing:here")


def test_a_vm_says_what_it_can_do(bench: Bench) -> None:
    """Docker's version, the image's id, free disk and the clock come in one round trip."""
    with Shell(bench.endpoint) as shell:
        found = TrainingVm(shell).compute(bench.image)
    assert found.image.startswith("sha256:")
    assert found.docker
    assert found.free_kib > 0
    assert abs(found.skew) < 60
