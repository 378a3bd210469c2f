"""AzCopy, rclone and our own courier as child processes: their commands, where they come from, what each run cost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AZCOPY_PACKAGE, AZCOPY_VERSION = "@azure-tools/azcopy-linux", "10.32.2"
CACHE = Path(os.environ.get("EDGELOOP_LAB_CACHE", "/var/cache/edgeloop"))
DEADLINE_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A container: of which service, and how each opens it. ``sas`` is empty where nothing is checked."""

    url: str
    container: str
    sas: str
    connection_string: str

    @property
    def address(self) -> str:
        """The container with its SAS."""
        return f"{self.url}/{self.container}?{self.sas}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one process or several in a row: ``wall`` and client ``cpu`` in seconds, ``start`` of them for imports."""

    wall: float
    cpu: float
    start: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """One after the other."""
        return Cost(wall=self.wall + other.wall, cpu=self.cpu + other.cpu, start=self.start + other.start)


def missing() -> str:
    """What has to be installed by hand before these figures can be measured; "" if nothing."""
    if shutil.which("rclone") is None:
        return "rclone is missing: apt-get install --yes rclone libsecret-1-0"
    if shutil.which("npm") is None and not azcopy().exists():
        return "npm is missing, and with it AzCopy: apt-get install --yes npm"
    return ""


def azcopy() -> Path:
    """AzCopy's program below the lab's cache."""
    folder = CACHE / f"azcopy-{AZCOPY_VERSION}"
    return folder / "node_modules" / AZCOPY_PACKAGE / "dist" / "bin" / "azcopy_linux_amd64"


def ensure_azcopy() -> None:
    """Install AzCopy from npm into the lab's cache when it is not there; it comes without its x bit."""
    if not azcopy().exists():
        folder = CACHE / f"azcopy-{AZCOPY_VERSION}"
        folder.mkdir(parents=True, exist_ok=True)
        package = f"{AZCOPY_PACKAGE}@{AZCOPY_VERSION}"
        subprocess.run(["npm", "install", "--prefix", str(folder), package], check=True, capture_output=True)
    azcopy().chmod(0o755)


def azcopy_up(folder: Path, place: Place) -> list[str]:
    """The command that copies a folder up, MD5 computed and stored."""
    return [
        str(azcopy()), "copy", f"{folder}/*", place.address, "--recursive", "--put-md5", "--from-to=LocalBlob",
        "--skip-version-check",
    ]  # fmt: skip


def azcopy_down(place: Place, folder: Path) -> list[str]:
    """The command that copies it down again, MD5 compared."""
    source = f"{place.url}/{place.container}/*?{place.sas}"
    return [
        str(azcopy()), "copy", source, str(folder), "--recursive", "--check-md5=FailIfDifferent",
        "--from-to=BlobLocal", "--skip-version-check",
    ]  # fmt: skip


def rclone(verb: str, arguments: list[str], place: Place) -> list[str]:
    """An rclone command against a container; MD5 goes with every block and is compared afterwards."""
    common = ["--azureblob-sas-url", place.address, "--config", "/dev/null", "--quiet"]
    return ["rclone", verb, *arguments, *common]


def ours(verb: str, folder: Path, place: Place) -> list[str]:
    """Our own, as a child of the same kind: ``send``, ``upload`` (reads back), ``batch`` or ``checksum`` (manifest)."""
    return [sys.executable, "-m", "benchmarks.courier", verb, str(folder), place.connection_string, place.container]


def run(command: list[str]) -> Cost:
    """Run to its end; raises ``CalledProcessError`` with what it said when it fails."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryDirectory() as scratch:
        env = os.environ | {
            "AZCOPY_LOG_LOCATION": scratch,
            "AZCOPY_JOB_PLAN_LOCATION": scratch,
            "AZCOPY_DISABLE_SYSLOG": "true",
        }
        begin = time.perf_counter()
        child = subprocess.Popen(command, env=env, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command[:3], output=text[-2000:])
    start = json.loads(text.splitlines()[-1])["start"] if "benchmarks.courier" in command else 0.0
    return Cost(wall=wall, cpu=used.ru_utime + used.ru_stime, start=start)
