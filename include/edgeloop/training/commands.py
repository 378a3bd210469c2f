"""The shell text and Docker arguments of a training, built without any effect.

Everything is POSIX shell for the login user's shell on the VM, which starts in the user's home.
"""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from edgeloop.records import sha256_hex
from edgeloop.training import guard, hold
from edgeloop.training.job import FOLDER, LABEL_ATTEMPT, LABEL_DEADLINE, LABEL_PIPELINE, LABEL_TRAINING, Stop
from edgeloop.training.outputs import ALLOWED, DEPTH, LISTING_BYTES

if TYPE_CHECKING:
    from edgeloop.training.job import Job
    from edgeloop.training.parked import Parked

HOME, NUMBER = "@HOME@", "@NUMBER@"
"""Stand for the far side's home and the attempt's number in an argument; no other shell expansion is ever wanted."""
USER = "10001:10001"
PIDS = 512
TMP_MB = 256
TAIL_LINES = 20
ENGINE_DOWN = 69
NO_SPACE = 28
CHANGED = 75
IN_USE = "is already in use by container"
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
    """``argv`` quoted for a POSIX shell, with ``HOME`` and ``NUMBER`` as the far side's variables."""
    return shlex.join(argv).replace(HOME, '"$HOME"').replace(NUMBER, '"$n"')


def run_argv(job: Job) -> list[str]:
    """``docker run`` of a job up to its image: detached, locked down, never pulled; all it may use is in its folder."""
    here = f"{HOME}/{job.folder}"
    return [
        "docker", "run", "-d", "--pull", "never", "--name", job.name,
        "--label", f"{LABEL_TRAINING}={job.run_id}",
        "--label", f"{LABEL_PIPELINE}={job.pipeline}",
        "--label", f"{LABEL_DEADLINE}={job.deadline}",
        "--label", f"{LABEL_ATTEMPT}={NUMBER}",
        *_LOCKDOWN,
        "--memory", f"{job.memory_mb}m", "--memory-swap", f"{job.memory_mb}m",
        "--cpus", f"{job.cpus:g}",
        *(["--gpus", str(job.gpus)] if job.gpus else []),
        "--init",
        "--log-driver", "json-file", "--log-opt", "max-size=64m", "--log-opt", "max-file=4",
        "-v", f"{here}/data:/data:ro", "-v", f"{here}/code:/code:ro",
        "-v", f"{here}/outputs:/outputs", "-v", f"{here}/checkpoint:/checkpoint",
        "-e", "EDGELOOP_DATA=/data", "-e", "EDGELOOP_OUTPUTS=/outputs",
        "-e", "EDGELOOP_CHECKPOINT=/checkpoint", "-e", f"EDGELOOP_ATTEMPT={NUMBER}",
        "-e", f"OMP_NUM_THREADS={max(1, math.ceil(job.cpus))}",
    ]  # fmt: skip


def submit(job: Job, *, seconds: int) -> str:
    """Start the job's next attempt and its watch; Docker answers 125 and "already in use" when one is there already.

    ``seconds`` are left until its deadline; 0 for none. The attempt's number is found on the VM, under a lock, so that
    no two attempts ever have the same.
    """
    here = job.folder
    until = f"$(($(date +%s) + {seconds}))" if seconds else "0"
    made = f"--filter label={LABEL_TRAINING}={job.run_id} --filter label={LABEL_ATTEMPT}=$n --filter status=created"
    return f"""set -eu
{guard.lock(here)}
if docker container inspect {job.name} >/dev/null 2>&1; then echo '{job.name} {IN_USE}' >&2; exit 125; fi
free=$(df -Pk {here} | awk 'NR==2 {{print $4}}')
if test "$free" -lt {job.disk_mb * 1024}; then
echo "{job.disk_mb} MiB are needed, $((free / 1024)) MiB are free" >&2; exit {NO_SPACE}; fi
{hold.launch(here, job.image, shell_text(list(_LOCKDOWN)))}
n=1
while test -e {here}/attempt-$n; do n=$((n + 1)); done
at={here}/attempt-$n
if test $n -gt 1 && test -n "$(ls -A {here}/outputs 2>/dev/null)"; then
old={here}/attempt-$((n - 1))/outputs
test -e $old || mv -T {here}/outputs $old; fi
mkdir -p $at {here}/outputs {here}/checkpoint
chmod 777 {here}/outputs {here}/checkpoint
rm -f {here}/cursor {here}/cursor-*
printf '%s\\n' {shlex.join([job.pipeline, job.run_id, job.image])} >{here}/job
echo {until} {job.grace_seconds:g} {job.disk_mb * 1024} >$at/terms
code=0
{shell_text(run_argv(job))} "$@" 9<&- || code=$?
if test $code -ne 0; then
docker ps -aq {made} | xargs -r docker rm -v >/dev/null
rm -rf $at; exit $code; fi
{guard.begin(job, "$n")}"""


