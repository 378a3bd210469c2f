"""The shell text and Docker arguments of a training, built without any effect.

Everything is POSIX shell for the login user's shell on the VM, which starts in the user's home.
"""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from edgeloop.training.job import FOLDER, LABEL_DEADLINE, LABEL_PIPELINE, LABEL_TRAINING

if TYPE_CHECKING:
    from edgeloop.training.job import Job

HOME = "@HOME@"
"""Stands for the far side's home in an argument; no other shell expansion is ever wanted."""
USER = "10001:10001"
PIDS = 512
TMP_MB = 256
LOG_PIECE_BYTES = 1_000_000
TAIL_LINES = 20
ENGINE_DOWN = 69
GRACE_SECONDS = 30
_STATE = "{{json .State}} {{json .Config.Labels}}"
_ENGINE = "docker version --format '{{.Server.Version}}'"
_LOCKDOWN = (
    "--network", "none",
    "--ipc", "none",
    "--read-only",
    "--tmpfs", f"/tmp:rw,noexec,nosuid,nodev,size={TMP_MB}m",  # noqa: S108 - the container's own
    "--cap-drop", "ALL",
    "--security-opt", "no-new-privileges",
    "-u", USER,
    "--pids-limit", str(PIDS),
)  # fmt: skip


def shell_text(argv: list[str]) -> str:
    """``argv`` quoted for a POSIX shell, with ``HOME`` standing for the far side's home."""
    return shlex.join(argv).replace(HOME, '"$HOME"')


def run_argv(job: Job) -> list[str]:
    """``docker run`` of a job: detached, locked down, never pulled; everything it may use is in its three folders."""
    here = f"{HOME}/{job.folder}"
    return [
        "docker", "run", "-d", "--pull", "never", "--name", job.name,
        "--label", f"{LABEL_TRAINING}={job.run_id}",
        "--label", f"{LABEL_PIPELINE}={job.pipeline}",
        "--label", f"{LABEL_DEADLINE}={job.deadline}",
        *_LOCKDOWN,
        "--memory", f"{job.memory_mb}m", "--memory-swap", f"{job.memory_mb}m",
        "--cpus", f"{job.cpus:g}",
        "--init",
        "--log-driver", "json-file", "--log-opt", "max-size=64m", "--log-opt", "max-file=4",
        "-v", f"{here}/data:/data:ro", "-v", f"{here}/code:/code:ro", "-v", f"{here}/outputs:/outputs",
        "-e", "EDGELOOP_DATA=/data", "-e", "EDGELOOP_OUTPUTS=/outputs",
        "-e", f"OMP_NUM_THREADS={max(1, math.ceil(job.cpus))}",
        job.image,
    ]  # fmt: skip


def submit(job: Job) -> str:
    """Start the job; Docker answers 125 and "already in use" when it is there already."""
    return shell_text(run_argv(job))


def start(job: Job) -> str:
    """Start a container that was made but not started."""
    return shell_text(["docker", "start", job.name])


def look(job: Job) -> str:
    """What is there under the job's name, in one round trip: its state, whether it is staged, who cancelled it."""
    inspect = shell_text(["docker", "container", "inspect", "--format", _STATE, job.name])
    return (
        f"{inspect} 2>/dev/null || {{ {_ENGINE} >/dev/null && echo absent || exit {ENGINE_DOWN}; }}\n"
        f"if test -e {job.folder}/staged; then echo staged; "
        f"elif test -e {job.folder}; then echo bare; else echo none; fi\n"
        f"cat {job.folder}/cancel 2>/dev/null || true"
    )


def compute(image: str) -> str:
    """What a VM must be able to do, as ``key=value`` lines: Docker, the image, free disk in KiB, its clock."""
    inspect = shell_text(["docker", "image", "inspect", "--format", "{{.Id}}", image])
    return (
        f"echo docker=$({_ENGINE})\n"
        f"echo image=$({inspect} 2>/dev/null)\n"
        f"mkdir -p {FOLDER} && chmod 700 {FOLDER}\n"
        f"echo free_kib=$(df -Pk {FOLDER} | awk 'NR==2 {{print $4}}')\n"
        "echo clock=$(date +%s)"
    )


def image_id(image: str) -> str:
    """The id of an image on the VM."""
    return shell_text(["docker", "image", "inspect", "--format", "{{.Id}}", image])


def poll(job: Job, since: str) -> str:
    """State and new log lines in one round trip; ``since`` is the timestamp of the last line that was passed on."""
    inspect = shell_text(["docker", "container", "inspect", "--format", "{{json .State}}", job.name])
    after = ["--since", since] if since else []
    logs = shell_text(["docker", "logs", "--timestamps", *after, job.name])
    return (
        f"if state=$({inspect} 2>/dev/null); then\n"
        f"printf '%s\\n' \"$state\"\n"
        f"{logs} 2>&1 | head -c {LOG_PIECE_BYTES}\n"
        f'elif {_ENGINE} >/dev/null 2>&1; then echo \'{{"Status":"absent"}}\'\n'
        f"else exit {ENGINE_DOWN}; fi"
    )


