"""The text that runs on the VM, word for word: what is locked down here is locked down there."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from edgeloop.training import commands
from edgeloop.training.job import Job

if TYPE_CHECKING:
    from pathlib import Path

RUN_ID = "0123456789abcdef" * 4
JOB = Job(run_id=RUN_ID, pipeline="wind_power", image="sha256:feed", cpus=1.5, memory_mb=2048, deadline=1700000000)
NAME = "train-0123456789abcdef01234567"
FOLDER = "edgeloop/jobs/0123456789abcdef01234567"


def test_a_job_is_submitted_detached_and_locked_down() -> None:
    """The container has no network, no capabilities, no writable root, a user and limits of its own."""
    assert commands.submit(JOB) == (
        f"docker run -d --pull never --name {NAME} "
        f"--label edgeloop.training={RUN_ID} --label edgeloop.pipeline=wind_power --label edgeloop.deadline=1700000000 "
        "--network none --ipc none --read-only --tmpfs /tmp:rw,noexec,nosuid,nodev,size=256m --cap-drop ALL "
        "--security-opt no-new-privileges -u 10001:10001 --pids-limit 512 "
        "--memory 2048m --memory-swap 2048m --cpus 1.5 --init "
        "--log-driver json-file --log-opt max-size=64m --log-opt max-file=4 "
        f'-v "$HOME"/{FOLDER}/data:/data:ro -v "$HOME"/{FOLDER}/code:/code:ro -v "$HOME"/{FOLDER}/outputs:/outputs '
        "-e EDGELOOP_DATA=/data -e EDGELOOP_OUTPUTS=/outputs -e OMP_NUM_THREADS=2 sha256:feed"
    )


def test_what_is_there_is_asked_in_one_round_trip() -> None:
    """State, staging and a cancel come together, and a dead engine is not taken for an absent container."""
    assert commands.look(JOB) == (
        f"docker container inspect --format '{{{{json .State}}}} {{{{json .Config.Labels}}}}' {NAME} 2>/dev/null || "
        "{ docker version --format '{{.Server.Version}}' >/dev/null && echo absent || exit 69; }\n"
        f"if test -e {FOLDER}/staged; then echo staged; elif test -e {FOLDER}; then echo bare; else echo none; fi\n"
        f"cat {FOLDER}/cancel 2>/dev/null || true"
    )


def test_a_poll_asks_for_state_and_the_lines_since_the_last() -> None:
    """One command tells whether it runs, has ended, is gone or cannot be asked, and what it wrote meanwhile."""
    assert commands.poll(JOB, "2014-01-01T00:00:00.000000001Z") == (
        f"if state=$(docker container inspect --format '{{{{json .State}}}}' {NAME} 2>/dev/null); then\n"
        "printf '%s\\n' \"$state\"\n"
        f"docker logs --timestamps --since 2014-01-01T00:00:00.000000001Z {NAME} 2>&1 | head -c 1000000\n"
        "elif docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then echo '{\"Status\":\"absent\"}'\n"
        "else exit 69; fi"
    )


def test_the_first_poll_asks_for_the_log_from_its_beginning() -> None:
    """Without a last line there is no --since."""
    assert "--since" not in commands.poll(JOB, "")


def test_a_cancel_is_carried_out_on_the_vm() -> None:
    """The reason is written down first; the stop, its grace and the tidying do not need the connection."""
    assert commands.cancel(JOB, reason="it's over", grace=7) == (
        f"if test -d {FOLDER}; then printf '%s\\n' 'it'\"'\"'s over' >{FOLDER}/cancel.part && "
        f"mv {FOLDER}/cancel.part {FOLDER}/cancel; fi\n"
        f"setsid nohup sh -c {commands.shell_text([f'docker stop -t 7 {NAME}; {commands.forget(JOB)}'])} "
        ">/dev/null 2>&1 </dev/null &"
    )


def test_forgetting_removes_container_and_folder() -> None:
    """Folders that the job's user made are removed by root in a container without a network."""
    assert commands.forget(JOB) == (
        f"docker rm -f -v {NAME} >/dev/null 2>&1; if test -e {FOLDER}; then rm -rf {FOLDER} 2>/dev/null || "
        "docker run --rm --pull never --network none --read-only --cap-drop ALL --cap-add DAC_OVERRIDE "
        '--security-opt no-new-privileges -u 0:0 -v "$HOME"/edgeloop/jobs:/jobs --entrypoint rm sha256:feed -rf '
        "/jobs/0123456789abcdef01234567 >/dev/null; fi"
    )


def test_outputs_are_fetched_through_docker() -> None:
    """Docker packs a link as a link, so the name of an output can never lead to a file of the VM."""
    assert commands.fetch(JOB, "model.onnx") == f"docker cp {NAME}:/outputs/model.onnx - | tar -xOf -"
    assert commands.digests(JOB, ("model.onnx",)) == (
        "set -e\n"
        f"printf '%s  model.onnx\\n' \"$(docker cp {NAME}:/outputs/model.onnx - | tar -xOf - | sha256sum | "
        "cut -d' ' -f1)\""
    )


def test_small_questions() -> None:
    """The commands of one line."""
    assert commands.start(JOB) == f"docker start {NAME}"
    assert commands.tail(JOB) == f"docker logs --tail 20 {NAME} 2>&1"
    assert commands.keep(JOB, "2014Z") == f"printf %s 2014Z >{FOLDER}/cursor 2>/dev/null || true"
    assert commands.kept(JOB) == f"cat {FOLDER}/cursor 2>/dev/null || true"
    assert commands.memory(JOB) == f"docker stats --no-stream --format '{{{{.MemUsage}}}}' {NAME}"
    assert commands.present(JOB) == f"docker ps -a -q --filter 'name=^/?{NAME}$'"
    assert commands.listing(JOB) == f"find {FOLDER}/outputs -mindepth 1 -printf '%y %s %P\\0'"


def test_an_argument_cannot_become_shell() -> None:
    """A name with shell signs in it stays one word."""
    assert commands.shell_text(["echo", "$(reboot); `x`"]) == "echo '$(reboot); `x`'"


def test_who_follows_is_left_on_the_vm_and_read_back(tmp_path: Path) -> None:
    """The later try's number replaces the earlier one's, another task's is its own, and no folder is no follower."""
    job = Job(run_id="a" * 64, pipeline="p", image="i", deadline=0)

    def bash(text: str) -> str:
        path = {"PATH": os.environ["PATH"]}
        done = subprocess.run(["bash", "-c", text], cwd=tmp_path, env=path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert bash(commands.follow(job, "task", 1)) == bash(commands.follower(job, "task")) == ""
    bash(f"mkdir -p {job.folder}")
    for attempt in (1, 2):
        bash(commands.follow(job, "task", attempt))
    bash(commands.follow(job, "other", 7))
    assert bash(commands.follower(job, "task")) == "2"
