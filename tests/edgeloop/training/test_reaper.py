"""What a crash left on the VM is finished, by label, and nothing of others is touched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.edgeloop.training.conftest import GOOD_ENDING, Bench, eventually

from edgeloop.ssh.shell import Shell
from edgeloop.training import commands, reaper
from edgeloop.training.job import Attempt, Found, Stop
from edgeloop.training.parked import Parked
from edgeloop.training.reaper import Deed, Remains, Report, judge, parse_survey
from edgeloop.training.remote import TrainingVm

if TYPE_CHECKING:
    from edgeloop.training.job import Job

ME, OTHER = "a" * 64, "b" * 64
NOW = 1_795_000_000.0
DAY = reaper.DAY_SECONDS
WEEK = reaper.KEEP_SECONDS
ENDED = "2026-11-17T00:00:00.5Z"
"""NOW is 2026-11-18T11:06:40Z."""
OLD = "2026-11-01T00:00:00.5Z"
ASKED = (Attempt(number=1, stop=Stop.CANCELLED, reason="cleared"),)
STOPPED = (Attempt(number=1, stop=Stop.CANCELLED, reason="cleared", stopped=True),)


def found(status: str, **more: object) -> Found:
    """A container of this training."""
    return Found(**{"status": status, "owner": ME, "attempt": 1, "attempts": (Attempt(number=1),), **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("there", "deed"),
    [
        (found("running"), Deed.GUARD),
        (found("running", deadline=int(NOW) - 60), Deed.GUARD),
        (found("running", deadline=int(NOW) - 600), Deed.STOP),
        (found("running", deadline=int(NOW) - 600, attempts=ASKED), Deed.GUARD),
        (found("paused"), Deed.GUARD),
        (found("created"), Deed.RETIRE),
        (found("removing"), Deed.LEAVE),
        (found("exited", finished_at=ENDED), Deed.LEAVE),
        (found("exited", finished_at=ENDED, exit_code=1), Deed.LEAVE),
        (found("exited", finished_at=ENDED, attempts=STOPPED), Deed.RETIRE),
        (found("exited", finished_at=ENDED, attempts=ASKED), Deed.LEAVE),
        (found("exited", finished_at=OLD), Deed.FORGET),
        (found("dead", finished_at=OLD), Deed.FORGET),
        (found("exited", finished_at=OLD, owner=OTHER), Deed.LEAVE),
        (Found(folder=True), Deed.LEAVE),
    ],
)
def test_what_is_found_decides(there: Found, deed: Deed) -> None:
    """What runs is guarded, what ended is kept for a retry until its time, a name of somebody else's is left."""
    one = Remains(run_id=ME, image="i", made=NOW - 3600, touched=NOW - DAY)
    assert judge(there, one, clock=NOW, keep=WEEK)[0] is deed


def test_a_container_made_just_now_and_old_state() -> None:
    """Whoever made it may be about to start it; what nobody came for in a week goes."""
    assert judge(found("created"), Remains(run_id=ME, image="i", made=NOW - 5), clock=NOW, keep=WEEK)[0] is Deed.LEAVE
    old = Remains(run_id=ME, image="i", touched=NOW - 8 * DAY)
    assert judge(Found(folder=True), old, clock=NOW, keep=WEEK)[0] is Deed.FORGET


def test_a_survey_is_read_by_pipeline() -> None:
    """Containers and folders of a job are one; others are only counted, as is a folder that says nothing."""

    def container(run_id: str, pipeline: str) -> str:
        labels = json.dumps({"edgeloop.training": run_id, "edgeloop.pipeline": pipeline})
        return f"container 2026-11-17T00:00:00.123456789Z sha256:x {labels}"

    text = "\n".join(
        [
            f"clock {NOW:.0f}",
            container(ME, "wind"),
            container(OTHER, "tide"),
            f"folder {ME[:24]} 1795000001 wind {ME} sha256:x",
            f"folder {'c' * 24} 1795000002 wind {'c' * 64} sha256:x",
            f"folder {OTHER[:24]} 1795000003 tide {OTHER} sha256:x",
            f"folder {'d' * 24} 1795000004",
            "part e.123456.part",
        ]
    )
    survey = parse_survey(text, "wind")
    assert [(one.run_id[:1], one.made > 0, one.touched) for one in survey.remains] == [
        ("a", True, 1795000001.0), ("c", False, 1795000002.0),
    ]  # fmt: skip
    assert (survey.others, survey.parts, survey.clock) == (3, ("e.123456.part",), NOW)
    with pytest.raises((ValueError, KeyError)):
        parse_survey("nonsense", "wind")