def start(job: Job) -> str:
    """Start a container that was made but not started, and its watch."""
    return f"{shell_text(['docker', 'start', job.name])} && {{ {guard.begin(job)} }}"


def look(job: Job) -> str:
    """What is there under the job's name, in one round trip: its state, whether it is staged, its attempts."""
    inspect = shell_text(["docker", "container", "inspect", "--format", _STATE, job.name])
    return f"""{inspect} 2>/dev/null || {{ {_ENGINE} >/dev/null && echo absent || exit {ENGINE_DOWN}; }}
if test -e {job.folder}/staged; then echo staged; elif test -e {job.folder}; then echo bare; else echo none; fi
for at in {job.folder}/attempt-*; do
test -d $at || continue
flags=-
if test -s $at/stopping; then flags=${{flags}}s; fi
if test -e $at/unfit; then flags=${{flags}}u; fi
fresh=$(find {job.folder}/checkpoint -type f -newer $at/terms 2>/dev/null | head -n 1)
if test -n "$fresh"; then flags=${{flags}}f; fi
echo attempt ${{at##*-}} $(cat $at/memory 2>/dev/null || echo 0 0) $flags "$(cat $at/cancel 2>/dev/null)"
done"""


def compute(image: str) -> str:
    """What a VM must be able to do, as ``key=value`` lines: Docker, the image, free disk in KiB, its clock."""
    inspect = shell_text(["docker", "image", "inspect", "--format", "{{.Id}}", image])
    return (
        f"echo docker=$({_ENGINE})\n"
        f"echo image=$({inspect} 2>/dev/null)\n"
        f"mkdir -p {FOLDER} && chmod 700 {FOLDER}\n"
        f"echo free_kib=$(df -Pk {FOLDER} | awk 'NR==2 {{print $4}}')\n"
        "docker info --format 'cpus={{.NCPU}}\nmemory={{.MemTotal}}'\n"
        "echo gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ')\n"
        "echo clock=$(date +%s)"
    )


def image_id(image: str) -> str:
    """The id of an image on the VM."""
    return shell_text(["docker", "image", "inspect", "--format", "{{.Id}}", image])


def memory(job: Job) -> str:
    """What the job uses now, ``123MiB / 2GiB``."""
    return shell_text(["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", job.name])


def tail(job: Job) -> str:
    """The last lines of its log, from what was kept of the newest attempt if there is no container any more."""
    live = shell_text(["docker", "logs", "--tail", str(TAIL_LINES), job.name])
    kept = f"ls -t {job.folder}/attempt-*/log 2>/dev/null | head -n 1"
    return (
        f"if docker container inspect {job.name} >/dev/null 2>&1; then {live} 2>&1; "
        f'else log=$({kept}); test -z "$log" || tail -n {TAIL_LINES} "$log" | sed \'s/^[^ ]* //\'; fi'
    )


def cancel(job: Job, *, reason: str, stop: Stop = Stop.CANCELLED) -> str:
    """Leave word on the VM that this attempt is to be stopped, and see to it that somebody there reads it.

    The stop is carried out there whatever becomes of us: SIGTERM, the job's grace, SIGKILL; then log, state and outputs
    are kept and the container is removed. Another attempt is never touched.
    """
    at = job.attempt_folder
    return (
        f"n={job.attempt}\n"
        f'if test -d {at} || test -n "$({guard.container_of(job, "-q")})"; then\n'
        f"mkdir -p {at} && printf '%s\\n' {shlex.quote(f'{stop.value} {_one_line(reason)}')} >{at}/cancel.part && "
        f"mv {at}/cancel.part {at}/cancel\n"
        f"{guard.begin(job)}\n"
        "fi"
    )


def _one_line(reason: str) -> str:
    return " ".join(reason.split())


def unfit(job: Job) -> str:
    """Note that an attempt that ended well put out what will not do: the next try trains again."""
    return f"if test -d {job.attempt_folder}; then : >{job.attempt_folder}/unfit; fi"


def follow(job: Job, who: str, attempt: int, parked: Parked | None = None) -> str:
    """Leave word which try of ``who`` (a task of one run) follows the job now, and which task it is."""
    mark, sign = f"{job.folder}/follower-{who}", ""
    if parked is not None:
        at = f"{job.folder}/parked-{parked.name}"
        sign = f"printf '%s\\n' {shlex.quote(parked.text)} >{at}.part && mv {at}.part {at}.json && "
    return f"if test -d {job.folder}; then {sign}echo {attempt} >{mark}.part && mv {mark}.part {mark}; fi"


