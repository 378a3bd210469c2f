"""A training VM of the test site, and jobs that are removed again."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from edgeloop.records import sha256_hex
from edgeloop.ssh.endpoint import Endpoint
from edgeloop.ssh.shell import Shell
from edgeloop.training import session
from edgeloop.training.bundle import Cargo, Member, member
from edgeloop.training.follow import Ending, Follower, Patience
from edgeloop.training.job import Found, Job
from edgeloop.training.remote import TrainingVm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.site import Site

DEADLINE_SECONDS = 60.0
GOOD_ENDING = """
open("/outputs/model.onnx", "wb").write(b"onnx" * 1000)
open("/outputs/metrics.json", "w").write('{"accuracy": 0.5}')
"""


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; fails the test when it does not come true in time."""
    until = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < until, f"{what} did not come true"
        time.sleep(0.1)


@dataclass
class Bench:
    """A VM, and jobs on it."""

    endpoint: Endpoint
    image: str
    jobs: list[Job] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def job(self, *, memory_mb: int = 256, seconds: float = 120.0, grace: float = 5.0) -> Job:
        """A job nobody else has."""
        job = Job(
            run_id=sha256_hex(uuid.uuid4().bytes), pipeline="test", image=self.image, memory_mb=memory_mb,
            deadline=int(time.time() + seconds), grace_seconds=grace,
        )  # fmt: skip
        self.jobs.append(job)
        return job

    def engage(self, job: Job, script: str) -> Found:
        """See to it that the job runs the script."""
        with Shell(self.endpoint) as shell:
            found = session.engage(TrainingVm(shell), job, Cargo(members=sent(script)), self.said.append)
            assert found is not None
            return found

    def look(self, job: Job) -> Found:
        """What is there."""
        with Shell(self.endpoint) as shell:
            return TrainingVm(shell).look(job)

    def on_vm(self, command: str) -> str:
        """What a command on the VM says."""
        with Shell(self.endpoint) as shell:
            return shell.run(command, timeout=30).text

    def follower(self, job: Job, said: list[str], *, link: float = 30.0, poll: float = 0.2) -> Follower:
        """Somebody who follows the job."""

        async def endpoint() -> Endpoint:
            return self.endpoint

        return Follower(
            job=job,
            connection=self.endpoint.connection,
            endpoint=endpoint,
            say=said.append,
            patience=Patience(poll=poll, link=link),
        )

    def follow(self, job: Job, said: list[str], **patience: float) -> Ending:
        """Follow to the end."""
        return asyncio.run(self.follower(job, said, **patience).run())


def sent(script: str) -> tuple[Member, ...]:
    """What a job is sent when its train.py is ``script``."""
    return (member("data/dataset.json", b"{}"), member("code/train.py", script.encode()))


@pytest.fixture
def bench(site: Site) -> Iterator[Bench]:
    """The test site's VM; jobs are removed afterwards."""
    vm = site.vm
    endpoint = Endpoint(
        connection="edgeloop_vm",
        host=vm.host,
        port=vm.port,
        user=vm.user,
        key_file=str(vm.key_file),
        host_key=vm.host_key,
    )
    one = Bench(endpoint=endpoint, image=site.images.trainer)
    yield one
    with Shell(endpoint) as shell:
        for job in one.jobs:
            TrainingVm(shell).forget(job)
