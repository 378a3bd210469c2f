"""Jobs that end while the VM's engine is away: not a line is lost, and how they ended is known."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import tarfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest
from tests.edgeloop.training.conftest import GOOD_ENDING, Bench, eventually

from edgeloop.ssh.shell import Shell
from edgeloop.training import commands, hold
from edgeloop.training.follow import Ending
from edgeloop.training.job import Action, Stop, decide, describe_end
from edgeloop.training.remote import TrainingVm
from lab import faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from edgeloop.training.job import Job
    from lab.site import Site

pytestmark = [pytest.mark.system]
AWAY = """
import time
print('line 0', flush=True)
time.sleep(3)
for n in range(1, 40):
    print('line', n, flush=True)
"""
"""Speaks, and goes on speaking three seconds later."""
LINES = [f"line {n}" for n in range(40)]


@pytest.fixture
def keeping(site: Site) -> Iterator[None]:
    """The VM's engine keeps its containers over its own restart, as `live-restore` has it; afterwards it does not."""
    with faults.without_engine(site, "vm", keep_containers=True):
        pass
    yield
    with faults.without_engine(site, "vm", keep_containers=False):
        pass


def away(bench: Bench, site: Site, job: Job, script: str) -> None:
    """The job begins to speak, and the engine goes away until the script has ended."""
    bench.engage(job, script)
    eventually(lambda: "line 0" in bench.on_vm(commands.tail(job)), "the job's start")
    with faults.without_engine(site, "vm", keep_containers=True):
        ended(bench, job)


def ended(bench: Bench, job: Job) -> None:
    """The script has ended, whether the engine answers or not."""
    eventually(lambda: bench.on_vm(f"{hold.waits(job.folder)} && echo over") == "over", "the script's end")


@pytest.mark.fault
@pytest.mark.parametrize(
    ("ending", "code"),
    {GOOD_ENDING: 0, "raise SystemExit(3)": 3, "import os\nos.kill(os.getpid(), 9)": 137}.items(),
    ids=["well", "failed", "killed"],
)
@pytest.mark.usefixtures("keeping")
def test_what_a_job_says_last_while_the_engine_is_away_is_in_its_log(
    bench: Bench, site: Site, ending: str, code: int
) -> None:
    """The engine comes back, the lines of its absence are all there, once, and the exit code is the script's."""
    job, said = bench.job(), []
    away(bench, site, job, AWAY + ending)
    assert bench.follow(job, said) is Ending.ENDED
    assert said == LINES
    found = bench.look(job)
    assert (found.status, found.exit_code, found.last.stop) == ("exited", code, Stop.NONE)


@pytest.mark.fault
@pytest.mark.usefixtures("keeping")
def test_more_than_docker_takes_at_once_waits_for_the_engine(bench: Bench, site: Site) -> None:
    """A job that says more than the pipe holds stands still while nobody reads, and goes on: every line arrives."""
    job, said = bench.job(), []
    script = (
        "import time\nprint('line 0', flush=True)\ntime.sleep(2)\nfor n in range(1, 20000):\n    print('line', n)\n"
    )
    bench.engage(job, script)
    eventually(lambda: "line 0" in bench.on_vm(commands.tail(job)), "the job's start")
    with faults.without_engine(site, "vm", keep_containers=True):
        time.sleep(3)
    assert bench.follow(job, said) is Ending.ENDED
    assert said == [f"line {n}" for n in range(20000)]


@pytest.mark.fault
@pytest.mark.usefixtures("keeping")
def test_out_of_memory_while_the_engine_is_away_is_told_as_that(bench: Bench, site: Site) -> None:
    """The kernel takes the script and leaves the shell around it; lines, peak and reason are known afterwards."""
    job, said = bench.job(memory_mb=64), []
    away(bench, site, job, AWAY + "held = []\nwhile True:\n    held.append(bytearray(8_000_000))\n")
    bench.follow(job, said)
    assert said == LINES
    assert "it ran out of its memory of 64 MiB, 64 MiB at its peak" in describe_end(bench.look(job), job.memory_mb)


@pytest.mark.fault
@pytest.mark.usefixtures("keeping")
def test_a_deadline_that_passes_in_the_absence_does_not_undo_an_end(bench: Bench, site: Site) -> None:
    """The script had ended in time: what it wrote is collected, though the guard could see that only afterwards."""
    job = bench.job(seconds=8)
    bench.engage(job, AWAY + GOOD_ENDING)
    with faults.without_engine(site, "vm", keep_containers=True):
        ended(bench, job)
        eventually(lambda: "deadline" in bench.on_vm(f"cat {job.folder}/attempt-1/cancel"), "the deadline")
    eventually(lambda: bench.look(job).ended, "the end")
    assert decide(bench.look(job), job.run_id).action is Action.COLLECT


@pytest.mark.fault
def test_an_engine_that_crashed_finds_what_ended_well_and_its_last_lines(bench: Bench, site: Site) -> None:
    """Without live-restore the new engine stops what it finds: a script that has ended keeps its exit code and log."""
    job, said = bench.job(), []
    bench.engage(job, AWAY + GOOD_ENDING)
    eventually(lambda: "line 0" in bench.on_vm(commands.tail(job)), "the job's start")
    try:
        faults.crash_engine(site, "vm")
        ended(bench, job)
    finally:
        faults.start(site, "vm")
    assert bench.follow(job, said) is Ending.ENDED
    assert said == LINES
    assert decide(bench.look(job), job.run_id).action is Action.COLLECT


def test_nobody_has_to_follow_for_a_job_to_end(bench: Bench) -> None:
    """The guard on the VM sees the script's end and the engine by itself."""
    job = bench.job()
    bench.engage(job, GOOD_ENDING)
    eventually(lambda: bench.on_vm(f"docker inspect -f '{{{{.State.Status}}}}' {job.name}") == "exited", "the end")
    assert decide(bench.look(job), job.run_id).action is Action.COLLECT


