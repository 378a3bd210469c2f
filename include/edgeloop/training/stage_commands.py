"""The shell text that brings data and code to the VM, built without any effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.training.job import FOLDER

if TYPE_CHECKING:
    from edgeloop.training.job import Job

NO_SPACE = 28


def stage(job: Job, *, need_kib: int) -> str:
    """Unpack a tar stream into the job's folder: checked against its manifest, complete or not there at all."""
    here = job.folder
    return f"""set -eu
umask 022
mkdir -p {FOLDER}
chmod 700 {FOLDER}
if test -e {here}/staged; then exit 0; fi
free=$(df -Pk {FOLDER} | awk 'NR==2 {{print $4}}')
if test "$free" -lt {need_kib}; then echo "{need_kib} KiB are needed, $free KiB are free" >&2; exit {NO_SPACE}; fi
find {FOLDER} -maxdepth 1 -name '*.part' -mmin +60 -exec rm -rf {{}} +
part=$(mktemp -d {here}.XXXXXX.part)
trap 'rm -rf "$part"' EXIT
tar -x -C "$part" --no-same-owner -f -
(cd "$part" && sha256sum -c --quiet --strict manifest.sha256)
mkdir "$part"/outputs
chmod 777 "$part"/outputs
sync -f "$part"
touch "$part"/staged
if ! test -e {here}/staged; then rm -rf {here}; fi
mv -T "$part" {here} 2>/dev/null || test -e {here}/staged"""