def keep(job: Job, since: str) -> str:
    """Keep the timestamp of the last line that was passed on, for a trigger in another process."""
    return f"printf %s {shlex.quote(since)} >{job.folder}/cursor 2>/dev/null || true"


def kept(job: Job) -> str:
    """The timestamp that an earlier trigger kept; nothing if there was none."""
    return f"cat {job.folder}/cursor 2>/dev/null || true"


def memory(job: Job) -> str:
    """What the job uses now, ``123MiB / 2GiB``."""
    return shell_text(["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", job.name])


def tail(job: Job) -> str:
    """The last lines of its log."""
    return shell_text(["docker", "logs", "--tail", str(TAIL_LINES), job.name]) + " 2>&1"


def cancel(job: Job, *, reason: str, grace: int = GRACE_SECONDS) -> str:
    """Stop and remove the job: SIGTERM, ``grace`` seconds, SIGKILL, carried out on the VM whatever becomes of us."""
    mark = f"{job.folder}/cancel"
    work = f"docker stop -t {grace} {job.name}; {forget(job)}"
    return (
        f"if test -d {job.folder}; then printf '%s\\n' {shlex.quote(reason)} >{mark}.part && "
        f"mv {mark}.part {mark}; fi\n"
        f"setsid nohup sh -c {shlex.quote(work)} >/dev/null 2>&1 </dev/null &"
    )


def follow(job: Job, who: str, attempt: int) -> str:
    """Leave word which try of ``who`` (a task of one run) follows the job now."""
    mark = f"{job.folder}/follower-{who}"
    return f"if test -d {job.folder}; then echo {attempt} >{mark}.part && mv {mark}.part {mark}; fi"


def follower(job: Job, who: str) -> str:
    """Print the number that :func:`follow` left; nothing if there is none."""
    return f"cat {job.folder}/follower-{who} 2>/dev/null || true"


def forget(job: Job) -> str:
    """Remove the job's container and folder.

    What the job wrote into folders of its own belongs to its user: root in a container removes that.
    """
    sweep = shell_text(
        ["docker", "run", "--rm", "--pull", "never", "--network", "none", "--read-only", "--cap-drop", "ALL",
         "--cap-add", "DAC_OVERRIDE", "--security-opt", "no-new-privileges", "-u", "0:0",
         "-v", f"{HOME}/{FOLDER}:/jobs", "--entrypoint", "rm", job.image, "-rf", f"/jobs/{job.short}"]
    )  # fmt: skip
    return (
        f"docker rm -f -v {job.name} >/dev/null 2>&1; "
        f"if test -e {job.folder}; then rm -rf {job.folder} 2>/dev/null || "
        f"{sweep} >/dev/null; fi"
    )


def release(job: Job) -> str:
    """Remove the job's container and every row of data; what it wrote stays in its folder."""
    return (
        f"docker rm -f -v {job.name} >/dev/null 2>&1; cd {job.folder} && rm -rf staged data code cursor manifest.sha256"
    )


def present(job: Job) -> str:
    """The ids of containers of the job's name, running or not; nothing when it is gone."""
    return shell_text(["docker", "ps", "-a", "-q", "--filter", f"name=^/?{job.name}$"])


def retire(job: Job) -> str:
    """Make room for the next attempt: its log and outputs are kept beside, its container is removed."""
    here = job.folder
    return f"""set -eu
n=1
while test -e {here}/attempt-$n; do n=$((n + 1)); done
mkdir -p {here}/attempt-$n
docker logs --timestamps {job.name} >{here}/attempt-$n/log 2>&1 || true
docker container inspect {job.name} >{here}/attempt-$n/container.json
docker rm -f -v {job.name} >/dev/null
if test -e {here}/outputs; then mv {here}/outputs {here}/attempt-$n/outputs; fi
mkdir {here}/outputs
chmod 777 {here}/outputs
rm -f {here}/cursor {here}/cancel"""


def listing(job: Job) -> str:
    """Everything in the job's outputs, NUL-separated: type, size in bytes, path."""
    return f"find {job.folder}/outputs -mindepth 1 -printf '%y %s %P\\0'"


def fetch(job: Job, name: str) -> str:
    """One output's bytes; Docker packs a link as a link, so nothing outside /outputs can be read through it."""
    return shell_text(["docker", "cp", f"{job.name}:/outputs/{name}", "-"]) + " | tar -xOf -"


def digests(job: Job, names: tuple[str, ...]) -> str:
    """The sha256 of the outputs as the VM sees them, in ``sha256sum``'s format."""
    each = (f"printf '%s  {name}\\n' \"$({fetch(job, name)} | sha256sum | cut -d' ' -f1)\"" for name in names)
    return "\n".join(("set -e", *each))
