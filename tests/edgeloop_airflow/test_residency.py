"""Residency as tasks meet it: connections that were edited, batches claimed under another configuration, training."""

from __future__ import annotations

import asyncio
import inspect
import json
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.models.baseoperator import BaseOperator
from tests.proven import proven

from edgeloop import catalog
from edgeloop.azure.blob import BlobAccount
from edgeloop.errors import IntegrityError, ResidencyError, WithheldError
from edgeloop.records import Batch, Certificate, FileRef, ModelImage, TrainingRun, sha256_hex
from edgeloop.registry.versions import require_loadable
from edgeloop_airflow import hooks
from edgeloop_airflow.assets import Assets
from edgeloop_airflow.discreet import MARK
from edgeloop_airflow.drift import JudgeIntervalOperator
from edgeloop_airflow.nudge import QueueReader
from edgeloop_airflow.packaging import BuildImageOperator, ProveImageOperator
from edgeloop_airflow.registry import RegisterModelOperator
from edgeloop_airflow.residency import remote_logs, require_queue_at_home, training_vm
from edgeloop_airflow.share import ClaimBatchesOperator
from edgeloop_airflow.training_dataset import FixDatasetOperator
from edgeloop_airflow.validation import AnnounceLabelsOperator, CertifyBatchOperator, VerifyTransferOperator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.edgeloop_airflow.conftest import Floor

    from edgeloop.records import ModelVersion

ASSETS = Assets("tiny_power")
AWAY = "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"
QUEUE_AT_HOME = "AccountName=hub;AccountKey=c2VjcmV0;QueueEndpoint=http://10.0.0.9:10001/hub"
TASKS = (ClaimBatchesOperator, CertifyBatchOperator, VerifyTransferOperator, AnnounceLabelsOperator)
DATA_ROOMS = ("share", "validation", "training", "training_dataset", "registry", "drift", "azure_ml_mirror")


def point(monkeypatch: pytest.MonkeyPatch, connection_string: str, connection: str = "edgeloop_private") -> None:
    """Edit a storage connection, as somebody does under Admin > Connections."""
    extra = {"connection_string": connection_string}
    monkeypatch.setenv(f"AIRFLOW_CONN_{connection.upper()}", json.dumps({"conn_type": "wasb", "extra": extra}))


def claim(floor: Floor) -> Batch:
    """The batch of what lies on the share."""
    context = floor.context(run="run-1", dag="tiny_power_intake", task="claim")
    ids = ClaimBatchesOperator(task_id="claim", pipeline="tiny_power", outlets=[ASSETS.batch]).execute(context)
    return floor.desk().store.get(Batch, ids[0])


def certify(floor: Floor, key: str, **more: Any) -> Certificate:
    """Run the certifying task."""
    context = floor.context(key=key, dag="tiny_power_ingest", task="certify")
    return floor.desk().store.get(
        Certificate, CertifyBatchOperator(task_id="certify", pipeline="tiny_power", **more).execute(context)
    )


