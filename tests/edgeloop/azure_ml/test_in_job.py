"""What runs in a job of Azure ML, run as it is there: a folder of code, a mounted folder of data, two of outputs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.azure_ml import in_job, job_body
from edgeloop.azure_ml.job_outputs import JobOutputs, entries, read_manifest
from edgeloop.errors import IntegrityError, TrainingFailedError
from edgeloop.records import sha256_hex
from edgeloop.training.job import Job
from edgeloop.training.outputs import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = """
import json, os, pathlib
data, out = (pathlib.Path(os.environ[name]) for name in ("EDGELOOP_DATA", "EDGELOOP_OUTPUTS"))
seen = {one.name: one.read_text() for one in sorted(data.iterdir())}
print(json.dumps(seen))
(out / "model.onnx").write_text("onnx")
(out / "metrics.json").write_text('{"accuracy": 0.5}')
(out / "sub").mkdir()
(out / "sub" / "report.html").write_text("<p>")
(out / "link").symlink_to("/etc/passwd")
pathlib.Path(os.environ["EDGELOOP_CHECKPOINT"], "state").write_text("1")
"""


class Place:
    """The folders of a job."""

    def __init__(self, home: Path) -> None:
        self.code, self.files, self.outputs, self.checkpoint = (
            home / one for one in ("code", "files", "outputs", "checkpoint")
        )
        for one in (self.code, self.files / "b1", self.outputs, self.checkpoint):
            one.mkdir(parents=True)
        shutil.copyfile(in_job.__file__, self.code / job_body.DRIVER)
        (self.code / "dataset.json").write_text("{}")
        (self.files / "b1" / "north.parquet").write_text("rows")
        self.wants("rows")
        self.script(GOOD)

    def wants(self, text: str) -> None:
        """What the dataset's record says of its one file."""
        one = {"name": "0000-north.parquet", "path": "data/b1/north.parquet", "size": len(text)}
        wanted = {"files": [{**one, "sha256": sha256_hex(text.encode())}]}
        wanted["champion"] = {"path": "models/m.onnx", "size": 2, "sha256": sha256_hex(b"ok")}  # type: ignore[assignment]
        (self.code / in_job.WANTED).write_text(json.dumps(wanted))

    def script(self, text: str, name: str = "train.py") -> None:
        """The pipeline's script."""
        (self.code / name).write_text(text)

    def command(self, *more: str) -> list[str]:
        """The job's command as Azure ML makes it."""
        words = [sys.executable, str(self.code / job_body.DRIVER), "--files", str(self.files)]
        return [*words, "--outputs", str(self.outputs), "--checkpoint", str(self.checkpoint), *more]

    def run(self, *more: str) -> Any:
        """Run it."""
        return subprocess.run(self.command(*more), capture_output=True, text=True, check=False)

    def manifest(self) -> dict[str, Any]:
        """What it says it wrote."""
        return {one["path"]: one for one in json.loads((self.outputs / in_job.MANIFEST).read_text())}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A job's folders."""
    return Place(tmp_path)


def test_a_script_finds_its_data_and_its_outputs_come_with_a_manifest(place: Place) -> None:
    """The names of the VM, the checkpoint's folder, and of a link only its name."""
    champion = place.files.parent / "m.onnx"
    champion.write_text("ok")
    done = place.run("--champion", str(champion))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "edgeloop: 1 files of the dataset are what their records say"
    assert json.loads(lines[1]) == {"0000-north.parquet": "rows", "champion.onnx": "ok", "dataset.json": "{}"}
    found = place.manifest()
    assert {path: one["kind"] for path, one in found.items()} == {
        "link": "l", "metrics.json": "f", "model.onnx": "f", "sub/report.html": "f",
    }  # fmt: skip
    assert found["model.onnx"]["sha256"] == sha256_hex(b"onnx")
    assert not (place.outputs / "link").exists()
    assert (place.checkpoint / "state").read_text() == "1"


@pytest.mark.parametrize("where", ["north.parquet", "data/b1/north.parquet", "deep/er/north.parquet"])
def test_a_file_is_found_wherever_it_is_mounted(place: Place, where: str) -> None:
    """A mount of the container, of its data folder, or of something else: its bytes say that it is the one."""
    shutil.rmtree(place.files)
    for name, text in {where: "rows", "other/north.parquet": "rose"}.items():
        (place.files / name).parent.mkdir(parents=True, exist_ok=True)
        (place.files / name).write_text(text)
    assert place.run().returncode == 0


@pytest.mark.parametrize(("text", "why"), [("other", "1 files of that name differ"), (None, "it is not there")])
def test_data_that_is_not_what_its_record_says_is_not_trained_on(place: Place, text: str | None, why: str) -> None:
    """Exit code 90, the file's name, and the script was not begun."""
    (place.files / "b1" / "north.parquet").unlink()
    if text is not None:
        (place.files / "b1" / "north.parquet").write_text(text)
    done = place.run()
    assert (done.returncode, done.stdout) == (90, "")
    assert why in done.stderr
    assert list(place.outputs.iterdir()) == []


def test_a_script_that_fails_puts_nothing_out(place: Place) -> None:
    """Its exit code is the job's, its checkpoint stays."""
    place.script(GOOD + "\nraise SystemExit(7)\n")
    assert place.run().returncode == 7
    assert list(place.outputs.iterdir()) == []
    assert (place.checkpoint / "state").exists()