def test_a_follower_lets_go_where_the_guard_was_killed(bench: Bench) -> None:
    """The guard is dead, the job has ended: who follows it sees the end with all its lines."""
    job, said = bench.job(), []
    bench.engage(job, "import time\nprint('line 0', flush=True)\ntime.sleep(2)\nprint('line 1', flush=True)\n")
    bench.on_vm(f"until test -s {job.folder}/attempt-1/watch; do sleep 0.1; done; pkill -f 'watch 1$'")
    ended(bench, job)
    time.sleep(2)
    assert bench.look(job).status == "running"
    assert bench.follow(job, said) is Ending.ENDED
    assert said == ["line 0", "line 1"]


HOSTILE = """
import os, time
pipe = os.open('/engine', os.O_RDWR | os.O_NONBLOCK)
try:
    while True:
        os.write(pipe, bytes(4096))
except BlockingIOError:
    print('full', flush=True)
while True:
    time.sleep(0.1)
"""


def test_a_script_that_fills_the_pipe_is_followed_and_stopped(bench: Bench) -> None:
    """What it does to the pipe concerns nobody but itself: its log arrives, a stop is carried out in its time."""
    job, said = bench.job(grace=2), []
    bench.engage(job, HOSTILE)

    async def followed() -> None:
        task = asyncio.create_task(bench.follower(job, said).run())
        while "full" not in said:  # noqa: ASYNC110 - the job is another machine's
            await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(asyncio.wait_for(followed(), 30))
    with Shell(bench.endpoint) as shell:
        assert TrainingVm(shell).cancel(job.at(1), reason="over").status == "absent"


def test_the_pipe_is_all_that_a_script_gets_and_it_cannot_be_replaced(bench: Bench) -> None:
    """It is a pipe and read-only: nothing can be left there, nothing put in its place."""
    job, said = bench.job(), []
    script = """
import os, stat
print(stat.S_ISFIFO(os.stat('/engine').st_mode), os.path.ismount('/engine') or 'a file of its own')
for act in (os.unlink, lambda one: os.rename(one, '/tmp/engine'), lambda one: os.chmod(one, 0o777)):
    try:
        act('/engine')
    except OSError as error:
        print(type(error).__name__, error.errno)
    else:
        print('done')
"""
    bench.engage(job, script)
    bench.follow(job, said)
    assert said[0].startswith("True ")
    assert "done" not in said
    assert len(said) == 4


def test_a_library_may_interrupt_the_main_thread(bench: Bench) -> None:
    """SIGINT is Python's own in the trainer's image, though the shell around it starts its command deaf to it."""
    job, said = bench.job(), []
    bench.engage(
        job,
        "import _thread, threading, time\nthreading.Timer(0.1, _thread.interrupt_main).start()\n"
        "try:\n    for _ in range(99):\n        time.sleep(0.1)\nexcept KeyboardInterrupt:\n    print('interrupted')\n",
    )
    bench.follow(job, said)
    assert said == ["interrupted"]


@contextmanager
def image(site: Site, entrypoint: list[str], command: list[str]) -> Iterator[str]:
    """An image of one's own on the VM: the trainer's with another command."""
    client = docker.DockerClient(base_url=site.vm.docker, timeout=60)
    made = client.containers.create(site.images.trainer)
    changes = [f"ENTRYPOINT {json.dumps(entrypoint)}", f"CMD {json.dumps(command)}"]
    one = made.commit(f"own-{uuid.uuid4().hex[:12]}", changes="\n".join(changes))
    made.remove()
    try:
        yield str(one.id)
    finally:
        _remove(client, str(one.id))


def _remove(client: DockerClient, name: str) -> None:
    client.images.remove(name, force=True)
    client.close()


def test_an_image_of_ones_own_is_held_with_its_command_as_it_is(bench: Bench, site: Site) -> None:
    """Entrypoint and command reach it word for word, whatever they hold; both streams keep their order."""
    words = ["two\nlines", "", "it's $HOME", '"$(id)"', "`id`", "a\\b", "{{.Id}}", "*", "last "]
    script = "import sys\nprint(sys.argv[1:], file=sys.stderr, flush=True)\nprint('end')"
    with image(site, ["python3", "-c", script], words) as own:
        bench.image = own
        job, said = bench.job(), []
        bench.engage(job, "")
        assert bench.follow(job, said) is Ending.ENDED
        with Shell(bench.endpoint) as shell:
            TrainingVm(shell).forget(job)
    assert said == [str(words), "end"]


def test_an_image_without_a_shell_runs_as_it_is(bench: Bench, site: Site) -> None:
    """One static program is enough: it is started by Docker itself, and its end needs nobody."""
    program = Path(shutil.which("docker-init") or "/usr/libexec/docker/docker-init").resolve()
    with io.BytesIO() as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(program, "program")
        packed.seek(0)
        client = docker.DockerClient(base_url=site.vm.docker, timeout=60)
        name = f"bare-{uuid.uuid4().hex[:12]}"
        client.api.import_image_from_data(
            packed.read(), repository=name, changes=['ENTRYPOINT ["/program", "--version"]']
        )
    try:
        bench.image = str(client.images.get(name).id)
        job, said = bench.job(), []
        bench.engage(job, "")
        assert bench.follow(job, said) is Ending.ENDED
        assert [one for one in said if "tini" in one]
        assert bench.look(job).exit_code == 0
        with Shell(bench.endpoint) as shell:
            TrainingVm(shell).forget(job)
    finally:
        _remove(client, name)