SAVES = (
    "import os, signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    "os.makedirs('/checkpoint/mine', exist_ok=True)\n"
    "print('ready', flush=True)\ntime.sleep(600)\n"
)


def ready(bench: Bench, job: Job) -> None:
    """A job that runs until it is stopped."""
    bench.engage(job, SAVES)
    eventually(lambda: "ready" in bench.on_vm(commands.tail(job)), "the job's start")


def reap(bench: Bench, *, keep: float = WEEK, pipeline: str = "test", **options: Any) -> Report:
    """Let the reaper come by."""
    with Shell(bench.endpoint) as shell:
        return reaper.reap(TrainingVm(shell), pipeline, keep=keep, say=bench.said.append, **options)


@pytest.mark.system
def test_the_reaper_finishes_what_was_left_and_touches_nothing_else(bench: Bench) -> None:
    """An intent nobody carried out, a deadline nobody kept, a dead staging; not what ended, nor what is of others."""
    cancelled, late, good, never, other = (bench.job() for _ in range(5))
    for job in (cancelled, late, other):
        ready(bench, job)
    bench.engage(good, GOOD_ENDING)
    bench.follow(good, [])
    bench.engage(never, GOOD_ENDING)
    bench.follow(never, [])
    bench.on_vm("pkill -f 'watch 1$'")
    bench.on_vm(f"echo cancelled by a run that was deleted >{cancelled.folder}/attempt-1/cancel")
    bench.on_vm(f"echo 1 5 0 >{late.folder}/attempt-1/terms")
    labels = f"--label edgeloop.training={never.run_id} --label edgeloop.pipeline=test --label edgeloop.attempt=1"
    bench.on_vm(
        f"docker rm {never.name}; docker create --name {never.name} {labels} {bench.image}; "
        "docker run -d --name bystander --network none --entrypoint sleep "
        f"--label edgeloop.training=x --label edgeloop.pipeline=tide {bench.image} 600; "
        "mkdir -p edgeloop/jobs/x.abc123.part edgeloop/jobs/y.abc123.part; touch -d '2 hours ago' edgeloop/jobs/x.*"
    )
    try:
        reap(bench)
        eventually(lambda: bench.on_vm(commands.present(cancelled.at(1))) == "", "the stop of what was cancelled")
        eventually(lambda: bench.look(late).ended, "the stop of what is late")
        assert bench.look(late).last.stop is Stop.DEADLINE
        assert (bench.look(other).status, bench.look(good).status) == ("running", "exited")
        assert bench.look(never).status == "created"
        assert bench.on_vm("ls edgeloop/jobs | grep part") == "y.abc123.part"
        assert bench.on_vm("docker inspect -f '{{.State.Status}}' bystander") == "running"
        report = reap(bench, keep=0.0)
        assert report.failed == []
        assert bench.look(other).status == "running"
        assert {job.name for job in (cancelled, late, good)} <= {
            word.rstrip(":") for line in report.done for word in line.split()
        }
        assert bench.on_vm(f"ls -d {cancelled.folder} {late.folder} {good.folder} 2>/dev/null") == ""
        assert any("not of test" in line for line in report.left)
        assert bench.on_vm("docker inspect -f '{{.State.Status}}' bystander") == "running"
    finally:
        bench.on_vm("docker rm -f bystander; rm -rf edgeloop/jobs/*.part")


@pytest.mark.system
def test_what_runs_for_nobody_is_cancelled_and_what_somebody_took_up_is_not(bench: Bench) -> None:
    """Whoever never signed is not asked about; a task that attaches while Airflow is asked keeps the job."""
    marked, attached, unsigned = (bench.job() for _ in range(3))
    one, other, later = (Parked(dag="d", run=run, task="t") for run in ("marked", "attached", "later"))
    for job in (marked, attached, unsigned):
        ready(bench, job)
    bench.on_vm(commands.follow(marked, "one", 1, one))
    bench.on_vm(commands.follow(attached, "other", 1, other))
    asked: list[tuple[Parked, ...]] = []

    def given_up(waiting: tuple[Parked, ...]) -> str:
        asked.append(waiting)
        if waiting == (other,):
            bench.on_vm(commands.follow(attached, "later", 1, later))
        return "it was marked"

    report = reap(bench, given_up=given_up)
    assert sorted(asked, key=lambda each: each[0].run) == [(other,), (one,)]
    assert f"cancelled {marked.name}: it was marked" in report.done
    assert {f"guarded {job.name}: it runs" for job in (attached, unsigned)} <= set(report.left)
    eventually(lambda: bench.on_vm(commands.present(marked.at(1))) == "", "the end of what nobody wants")
    assert bench.look(marked).last.reason == "it was marked"
    assert {bench.look(job).status for job in (attached, unsigned)} == {"running"}
