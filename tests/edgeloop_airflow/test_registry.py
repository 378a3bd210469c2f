from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.execution_time.context import OutletEventAccessors
from tests.proven import proven
from tests.shipyard import linear

from edgeloop import registry
from edgeloop.errors import ConflictError, IntegrityError, NotFoundError, TrainingFailedError
from edgeloop.records import Dataset, FileRef, ModelVersion, TrainingRun, canonical_json, sha256_hex
from edgeloop_airflow.assets import Assets
from edgeloop_airflow.registry import RegisterModelOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from edgeloop_airflow.hooks import Desk

MODEL = Assets("wind_power").model
FEATURES = 8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """The desk of a pipeline in a container of its own, and what the training before leaves there."""

    desk: Desk
    extras: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """What the events carried that ``register`` emitted."""

    def train(
        self,
        weight: float,
        accuracy: float,
        *,
        champion: float | None = None,
        damage: bool = False,
        until: str = "2014-04-01T00:00:00Z",
        compared: bool = True,
        days: int = 14,
        shown: bool = True,
    ) -> TrainingRun:
        """A finished training with its outputs; ``champion`` is its accuracy on the same hold-out of some ``days``."""
        known = registry.champion(self.desk.store)
        dataset = self.desk.store.put(
            Dataset(
                pipeline="wind_power",
                files=(),
                certificates=("c" * 64,),
                window_start="2014-01-01T00:00:00Z",
                window_end=until,
                holdout_start="2014-03-18T00:00:00Z",
                reason="test",
            )
        )
        onnx = linear(*[weight] * FEATURES)
        metrics = proven(onnx, {"accuracy": accuracy, "mae": 20.0}) if shown else {"accuracy": accuracy}
        if champion is not None:
            metrics["champion"] = {"accuracy": champion, "mae": 30.0}
            if compared:
                metrics["paired"] = pairs(accuracy, champion, days)
        run = TrainingRun(
            pipeline="wind_power",
            dataset=dataset.id,
            code=sha256_hex(str(weight).encode()),
            image="i" * 64,
            parameters="{}",
            champion=known.id if known and champion is not None else "",
            metrics=canonical_json(metrics).decode(),
        )
        path = f"training/{run.id}/model.onnx"
        self.desk.blobs.put(path, onnx[:-1] if damage else onnx)
        output = FileRef(path=path, size=len(onnx), sha256=sha256_hex(onnx))
        return self.desk.store.put(dataclasses.replace(run, outputs=(output,)))

    def register(self, run: TrainingRun, *, promote: str = "", why: Context | None = None) -> tuple[str, list[str]]:
        """What the operator returns, and the partitions it emits; ``why`` is the part of the context with the run."""
        operator = RegisterModelOperator(
            task_id="register", pipeline="wind_power", training_run=run.id, promote=promote, outlets=[MODEL]
        )
        events = OutletEventAccessors()
        context: Context = {**(why or {}), "outlet_events": events}  # type: ignore[typeddict-item]
        returned = operator.execute(context)
        self.extras.append(events[MODEL].extra)
        return returned, sorted(events[MODEL].partition_keys)

    def promote(self, model_id: str) -> ModelVersion:
        """Through every ring."""
        expected = registry.current(self.desk.store).champion
        registry.promote(self.desk.store, model_id, by="t", why="passed", evidence="", expected_champion=expected)
        return self.desk.store.get(ModelVersion, model_id)

    def events(self) -> list[str]:
        """The promotion ledger, event by event."""
        return [f"{one.body['event']} {one.body['version']}" for one in self.desk.store.ledger("promotions")]


def pairs(ours: float, theirs: float, days: int = 14) -> dict[str, Any]:
    """Paired counts of 100 rows a day: of the two the better one has alone what it is better by, the same every day."""
    rows = 100 * days
    gain = round((ours - theirs) * 100)
    blocks = [[max(gain, 0), max(-gain, 0)]] * days
    both = round(min(ours, theirs) * rows)
    alone = abs(gain) * days
    return {
        "both": both,
        "challenger": max(gain, 0) * days,
        "champion": max(-gain, 0) * days,
        "neither": rows - both - alone,
        "block_hours": 24,
        "blocks": blocks,
    }


