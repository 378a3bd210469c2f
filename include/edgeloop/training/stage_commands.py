"""The shell text that brings data and code to the VM, built without any effect.

    edgeloop/cache/<sha256>              what jobs were sent before, read-only, named by content
    edgeloop/cache/<sha256>.part         a large file on its way; whoever brings it holds its lock
    edgeloop/cache/in.XXXXXX/            small files on their way
    edgeloop/jobs/.stage/<job>/<sha256>  hard links of what a staging needs: nobody's eviction takes it away

Nothing is named by content before its sha256 was checked, and nothing secret is in any text: addresses with their
signature come over standard input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.training.bundle import HELD, LOOSE
from edgeloop.training.job import FOLDER

if TYPE_CHECKING:
    from edgeloop.training.job import Job

CACHE = "edgeloop/cache"
STAGE = f"{FOLDER}/.stage"
NO_SPACE, BUSY, INCOMPLETE = 28, 75, 76
LOCK_SECONDS = 20
STALL_SECONDS = 45
SMALL_SECONDS = 3600
TELL_SECONDS = 5
DAY_MINUTES = 1440
CURL = "curl -q -g -sS -f --noproxy '*' --proto '=http,https' --connect-timeout 5 --speed-limit 1024 --speed-time 60"
"""No user's settings, no proxy, no redirect: it goes to the account or nowhere."""


def _prelude(job: Job) -> str:
    return f"""set -eu
umask 022
export LC_ALL=C
cache=$PWD/{CACHE} hold=$PWD/{STAGE}/{job.short}
checked() {{
find . -maxdepth 1 -type f -regextype posix-extended -regex './[0-9a-f]{{64}}' -printf '%f\\0' |
if command -v openssl >/dev/null; then xargs -0 -r openssl dgst -sha256 -r; else xargs -0 -r sha256sum; fi |
awk '{{ sub(/^\\*/, "", $2); print ($1 == $2 ? "good" : "bad"), $2 }}'
}}
chosen() {{ printf '%s\\n' "$seen" | awk -v kind="$1" '$1 == kind {{ printf "%s%c", $2, 0 }}'; }}
held() (
cd "$cache"
if test "$(stat -c %d .)" = "$(stat -c %d "$hold")"; then xargs -0 -r ln -t "$hold" -- 2>/dev/null
else xargs -0 -r cp -p -n -t "$hold" --; fi || true
)
"""


def survey(job: Job) -> str:
    """Hold what the cache has of the digests on standard input, checked, and say what is where, in one round trip."""
    return f"""if test -e {job.folder}/staged; then echo staged; exit 0; fi
{_prelude(job)}mkdir -p "$cache" "$hold"
chmod 700 {FOLDER} "$cache"
touch "$hold"
find {FOLDER} -maxdepth 1 -name '*.part' -mmin +60 -exec rm -rf {{}} +
find "$cache" -maxdepth 1 -name 'in.*' -mmin +60 -exec rm -rf {{}} +
find "$cache" -maxdepth 1 -name '*.part' -mmin +{DAY_MINUTES} -delete
find {STAGE} -mindepth 1 -maxdepth 1 -mmin +{DAY_MINUTES} -exec rm -rf {{}} +
wanted=$(sort -u)
{{ printf '%s\\n' "$wanted"; find "$cache" -maxdepth 1 -type f -printf '%f\\n'; }} |
sort | uniq -d | tr '\\n' '\\0' | held
cd "$hold"
seen=$(checked)
chosen bad | xargs -0 -r rm -f --
cd "$cache"
chosen bad | xargs -0 -r rm -f --
chosen good | xargs -0 -r touch -c --
printf '%s\\n' "$seen"
find . -maxdepth 1 -type f -name '*.part' -printf 'part %f %s\\n'
find . -maxdepth 1 -type f -regextype posix-extended -regex './[0-9a-f]{{64}}' -printf 'kept %f %s %T@ %n\\n'
for tool in flock curl; do if command -v $tool >/dev/null; then echo tool $tool; fi; done
echo disk cache $(stat -c %d .) $(df -Pk . | awk 'NR==2 {{print $4}}')
echo disk jobs $(stat -c %d "$hold") $(df -Pk "$hold" | awk 'NR==2 {{print $4}}')"""


def complete(job: Job) -> str:
    """Whether the job's folder is complete, by the exit code."""
    return f"test -e {job.folder}/staged"


def _admit() -> str:
    return """cd "$in"
find . -maxdepth 1 -type f -exec chmod 444 {} +
seen=$(checked)
chosen good | xargs -0 -r mv -f -t "$cache" --
chosen good | held
printf '%s\\n' "$seen"
exit $code"""


def _incoming(job: Job) -> str:
    return f"""{_prelude(job)}in=$(mktemp -d "$cache"/in.XXXXXX)
trap 'rm -rf "$in"' EXIT
code=0
"""


def take_small(job: Job) -> str:
    """Take a tar of files named by their sha256; what arrived whole before it broke off stays."""
    return f"""{_incoming(job)}timeout {SMALL_SECONDS} tar -x -m -C "$in" --no-same-owner -f - || code=$?
{_admit()}"""


def fetch_small(job: Job, ca: str = "") -> str:
    """Fetch what the curl configuration on standard input names, each to a file named by its sha256."""
    return f"""{_incoming(job)}cd "$in"
many=
if curl -Z --version >/dev/null 2>&1; then many='-Z --parallel-max 8'; fi
timeout {SMALL_SECONDS} {CURL}{_trusted(job, ca)} \\
$many -w 'http %{{http_code}} %{{filename_effective}}\\n' -K - || code=$?
{_admit()}"""


