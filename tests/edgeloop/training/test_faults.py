"""Trainings that outlive what happens to the link, the engine and the VM's power."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.training.conftest import Bench, eventually, sent

from edgeloop.errors import UnreachableError
from edgeloop.ssh import endpoint as ssh_endpoint
from edgeloop.ssh.shell import Shell
from edgeloop.training import commands, staging
from edgeloop.training.bundle import Cargo
from edgeloop.training.follow import Ending
from edgeloop.training.remote import TrainingVm
from lab import faults

if TYPE_CHECKING:
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


def test_a_command_on_a_vm_that_falls_silent_ends(bench: Bench, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is cut in the middle of a command is noticed by the idle time-out, long before the whole one."""
    monkeypatch.setattr("edgeloop.ssh.shell.IDLE_SECONDS", 5.0)
    monkeypatch.setattr("edgeloop.ssh.shell.KEEPALIVE_SECONDS", 1.0)
    began = time.monotonic()
    with Shell(bench.endpoint) as shell:
        shell.run("true", timeout=10)
        with faults.cut(site, "vm"), pytest.raises(UnreachableError, match="edgeloop_vm"):
            shell.run("sleep 100", timeout=90)
    assert time.monotonic() - began < 60


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
        while len(said) < 5 or follower._kept != follower._cursor:  # noqa: ASYNC110 - as above
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


def test_a_power_cut_costs_one_attempt(bench: Bench, site: Site) -> None:
    """After the boot the container is found ended, its log is kept, and one new container runs."""
    job = bench.job()
    bench.engage(job, SLOW.format(lines=1000))
    eventually(lambda: "line 3" in bench.on_vm(commands.tail(job)), "the job")
    with faults.powered_off(site, "vm"), pytest.raises(UnreachableError), Shell(bench.endpoint) as shell:
        shell.run("true", timeout=5)
    assert bench.look(job).status in {"exited", "dead"}
    assert bench.engage(job, SLOW.format(lines=1000)).status == "running"
    assert len(bench.on_vm(commands.present(job)).split()) == 1
    assert "line 0" in bench.on_vm(f"cat {job.folder}/attempt-1/log")


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
        return bench.engage(job, SLOW.format(lines=100)).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(8))) == {"running"}
    assert len(bench.on_vm(commands.present(job)).split()) == 1
    assert bench.on_vm("ls edgeloop/jobs | grep -c part") == "0"


def test_a_full_disk_starts_nothing(bench: Bench) -> None:
    """What is missing is said in KiB, and how to make room."""
    from edgeloop.errors import ConflictError

    job = bench.job()
    with Shell(bench.endpoint) as shell, pytest.raises(ConflictError, match="KiB are needed"):
        staging.stage(shell, job, Cargo(members=sent("print(1)"), spare_kib=10**12), print)
    assert bench.look(job).folder is False