@pytest.fixture
def plant(sample: Desk) -> Plant:
    """The sample pipeline on this test's own container."""
    return Plant(desk=sample)


def test_the_first_model_becomes_the_candidate(plant: Plant) -> None:
    """It is registered with its window and tags, nominated, and its partition sent to packaging."""
    run = plant.train(1.0, 0.9)

    model_id, keys = plant.register(run)

    model = plant.desk.store.get(ModelVersion, model_id)
    assert keys == [model.key]
    assert (model.version, model.window_end, model.training_run) == (1, "2014-04-01T00:00:00Z", run.id)
    assert model.tags == (f"dataset={run.dataset}", "reason=test")
    assert registry.candidate(plant.desk.store) == model
    assert plant.events() == ["registered 1", "candidate 1"]


def test_running_twice_emits_the_same_partition_and_writes_nothing(plant: Plant) -> None:
    """A cleared task finds version and nomination and sends the key again, in case the event was lost."""
    run = plant.train(1.0, 0.9)

    assert plant.register(run) == plant.register(run)
    assert plant.events() == ["registered 1", "candidate 1"]


def test_a_better_model_goes_on_and_a_worse_one_stays(plant: Plant) -> None:
    """Both are registered; the skip says the numbers."""
    plant.promote(plant.register(plant.train(1.0, 0.9))[0])

    with pytest.raises(AirflowSkipException, match=r"accuracy 0\.8000 does not beat the champion's 0\.8500"):
        plant.register(plant.train(2.0, 0.80, champion=0.85))
    with pytest.raises(AirflowSkipException, match="does not beat"):
        plant.register(plant.train(3.0, 0.85, champion=0.85))
    better, keys = plant.register(plant.train(4.0, 0.86, champion=0.85))

    assert keys == [plant.desk.store.get(ModelVersion, better).key]
    assert plant.events()[3:] == ["registered 2", "registered 3", "registered 4", "candidate 4"]


def test_a_hold_out_that_cannot_tell_leaves_the_champion(plant: Plant) -> None:
    """Better on four days of four is not sure enough: registered, told as inconclusive, and the champion stays."""
    champion = plant.promote(plant.register(plant.train(1.0, 0.9))[0])

    with pytest.raises(AirflowSkipException, match=r"cannot be told from .* to be 95% sure takes 5 blocks"):
        plant.register(plant.train(2.0, 0.86, champion=0.85, days=4))

    assert plant.events()[-1] == "registered 2"
    assert registry.champion(plant.desk.store) == champion


