"""The text that runs on the VM, word for word: what is locked down here is locked down there."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from edgeloop.training import commands, guard, hold, parked
from edgeloop.training.job import Job, Stop
from edgeloop.training.parked import Parked

if TYPE_CHECKING:
    from pathlib import Path

RUN_ID = "0123456789abcdef" * 4
JOB = Job(run_id=RUN_ID, pipeline="wind_power", image="sha256:feed", cpus=1.5, memory_mb=2048, deadline=1700000000)
NAME = "train-0123456789abcdef01234567"
FOLDER = "edgeloop/jobs/0123456789abcdef01234567"
LOCKDOWN = (
    "--network none --ipc none --read-only --tmpfs /tmp:rw,noexec,nosuid,nodev,size=256m --cap-drop ALL "
    "--security-opt no-new-privileges -u 10001:10001 --pids-limit 512"
)


def test_a_job_is_run_detached_and_locked_down() -> None:
    """The container has no network, no capabilities, no writable root, a user and limits of its own."""
    assert commands.shell_text(commands.run_argv(JOB)) == (
        f"docker run -d --pull never --name {NAME} "
        f"--label edgeloop.training={RUN_ID} --label edgeloop.pipeline=wind_power --label edgeloop.deadline=1700000000 "
        '--label edgeloop.attempt="$n" '
        f"{LOCKDOWN} "
        "--memory 2048m --memory-swap 2048m --cpus 1.5 --init "
        "--log-driver json-file --log-opt max-size=64m --log-opt max-file=4 "
        f'-v "$HOME"/{FOLDER}/data:/data:ro -v "$HOME"/{FOLDER}/code:/code:ro '
        f'-v "$HOME"/{FOLDER}/outputs:/outputs -v "$HOME"/{FOLDER}/checkpoint:/checkpoint '
        "-e EDGELOOP_DATA=/data -e EDGELOOP_OUTPUTS=/outputs "
        '-e EDGELOOP_CHECKPOINT=/checkpoint -e EDGELOOP_ATTEMPT="$n" -e OMP_NUM_THREADS=2'
    )


def test_gpus_are_asked_for_only_where_they_are_declared() -> None:
    """A VM without NVIDIA's toolkit refuses the option itself."""
    assert "--gpus" not in commands.run_argv(JOB)
    argv = commands.run_argv(dataclasses.replace(JOB, gpus=2))
    assert argv[argv.index("--gpus") + 1] == "2"


def test_an_attempt_is_numbered_and_kept_on_the_vm() -> None:
    """Under a lock: the name is free, the disk has room, the number is new; what failed to start leaves nothing."""
    job = dataclasses.replace(JOB, disk_mb=7, grace_seconds=9.5)
    text, _, guarded = commands.submit(job, seconds=60).partition("setsid")
    assert text == (
        f"set -eu\nexec 9<{FOLDER}\nif command -v flock >/dev/null; then flock -w 120 9; fi\n"
        f"if docker container inspect {NAME} >/dev/null 2>&1; "
        f"then echo '{NAME} is already in use by container' >&2; exit 125; fi\n"
        f"free=$(df -Pk {FOLDER} | awk 'NR==2 {{print $4}}')\n"
        'if test "$free" -lt 7168; then\n'
        'echo "7 MiB are needed, $((free / 1024)) MiB are free" >&2; exit 28; fi\n'
        f"{hold.launch(FOLDER, 'sha256:feed', LOCKDOWN)}\n"
        f"n=1\nwhile test -e {FOLDER}/attempt-$n; do n=$((n + 1)); done\nat={FOLDER}/attempt-$n\n"
        f'if test $n -gt 1 && test -n "$(ls -A {FOLDER}/outputs 2>/dev/null)"; then\n'
        f"old={FOLDER}/attempt-$((n - 1))/outputs\ntest -e $old || mv -T {FOLDER}/outputs $old; fi\n"
        f"mkdir -p $at {FOLDER}/outputs {FOLDER}/checkpoint\nchmod 777 {FOLDER}/outputs {FOLDER}/checkpoint\n"
        f"rm -f {FOLDER}/cursor {FOLDER}/cursor-*\n"
        f"printf '%s\\n' wind_power {RUN_ID} sha256:feed >{FOLDER}/job\n"
        "echo $(($(date +%s) + 60)) 9.5 7168 >$at/terms\ncode=0\n"
        f'{commands.shell_text(commands.run_argv(job))} "$@" 9<&- || '
        "code=$?\nif test $code -ne 0; then\n"
        f"docker ps -aq --filter label=edgeloop.training={RUN_ID} --filter label=edgeloop.attempt=$n "
        "--filter status=created | xargs -r docker rm -v >/dev/null\nrm -rf $at; exit $code; fi\n"
    )
    assert guarded.startswith(" nohup sh -c ")
    assert guarded.endswith(" watch $n >/dev/null 2>&1 </dev/null 9<&- &")
    assert "echo 0 9.5 7168 >$at/terms" in commands.submit(job, seconds=0)


