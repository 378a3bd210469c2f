"""Following a job over a real link: the log to its last line, the end within a poll, and what may break."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.training.conftest import Bench, eventually

from edgeloop.training import commands, follow, follow_commands, follow_log
from edgeloop.training.follow import Ending, Follower, Patience
from edgeloop.training.job import Found
from lab import faults

if TYPE_CHECKING:
    from tests.gates import Gates

    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.training.job import Job
    from lab.site import Site

pytestmark = pytest.mark.system
LOADED_SECONDS = 8.0
"""What a machine that runs everything else, too, may add."""
LINES = "import time\nfor n in range({lines}):\n    print('line', n, flush=True)\n    time.sleep({pause})\n"


def spoken(said: list[str]) -> list[int]:
    """The numbers of the job's lines."""
    return [int(line.split()[1]) for line in said if line.startswith("line ")]


async def until(said: list[str], text: str) -> None:
    """Wait until somebody said it."""
    while not any(text in line for line in said):  # noqa: ASYNC110 - the job is another machine's
        await asyncio.sleep(0.02)


def test_a_burst_on_both_outputs_arrives_whole(bench: Bench) -> None:
    """A hundred thousand lines, written by two threads at full speed while they are read: each once, none lost."""
    job, said = bench.job(), []
    bench.engage(
        job,
        "import os, threading\n"
        "def write(fd, name):\n"
        "    for n in range(50000):\n        os.write(fd, f'{name} {n}\\n'.encode())\n"
        "threads = [threading.Thread(target=write, args=one) for one in ((1, 'out'), (2, 'err'))]\n"
        "[one.start() for one in threads]\n[one.join() for one in threads]\nprint('last')\n",
    )
    assert bench.follow(job, said, poll=0.05) is Ending.ENDED
    assert said[-1] == "last"
    for name in ("out", "err"):
        mine = [int(line.split()[1]) for line in said if line.startswith(name)]
        assert len(mine) == 50000
        assert sorted(mine) == list(range(50000))


def test_bytes_long_lines_and_blank_lines_arrive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a megabyte without an end of line, bytes that are no text, nothing at all; then one that is too long."""
    for module in (follow_commands, follow_log):
        monkeypatch.setattr(module, "PIECE_BYTES", 1_000_000)
    job, said = bench.job(), []
    bench.engage(
        job,
        "import os\n"
        "def say(raw):\n    while raw:\n        raw = raw[os.write(1, raw):]\n"
        "say(b'\\xff\\xfe\\x00\\n')\nsay(b'\\n')\nsay(b'x' * 500000 + b'\\n')\n"
        "say(b'y' * 3000000 + b'\\n')\nsay(b'end without a line end')\n",
    )
    assert bench.follow(job, said) is Ending.ENDED
    assert said[:3] == ["\ufffd\ufffd\x00", "", "x" * 500_000]
    assert said[3].startswith("y" * 900_000)
    assert said[3].endswith("all of it is in `docker logs` on the VM)")
    assert said[4:] == ["end without a line end"]


def test_lines_that_docker_rotated_away_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that writes more between two looks than Docker keeps: the log says so, and goes on with what is there."""
    small = {"max-size=64m": "max-size=64k", "max-file=4": "max-file=2"}
    whole = commands.run_argv
    monkeypatch.setattr(commands, "run_argv", lambda job: [small.get(one, one) for one in whole(job)])
    job, said = bench.job(), []
    bench.engage(
        job,
        "import os, time\nprint('line 0', flush=True)\n"
        "while not os.path.exists('/outputs/go'):\n    time.sleep(0.01)\n"
        "for n in range(1, 9001):\n    print('line', n)\n",
    )

    async def followed() -> Ending:
        task = asyncio.create_task(bench.follower(job, said, poll=0.01).run())
        await until(said, "line 0")
        task.cancel()
        await asyncio.wait([task])
        await asyncio.to_thread(bench.on_vm, f"touch {job.folder}/outputs/go; docker wait {job.name}")
        return await bench.follower(job, said).run()

    assert asyncio.run(followed()) is Ending.ENDED
    numbers = spoken(said)
    assert (numbers[0], numbers[-1]) == (0, 9000)
    assert 1 < len(numbers) < 9001
    assert [line.partition(":")[0] for line in said if not line.startswith("line ")] == ["Lines were lost"]


