"""What a job of Azure ML runs first: lays out the data as train.py expects it, runs it, and puts its outputs out.

Shipped with the job's code and run by the trainer image's Python; needs the standard library only. Azure ML mounts the
data as it lies in blob storage, so every file is looked for and its sha256 compared before anything is trained. What
train.py wrote reaches the mounted folder only when it ended well, and the manifest comes last.

Exit codes: the script's own; 90 a file of the dataset is missing or is not what its record says.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

UNFIT = 90
DATASET, WANTED, MANIFEST = "dataset.json", "edgeloop_files.json", "edgeloop_manifest.json"
CHUNK = 4 * 1024 * 1024
PLACES = {"/data": "data", "/outputs": "outputs", "/code": "code", "/checkpoint": "checkpoint"}


class UnfitError(Exception):
    """A file of the dataset is missing or differs; the message says which."""


def sha256_of(path: Path) -> str:
    """The digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def found(root: Path, wanted: dict[str, Any]) -> Path:
    """The file below ``root`` with the wanted size and sha256; its own path first, then any of its name."""
    path, name = Path(wanted["path"]), Path(wanted["path"]).name
    near = [root] if root.is_file() else [root / path, root / Path(*path.parts[1:]), root / name]
    seen: list[str] = []
    for one in near + ([] if root.is_file() else sorted(root.rglob(name))):
        if not one.is_file() or str(one) in seen:
            continue
        seen.append(str(one))
        if one.stat().st_size == wanted["size"] and sha256_of(one) == wanted["sha256"]:
            return one
    what = f"{len(seen)} files of that name differ from its record" if seen else "it is not there"
    raise UnfitError(f"{wanted['path']} cannot be used: {what}")


def lay_out(code: Path, files: Path, champion: Path | None, data: Path) -> int:
    """Put dataset.json, every file of the dataset and the champion's model into ``data``; returns how many files."""
    shutil.copyfile(code / DATASET, data / DATASET)
    wanted = json.loads((code / WANTED).read_text(encoding="utf-8"))
    for one in wanted["files"]:
        (data / one["name"]).symlink_to(found(files, one).resolve())
    if champion is not None:
        (data / "champion.onnx").symlink_to(found(champion, wanted["champion"]).resolve())
    return len(wanted["files"])


def put_out(written: Path, target: Path) -> int:
    """Copy what was written, and last the manifest; a link is named by the manifest and not followed."""
    manifest = []
    for one in sorted(written.rglob("*")):
        name = one.relative_to(written).as_posix()
        if one.is_symlink() or not (one.is_file() or one.is_dir()):
            manifest.append({"path": name, "kind": "l" if one.is_symlink() else "s", "size": 0, "sha256": ""})
        elif one.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(one, target / name)
            manifest.append({"path": name, "kind": "f", "size": one.stat().st_size, "sha256": sha256_of(one)})
    (target / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return len(manifest)


def offer(places: dict[str, Path]) -> None:
    """Let /data and its like lead there too, where the container allows it: older scripts name them."""
    for name, kind in PLACES.items():
        if not os.path.lexists(name):
            try:
                Path(name).symlink_to(places[kind])
            except OSError:
                return


def run(code: Path, places: dict[str, Path], script: str) -> int:
    """Run the pipeline's script and pass SIGTERM on to it: it has time for a checkpoint then."""
    kept = {f"EDGELOOP_{kind.upper()}": str(path) for kind, path in places.items()}
    child = subprocess.Popen([sys.executable, script], cwd=code, env={**os.environ, **kept})
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    return child.wait()


def take_over(trained: Path, outputs: Path) -> None:
    """Begin with what an earlier step put out; its manifest is written anew."""
    for one in json.loads((trained / MANIFEST).read_text(encoding="utf-8")):
        if one["kind"] == "f":
            (outputs / one["path"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(trained / one["path"], outputs / one["path"])


def main(arguments: list[str]) -> int:
    """Lay out, run, put out."""
    parser = argparse.ArgumentParser()
    for name in ("--files", "--outputs", "--champion", "--checkpoint", "--trained"):
        parser.add_argument(name, type=Path, required=name in {"--files", "--outputs"})
    parser.add_argument("--script", default="train.py")
    given = parser.parse_args(arguments)
    code = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory(prefix="edgeloop-") as folder:
        places = {one: Path(folder) / one for one in ("data", "outputs", "checkpoint")}
        for one in places.values():
            one.mkdir()
        places |= {"code": code, "checkpoint": given.checkpoint or places["checkpoint"]}
        if given.trained is not None:
            take_over(given.trained, places["outputs"])
        try:
            count = lay_out(code, given.files, given.champion, places["data"])
        except UnfitError as error:
            sys.stderr.write(f"edgeloop: {error}\n")
            return UNFIT
        sys.stdout.write(f"edgeloop: {count} files of the dataset are what their records say\n")
        sys.stdout.flush()
        offer(places)
        code_of_exit = run(code, places, given.script)
        if code_of_exit == 0:
            sys.stdout.write(f"edgeloop: {put_out(places['outputs'], given.outputs)} outputs\n")
        return code_of_exit


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