def test_the_numbers_of_the_comparison_are_in_record_ledger_and_log(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version carries the figures and not the counts of every day; the ledger's reason and the log say them."""
    plant.promote(plant.register(plant.train(1.0, 0.9))[0])

    model = plant.desk.store.get(ModelVersion, plant.register(plant.train(2.0, 0.86, champion=0.85))[0])

    metrics = json.loads(model.metrics)
    assert "paired" not in metrics
    assert metrics["comparison"] == {
        "rows": 1400, "only_challenger_right": 14, "only_champion_right": 0, "gain": 0.01,
        "blocks": 14, "block_hours": 24, "p_value": 6.104e-05,
    }  # fmt: skip
    words = "gain +0.0100: 14 rows only the challenger had right, 0 only the champion; p 6.1e-05 over 14 blocks of 24 h"
    assert words in plant.desk.store.ledger("promotions")[-1].body["why"]
    assert words in capsys.readouterr().out


def test_a_model_that_is_not_shown_to_answer_as_trained_is_not_registered(plant: Plant) -> None:
    """The task fails, says what train.py must write, and a reason to promote does not open this door."""
    run = plant.train(1.0, 0.9, shown=False)

    for promote in ("", "it looks fine to me"):
        with pytest.raises(
            TrainingFailedError, match=r"Let train\.py write what edgeloop_trainer\.parity\.compare gives"
        ):
            plant.register(run, promote=promote)

    assert plant.events() == []
    assert not list(plant.desk.blobs.list("models/"))


def test_the_figures_of_the_comparison_with_the_trained_model_go_into_the_record(plant: Plant) -> None:
    """All of them, and of an on_premises pipeline no text: the digest that bound them to the file stays behind."""
    model = plant.desk.store.get(ModelVersion, plant.register(plant.train(1.0, 0.9))[0])

    figures = json.loads(model.metrics)["parity"]
    assert figures["passed"] is True
    assert figures["largest_difference"] == 0.001
    assert not [name for name, value in figures.items() if isinstance(value, str)]


def test_a_training_without_paired_counts_is_an_error_and_no_rejection(plant: Plant) -> None:
    """The task fails and says what train.py must write; a reason to promote is not held up by it."""
    plant.promote(plant.register(plant.train(1.0, 0.9))[0])
    run = plant.train(2.0, 0.95, champion=0.85, compared=False)

    with pytest.raises(TrainingFailedError, match=r"Let train\.py write 'paired'"):
        plant.register(run)

    assert plant.register(run, promote="compared by hand")[1]
    assert "not compared" in plant.desk.store.ledger("promotions")[-1].body["why"]


def test_a_worse_model_goes_on_with_a_reason(plant: Plant) -> None:
    """Promoting sends it and the ledger keeps the numbers and why."""
    plant.promote(plant.register(plant.train(1.0, 0.9))[0])

    _, keys = plant.register(plant.train(2.0, 0.80, champion=0.85), promote="the hold-out has bad labels")

    assert len(keys) == 1
    why = plant.desk.store.ledger("promotions")[-1].body["why"]
    assert "does not beat" in why
    assert "forced: the hold-out has bad labels" in why


def test_a_comparison_with_a_former_champion_does_not_count(plant: Plant) -> None:
    """While it trained, another was promoted: it was never measured against that one."""
    plant.promote(plant.register(plant.train(1.0, 0.9))[0])
    slow = plant.train(2.0, 0.95, champion=0.85)
    plant.promote(plant.register(plant.train(3.0, 0.92, champion=0.85))[0])

    with pytest.raises(AirflowSkipException, match="but version 2 is champion by now"):
        plant.register(slow)


def test_a_champion_that_changes_after_the_comparison_is_noticed(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another is promoted while this one is registered: no nomination; the next try compares and says why not."""
    plant.promote(plant.register(plant.train(1.0, 0.8))[0])
    slow, quick = plant.train(2.0, 0.95, champion=0.8), plant.train(3.0, 0.92, champion=0.8)
    other, _ = plant.register(quick)
    real = registry.register

    def overtaken(*args: Any, **kwargs: Any) -> ModelVersion:
        plant.promote(other)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(registry, "register", overtaken)
        with pytest.raises(ConflictError, match="is champion by now"):
            plant.register(slow)
    with pytest.raises(AirflowSkipException, match="but version 2 is champion by now"):
        plant.register(slow)
    assert plant.events()[-1] == "registered 3"


def test_a_training_that_gives_the_champion_again_goes_no_further(plant: Plant) -> None:
    """The same bytes are the same version, and it serves already."""
    plant.promote(plant.register(plant.train(1.0, 0.9))[0])

    with pytest.raises(AirflowSkipException, match="gave the champion again, version 1"):
        plant.register(plant.train(1.0, 0.9, champion=0.9))
    assert plant.events() == ["registered 1", "candidate 1", "champion 1"]


def test_a_quarantined_model_comes_back_only_with_a_reason(plant: Plant) -> None:
    """Training the same bytes again is no way around a failed gate."""
    run = plant.train(1.0, 0.9)
    model_id, _ = plant.register(run)
    registry.quarantine(plant.desk.store, model_id, by="gate", why="wrong answers")

    with pytest.raises(AirflowSkipException, match="was rejected or quarantined before"):
        plant.register(run)

    assert plant.register(run, promote="the device was at fault")[0] == model_id


def started(kind: str, **conf: str) -> Any:
    """The part of a context that says how its run came to be."""
    return {"dag_run": SimpleNamespace(run_type=kind, conf=conf, partition_key="k", run_id="r")}


def set_off_by(**extra: str) -> Any:
    """The part of a context of a run that one asset event started."""
    event = SimpleNamespace(extra=extra)
    return started("asset_triggered") | {"triggering_asset_events": {"dataset": [event]}}


@pytest.mark.parametrize("why", [started("manual"), started("backfill"), set_off_by(origin="backfill")])
def test_the_better_model_of_a_rerun_stays_where_it_is(plant: Plant, why: Any) -> None:
    """It is registered, no partition is emitted, the champion stays, and the skip says what to type."""
    champion = plant.promote(plant.register(plant.train(1.0, 0.8))[0])
    better = plant.train(2.0, 0.9, champion=0.8, until="2014-05-01T00:00:00Z")

    with pytest.raises(AirflowSkipException, match=r"Version 2 is registered but goes no further.*'promote'"):
        plant.register(better, why=why)

    assert plant.events()[-1] == "registered 2"
    assert registry.champion(plant.desk.store) == champion
    assert plant.register(better, why=started("asset_triggered"))[1], "the live run that comes to the same sends it"


def test_a_model_of_older_data_never_replaces_a_newer_one(plant: Plant) -> None:
    """A failed training of an old window that is cleared months later is registered and leaves the champion."""
    plant.promote(plant.register(plant.train(1.0, 0.8))[0])

    with pytest.raises(AirflowSkipException, match=r"data up to 2014-03.*never replaces version 1"):
        plant.register(plant.train(2.0, 0.9, champion=0.8, until="2014-03-01T00:00:00Z"))
    assert plant.events()[-1] == "registered 2"


@pytest.mark.parametrize("why", [started("manual", promote="ask"), set_off_by(origin="rerun", promote="ask")])
def test_a_promoted_rerun_goes_out_and_says_so_to_the_next_stage(plant: Plant, why: Any) -> None:
    """The reason stands in the ledger and in the event that starts the packaging."""
    plant.promote(plant.register(plant.train(1.0, 0.8))[0])

    _, keys = plant.register(plant.train(2.0, 0.7, champion=0.8, until="2014-03-01T00:00:00Z"), why=why)

    assert len(keys) == 1
    assert "forced: ask" in plant.desk.store.ledger("promotions")[-1].body["why"]
    assert plant.extras[-1] == {"origin": "rerun", "promote": "ask"}


def test_outputs_that_changed_are_not_registered(plant: Plant) -> None:
    """The blob must be what the training run says it is."""
    with pytest.raises(IntegrityError, match="is not the model that training run"):
        plant.register(plant.train(1.0, 0.9, damage=True))
    assert plant.events() == []


@pytest.mark.parametrize("training_run", ["", "None", "0" * 64])
def test_a_training_that_is_not_there_is_told(plant: Plant, training_run: str) -> None:
    """A manual trigger without a finished training is an error that names the record."""
    operator = RegisterModelOperator(task_id="register", pipeline="wind_power", training_run=training_run)
    with pytest.raises(NotFoundError, match="records/training_run"):
        operator.execute({})  # type: ignore[typeddict-item]


def test_the_training_is_what_the_train_task_returned() -> None:
    """By default the id comes through XCom, and only the id."""
    operator = RegisterModelOperator(task_id="register", pipeline="wind_power", promote="{{ params.why }}")
    asked: list[str] = []
    ti = SimpleNamespace(xcom_pull=lambda task_ids: asked.append(task_ids) or "e" * 64)

    operator.render_template_fields({"ti": ti, "params": {"why": "why"}})  # type: ignore[typeddict-item,typeddict-unknown-key]

    assert (operator.training_run, operator.promote, asked) == ("e" * 64, "why", ["train"])