def test_an_ended_attempt_is_retired_and_never_a_running_one() -> None:
    """The container is found by name and number; `docker rm` without -f refuses one that runs."""
    assert guard.retire(JOB.at(3)) == (
        f"n=3 here={FOLDER} at={FOLDER}/attempt-3\nset -eu\n"
        f"exec 9<{FOLDER}\nif command -v flock >/dev/null; then flock -w 120 9; fi\n"
        f"id=$(docker ps -a --no-trunc --filter 'name=^/?{NAME}$' --filter label=edgeloop.attempt=$n -q)\n"
        'if test -z "$id"; then exit 0; fi\nmkdir -p $at\n'
        'docker logs --timestamps "$id" >$at/log.part 2>&1 || true\nmv $at/log.part $at/log\n'
        'docker container inspect "$id" >$at/container.json\n'
        "if test -d $here/outputs && ! test -e $at/outputs; then mv -T $here/outputs $at/outputs; fi\n"
        'rm -f $here/cursor $here/cursor-*\ndocker rm -v "$id" >/dev/null'
    )


def test_what_is_there_is_asked_in_one_round_trip() -> None:
    """State, staging and every attempt come together, and a dead engine is not taken for an absent container."""
    assert commands.look(JOB) == (
        f"docker container inspect --format '{{{{json .State}}}} {{{{json .Config.Labels}}}}' {NAME} 2>/dev/null || "
        "{ docker version --format '{{.Server.Version}}' >/dev/null && echo absent || exit 69; }\n"
        f"if test -e {FOLDER}/staged; then echo staged; elif test -e {FOLDER}; then echo bare; else echo none; fi\n"
        f"for at in {FOLDER}/attempt-*; do\ntest -d $at || continue\nflags=-\n"
        "if test -s $at/stopping; then flags=${flags}s; fi\nif test -e $at/unfit; then flags=${flags}u; fi\n"
        f"fresh=$(find {FOLDER}/checkpoint -type f -newer $at/terms 2>/dev/null | head -n 1)\n"
        'if test -n "$fresh"; then flags=${flags}f; fi\n'
        'echo attempt ${at##*-} $(cat $at/memory 2>/dev/null || echo 0 0) $flags "$(cat $at/cancel 2>/dev/null)"\n'
        "done"
    )


def test_a_cancel_is_carried_out_on_the_vm() -> None:
    """The intent with the attempt's number is written down whole; the stop itself does not need the connection."""
    here = f"{FOLDER}/attempt-2"
    text, _, guarded = commands.cancel(JOB.at(2), reason="it's\nover").partition("setsid")
    assert text == (
        f"n=2\nif test -d {here} || "
        f"test -n \"$(docker ps -a --no-trunc --filter 'name=^/?{NAME}$' "
        '--filter label=edgeloop.attempt=$n -q)"; then\n'
        f"mkdir -p {here} && printf '%s\\n' 'cancelled it'\"'\"'s over' >{here}/cancel.part && "
        f"mv {here}/cancel.part {here}/cancel\n"
    )
    assert guarded.endswith(" watch 2 >/dev/null 2>&1 </dev/null 9<&- &\nfi")
    assert "'deadline late'" in commands.cancel(JOB.at(2), reason="late", stop=Stop.DEADLINE)