def test_a_connection_edited_after_load_stops_every_task(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline loads; the account behind it is another one by now: no task gets as far as a request."""
    floor.month("north", "2014-01")
    batch = claim(floor)
    point(monkeypatch, AWAY)
    assert catalog.load().problems == ()
    drift = JudgeIntervalOperator(task_id="t", pipeline="tiny_power", interval="2014-01")
    fix = FixDatasetOperator(task_id="t", pipeline="tiny_power", key=batch.key)
    for task in (*(kind(task_id="t", pipeline="tiny_power") for kind in TASKS), drift, fix):
        with pytest.raises(ResidencyError, match=r"acct.blob.core.windows.net.*'edgeloop_private'"):
            task.execute(floor.context(key=batch.key))
    with pytest.raises(ResidencyError, match="nothing was sent"):
        asyncio.run(hooks.desk_async("tiny_power"))


def test_a_batch_claimed_for_the_cloud_stays_home_once_its_pipeline_does(floor: Floor) -> None:
    """The snapshot it pinned says cloud; today's residency and account are the stricter and hold."""
    floor.edit("pipeline.yaml", "residency: on_premises", "residency: cloud")
    floor.month("north", "2014-01")
    batch = claim(floor)
    floor.edit("pipeline.yaml", "residency: cloud", "residency: on_premises")
    pinned = floor.desk().at(batch.config).snapshot
    assert (pinned.spec.residency, pinned.digest) == ("on_premises", batch.config)
    assert certify(floor, batch.key).rows == 4


def test_a_batch_claimed_under_older_rules_is_not_trapped(floor: Floor) -> None:
    """What it pinned would be refused today (no preset was needed then): it runs in today's account all the same."""
    floor.month("north", "2014-01")
    floor.edit("pipeline.yaml", "  preset: stack_hub\n", "")
    (older, found) = (floor.home / "pipeline.yaml").read_text(), catalog.load()
    assert [one.field for one in found.problems] == ["storage.preset"]
    floor.edit("pipeline.yaml", "storage:\n", "storage:\n  preset: stack_hub\n")
    desk = floor.desk()
    files = tuple((name, older if name == catalog.SPEC else text) for name, text in desk.snapshot.files)
    pinned = replace(desk.snapshot, files=files).save(desk.blobs)
    under = desk.at(pinned).snapshot
    assert (under.digest, under.spec.storage) == (pinned, desk.snapshot.spec.storage)
    data = (floor.share / "exports" / "north_2014-01.csv").read_bytes()
    file = FileRef(path="north_2014-01.csv", size=len(data), sha256=sha256_hex(data))
    batch = Batch(
        pipeline="tiny_power", group="2014-01", files=(file,), config=pinned, claimed_at="2014-02-01T00:00:00Z"
    )
    assert certify(floor, desk.store.put(batch).key).rows == 4


def test_a_batch_claimed_at_home_does_not_follow_its_pipeline_away(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pipeline became cloud and its account a public one: what it pinned is the stricter and is refused there."""
    floor.month("north", "2014-01")
    batch = claim(floor)
    desk = floor.desk()
    floor.edit("pipeline.yaml", "residency: on_premises", "residency: cloud")
    away = BlobAccount(connection="edgeloop_private", connection_string=AWAY).container(desk.blobs.name)
    monkeypatch.setattr(away, "get", desk.blobs.get)
    today = hooks.Desk(snapshot=catalog.load().find("tiny_power"), blobs=away, store=desk.store)
    with pytest.raises(ResidencyError, match=r"acct.blob.core.windows.net"):
        today.at(batch.config)


def test_a_mistake_beside_the_mark_does_not_undo_it(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marked on_premises and wrong elsewhere: the last valid configuration, which said cloud, runs under the mark."""
    floor.edit("pipeline.yaml", "residency: on_premises", "residency: cloud")
    assert catalog.load().find("tiny_power").spec.residency == "cloud"
    floor.edit("pipeline.yaml", "residency: cloud", "residency: on_premises")
    floor.edit("pipeline.yaml", "preset: stack_hub", "preset: azure")
    point(monkeypatch, AWAY)
    found = catalog.load()
    assert [one.field for one in found.problems] == ["storage.preset"]
    with pytest.raises(ResidencyError, match=r"acct.blob.core.windows.net"):
        hooks.desk("tiny_power")
    floor.edit("pipeline.yaml", "residency: on_premises", "residency: on_premises\nresidency: [")
    with pytest.raises(ResidencyError):
        hooks.desk("tiny_power")


def test_a_second_pipeline_that_would_carry_data_away_gets_no_dags(floor: Floor, pipelines_folder: Path) -> None:
    """Marked cloud and reading the first one's account: refused with file, line and whose it is, even if it ran."""
    import shutil

    other = pipelines_folder / "carrier"
    shutil.copytree(floor.home, other)
    spec = other / "pipeline.yaml"
    text = spec.read_text().replace("name: tiny_power", "name: carrier").replace("on_premises", "cloud")
    text = text.replace("container: tiny-power", "container: carrier").replace("folder: exports", "folder: other")
    text = text.replace(floor.desk().blobs.name, "carrier").replace(
        "  preset: stack_hub", "  connection: edgeloop_cloud"
    )
    spec.write_text(text)
    assert [one.spec.name for one in catalog.load().pipelines] == ["carrier", "tiny_power"]
    reads = "kind: blob\n  connection: edgeloop_private\n  folder: tiny-power/data"
    spec.write_text(text.replace("folder: other", reads))
    found = catalog.load()
    assert [(one.file, one.field) for one in found.problems] == [(str(spec), "source.connection")]
    assert "tiny_power" in found.problems[0].remedy
    # What was valid last is not taken up where it, too, would carry something away by now.
    floor.edit("pipeline.yaml", "folder: exports", "folder: other")
    assert [one.spec.name for one in catalog.load().pipelines] == ["tiny_power"]


@pytest.fixture
def vm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the VM's connection a host."""

    def at(host: str) -> None:
        extra = {"key_file": "/keys/vm", "host_key": "ssh-ed25519 AAAA"}
        login = {"conn_type": "edgeloop_ssh", "host": host, "login": "trainer", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_VM", json.dumps(login))

    return at


def test_data_is_staged_on_a_vm_at_the_site_only(floor: Floor, vm: Any) -> None:
    """The training VM's host is judged like the account's, before anybody logs in."""
    spec = floor.desk().snapshot.spec
    vm("10.0.0.4")
    assert training_vm(spec).host == "10.0.0.4"
    vm("trainer.westeurope.cloudapp.azure.com")
    with pytest.raises(ResidencyError, match=r"Training data.*'edgeloop_vm'"):
        training_vm(spec)


def test_a_training_whose_log_would_leave_is_not_started(
    floor: Floor, vm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's own setting is asked; a permit lets it through."""
    vm("10.0.0.4")
    assert remote_logs() == ""
    monkeypatch.setenv("AIRFLOW__LOGGING__REMOTE_LOGGING", "True")
    monkeypatch.setenv("AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER", "wasb://logs")
    with pytest.raises(ResidencyError, match="task logs are sent to wasb://logs"):
        training_vm(floor.desk().snapshot.spec)
    floor.edit("pipeline.yaml", "residency: on_premises", "residency: on_premises\nresidency_permits: [remote_logs]")
    assert training_vm(floor.desk().snapshot.spec).host == "10.0.0.4"


def test_a_queue_that_moved_to_the_cloud_is_not_read(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The private account's queue may nudge; once its connection names a queue service elsewhere it is left alone."""
    from edgeloop.azure.queue import MessageQueue

    nudge = "quiet_seconds: 0.2\n  nudge: {kind: storage_queue, connection: edgeloop_private, queue: arrivals}"
    floor.edit("pipeline.yaml", "quiet_seconds: 0.2", nudge)
    assert catalog.load().problems == ()
    require_queue_at_home(
        MessageQueue(BlobAccount(connection="edgeloop_private", connection_string=QUEUE_AT_HOME), "arrivals")
    )
    away = MessageQueue(BlobAccount(connection="edgeloop_private", connection_string=AWAY), "arrivals")
    with pytest.raises(ResidencyError, match=r"Names of files.*acct.queue.core.windows.net"):
        require_queue_at_home(away)
    point(monkeypatch, AWAY)
    asked: list[str] = []
    monkeypatch.setattr(MessageQueue, "receive", lambda *_, **__: asked.append("asked"))
    with pytest.raises(ResidencyError):
        asyncio.run(QueueReader("edgeloop_private", "arrivals")._receive())
    assert asked == []


def test_a_model_whose_metrics_hold_rows_is_not_registered(floor: Floor) -> None:
    """Labels of its image would carry them away; nothing is registered and nothing of them is shown."""
    from tests.shipyard import linear

    from edgeloop import registry

    desk, onnx = floor.desk(), linear(1.0)
    desk.blobs.put("training/x/model.onnx", onnx)
    run = desk.store.put(
        TrainingRun(
            pipeline="tiny_power",
            dataset="d" * 64,
            code="c",
            image="i",
            parameters="{}",
            config=desk.snapshot.save(desk.blobs),
            outputs=(FileRef(path="training/x/model.onnx", size=len(onnx), sha256=sha256_hex(onnx)),),
            metrics=json.dumps({"accuracy": 0.9, "rows": [[424242.4242]]}),
        )
    )
    task = RegisterModelOperator(task_id="register", pipeline="tiny_power", training_run=run.id)
    with pytest.raises(ResidencyError, match="rows is a list") as caught:
        task.execute(floor.context(key="k"))
    assert "424242" not in str(caught.value)
    assert registry.candidate(desk.store) is None


@pytest.fixture
def model(floor: Floor) -> ModelVersion:
    """A registered model with figures."""
    from tests.shipyard import linear

    from edgeloop import registry

    desk = floor.desk()
    config = desk.snapshot.save(desk.blobs)
    run = TrainingRun(pipeline="tiny_power", dataset="d" * 64, code="c", image="i", parameters="{}", config=config)
    return registry.register(
        desk.store,
        desk.blobs,
        pipeline="tiny_power",
        onnx=linear(1.0),
        training_run=desk.store.put(run),
        metrics=proven(linear(1.0), {"accuracy": 0.9}),
    )


def test_golden_rows_that_were_replaced_are_not_sent(floor: Floor, model: ModelVersion) -> None:
    """The proving task draws them again and compares before the engine sees any."""
    desk = floor.desk()
    bench: Any = SimpleNamespace(desk=desk, model=model, image=ModelImage(pipeline="p", model=model.id, base="b"))
    task = ProveImageOperator(task_id="prove", pipeline="tiny_power")
    drawn = task.golden(bench)
    assert task.golden(bench) == drawn
    real = replace(drawn, rows=((4.2424,), *drawn.rows[1:]))
    desk.blobs.put(f"golden/{bench.image.id}.json", real.to_json())
    with pytest.raises(ResidencyError, match="may be rows of the data"):
        task.golden(bench)


def test_a_model_registered_with_rows_in_its_metrics_is_not_packaged(floor: Floor, model: ModelVersion) -> None:
    """Registered before anybody looked, or by another hand: no image gets such labels."""
    desk = floor.desk()
    worse = desk.store.put(replace(model, sha256="c" * 64, metrics=json.dumps({"accuracy": 0.9, "rows": [1.5]})))
    task = BuildImageOperator(task_id="build", pipeline="tiny_power")
    with pytest.raises(ResidencyError, match="rows is a list"):
        task.execute(floor.context(key=worse.key))


def test_a_model_registered_before_files_were_tried_is_tried_before_it_is_packaged(
    floor: Floor, model: ModelVersion
) -> None:
    """A record of 0.2.0 may name anything: nothing is built of what no device may load; later ones are not read."""
    desk = floor.desk()
    desk.blobs.put("models/old.onnx", b"PK\x03\x04 a checkpoint")
    old = desk.store.put(replace(model, sha256="d" * 64, blob="models/old.onnx", metrics='{"accuracy":0.9}'))
    task = BuildImageOperator(task_id="build", pipeline="tiny_power")
    with pytest.raises(IntegrityError, match="cannot be loaded: it is a zip archive"):
        task.execute(floor.context(key=old.key))
    require_loadable(desk.blobs, replace(model, blob="models/gone.onnx"), 1)


def test_every_task_that_sees_data_is_discreet() -> None:
    """Each operator of the rooms that read or write rows fails without quoting them, a new one included."""
    talkative = []
    for room in DATA_ROOMS:
        for name, kind in inspect.getmembers(import_module(f"edgeloop_airflow.{room}"), inspect.isclass):
            if issubclass(kind, BaseOperator) and kind.__module__ == f"edgeloop_airflow.{room}":
                for method in ("execute", "execute_complete", "poke"):
                    run = vars(kind).get(method)
                    if run is not None and not hasattr(inspect.unwrap(run, stop=lambda one: hasattr(one, MARK)), MARK):
                        talkative.append(f"{name}.{method}")
    assert talkative == []


@pytest.mark.parametrize(("residency", "kind"), [("on_premises", WithheldError), ("cloud", ValueError)])
def test_a_cloud_pipelines_errors_keep_their_words(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, residency: str, kind: type[Exception]
) -> None:
    """Whose data may leave may also be helped by the library's own message."""
    floor.edit("pipeline.yaml", "residency: on_premises", f"residency: {residency}")
    floor.month("north", "2014-01")
    batch = claim(floor)

    def broken(_: Any) -> None:
        float("424242,4242")

    monkeypatch.setattr("edgeloop.validation.certify.Certification.certify", broken)
    with pytest.raises(kind) as caught:
        certify(floor, batch.key)
    assert ("424242" in str(caught.value)) is (residency == "cloud")