def signed(job: Job) -> str:
    """Print what every task signed that was parked on the job, a line each."""
    return f"cat {job.folder}/parked-*.json 2>/dev/null || true"


def give_up(job: Job, *, reason: str, was: str) -> str:
    """As :func:`cancel`, or exit with ``CHANGED`` if somebody signed since :func:`signed` printed ``was``."""
    same = f"""now=$({signed(job)})
if test "$(printf %s "$now" | sha256sum | cut -d' ' -f1)" != {sha256_hex(was.encode())}; then exit {CHANGED}; fi"""
    return f"{same}\n{cancel(job, reason=reason)}"


def follower(job: Job, who: str) -> str:
    """Print the number that :func:`follow` left; nothing if there is none."""
    return f"cat {job.folder}/follower-{who} 2>/dev/null || true"


def forget(job: Job) -> str:
    """Remove the job's container and folder, in this order.

    What the job wrote into folders of its own belongs to its user: root in a container removes that.
    """
    return (
        f"{_remove(job)}\n"
        f"if test -e {job.folder}; then rm -rf {job.folder} 2>/dev/null || "
        f"{_sweep(job, job.short)} >/dev/null; fi"
    )


def release(job: Job) -> str:
    """Remove the job's container, its checkpoint, what was kept of its attempts and every row of data.

    What it wrote stays in its folder.
    """
    gone = ["staged", "data", "code", "manifest.sha256", "checkpoint", hold.PIPE]
    swept = _sweep(job, f"{job.short}/checkpoint")
    return (
        f"{_remove(job)}\ncd {job.folder} && "
        f"{{ rm -rf {' '.join(gone)} 2>/dev/null || {swept} >/dev/null; }}; "
        "rm -rf attempt-* cursor* follower-* parked-* 2>/dev/null || true"
    )


def _remove(job: Job) -> str:
    """Remove the container, or exit: a container without its folder is nobody's, and would stay for days.

    Seen where the engine was restarted in the very second in which a job was tidied up.
    """
    return f"""said=$(docker rm -f -v {job.name} 2>&1 >/dev/null) || case $said in
*'No such container'* | *'is already in progress'*) ;;
*) echo "$said" >&2; {_ENGINE} >/dev/null 2>&1 && exit 1 || exit {ENGINE_DOWN} ;;
esac"""


def _sweep(job: Job, path: str) -> str:
    return shell_text(
        ["docker", "run", "--rm", "--pull", "never", "--network", "none", "--read-only", "--cap-drop", "ALL",
         "--cap-add", "DAC_OVERRIDE", "--security-opt", "no-new-privileges", "-u", "0:0",
         "-v", f"{HOME}/{FOLDER}:/jobs", "--entrypoint", "rm", job.image, "-rf", f"/jobs/{path}"]
    )  # fmt: skip


def present(job: Job) -> str:
    """The ids of the attempt's containers, running or not; nothing when it is gone, or ended before it was stopped."""
    if not job.attempt:
        return shell_text(["docker", "ps", "-a", "-q", "--filter", f"name=^/?{job.name}$"])
    return f"n={job.attempt}; test -e {job.attempt_folder}/late || {guard.container_of(job, '-q')}"


def listing(job: Job) -> str:
    """What is in the job's outputs, NUL-separated: type, size in bytes, path; the files that are always needed first.

    Bounded in depth and length: a script that ends well may have left a million files, or folders that cannot be read.
    """
    each = "-printf '%y %s %P\\0'"
    needed = " ".join(f"./{name}" for name in ALLOWED)
    return (
        f"cd {job.folder}/outputs && {{ find {needed} -maxdepth 0 -printf '%y %s %f\\0'; "
        f"find . -mindepth 1 -maxdepth {DEPTH} {each}; }} 2>/dev/null | head -c {LISTING_BYTES}"
    )


def fetch(job: Job, name: str) -> str:
    """One output's bytes; Docker packs a link as a link, so nothing outside /outputs can be read through it."""
    return shell_text(["docker", "cp", f"{job.name}:/outputs/{name}", "-"]) + " | tar -xOf -"


def digests(job: Job, names: tuple[str, ...]) -> str:
    """The sha256 of the outputs as the VM sees them, in ``sha256sum``'s format."""
    each = (f"printf '%s  {name}\\n' \"$({fetch(job, name)} | sha256sum | cut -d' ' -f1)\"" for name in names)
    return "\n".join(("set -e", *each))
