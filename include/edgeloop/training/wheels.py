"""Pinned wheels into a folder, for another machine's Python: no code of a package runs on the worker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError, UnreachableError

if TYPE_CHECKING:
    from edgeloop.training.trainer_image import Facts

SECONDS = 1500
"""For all downloads together; below the task's own limit, so that what is told is this."""
LAST = 1500
OLDEST_GLIBC = 5
LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
UNSTABLE = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")
NOT_THERE = ("No matching distribution", "Could not find a version")
OTHER_BYTES = "DO NOT MATCH THE HASHES"


def platforms(facts: Facts) -> list[str]:
    """The tags of wheels that an image of these ``facts`` runs, best first (PEP 600 and the names before it)."""
    major, newest = facts.glibc
    tags = []
    for minor in range(newest, OLDEST_GLIBC - 1, -1):
        tags.append(f"manylinux_{major}_{minor}_{facts.machine}")
        if (legacy := LEGACY.get((major, minor))) is not None:
            tags.append(f"{legacy}_{facts.machine}")
    return [*tags, f"linux_{facts.machine}"]


def command(file: Path, target: Path, facts: Facts, wheelhouse: Path | None) -> list[str]:
    """The call of pip: only wheels, only what the file pins, every byte by its hash, for the image's Python."""
    options = ["--target", str(target), "--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile"]
    options += ["--implementation", "cp", "--python-version", f"{facts.python[0]}.{facts.python[1]}"]
    options += [word for tag in platforms(facts) for word in ("--platform", tag)]
    if wheelhouse is not None:
        options += ["--no-index", "--find-links", str(wheelhouse)]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", *options, "-r", str(file)]


def install(text: str, target: Path, facts: Facts, *, wheelhouse: Path | None) -> None:
    """Put the wheels of a requirements file into ``target``, the same files every time.

    Raises:
        ConfigurationError: A wheel is not there, or its bytes are not those of its hash.
        UnreachableError: The index did not answer in time.
    """
    with tempfile.TemporaryDirectory(prefix="edgeloop-") as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(text, encoding="utf-8")
        environment = dict(os.environ)
        if wheelhouse is not None:
            # A machine's own pip.conf may name places that this site must not ask.
            environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
        try:
            done = subprocess.run(
                command(file, target, facts, wheelhouse),
                capture_output=True, text=True, check=False, timeout=SECONDS, env=environment, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UnreachableError(
                f"The packages of training.requirements were not here within {SECONDS} s.",
                left="the VM as it is",
                next="Clear the task; or put the wheels into a folder 'wheels' beside pipeline.yaml.",
            ) from None
    if done.returncode != 0:
        raise _refused((done.stderr or done.stdout).strip()[-LAST:], wheelhouse)
    _settle(target)


def _refused(said: str, wheelhouse: Path | None) -> Exception:
    where = f"the folder {wheelhouse}" if wheelhouse else "the index of the worker's pip"
    if OTHER_BYTES in said:
        return ConfigurationError(
            f"A package of training.requirements in {where} has other bytes than its hash:\n{said}",
            left="the VM as it is; nothing was installed",
            next="Find out who changed the package; if the new one is meant, compile the file again.",
        )
    if any(one in said for one in NOT_THERE):
        return ConfigurationError(
            f"A package of training.requirements is not in {where} as a wheel for the image's Python:\n{said}",
            left="the VM as it is; nothing was installed",
            next="Pin a version that has one; at a site without an index put the wheels into a folder 'wheels' beside "
            "pipeline.yaml (`pip download --only-binary :all: -r <file> -d wheels`).",
        )
    return UnreachableError(
        f"pip could not get the packages of training.requirements from {where}:\n{said}",
        left="the VM as it is",
        next="Check that index from the worker, or put the wheels into a folder 'wheels' beside pipeline.yaml; then "
        "clear the task.",
    )


def _settle(target: Path) -> None:
    """Remove what names this machine, so that the same wheels are the same layer."""
    # Scripts begin with the path of the worker's Python.
    shutil.rmtree(target / "bin", ignore_errors=True)
    for folder in [one for one in target.rglob("__pycache__") if one.is_dir()]:
        shutil.rmtree(folder)
    for note in UNSTABLE:
        for path in target.glob(f"*.dist-info/{note}"):
            path.unlink()
