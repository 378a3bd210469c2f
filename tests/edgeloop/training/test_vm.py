"""Trainings on a real VM: sshd, Docker and the trainer's image."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.training.conftest import GOOD_ENDING, Bench, eventually, sent

from edgeloop.errors import ConfigurationError, IntegrityError, TrainingFailedError
from edgeloop.records import TrainingRun
from edgeloop.ssh.shell import Shell
from edgeloop.training import commands, session
from edgeloop.training.bundle import Cargo, Member
from edgeloop.training.follow import Ending
from edgeloop.training.job import describe_end
from edgeloop.training.remote import TrainingVm

if TYPE_CHECKING:
    from edgeloop.azure.blob import BlobContainer
    from edgeloop.store import Store

COUNT = "import time\nfor n in range({lines}):\n    print('line', n, flush=True)\n    time.sleep({pause})\n"
FOREVER = "import time\nprint('started', flush=True)\nwhile True:\n    time.sleep(0.1)\n"


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
    found = bench.engage(job, FOREVER)
    assert (found.status, found.deadline) == ("running", job.deadline)
    assert [line.partition(":")[0] for line in bench.said] == ["submit", "attach", "attach"]
    assert len(bench.on_vm(commands.present(job)).split()) == 1


def test_the_log_is_whole_when_followers_come_and_go(bench: Bench) -> None:
    """Followers that are killed in the middle of a job and replaced pass on every line once, in order."""
    job, said = bench.job(), []
    bench.engage(job, COUNT.format(lines=40, pause=0.05))

    async def relay() -> Ending:
        for target in (5, 15, 25):
            follower = bench.follower(job, said)
            task = asyncio.create_task(follower.run())
            # A kill between passing lines on and keeping their place repeats them; that is the one gap there is.
            while len(said) < target or follower._kept != follower._cursor:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
        return await bench.follower(job, said).run()

    assert asyncio.run(relay()) is Ending.ENDED
    assert said == [f"line {n}" for n in range(40)]


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
    steps = [line.partition(":")[0] for line in bench.said]
    assert steps.count("submit") == 2
    assert said == ["[]"]
    assert bench.on_vm(f"ls {job.folder}/attempt-1 {job.folder}/attempt-1/outputs") != ""


def test_out_of_memory_is_told_as_that(bench: Bench) -> None:
    """The failure names memory and the setting to raise, not just a signal."""
    job = bench.job(memory_mb=64)
    bench.engage(job, "held = []\nwhile True:\n    held.append(bytearray(8_000_000))\n")
    bench.follow(job, [])
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        text = str(vm.failure(job, vm.look(job)))
    assert "ran out of its memory of 64 MiB" in text
    assert "training.memory_mb" in text


def test_a_cancel_leaves_nothing(bench: Bench) -> None:
    """After a cancel there is no container and no folder, though the job made folders of its own; twice is no error."""
    job = bench.job()
    bench.engage(job, "import os\nos.mkdir('/outputs/mine')\nopen('/outputs/mine/x', 'w').write('x')\n" + FOREVER)
    eventually(lambda: "started" in bench.on_vm(commands.tail(job)), "the job's start")
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        vm.cancel(job, reason="a test", grace=5)
        vm.cancel(job, reason="a test", grace=5)
    assert bench.on_vm(f"{commands.present(job)}; ls -d {job.folder} 2>/dev/null") == ""


def test_a_cancelled_job_hears_sigterm_and_its_successor_waits(bench: Bench) -> None:
    """The job has its grace; whoever asks for it meanwhile waits until it is gone and starts it anew."""
    job = bench.job()
    slow = (
        "import signal, sys, time\n"
        "def end(*_):\n    time.sleep(2)\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
    )
    bench.engage(job, slow + FOREVER)
    eventually(lambda: "started" in bench.on_vm(commands.tail(job)), "the job's start")
    bench.on_vm(commands.cancel(job, reason="cleared", grace=20))
    found = bench.engage(job, slow + FOREVER)
    assert found.status == "running"
    assert [line.partition(":")[0] for line in bench.said] == ["submit", "attach", "wait", "submit", "attach"]


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
    assert bench.on_vm(f"ls {job.folder}") == "outputs"


PROBE = """
import os, socket
def tried(what, action):
    try:
        action()
        print('OPEN', what, flush=True)
    except OSError:
        print('closed', what, flush=True)
def dial(host, port):
    socket.create_connection((host, port), timeout=1).close()
def write(path):
    with open(path, 'w') as sink:
        sink.write('x')
tried('the VM', lambda: dial('{host}', {port}))
tried('names', lambda: socket.getaddrinfo('localhost.localdomain.example', 80))
tried('metadata', lambda: dial('169.254.169.254', 80))
tried('raw socket', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
for path in ('/data/x', '/code/x', '/x', '/etc/x', '/var/tmp/x', '/dev/shm/x', '/run/x'):
    tried(path, lambda: write(path))
print('interfaces', [name for _, name in socket.if_nameindex()], 'user', os.getuid(), flush=True)
"""


def test_there_is_no_way_out(bench: Bench) -> None:
    """No network, no names, nothing writable but /outputs and /tmp; the same probe in an open container gets out."""
    probe = PROBE.format(host=bench.endpoint.host, port=bench.endpoint.port)
    job, said = bench.job(), []
    bench.engage(job, probe)
    bench.follow(job, said)
    assert said[-1] == "interfaces ['lo'] user 10001"
    assert [line for line in said if line.startswith("OPEN")] == []
    open_run = commands.shell_text(
        ["docker", "run", "--rm", "--network", "host", "-u", "0:0", "--entrypoint", "python3", bench.image, "-c", probe]
    )
    control = bench.on_vm(open_run).splitlines()
    assert {"OPEN the VM", "OPEN raw socket", "OPEN /etc/x", "OPEN /dev/shm/x"} <= set(control)


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