def test_a_follower_that_is_killed_is_taken_over_from(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers killed at any moment and replaced: no line is lost, and what comes twice comes with the same stamp."""
    monkeypatch.setattr(follow, "GOODBYE_SECONDS", 0.0)
    job, quoted = bench.job(), []
    bench.engage(job, LINES.format(lines=60, pause=0.03))

    async def relay() -> Ending:
        for target in (5, 15, 25, 35):
            task = asyncio.create_task(named(bench, job, quoted).run())
            while len(quoted) < target:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
        return await named(bench, job, quoted).run()

    assert asyncio.run(relay()) is Ending.ENDED
    once = list(dict.fromkeys(quoted))
    assert [text for text, _ in once] == [f"line {n}" for n in range(60)]
    assert [stamp for _, stamp in once] == sorted({stamp for _, stamp in once})


def test_what_the_log_holds_is_not_repeated(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the task's log can be read, a follower killed without a word is replaced without a line twice or lost."""
    monkeypatch.setattr(follow, "GOODBYE_SECONDS", 0.0)
    job, quoted = bench.job(), []
    bench.engage(job, LINES.format(lines=60, pause=0.03))

    async def logged() -> str:
        return quoted[-1][1] if quoted else ""

    async def relay() -> Ending:
        for target in (5, 15, 25, 35):
            task = asyncio.create_task(named(bench, job, quoted, logged=logged).run())
            while len(quoted) < target:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
        return await named(bench, job, quoted, logged=logged).run()

    assert asyncio.run(relay()) is Ending.ENDED
    assert [text for text, _ in quoted] == [f"line {n}" for n in range(60)]


def test_two_tasks_that_follow_one_job_both_get_its_whole_log(bench: Bench) -> None:
    """Each name has its own place, so the second identical run does not begin in the middle."""
    job, first, second = bench.job(), [], []
    bench.engage(job, LINES.format(lines=5, pause=0))

    async def both() -> None:
        await named(bench, job, first, who="a").run()
        await named(bench, job, second, who="b").run()
        await named(bench, job, second, who="b").run()

    asyncio.run(both())
    assert [text for text, _ in first] == [text for text, _ in second] == [f"line {n}" for n in range(5)]


def test_thirty_followers_of_one_vm_are_one_login(bench: Bench, gates: Gates) -> None:
    """On an sshd with its own limits (MaxSessions 10, MaxStartups 10:30:100) each of them gets the whole log."""
    gate = gates()
    bench.endpoint = gate.endpoint
    job = bench.job()
    bench.engage(job, LINES.format(lines=20, pause=0.02))
    before, logs = gate.logins(), [[] for _ in range(30)]

    async def all_of_them() -> None:
        await asyncio.gather(*(named(bench, job, log, who=f"f{n}").run() for n, log in enumerate(logs)))

    asyncio.run(all_of_them())
    assert gate.logins() - before == 1
    assert [[text for text, _ in log] for log in logs] == [[f"line {n}" for n in range(20)]] * 30


def named(bench: Bench, job: Job, quoted: list[tuple[str, str]], **options: object) -> Follower:
    """A follower that keeps stamps."""

    async def endpoint() -> Endpoint:
        return bench.endpoint

    return Follower(
        job=job, connection="edgeloop_vm", endpoint=endpoint, say=lambda _: None, host="here",
        quote=lambda text, stamp: quoted.append((text, stamp)), patience=Patience(poll=0.02), **options,
    )  # fmt: skip


def test_a_heartbeat_tells_time_memory_and_progress(bench: Bench) -> None:
    """Since when the job runs, not since when it is followed; what it uses; and the progress that it told last."""
    job, said = bench.job(), []
    bench.engage(job, "import time\nprint('progress 0.42 of 3 epochs', flush=True)\ntime.sleep(60)\n")
    eventually(lambda: bench.look(job).status == "running", "the job")

    async def followed() -> None:
        follower = bench.follower(job, said)
        follower.patience = Patience(poll=0.05, heartbeat=0.1)
        task = asyncio.create_task(follower.run())
        await until(said, "is running")
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(followed())
    line = next(one for one in said if "is running" in one)
    assert "1 lines" in line
    assert "MiB / 256MiB" in line
    assert line.endswith("progress 0.42 of 3 epochs")


def test_a_heartbeat_counts_from_the_jobs_start_by_the_vms_clock(bench: Bench) -> None:
    """A follower that came an hour late, on a machine whose clock is off, says what is true."""
    found = Found(status="running", started_at="2026-01-01T10:00:00.5Z")
    clock = follow.started(found) + 3725
    line = follow.heartbeat(bench.job(), found, clock=clock, lines=7, used="", last="")
    assert line.endswith("is running: 3725 s, 7 lines")


@pytest.mark.fault
def test_a_short_cut_is_invisible(bench: Bench, site: Site) -> None:
    """A link that is cut for five seconds costs no line and not even a word: the kernel makes up for it."""
    job, said = bench.job(), []
    bench.engage(job, LINES.format(lines=80, pause=0.1))

    async def followed() -> Ending:
        task = asyncio.create_task(bench.follower(job, said).run())
        await until(said, "line 3")
        await asyncio.to_thread(faults.unplug, site, "vm")
        await asyncio.sleep(5)  # the length of the cut is what is tried
        await asyncio.to_thread(faults.plug, site, "vm")
        return await task

    try:
        assert asyncio.run(followed()) is Ending.ENDED
    finally:
        faults.plug(site, "vm")
    assert spoken(said) == list(range(80))
    assert len(said) == 80


@pytest.mark.fault
def test_sshd_may_be_restarted(bench: Bench, gates: Gates) -> None:
    """Every session is gone for a while; the log says so once and loses nothing."""
    gate = gates()
    bench.endpoint = gate.endpoint
    job, said = bench.job(), []
    bench.engage(job, LINES.format(lines=50, pause=0.1))

    async def followed() -> Ending:
        task = asyncio.create_task(bench.follower(job, said).run())
        await until(said, "line 3")
        gate.end()
        await until(said, "does not answer")
        await asyncio.to_thread(gates, port=gate.endpoint.port, host_key=gate.host_key)
        return await task

    assert asyncio.run(followed()) is Ending.ENDED
    assert spoken(said) == list(range(50))
    assert sum("does not answer" in line for line in said) == 1
    assert sum("answers again" in line for line in said) == 1


@pytest.mark.fault
def test_a_job_that_died_with_the_vms_power_is_noticed_at_once(bench: Bench, site: Site) -> None:
    """When the engine answers after the boot, the follower knows within one poll and a second."""
    job, said = bench.job(), []
    bench.engage(job, LINES.format(lines=10000, pause=0.05))

    async def followed() -> tuple[Ending, float]:
        task = asyncio.create_task(bench.follower(job, said, link=120.0, poll=0.5).run())
        await until(said, "line 3")
        await asyncio.to_thread(faults.power_off, site, "vm")
        await until(said, "does not answer")
        await asyncio.to_thread(faults.power_on, site, "vm")
        up = time.monotonic()
        return await task, time.monotonic() - up

    ending, seconds = asyncio.run(followed())
    assert ending is Ending.ENDED
    assert seconds < 0.5 + 1 + LOADED_SECONDS
    assert bench.look(job).status in {"exited", "dead"}
