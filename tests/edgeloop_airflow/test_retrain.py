"""Who asks for a training and who trains: one for many that wait, a changed script, the clock, and nobody forgotten."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from edgeloop import registry
from edgeloop.errors import UnreachableError
from edgeloop.records import Batch, Certificate, Dataset, FileRef, ModelVersion, TrainingRun, sha256_hex
from edgeloop.training.plan import plan
from edgeloop.training.waiting import Waiting
from edgeloop_airflow import retrain
from edgeloop_airflow.assets import Assets
from edgeloop_airflow.retrain import MintRetrainOperator
from edgeloop_airflow.training import FixDatasetOperator
from edgeloop_airflow.validation import VerifyTransferOperator

if TYPE_CHECKING:
    from tests.edgeloop_airflow.conftest import Floor

RETRAIN = Assets("tiny_power").retrain
MONTHS = [f"{year}-{month:02d}" for year in range(2010, 2015) for month in range(1, 13)]


@dataclass
class Yard:
    """The tiny pipeline, its certified months, and Airflow's queue of training runs as ``max_active_runs=1`` has it."""

    floor: Floor
    image: str = "sha256:" + "1f" * 32
    looks: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    @property
    def store(self) -> Any:
        """The pipeline's records."""
        return self.floor.desk().store

    def certify(self, *months: str) -> list[str]:
        """Store certified months under the folder's snapshot of now; returns their partition keys."""
        desk = self.floor.desk()
        config = desk.snapshot.save(desk.blobs)
        for month in months:
            file = FileRef(path=f"data/{month}/north.parquet", size=9, sha256=sha256_hex(month.encode()))
            batch = sha256_hex(f"batch {month}".encode())
            desk.store.put(
                Certificate(
                    pipeline="tiny_power", batch=batch, suite="s", group=month, files=(file,), rows=10, config=config,
                    event_start=f"{month}-01T00:00:00Z", event_end=f"{month}-28T00:00:00Z",
                    coverage=(f"{month}-05 north 10",), claimed_at=month,
                )
            )  # fmt: skip
        return [self.key(month) for month in months]

    @staticmethod
    def key(month: str) -> str:
        """The partition key of a month's batch."""
        return f"{month}@{sha256_hex(f'batch {month}'.encode())[:16]}"

    def fix(self, key: str, *, behind: int = 0, kind: str = "asset_triggered", **conf: str) -> str:
        """Run fix_dataset for a key while some runs wait; the dataset's id, or ``skipped: <reason>``."""
        self.floor.runs = {"queued": behind}
        force = conf.pop("force", "")
        context = self.floor.context(key=key, dag="tiny_power_train", task="fix_dataset")
        context["dag_run"] = SimpleNamespace(partition_key=key, run_type=kind, conf=conf, run_id=f"run-{key}")
        task = FixDatasetOperator(task_id="fix_dataset", pipeline="tiny_power", key=key, force=force, run=f"run-{key}")
        try:
            return task.execute(context)
        except AirflowSkipException as skip:
            return f"skipped: {skip}"

    def drain(self, keys: list[str]) -> dict[str, str]:
        """Let the runs of some keys start one after the other, as they were queued."""
        return {key: self.fix(key, behind=len(keys) - at - 1) for at, key in enumerate(keys)}

    def trained(self, dataset: str) -> TrainingRun:
        """Record the training that the VM would have done now."""
        desk = self.floor.desk()
        return desk.store.put(plan(desk.snapshot, desk.store.get(Dataset, dataset), image=self.image))

    def sweep(self, run: str = "sweep-1", *, open_runs: int = 0, dies: bool = False) -> list[str]:
        """One run of request_retrain; the keys it emitted. ``dies``: after its last word, before Airflow knows."""
        self.floor.runs = {"running": open_runs}
        context = self.floor.context(run=run, dag="tiny_power_intake", task="request_retrain")
        context["dag_run"] = SimpleNamespace(partition_key=None, run_type="manual", conf={}, run_id=run)
        name = ("tiny_power_intake", "request_retrain", run)
        task = MintRetrainOperator(task_id="request_retrain", pipeline="tiny_power", outlets=[RETRAIN])
        self.floor.states[name] = "failed" if dies else "success"
        try:
            task.execute(context)
        except AirflowSkipException as skip:
            self.floor.states[name] = "skipped"
            self.events.append(str(skip))
            return []
        assert context["outlet_events"][RETRAIN].extra == {}, "a sweep by hand asks for a live training"
        return sorted(context["outlet_events"][RETRAIN].partition_keys)


