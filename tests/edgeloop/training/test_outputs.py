"""What may leave the VM."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import TrainingFailedError
from edgeloop.training import commands
from edgeloop.training.job import Job
from edgeloop.training.outputs import (
    ALLOWED,
    DEPTH,
    LISTING_BYTES,
    METRICS,
    MIB,
    MODEL,
    MORE,
    REPORTS,
    Allowance,
    Entry,
    blob_name,
    canonical_metrics,
    choose,
    parse_listing,
)

if TYPE_CHECKING:
    from pathlib import Path

GOOD = (Entry(path=METRICS, kind="f", size=20), Entry(path=MODEL, kind="f", size=100))


def test_the_two_files_are_collected() -> None:
    """A listing with nothing else leaves nothing behind."""
    choice = choose(GOOD)
    assert {one.path for one in choice.files} == {MODEL, METRICS}
    assert choice.left == ()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Entry(path=MODEL, kind="l", size=11), "model.onnx is a link, not a regular file"),
        (Entry(path=MODEL, kind="d", size=4096), "model.onnx is a folder"),
        (Entry(path=MODEL, kind="p", size=0), "model.onnx is a pipe"),
        (Entry(path=MODEL, kind="f", size=0), "model.onnx is empty"),
        (Entry(path=MODEL, kind="f", size=ALLOWED[MODEL] + 1), "are allowed"),
    ],
)
def test_an_output_that_is_no_plain_file_of_its_size_is_refused(entry: Entry, words: str) -> None:
    """A link, a folder, an empty or an oversized file fails the training in words."""
    with pytest.raises(TrainingFailedError, match=words):
        choose((GOOD[0], entry))


def test_a_missing_output_is_named() -> None:
    """Both files are told at once."""
    with pytest.raises(TrainingFailedError, match=r"model.onnx is missing; metrics.json is missing"):
        choose(())


def test_everything_else_is_left_and_named() -> None:
    """A file that is not in the allow-list stays, and the log says so; a flood of them is counted."""
    others = tuple(Entry(path=f"rows-{n}.csv", kind="f", size=n) for n in range(14))
    left = choose((*GOOD, *others)).left
    assert left[0] == "'rows-0.csv' (0 bytes, not in the allow-list)"
    assert left[-1] == "4 more"


def test_a_listing_bears_any_file_name() -> None:
    """Blanks and line breaks in a name cannot shift the others."""
    entries = parse_listing(b"f 5 a b\n c\0l 3 model.onnx\0")
    assert entries == (Entry(path="a b\n c", kind="f", size=5), Entry(path="model.onnx", kind="l", size=3))


@pytest.mark.parametrize("raw", [b"{", b"[1]", b'{"accuracy": NaN}', b'{"accuracy": Infinity}', b"\xff"])
def test_metrics_must_be_an_object_of_numbers(raw: bytes) -> None:
    """NaN is no accuracy."""
    with pytest.raises(TrainingFailedError, match=r"metrics\.json"):
        canonical_metrics(raw)


def test_metrics_are_kept_in_one_form() -> None:
    """Key order and blanks do not matter."""
    assert canonical_metrics(b'{ "b": 1, "a": {"x": 0.5} }') == '{"a":{"x":0.5},"b":1}'


PAGES = Allowance(reports=("*.html", "plots/*.png"), each=1000)


def report(path: str, size: int = 10, kind: str = "f") -> Entry:
    """Something in the outputs."""
    return Entry(path=path, kind=kind, size=size)


def test_reports_are_collected_by_pattern() -> None:
    """Files that a pattern names are collected after model and metrics; the folder they lie in is not told as left."""
    entries = (report("a.html"), report("plots", kind="d"), report("plots/b.png"), report("rows.csv"))
    choice = choose((*GOOD, *entries), PAGES)
    assert [one.path for one in choice.files] == [MODEL, METRICS, "a.html", "plots/b.png"]
    assert choice.left == ("'rows.csv' (10 bytes, not in the allow-list)",)
    assert set(choice.names) == {one.path for one in (*GOOD, *entries)}
    assert choose((*GOOD, *entries)).files == choose(GOOD).files


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (report("deep/a.html"), "not in the allow-list"),
        (report("plots/x/b.png"), "not in the allow-list"),
        (report("a.html", kind="l"), "link, not a regular file"),
        (report("a.html", kind="p"), "pipe, not a regular file"),
        (report("a.html", size=1001), "1001 bytes, 1000 bytes are allowed"),
        (report(".html"), "its name has"),
        (report("-rf.html"), "its name has"),
        (report("a b.html"), "its name has"),
        (report("a\n.html"), "its name has"),
        (report("a'$(id).html"), "its name has"),
        (report("\\xff.html"), "its name has"),
        (report("\u202elmth.html"), "its name has"),
        (report("../a.html"), "not in the allow-list"),
        (report("plots/..png"), "its name has"),
        (report("a" * 300 + ".html"), "its name has"),
    ],
)
def test_a_report_that_is_not_plain_stays(entry: Entry, words: str) -> None:
    """A link, a special file, a large one, and names that a shell, a URL or a reader could take for something else."""
    choice = choose((*GOOD, entry), PAGES)
    assert [one.path for one in choice.files] == [MODEL, METRICS]
    assert words in choice.left[0]


def test_reports_are_limited_in_number_and_in_sum() -> None:
    """Sixty-four of them, and 256 MiB together unless one alone may be larger; the others stay and are counted."""
    many = tuple(report(f"{n:03d}.html") for n in range(REPORTS + 5))
    assert len(choose((*GOOD, *many), PAGES).files) == REPORTS + 2
    large = Allowance(reports=("*.html",), each=200 * MIB)
    choice = choose((*GOOD, report("a.html", 200 * MIB), report("b.html", 100 * MIB), report("c.html", 10)), large)
    assert [one.path for one in choice.files] == [MODEL, METRICS, "a.html", "c.html"]
    assert "already 1 files" in choice.left[0]


def test_reports_have_a_folder_of_their_own() -> None:
    """A report cannot take the place of the model or of the metrics."""
    assert blob_name("r", MODEL) == "training/r/model.onnx"
    assert blob_name("r", "plots/model.onnx") == "training/r/reports/plots/model.onnx"


def test_a_listing_that_was_cut_says_so() -> None:
    """The last, broken record is left out and something stands for the rest; what is needed came first."""
    raw = b"f 5 model.onnx\0" + b"f 1 a\0" * LISTING_BYTES
    entries = parse_listing(raw[:LISTING_BYTES])
    assert {one.path for one in entries} == {"model.onnx", "a", MORE}


def test_the_listing_bears_what_a_script_may_leave_behind(tmp_path: Path) -> None:
    """Deep folders, odd names, special files, links, sparse giants: all in one bounded listing."""
    job = Job(run_id="a" * 64, pipeline="p", image="i")
    outputs = tmp_path / job.folder / "outputs"
    outputs.mkdir(parents=True)
    (outputs / MODEL).write_bytes(b"onnx")
    (outputs / METRICS).write_text("{}")
    with (outputs / "sparse.html").open("wb") as sink:
        sink.truncate(1 << 40)
    (outputs / "a\n f 1 model.onnx").touch()
    os.close(os.open(os.fsencode(outputs) + b"/\xff\xfe.html", os.O_CREAT))
    os.mkfifo(outputs / "pipe.html")
    (outputs / "link.html").symlink_to("/etc/passwd")
    (outputs / "loop").symlink_to(".")
    here = os.open(outputs, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    done = subprocess.run(["sh", "-c", commands.listing(job)], cwd=tmp_path, capture_output=True, check=True)
    found = {one.path: one for one in parse_listing(done.stdout)}
    subprocess.run(["rm", "-rf", str(outputs)], check=True)
    assert (found[MODEL].kind, found[MODEL].size, found[METRICS].size) == ("f", 4, 2)
    assert found["sparse.html"].size == 1 << 40
    assert (found["pipe.html"].kind, found["link.html"].kind, found["loop"].kind) == ("p", "l", "l")
    assert {"a\n f 1 model.onnx", "\\xff\\xfe.html"} <= set(found)
    assert [one for one in found if one.startswith("d")] == ["/".join("d" * n) for n in range(1, DEPTH + 1)]
    assert len(done.stdout) < LISTING_BYTES
    assert [one.path for one in choose(tuple(found.values()), Allowance(reports=("*.html",))).files] == [MODEL, METRICS]