def _locked(job: Job, sha256: str, size: int) -> str:
    """Open the part under its lock; whoever waited for another's finds the file, or goes on where that one ended."""
    return f"""{_prelude(job)}cd "$cache"
name={sha256} part={sha256}.part
while :; do
exec 9>>"$part"
if ! flock -w {LOCK_SECONDS} 9; then echo busy $(stat -c %s "$part"); exit {BUSY}; fi
if test "$part" -ef /proc/$$/fd/9; then break; fi
done
if test -e "$name"; then rm -f "$part"; printf '%s\\0' "$name" | held; echo found; exit 0; fi
if test "$(stat -c %s "$part")" -gt {size}; then truncate -s 0 "$part"; fi
from=$(stat -c %s "$part")
echo from $from
"""


def _settle(size: int) -> str:
    return f"""if test "$(stat -c %s "$part")" -lt {size}; then echo short $(stat -c %s "$part"); exit {INCOMPLETE}; fi
if command -v openssl >/dev/null; then sum=$(openssl dgst -sha256 -r "$part"); else sum=$(sha256sum "$part"); fi
if test "${{sum%% *}}" != "$name"; then truncate -s 0 "$part"; echo bad; exit {INCOMPLETE}; fi
chmod 444 "$part"
mv -f "$part" "$name"
printf '%s\\0' "$name" | held
echo good"""


def take_large(job: Job, sha256: str, size: int) -> str:
    """Append standard input to what is there of one file; says from where on before anything is to be sent.

    A receiver whose peer is gone without a word would hold the lock for as long as TCP does: it ends by itself.
    """
    return f"""{_locked(job, sha256, size)}exec 3<&0
cat <&3 >&9 &
cat=$!
(last=-1
while sleep {STALL_SECONDS}; do
now=$(stat -c %s "$part") || exit 0
if test "$now" = "$last"; then kill $cat; exit 0; fi
last=$now
done) 3<&- 9>&- </dev/null >/dev/null 2>&1 &
dog=$!
exec 3<&-
wait $cat || true
kill $dog 2>/dev/null || true
{_settle(size)}"""


def fetch_large(job: Job, sha256: str, size: int, ca: str = "") -> str:
    """Fetch one file from the address in the curl configuration on standard input, going on from what is there."""
    return f"""{_locked(job, sha256, size)}code=0
if test $from -lt {size}; then
(while sleep {TELL_SECONDS} >/dev/null; do echo at $(stat -c %s "$part") || exit 0; done) 9>&- </dev/null 2>/dev/null &
dog=$!
{CURL}{_trusted(job, ca)} -C - -o "$part" -w 'http %{{http_code}}\\n' -K - || code=$?
kill $dog 2>/dev/null || true
fi
if test $code != 0; then echo curl $code; fi
{_settle(size)}"""


def trust(job: Job) -> str:
    """Keep the CA certificates on standard input for the fetches of this staging; they are public."""
    return f"cat >{STAGE}/{job.short}/ca.pem"


def _trusted(job: Job, ca: str) -> str:
    return f' --cacert "$HOME"/{STAGE}/{job.short}/ca.pem' if ca else ""


def probe(job: Job, ca: str = "") -> str:
    """Ask for the first byte of the address on standard input; prints HTTP's code and curl's exit code."""
    return (
        f"{CURL.replace(' -f ', ' ')}{_trusted(job, ca)} --max-time 15 -r 0-0 -o /dev/null "
        "-w 'http %{http_code}\\n' -K -\necho curl $?"
    )


def evict() -> str:
    """Take the digests on standard input out of the cache; a job that links them keeps them."""
    return f"cd {CACHE} && tr '\\n' '\\0' | xargs -0 -r rm -f --"


def assemble(job: Job) -> str:
    """Make the job's folder of the tar on standard input and of what is held: complete or not there at all.

    What an earlier attempt left there stays: checkpoints, logs, outputs beside.
    """
    here = job.folder
    return f"""{_prelude(job)}if test -e {here}/staged; then exit 0; fi
part=$(mktemp -d {here}.XXXXXX.part)
trap 'rm -rf "$part"' EXIT
if ! cp -al "$hold" "$part"/{HELD} 2>/dev/null; then exit {INCOMPLETE}; fi
tar -x -C "$part" --no-same-owner -f - || exit {INCOMPLETE}
if (cd "$part"/{LOOSE} 2>/dev/null && checked) | grep '^bad'; then exit 1; fi
rm -rf "$part"/{HELD} "$part"/{LOOSE}
exec 8>>{STAGE}/{job.short}.lock
flock -w {LOCK_SECONDS} 8 || exit {BUSY}
if test -e {here}/staged; then exit 0; fi
mkdir -p {here}
chmod 700 {here}
rm -rf {here}/data {here}/code
n=1
while test -e {here}/before-$n; do n=$((n + 1)); done
if test -e {here}/outputs && ! rmdir {here}/outputs 2>/dev/null; then mv {here}/outputs {here}/before-$n; fi
mv "$part"/* {here}/
mkdir {here}/outputs
chmod 777 {here}/outputs
sync -f {here}
touch {here}/staged
rm -rf "$hold" {STAGE}/{job.short}.lock"""