@pytest.fixture
def yard(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """The yard, on a VM that has the image whose id the test says."""
    one = Yard(floor)

    def look(_: MintRetrainOperator, __: Any) -> str:
        one.looks.append(one.image)
        return one.image

    monkeypatch.setattr(MintRetrainOperator, "_look", look)
    return one


def champion_serves(monkeypatch: pytest.MonkeyPatch) -> ModelVersion:
    """From now on there is a champion."""
    one = ModelVersion(
        pipeline="tiny_power", sha256="c" * 64, size=1, blob="models/c", version=1, training_run="t", metrics="{}"
    )
    monkeypatch.setattr(registry, "champion", lambda _: one)
    return one


def test_fifty_batches_are_one_training(yard: Yard) -> None:
    """The last of fifty waiting keys trains on all the data; the others say so and are decided as it was."""
    keys = yard.certify(*MONTHS[:50])
    said = yard.drain(keys)
    *gave_way, last = said.values()
    assert gave_way[0].startswith(f"skipped: 49 runs wait behind this one: the last of them trains for {keys[0]}")
    assert all(one.startswith("skipped: ") for one in gave_way)
    data = yard.store.get(Dataset, last)
    assert data.window_end.startswith(MONTHS[49])
    assert yard.store.keys("datasets") == sorted(keys)
    assert {yard.store.fixed("datasets", key) for key in keys} == {last}
    assert Waiting(yard.store).keys() == ()
    assert yard.store.fixed("training_reasons", keys[-1]).endswith("and 46 more")


def test_what_comes_while_one_trains_is_one_more_training(yard: Yard) -> None:
    """The first that started is not undone; of those behind it again only the last trains."""
    first = yard.fix(yard.certify(*MONTHS[:3])[-1])
    said = yard.drain(yard.certify(*MONTHS[3:9]))
    trained = [one for one in said.values() if not one.startswith("skipped: ")]
    assert len(trained) == 1
    assert trained[0] != first


def test_a_key_that_gave_way_is_rerun_on_what_was_trained_for_it(yard: Yard) -> None:
    """Clearing its run finds the dataset and the snapshot of the one that trained, however many wait then."""
    keys = yard.certify(*MONTHS[:5])
    last = yard.drain(keys)[keys[-1]]
    assert yard.fix(keys[0], behind=7) == last
    assert yard.store.fixed("training_configs", keys[0]) == yard.store.fixed("training_configs", keys[-1])


def test_drift_that_gave_way_to_new_data_is_not_lost(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """New data alone would not train beside a champion; the run that drift gave way to trains for drift."""
    keys = yard.certify(*MONTHS[:3])
    champion_serves(monkeypatch)
    assert yard.fix("drift-0123456789abcdef", behind=1).startswith("skipped: 1 runs wait")
    data = yard.fix(keys[-1])
    assert not data.startswith("skipped")
    assert yard.store.fixed("datasets", "drift-0123456789abcdef") == data
    assert yard.store.fixed("training_reasons", keys[-1]) == f"drift; new data {keys[-1]}"


def test_new_data_that_gave_way_says_why_nothing_trains(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing but new data among them, the last one is skipped for all of them, and nobody waits on."""
    keys = yard.certify(*MONTHS[:6])
    champion = champion_serves(monkeypatch)
    last = yard.drain(keys)[keys[-1]]
    assert champion.id[:12] in last
    assert "2 more that waited" in last
    assert Waiting(yard.store).keys() == ()


def test_a_changed_script_that_gave_way_is_trained_and_not_the_old_one(yard: Yard) -> None:
    """The batch behind it pinned the script of before; what trains is today's."""
    keys = yard.certify(*MONTHS[:3])
    yard.sweep()
    yard.floor.edit("train.py", "Trains", "Changed. Trains")
    (asked,) = yard.sweep("sweep-2")
    assert yard.fix(asked, behind=1).startswith("skipped")
    assert not yard.fix(keys[-1]).startswith("skipped")
    assert yard.store.fixed("training_configs", keys[-1]) == yard.floor.desk().snapshot.digest


@pytest.mark.parametrize("conf", [{"kind": "manual"}, {"force": "a doubt"}, {"promote": "it is good"}])
def test_what_somebody_started_by_hand_gives_way_to_nothing(yard: Yard, conf: dict[str, str]) -> None:
    """It trains for itself: its model goes nowhere by itself, so it takes nobody's place and those wait on."""
    keys = yard.certify(*MONTHS[:4])
    yard.fix(keys[0], behind=3)
    assert not yard.fix(keys[1], behind=2, **conf).startswith("skipped")
    assert Waiting(yard.store).keys() == (keys[0],)


def test_keys_whose_successor_never_ran_are_asked_for_again(yard: Yard) -> None:
    """Runs behind were deleted: while any run is open nothing is asked, then once, and that run trains for all."""
    keys = yard.certify(*MONTHS[:4])
    for at, key in enumerate(keys[:3]):
        yard.fix(key, behind=3 - at)
    assert yard.sweep(open_runs=1) == []
    (asked,) = yard.sweep("sweep-2")
    assert asked.startswith("waiting-")
    assert yard.sweep("sweep-3") == []
    data = yard.fix(asked)
    assert {yard.store.fixed("datasets", key) for key in (*keys[:3], asked)} == {data}
    assert keys[0] in yard.store.fixed("training_reasons", asked)
    assert yard.sweep("sweep-4") == []


def test_waiting_makes_nothing_train_that_would_not(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """New data whose runs gave way is asked for again, and beside a champion that is no reason to train either."""
    keys = yard.certify(*MONTHS[:4])
    yard.fix(keys[0], behind=1)
    champion = champion_serves(monkeypatch)
    (asked,) = yard.sweep()
    assert champion.id[:12] in yard.fix(asked)
    assert yard.sweep("sweep-2") == []


def test_data_that_was_certified_while_training_was_paused_is_trained_after_it(yard: Yard) -> None:
    """Airflow drops the event; the key waits in the store, and the first sweep after the pause asks for it."""
    (key,) = yard.certify(MONTHS[0])
    yard.certify(*MONTHS[1:3])
    yard.floor.desk().store.put(
        Batch(pipeline="tiny_power", group=MONTHS[0], files=(), config="", claimed_at="2014-06-01T00:00:00.000+00:00")
    )
    desk = yard.floor.desk()
    (batch,) = desk.store.all(Batch)
    body = b"rows"
    desk.blobs.put("data/b/x.parquet", body, metadata={"sha256": sha256_hex(body)})
    file = FileRef(path="data/b/x.parquet", size=len(body), sha256=sha256_hex(body))
    desk.store.put(
        Certificate(
            pipeline="tiny_power", batch=batch.id, suite="s", group=MONTHS[0], files=(file,), rows=10,
            event_start=f"{MONTHS[0]}-01T00:00:00Z", event_end=f"{MONTHS[0]}-28T00:00:00Z", claimed_at="2014-06",
        )
    )  # fmt: skip
    yard.floor.paused.add("tiny_power_train")
    context = yard.floor.context(key=batch.key, dag="tiny_power_ingest", task="verify")
    verify = VerifyTransferOperator(task_id="verify", pipeline="tiny_power", outlets=[Assets("tiny_power").dataset])
    verify.execute(context)
    assert Waiting(yard.store).keys() == (batch.key,)
    assert yard.sweep() == []
    yard.floor.paused.clear()
    (asked,) = yard.sweep("sweep-2")
    data = yard.fix(asked)
    assert yard.store.fixed("datasets", batch.key) == data
    assert key != batch.key


def test_a_try_that_died_between_its_choice_and_its_word_is_finished(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dataset is fixed and those that gave way are not yet told: the retry tells them, and chooses nothing else."""
    keys = yard.certify(*MONTHS[:4])
    yard.fix(keys[0], behind=1)

    def dies(*_: Any) -> Any:
        raise UnreachableError("the account is gone", left="", next="")

    with monkeypatch.context() as broken:
        broken.setattr(Waiting, "settle", dies)
        with pytest.raises(UnreachableError):
            yard.fix(keys[-1])
    yard.certify(*MONTHS[4:5])
    data = yard.fix(keys[-1], behind=1)
    assert yard.store.get(Dataset, data).window_end.startswith(MONTHS[3])
    assert yard.store.fixed("datasets", keys[0]) == data
    assert Waiting(yard.store).keys() == ()


def test_a_changed_script_trains_the_current_dataset_once(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although a champion serves and no data came: one key, announced once, and the reason with both digests."""
    yard.trained(yard.fix(yard.certify(*MONTHS[:3])[-1]))
    champion_serves(monkeypatch)
    assert yard.sweep() == []
    yard.floor.edit("train.py", "Trains", "Changed. Trains")
    (key,) = yard.sweep("sweep-2")
    assert key.startswith("code-")
    assert yard.sweep("sweep-3") == []
    data = yard.fix(key)
    assert yard.store.fixed("training_reasons", key).startswith("code changed: train.py ")
    yard.trained(data)
    assert "had the same data" in yard.fix("code-000000000000"), "a second request for what is trained is none"


def test_an_edit_that_trains_nothing_new_asks_for_nothing(yard: Yard) -> None:
    """Schedules and gates are edited and nobody is told; a broken pipeline.yaml keeps the last valid one."""
    yard.certify(*MONTHS[:3])
    yard.sweep()
    yard.floor.edit("pipeline.yaml", "rollout:", "drift: {fall: 0.2}\nschedules: {sweep: '5 * * * *'}\nrollout:")
    assert yard.sweep("sweep-1b") == []
    yard.floor.edit("pipeline.yaml", "rings:", "ringz:")
    yard.floor.edit("train.py", "Trains", "Changed. Trains")
    assert yard.sweep("sweep-2") == []
    yard.floor.edit("pipeline.yaml", "ringz:", "rings:")
    assert len(yard.sweep("sweep-3")) == 1


def test_changes_are_not_announced_before_there_is_data_or_where_it_is_switched_off(yard: Yard) -> None:
    """A script that is worked on before the first delivery trains nothing, and nothing of it is made up for later."""
    yard.sweep()
    yard.floor.edit("train.py", "Trains", "Changed. Trains")
    assert yard.sweep("sweep-2") == []
    yard.certify(*MONTHS[:3])
    assert yard.sweep("sweep-3") == []
    yard.floor.edit("pipeline.yaml", "rollout:", "training: {retrain_on_change: false}\nrollout:")
    yard.floor.edit("train.py", "Changed. ", "Changed again. ")
    assert yard.sweep("sweep-4") == []


def test_a_sweep_that_died_is_followed_by_one_that_tells(yard: Yard) -> None:
    """The right to tell passes on; a sweep that told and succeeded leaves nothing to tell."""
    yard.certify(*MONTHS[:3])
    yard.sweep()
    yard.floor.edit("train.py", "Trains", "Changed. Trains")
    (key,) = yard.sweep("sweep-2", dies=True)
    assert yard.sweep("sweep-3") == [key]
    assert yard.sweep("sweep-4") == []


def test_nothing_is_told_to_a_paused_dag(yard: Yard) -> None:
    """Airflow would drop it: the skip says what to type, and the first sweep after that asks."""
    yard.certify(*MONTHS[:3])
    yard.sweep()
    yard.floor.edit("train.py", "Trains", "Changed. Trains")
    yard.floor.paused.add("tiny_power_train")
    assert yard.sweep("sweep-2") == []
    assert "code changed: train.py" in yard.events[-1]
    assert "airflow dags unpause tiny_power_train -y" in yard.events[-1]
    yard.floor.paused.clear()
    assert len(yard.sweep("sweep-3")) == 1


def test_the_clock_asks_for_a_training(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick of schedules.retrain is a key, once; what was trained already says so when it comes to it."""
    data = yard.fix(yard.certify(*MONTHS[:3])[-1])
    yard.trained(data)
    yard.floor.edit("pipeline.yaml", "rollout:", "schedules: {retrain: '0 * * * *'}\nrollout:")
    assert yard.sweep() == []
    soon = datetime.now(UTC) + timedelta(hours=1)
    monkeypatch.setattr(retrain, "datetime", SimpleNamespace(now=lambda _: soon, fromisoformat=datetime.fromisoformat))
    (key,) = yard.sweep("sweep-2")
    assert key == f"cron-{soon:%Y-%m-%dT%H}00Z"
    assert yard.sweep("sweep-3") == []
    assert "had the same data" in yard.fix(key)
    yard.certify(*MONTHS[3:4])
    assert not yard.fix(key).startswith("skipped")
    assert yard.store.fixed("training_reasons", key).startswith("cron ")


def test_a_rebuilt_trainer_image_is_noticed_within_the_hour(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The VM is looked at once an hour, not with every sweep; the same data with another image is another training."""
    yard.trained(yard.fix(yard.certify(*MONTHS[:3])[-1]))
    yard.sweep()
    yard.image = "sha256:" + "2e" * 32
    assert yard.sweep("sweep-2") == []
    assert len(yard.looks) == 1
    later = datetime.now(UTC) + timedelta(hours=1)
    monkeypatch.setattr(retrain, "datetime", SimpleNamespace(now=lambda _: later, fromisoformat=datetime.fromisoformat))
    (key,) = yard.sweep("sweep-3")
    data = yard.fix(key)
    assert yard.store.fixed("training_reasons", key) == "image changed: id 1f1f1f1f1f1f -> 2e2e2e2e2e2e"
    yard.trained(data)
    assert "had the same data" in yard.fix("code-000000000000")


def test_a_vm_that_does_not_answer_changes_nothing(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look is bounded and logged; other changes are asked for all the same, and the id of before stays."""
    yard = Yard(floor)
    yard.certify(*MONTHS[:3])
    vm = {"conn_type": "edgeloop_ssh", "host": "127.0.0.1", "port": 1, "login": "u", "extra": {"key_file": "/k"}}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_VM", json.dumps(vm))
    assert yard.sweep() == []
    yard.floor.edit("train.py", "Trains", "Changed. Trains")
    assert len(yard.sweep("sweep-2")) == 1
    monkeypatch.delenv("AIRFLOW_CONN_EDGELOOP_VM")
    yard.floor.desk().blobs.delete(retrain.LOOKED)
    assert yard.sweep("sweep-3") == []
