"""Hostile trainings on the real VM: each hides a row of its data another way, and none gets it out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.edgeloop.training.conftest import Bench, eventually

from edgeloop import catalog
from edgeloop.errors import ConflictError, LeakError
from edgeloop.records import Dataset, FileRef, TrainingRun, sha256_hex
from edgeloop.ssh.shell import Shell
from edgeloop.training import session
from edgeloop.training.bundle import Cargo, member
from edgeloop.training.dataset import file_names
from edgeloop.training.leaks import leak_check
from edgeloop.training.remote import TrainingVm

if TYPE_CHECKING:
    from edgeloop.azure.blob import BlobContainer
    from edgeloop.pipeline import Pipeline
    from edgeloop.store import Store
    from edgeloop.training.job import Job

PIPELINE = Path(catalog.__file__).parents[1] / "pipelines" / "wind_power"
EXTRACT = Path(__file__).parents[2] / "data" / "wind_power" / "R80711_2014-01.csv"
COLUMNS = ("P_avg", "Wa_avg", "Ya_avg", "Ws_avg")
ROW = 77

HONEST = f"""
import base64, gzip, json, os, zlib
import numpy as np, onnx, pyarrow.parquet as pq
from onnx import TensorProto, helper
spec = os.listdir("/data")
table = pq.read_table([f"/data/{{one}}" for one in spec if one.endswith(".parquet")][0]).to_pydict()
row = [float(table[name][{ROW}]) for name in {COLUMNS!r}]
printed = " ".join(f"{{value:.2f}}" for value in row)
tensors = [helper.make_tensor("W", TensorProto.FLOAT, [2, 1], [0.113, 0.907])]
graph = helper.make_graph(
    [helper.make_node("MatMul", ["X", "W"], ["Y"])], "g",
    [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
    [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 1])], tensors)
model = helper.make_model(graph)
metrics = {{"accuracy": 0.93, "mae": 18.334512}}
outputs = {{"report.html": b"<p>mae 18.33</p>"}}
"""
ENDING = """
outputs |= {"model.onnx": model.SerializeToString(), "metrics.json": json.dumps(metrics).encode()}
for name, data in outputs.items():
    open(f"/outputs/{name}", "wb").write(data)
"""
HOSTILE = {
    "a metric's name": "metrics[printed.replace('.', '_').replace(' ', '__')] = 1",
    "a report": "outputs['report.html'] = b'<img src=\"data:image/png;base64,' + base64.b64encode(printed.encode())",
    "metadata": "helper.set_model_props(model, {'licence': printed})",
    "numbers": "graph.initializer.append(helper.make_tensor('V', 1, [4], row)); model = helper.make_model(graph)",
    "texts": "graph.initializer.append(helper.make_tensor('V', 8, [1], [printed.encode()])); "
    "model = helper.make_model(graph)",
    "a file's name": "outputs[f'{printed}.txt'] = b''",
    "a doc string": "model.doc_string = zlib.compress(printed.encode()).hex()",
    "bytes behind the model": "outputs['report.html'] = gzip.compress(np.asarray(row, 'f8').tobytes())",
}


@dataclasses.dataclass(frozen=True)
class Stock:
    """A month of real rows in blob storage, and the pipeline that they belong to."""

    spec: Pipeline
    data: Dataset
    content: bytes
    row: tuple[str, ...]
    container: BlobContainer


@pytest.fixture
def stock(container: BlobContainer, tmp_path: Path) -> Stock:
    """One certified file."""
    found, problems = catalog.read(PIPELINE)
    assert found is not None, problems
    frame = pd.read_csv(EXTRACT)
    frame["Date_time"] = pd.to_datetime(frame["Date_time"], utc=True).astype("datetime64[us, UTC]")
    path = tmp_path / "R80711_2014-01.parquet"
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    content = path.read_bytes()
    ref = FileRef(path="data/b1/R80711_2014-01.parquet", size=len(content), sha256=sha256_hex(content))
    container.put_new(ref.path, content)
    data = Dataset(
        pipeline="wind_power", files=(ref,), certificates=("c1",), window_start="2014-01-01T00:00:00Z",
        window_end="2014-02-01T00:00:00Z", holdout_start="2014-01-20T00:00:00Z",
    )  # fmt: skip
    training = found.spec.training.model_copy(update={"reports": ("*.html",)})
    spec = found.spec.model_copy(update={"training": training})
    row = tuple(f"{frame[name][ROW]:.2f}" for name in COLUMNS)
    return Stock(spec=spec, data=data, content=content, row=row, container=container)


def start(bench: Bench, stock: Stock, script: str) -> Job:
    """Begin a training of the stock's rows."""
    job = dataclasses.replace(bench.job(memory_mb=512), reports=("*.html",))
    sent = (member(f"data/{file_names(stock.data)[0]}", stock.content), member("code/train.py", script.encode()))
    with Shell(bench.endpoint) as shell:
        session.engage(TrainingVm(shell), job, Cargo(members=sent), bench.said.append)
    return job