def test_forgetting_removes_container_and_folder() -> None:
    """Folders that the job's user made are removed by root in a container without a network."""
    assert commands.forget(JOB) == (
        f"said=$(docker rm -f -v {NAME} 2>&1 >/dev/null) || case $said in\n"
        "*'No such container'* | *'is already in progress'*) ;;\n"
        "*) echo \"$said\" >&2; docker version --format '{{.Server.Version}}' >/dev/null 2>&1 && exit 1 || exit 69 ;;\n"
        f"esac\nif test -e {FOLDER}; then rm -rf {FOLDER} 2>/dev/null || "
        "docker run --rm --pull never --network none --read-only --cap-drop ALL --cap-add DAC_OVERRIDE "
        '--security-opt no-new-privileges -u 0:0 -v "$HOME"/edgeloop/jobs:/jobs --entrypoint rm sha256:feed -rf '
        "/jobs/0123456789abcdef01234567 >/dev/null; fi"
    )


@pytest.mark.parametrize(
    ("says", "up", "code"),
    [
        ("", 0, 0),
        ("Error: No such container: x", 0, 0),
        ("Error response from daemon: removal of container x is already in progress", 0, 0),
        ("Error response from daemon: driver failed to remove root filesystem", 0, 1),
        ("Cannot connect to the Docker daemon", 1, commands.ENGINE_DOWN),
    ],
)
def test_a_folder_goes_only_after_its_container(tmp_path: Path, says: str, up: int, code: int) -> None:
    """What could not be removed keeps its folder and is told, so that the next try finds it."""
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\nif test $1 = version; then exit {up}; fi\necho '{says}' >&2\ntest -z '{says}'\n")
    docker.chmod(0o755)
    folder = tmp_path / JOB.folder
    for command in (commands.release(JOB), commands.forget(JOB)):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["sh", "-c", f"cd; {command}"], capture_output=True, text=True, check=False,
            env={"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert (done.returncode, done.stderr.strip()) == (code, says if code else "")
        assert (folder / "data").exists() == bool(code)


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
    assert commands.start(JOB.at(2)).startswith(f"docker start {NAME} && {{ setsid nohup sh -c ")
    assert commands.unfit(JOB.at(2)) == f"if test -d {FOLDER}/attempt-2; then : >{FOLDER}/attempt-2/unfit; fi"
    assert commands.tail(JOB) == (
        f"if docker container inspect {NAME} >/dev/null 2>&1; then docker logs --tail 20 {NAME} 2>&1; "
        f"else log=$(ls -t {FOLDER}/attempt-*/log 2>/dev/null | head -n 1); "
        'test -z "$log" || tail -n 20 "$log" | sed \'s/^[^ ]* //\'; fi'
    )
    assert commands.memory(JOB) == f"docker stats --no-stream --format '{{{{.MemUsage}}}}' {NAME}"
    assert commands.present(JOB) == f"docker ps -a -q --filter 'name=^/?{NAME}$'"
    assert commands.present(JOB.at(2)) == (
        f"n=2; test -e {FOLDER}/attempt-2/late || "
        f"docker ps -a --no-trunc --filter 'name=^/?{NAME}$' --filter label=edgeloop.attempt=$n -q"
    )


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


def test_who_waits_signs_on_the_vm_and_a_cancel_of_what_nobody_wants_knows_of_it(tmp_path: Path) -> None:
    """A task's later try replaces its word; who signed after the question was put keeps the job from being stopped."""
    job = Job(run_id="a" * 64, pipeline="p", image="i", deadline=0).at(1)

    def bash(text: str) -> tuple[int, str]:
        path = {"PATH": os.environ["PATH"]}
        done = subprocess.run(["bash", "-c", text], cwd=tmp_path, env=path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip()

    assert bash(commands.signed(job)) == (0, "")
    bash(f"mkdir -p {job.attempt_folder}")
    one, other = Parked(dag="d", run="it's", task="t", pid=1), Parked(dag="d", run="r", task="t", pid=2)
    for each in (dataclasses.replace(one, pid=7), one):
        bash(commands.follow(job, "me", 1, each))
    was = bash(commands.signed(job))[1]
    assert parked.read(was) == (one,)

    bash(commands.follow(job, "you", 1, other))
    give_up = commands.give_up(job, reason="marked", was=was)
    assert bash(give_up)[0] == commands.CHANGED
    assert not (tmp_path / job.attempt_folder / "cancel").exists()

    both = bash(commands.signed(job))[1]
    assert set(parked.read(both)) == {one, other}
    # What it starts in the background is the VM's; only the word that it leaves is looked at here.
    left, _, _ = commands.give_up(job, reason="marked", was=both).partition("setsid")
    bash(f"{left}\nfi")
    assert (tmp_path / job.attempt_folder / "cancel").read_text() == "cancelled marked\n"