def test_a_cancelled_job_lets_its_script_write_a_checkpoint(place: Place) -> None:
    """SIGTERM reaches the script, which ends as it likes."""
    place.script(
        "import os, pathlib, signal, sys, time\n"
        "def leave(*_):\n"
        "    pathlib.Path(os.environ['EDGELOOP_CHECKPOINT'], 'last').write_text('x')\n"
        "    sys.exit(3)\n"
        "signal.signal(signal.SIGTERM, leave)\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(place.command(), stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        while "ready" not in job.stdout.readline():
            assert job.poll() is None
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=30) == 3
    assert (place.checkpoint / "last").read_text() == "x"


def test_a_second_step_begins_with_what_the_first_one_wrote(place: Place, tmp_path: Path) -> None:
    """evaluate.py may rewrite the metrics; its exit code refuses the model."""
    assert place.run().returncode == 0
    trained, place.outputs = place.outputs, tmp_path / "judged"
    place.outputs.mkdir()
    place.script(
        "import os, pathlib\nout = pathlib.Path(os.environ['EDGELOOP_OUTPUTS'])\n"
        "assert (out / 'model.onnx').read_text() == 'onnx'\n(out / 'metrics.json').write_text('{}')\n",
        "evaluate.py",
    )
    assert place.run("--script", "evaluate.py", "--trained", str(trained)).returncode == 0
    assert sorted(place.manifest()) == ["metrics.json", "model.onnx", "sub/report.html"]
    assert (place.outputs / "metrics.json").read_text() == "{}"


class Memory:
    """A container in memory."""

    def __init__(self, **blobs: bytes) -> None:
        self.blobs = dict(blobs)

    def list(self, prefix: str = "") -> Iterator[Any]:
        """Everything below a prefix."""
        for name, data in sorted(self.blobs.items()):
            if name.startswith(prefix):
                yield SimpleNamespace(name=name, size=len(data))

    def get(self, name: str) -> bytes:
        """Read."""
        return self.blobs[name]

    def chunks(self, name: str) -> Iterator[bytes]:
        """Byte by byte."""
        for number in range(len(self.blobs[name])):
            yield self.blobs[name][number : number + 1]

    def put(self, name: str, data: bytes) -> None:
        """Write."""
        self.blobs[name] = data

    def delete(self, name: str) -> None:
        """Remove."""
        self.blobs.pop(name, None)


JOB = Job(run_id="a" * 64, pipeline="p", image="i")


def written(**files: Any) -> tuple[Memory, JobOutputs, list[str]]:
    """What a job wrote, with a manifest that is right unless it says otherwise."""
    listed = [
        {"path": path, "kind": "f", "size": len(data), "sha256": sha256_hex(data)} for path, data in files.items()
    ]
    memory, said = Memory(**{f"f/{path}": data for path, data in files.items()}), []
    memory.put(f"f/{in_job.MANIFEST}", json.dumps(listed).encode())
    return memory, JobOutputs(memory, "f", said.append, spare=("spare",)), said


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[",
        b"{}x",
        b'[{"path": "../x", "kind": "f", "size": 1, "sha256": ""}]',
        b'[{"path": "/etc/x"}]',
        b'[{"size": 1}]',
    ],
)
def test_a_manifest_that_is_none_is_refused(raw: bytes) -> None:
    """Whatever stands there, nothing is collected by it."""
    with pytest.raises(TrainingFailedError, match="its manifest is none"):
        read_manifest(raw, "f")


def test_what_the_manifest_does_not_name_is_never_collected() -> None:
    """It is told as what it is; an empty blob is a folder's mark; a file that storage lacks is missing."""
    manifest = {"model.onnx": {"kind": "f", "size": 1, "sha256": ""}, "gone": {"kind": "f", "size": 1, "sha256": ""}}
    listed = {"model.onnx": 4, "metrics.json": 3, "folder": 0, in_job.MANIFEST: 9}
    assert [(one.path, one.kind, one.size) for one in entries(manifest, listed)] == [
        ("metrics.json", "?", 3), ("model.onnx", "f", 4),
    ]  # fmt: skip


def test_outputs_are_collected_and_then_forgotten() -> None:
    """The attempt's copies and the checkpoint go; what was not collected keeps them all, and is named."""
    files = {"model.onnx": b"onnx", "metrics.json": b"{}"}
    memory, outputs, said = written(**files)
    memory.put("spare/state", b"x")
    assert [one.path for one in outputs.choose(JOB).files] == ["model.onnx", "metrics.json"]
    outputs.forget(JOB)
    assert (memory.blobs, said) == ({}, [])
    memory, outputs, said = written(**files, **{"rows.csv": b"1"})
    outputs.choose(JOB)
    outputs.forget(JOB)
    assert len(memory.blobs) == 4
    assert "rows.csv" in said[0]


def test_bytes_that_differ_are_refused_and_no_more_than_announced_is_taken(tmp_path: Path) -> None:
    """A blob that grew, and one of the same size with other bytes."""
    memory, outputs, _ = written(**{"model.onnx": b"onnx", "metrics.json": b"{}"})
    for data in (b"onnxonnxonnx", b"xnno"):
        memory.put("f/model.onnx", data)
        with (tmp_path / "sink").open("wb") as sink, pytest.raises(IntegrityError):
            outputs.fetch(JOB, Entry(path="model.onnx", kind="f", size=4), sink, sha256=sha256_hex(b"onnx"))
        assert (tmp_path / "sink").stat().st_size <= 4


def test_no_manifest_is_no_collection() -> None:
    """Missing, or too large to be one."""
    for memory in (Memory(), Memory(**{f"f/{in_job.MANIFEST}": b"x" * (2 << 20)})):
        with pytest.raises(TrainingFailedError, match="its manifest"):
            JobOutputs(memory, "f", print).choose(JOB)