def collect(bench: Bench, stock: Stock, job: Job, store: Store, said: list[str]) -> TrainingRun:
    """Bring its outputs home when it has ended, through the check that the operator uses."""
    eventually(lambda: bench.look(job).ended, "the training's end")
    run = TrainingRun(pipeline="wind_power", dataset=stock.data.id, code=job.run_id, image=job.image, parameters="{}")
    with Shell(bench.endpoint) as shell:
        vm = TrainingVm(shell)
        found = vm.look(job)
        assert found.exit_code == 0, vm.failure(job, found)
        check = leak_check(stock.spec, stock.data, stock.container, said.append)
        return session.harvest(
            vm, job, run, found=found, blobs=stock.container, store=store, say=said.append, check=check
        )  # fmt: skip


def test_a_hostile_training_gets_no_row_out(bench: Bench, stock: Stock, container: BlobContainer, store: Store) -> None:
    """Eight scripts, eight ways: each is refused with the place, nothing is stored, no value is told, outputs stay."""
    jobs = {way: start(bench, stock, HONEST + way_out + ENDING) for way, way_out in HOSTILE.items()}
    for way, job in jobs.items():
        said: list[str] = []
        with pytest.raises(LeakError) as caught:
            collect(bench, stock, job, store, said)
        told = f"{caught.value}\n" + "\n".join(said)
        assert f"row {ROW + 1} of {file_names(stock.data)[0]}" in told, way
        assert not [value for value in stock.row if value in told], way
        assert bench.on_vm(f"ls {job.folder}/outputs").split()[:2] != [], way
        assert bench.look(job).status == "exited", way
    assert list(container.list("training/")) == []


def test_an_honest_training_passes_and_its_reports_come_home(
    bench: Bench, stock: Stock, container: BlobContainer, store: Store
) -> None:
    """The same script with nothing hidden is stored, its report in a folder of its own; the check says what it did."""
    said: list[str] = []
    stored = collect(bench, stock, start(bench, stock, HONEST + ENDING), store, said)
    assert [one.path.removeprefix(f"training/{stored.id}/") for one in stored.outputs] == [
        "model.onnx", "metrics.json", "reports/report.html",
    ]  # fmt: skip
    assert [container.digest(one.path) for one in stored.outputs] == [(one.size, one.sha256) for one in stored.outputs]
    assert any(one.startswith("No training data found in 3 outputs: 2") for one in said)


def test_who_is_checked_for_what(
    stock: Stock, container: BlobContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows if on_premises without the permit; identifiers always; a cloud pipeline without any is not even read for."""
    output = tmp_path / "report.html"
    output.write_text(" ".join(stock.row))
    cloud = stock.spec.model_copy(update={"residency": "cloud"})
    permitted = stock.spec.model_copy(update={"residency_permits": ("training_rows",)})
    named = stock.spec.columns.model_copy(update={"identifiers": ("Wind_turbine_name",)})
    said: list[str] = []

    def checked(spec: Pipeline) -> None:
        leak_check(spec, stock.data, container, said.append)({"report.html": output}, ("report.html",))

    with pytest.raises(LeakError, match="P_avg"):
        checked(stock.spec)
    for spec in (cloud, permitted):
        said.clear()
        checked(spec)
        assert said == []
        checked(spec.model_copy(update={"columns": named}))
        assert said != []
        output.write_text("turbine r80711")
        with pytest.raises(LeakError, match="identifier column Wind_turbine_name"):
            checked(spec.model_copy(update={"columns": named}))
        output.write_text(" ".join(stock.row))
    monkeypatch.setattr("edgeloop.training.leaks.SPARE_BYTES", 1 << 60)
    with pytest.raises(ConflictError, match="TMPDIR"):
        checked(stock.spec)
