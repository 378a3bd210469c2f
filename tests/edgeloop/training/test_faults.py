"""Trainings that outlive what happens to the link, the engine and the VM's power."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NoReturn

import pytest
from tests.edgeloop.training.conftest import Bench, eventually, sent

from edgeloop.errors import RemoteCommandError, UnreachableError
from edgeloop.ssh import endpoint as ssh_endpoint
from edgeloop.ssh.shell import Shell
from edgeloop.training import commands, reaper, staging
from edgeloop.training.bundle import Cargo
from edgeloop.training.follow import Ending
from edgeloop.training.job import interrupted
from edgeloop.training.remote import TrainingVm
from lab import faults

if TYPE_CHECKING:
    from edgeloop.training.job import Job
    from lab.site import Site

pytestmark = [pytest.mark.system, pytest.mark.fault]
SLOW = "import time\nfor n in range({lines}):\n    print('line', n, flush=True)\n    time.sleep(0.1)\n"


def test_a_silent_vm_is_an_error_that_names_the_connection(bench: Bench, site: Site) -> None:
    """Connecting to an unplugged VM gives up within the time-out and says what to check."""
    began = time.monotonic()
    with faults.cut(site, "vm"), pytest.raises(UnreachableError, match="edgeloop_vm") as caught, Shell(bench.endpoint):
        pass
    assert time.monotonic() - began < ssh_endpoint.CONNECT_SECONDS + 5
    assert "airflow connections get edgeloop_vm" in str(caught.value)


def test_a_link_that_breaks_for_a_while_is_only_a_line_in_the_log(bench: Bench, site: Site) -> None:
    """The job goes on, every line arrives once, and the log says that the VM was away."""
    job, said = bench.job(), []
    bench.engage(job, SLOW.format(lines=80))

    async def followed() -> Ending:
        task = asyncio.create_task(bench.follower(job, said, link=90.0).run())
        while len(said) < 5:  # noqa: ASYNC110 - the job is another machine's
            await asyncio.sleep(0.05)
        await asyncio.to_thread(faults.unplug, site, "vm")
        while not any("does not answer" in line for line in said):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
        await asyncio.to_thread(faults.plug, site, "vm")
        return await task

    try:
        assert asyncio.run(followed()) is Ending.ENDED
    finally:
        faults.plug(site, "vm")
    assert [line for line in said if line.startswith("line ")] == [f"line {n}" for n in range(80)]
    assert any("answers again" in line for line in said)


def test_beyond_the_budget_the_job_lives_on_and_the_next_try_attaches(bench: Bench, site: Site) -> None:
    """Following ends with a word, nothing is stopped, and the next follower gets the rest of the log."""
    job, said = bench.job(), []
    bench.engage(job, SLOW.format(lines=300))

    async def followed() -> Ending:
        follower = bench.follower(job, said, link=1.0)
        task = asyncio.create_task(follower.run())
        while len(said) < 5:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        await asyncio.to_thread(faults.unplug, site, "vm")
        return await task

    try:
        assert asyncio.run(followed()) is Ending.UNREACHABLE
    finally:
        faults.plug(site, "vm")
    assert bench.engage(job, "").status == "running"
    assert bench.follow(job, said) is Ending.ENDED
    lines = [line for line in said if line.startswith("line ")]
    assert list(dict.fromkeys(lines)) == [f"line {n}" for n in range(300)]


STEPS = """
import os, signal, sys, time
attempt = os.environ['EDGELOOP_ATTEMPT']
print('attempt', attempt, 'finds', sorted(os.listdir('/checkpoint')), flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN if attempt == '1' else signal.SIG_DFL)
open('/checkpoint/step-' + attempt, 'w').write('x')
os.sync()
print('ready', flush=True)
while True:
    time.sleep(0.05)
"""


def ready(bench: Bench, job: Job) -> None:
    """The next attempt runs and has saved its first step."""
    bench.engage(job, STEPS)
    eventually(lambda: "ready" in bench.on_vm(commands.tail(job)), "the job's start")


def test_a_power_cut_costs_one_attempt(bench: Bench, site: Site) -> None:
    """After the boot the container is found ended, its log is kept, and one attempt goes on from the checkpoint."""
    job = bench.job()
    ready(bench, job)
    with faults.powered_off(site, "vm"), pytest.raises(UnreachableError), Shell(bench.endpoint) as shell:
        shell.run("true", timeout=5)
    found = bench.look(job)
    assert found.status in {"exited", "dead"}
    assert interrupted(found)
    ready(bench, job)
    assert len(bench.on_vm(commands.present(job)).split()) == 1
    assert "attempt 1 finds []" in bench.on_vm(f"cat {job.folder}/attempt-1/log")
    assert bench.on_vm(commands.tail(job)).splitlines()[0] == "attempt 2 finds ['step-1']"


def test_a_stop_that_the_power_cut_short_is_finished_by_the_reaper(bench: Bench, site: Site) -> None:
    """The intent outlives the guard that carried it out: nobody of the task comes back, and no container stays."""
    job = bench.job(grace=300)
    ready(bench, job)
    with Shell(bench.endpoint) as shell:
        TrainingVm(shell).ask(job.at(1), reason="the run was deleted")
    eventually(lambda: bench.look(job).last.stopped, "SIGTERM")
    with faults.powered_off(site, "vm"):
        pass
    found = bench.look(job)
    assert (found.ended, found.last.stopped, found.last.reason) == (True, True, "the run was deleted")
    with Shell(bench.endpoint) as shell:
        report = reaper.reap(TrainingVm(shell), "test", say=bench.said.append)
    assert [line for line in report.done if job.name in line]
    assert bench.on_vm(commands.present(job)) == ""
    assert bench.on_vm(f"ls {job.folder}/checkpoint") == "step-1"


def test_a_stop_outlives_an_engine_that_restarts_with_its_containers(bench: Bench, site: Site) -> None:
    """live-restore: the job runs on, the guard waits for the engine, and the grace counts from SIGTERM."""
    job = bench.job(grace=2)
    try:
        with faults.without_engine(site, "vm", keep_containers=True):
            pass
        ready(bench, job)
        with faults.without_engine(site, "vm", keep_containers=True):
            bench.on_vm(commands.cancel(job.at(1), reason="cleared while the engine was away"))
        eventually(lambda: bench.on_vm(commands.present(job.at(1))) == "", "the stop")
    finally:
        with faults.without_engine(site, "vm", keep_containers=False):
            pass
    assert "attempt 1" in bench.on_vm(f"cat {job.folder}/attempt-1/log")


def test_an_engine_that_restarts_without_its_containers_costs_one_attempt(bench: Bench, site: Site) -> None:
    """Docker ends the container itself: no stop of ours, no failure of the script; the next try goes on."""
    job = bench.job()
    ready(bench, job)
    with faults.without_engine(site, "vm", keep_containers=False):
        pass
    found = bench.look(job)
    assert (found.status, found.last.stopped) == ("exited", False)
    assert interrupted(found)
    ready(bench, job)
    assert bench.on_vm(commands.tail(job)).splitlines()[0] == "attempt 2 finds ['step-1']"
    assert len(bench.on_vm(commands.present(job)).split()) == 1


def test_a_dead_engine_is_told_apart_from_an_absent_job(bench: Bench, site: Site) -> None:
    """While Docker is down nothing is submitted and nothing is called gone; following bears it."""
    job, said = bench.job(), []
    bench.engage(job, SLOW.format(lines=600))
    try:
        faults.crash_engine(site, "vm")
        with Shell(bench.endpoint) as shell, pytest.raises(UnreachableError, match="Docker on"):
            TrainingVm(shell).look(job)
        assert bench.follow(job, said, link=2.0) is Ending.UNREACHABLE
    finally:
        faults.start(site, "vm")
    assert sum("does not answer" in line for line in said) == 1


def test_two_submissions_at_once_are_one_job(bench: Bench) -> None:
    """Eight tasks that want the same training end up with one container."""
    from concurrent.futures import ThreadPoolExecutor

    job = bench.job()

    def one(_: int) -> str:
        return bench.engage(job, SLOW.format(lines=3000)).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(8))) == {"running"}
    assert len(bench.on_vm(commands.present(job)).split()) == 1
    assert bench.on_vm("ls edgeloop/jobs | grep -c part") == "0"


def test_a_staging_whose_ground_another_took_finds_the_job_staged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once: the first to end clears away; a command that failed over that counts only if nothing is staged."""

    def gone(*_: object) -> NoReturn:
        raise RemoteCommandError("stat: cannot statx", left="", next="")

    cargo = Cargo(members=sent("print(1)"))
    with Shell(bench.endpoint) as shell:
        staged, other = bench.job(), bench.job()
        staging.stage(shell, staged, cargo, print)
        monkeypatch.setattr(staging, "survey", gone)
        staging.stage(shell, staged, cargo, print)
        with pytest.raises(RemoteCommandError):
            staging.stage(shell, other, cargo, print)


def test_a_full_disk_starts_nothing(bench: Bench) -> None:
    """What is missing is said in KiB, and how to make room."""
    from edgeloop.errors import ConflictError

    job = bench.job()
    with Shell(bench.endpoint) as shell, pytest.raises(ConflictError, match="KiB are needed"):
        staging.stage(shell, job, Cargo(members=sent("print(1)"), spare_kib=10**12), print)
    assert bench.look(job).folder is False
