from __future__ import annotations

import io
import json
import shutil
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.execution_time.context import OutletEventAccessors

from edgeloop import registry
from edgeloop.errors import ConfigurationError, NotFoundError
from edgeloop.records import Certificate, DriftVerdict, FileRef, ModelVersion, sha256_hex
from edgeloop.registry.promotions import LEDGER, Change, entry_body
from edgeloop.registry.standing import standing
from edgeloop_airflow.assets import Assets
from edgeloop_airflow.drift import JudgeIntervalOperator, RequestRetrainOperator, SweepIntervalsOperator, bench

if TYPE_CHECKING:
    from airflow.sdk import Asset, BaseOperator, Context

    from edgeloop.azure.blob import BlobAccount
    from edgeloop.drift.interval import Bench

PIPELINES = Path(__file__).resolve().parents[2] / "include" / "pipelines"
ASSETS = Assets("wind_power")
SITES = ("R80711", "R80721", "R80736")
MONTH, ROWS = "2014-11", 200
TIMES = [datetime(2014, 11, 1, tzinfo=UTC) + timedelta(minutes=10 * at) for at in range(ROWS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """The sample pipeline in containers of its own."""

    bench: Bench
    extras: list[dict[str, Any]] = field(default_factory=list)
    """What the events carried that requests and sweeps emitted."""
    paused: set[str] = field(default_factory=set)
    """DAGs that Airflow would say are paused."""

    def emitted(self, operator: BaseOperator, asset: Asset, why: Any) -> tuple[Any, list[str]]:
        """What an operator returns, and the partitions it emits."""
        events = OutletEventAccessors()
        ti = SimpleNamespace(get_dag=lambda name: SimpleNamespace(is_paused=name in self.paused))
        context: Context = {**(why or {}), "outlet_events": events, "ti": ti}  # type: ignore[typeddict-item]
        returned = operator.execute(context)
        self.extras.append(events[asset].extra)
        return returned, sorted(events[asset].partition_keys)

    def champion(self, number: int = 1) -> ModelVersion:
        """A model that was registered and promoted."""
        store = self.bench.store
        model = ModelVersion(
            pipeline="wind_power", sha256=sha256_hex(str(number).encode()), size=1, blob="b", version=number,
            training_run="r" * 64, metrics='{"accuracy":0.9}',
        )  # fmt: skip
        change = Change(event="registered", by="t", why="t")
        store.append(LEDGER, lambda entries: entry_body(change, model.id, standing(entries), version=number))
        store.put(model)
        before = registry.current(store).champion
        registry.promote(store, model.id, by="t", why="passed", evidence="", expected_champion=before)
        return model

    def certify(self, sites: tuple[str, ...] = SITES) -> None:
        """Labels of 100 kW in every row."""
        import pandas as pd

        files = []
        for site in sites:
            columns = {"Wind_turbine_name": site, "Date_time": TIMES, "P_avg": 100.0, "Ws_avg": 8.0, "Ot_avg": 9.0}
            buffer = io.BytesIO()
            pd.DataFrame(columns).astype({"Date_time": "datetime64[us, UTC]"}).to_parquet(buffer, index=False)
            path = f"data/batch/{site}.parquet"
            self.bench.blobs.put_new(path, buffer.getvalue())
            files.append(FileRef(path=path, size=buffer.tell(), sha256=sha256_hex(buffer.getvalue())))
        days = {f"{at:%Y-%m-%d} {site} 144" for at in TIMES for site in sites}
        self.bench.store.put(
            Certificate(
                pipeline="wind_power", batch="b" * 64, suite="s", group=MONTH, files=tuple(files),
                coverage=tuple(sorted(days)), event_start=TIMES[0].isoformat(), event_end="2014-11-02T10:00:00Z",
            )
        )  # fmt: skip

    def predict(self, model: ModelVersion, y: float) -> None:
        """Every device answers ``y`` in every row."""
        for site in SITES:
            row = {"site": site, "model": "wind_power", "version": "1", "sha256": model.sha256, "y": y}
            lines = (json.dumps({**row, "event_time": at.isoformat()}) for at in TIMES)
            self.bench.predictions.put(f"{site}/predictions/{MONTH}/a-0.jsonl", "\n".join(lines).encode())

    def judge(self, *, force: str = "", why: Any = None) -> DriftVerdict:
        """What the operator's verdict says."""
        operator = JudgeIntervalOperator(task_id="judge", pipeline="wind_power", interval=MONTH, force=force)
        return self.bench.store.get(DriftVerdict, operator.execute(why or {}))

    def request(self, verdict: DriftVerdict, *, force: str = "", why: Any = None) -> tuple[Any, list[str]]:
        """The partitions that the request emits."""
        operator = RequestRetrainOperator(
            task_id="request", pipeline="wind_power", verdict=verdict.id, force=force, outlets=[ASSETS.retrain]
        )
        return self.emitted(operator, ASSETS.retrain, why)

    def sweep(self, *, force: str = "", why: Any = None) -> tuple[Any, list[str]]:
        """The partitions that the sweep emits."""
        operator = SweepIntervalsOperator(task_id="sweep", pipeline="wind_power", force=force, outlets=[ASSETS.labels])
        return self.emitted(operator, ASSETS.labels, why)


def test_a_retraining_waits_while_nobody_would_take_it(plant: Plant) -> None:
    """Airflow drops what a paused DAG is told: the skip says so, and the sweep comes back to it."""
    plant.certify()
    plant.predict(plant.champion(), 300.0)
    verdict = plant.judge()
    plant.paused.add("wind_power_train")
    with pytest.raises(AirflowSkipException, match="airflow dags unpause wind_power_train -y"):
        plant.request(verdict)
    assert plant.sweep()[1] == [MONTH]
    plant.paused.clear()
    assert plant.request(plant.judge())[1] == [f"drift-{verdict.id[:16]}"]


@pytest.fixture
def plant(blob_account: BlobAccount, pipelines_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """The sample pipeline on this test's own containers."""
    home = pipelines_folder / "wind_power"
    shutil.copytree(PIPELINES / "wind_power", home, ignore=shutil.ignore_patterns("__pycache__"))
    spec, own = home / "pipeline.yaml", uuid.uuid4().hex[:20]
    text = spec.read_text(encoding="utf-8").replace("container: wind-power", f"container: t{own}")
    spec.write_text(text.replace("predictions: edge", f"predictions: p{own}"), encoding="utf-8")
    account = {"conn_type": "wasb", "extra": {"connection_string": blob_account.connection_string}}
    monkeypatch.setenv("AIRFLOW_CONN_EDGELOOP_PRIVATE", json.dumps(account))
    return Plant(bench=bench("wind_power"))


def test_a_fall_is_judged_and_asks_for_a_retraining(plant: Plant) -> None:
    """From labels and logs to the retrain partition; doing it again finds the verdict and asks for the same key."""
    plant.predict(plant.champion(), 300.0)
    plant.certify()

    verdict = plant.judge()

    assert (verdict.verdict, verdict.rows) == ("fallen", 600)
    key = f"drift-{verdict.id[:16]}"
    assert plant.request(verdict) == plant.request(plant.judge()) == (key, [key])
    assert len(plant.bench.store.all(DriftVerdict)) == 1


def test_what_holds_asks_for_nothing_unless_forced(plant: Plant) -> None:
    """The skip repeats the verdict; a person may ask all the same."""
    plant.predict(plant.champion(), 110.0)
    plant.certify()
    verdict = plant.judge()

    with pytest.raises(AirflowSkipException, match=r"the verdict on 2014-11 is good: accuracy holds: 1\.0000"):
        plant.request(verdict)
    assert plant.request(verdict, force="new sensors")[1] == [f"drift-{verdict.id[:16]}"]


def test_judging_by_force_reads_everything_again(plant: Plant) -> None:
    """A verdict on a log that was wrong traps nobody."""
    champion = plant.champion()
    plant.predict(champion, 300.0)
    plant.certify()
    assert plant.judge().verdict == "fallen"
    plant.predict(champion, 110.0)

    assert plant.judge().verdict == "fallen"
    assert plant.judge(force="the log was replayed with wrong signals").verdict == "good"


def test_there_is_nothing_to_judge_without_champion_labels_or_predictions(plant: Plant) -> None:
    """Each is skipped with its own reason, and the missing sites are named."""
    with pytest.raises(AirflowSkipException, match="No model has been promoted yet"):
        plant.judge()
    champion = plant.champion()
    with pytest.raises(AirflowSkipException, match="2014-11 has no certified rows of R80711, R80721, R80736 yet"):
        plant.judge()
    plant.certify()
    with pytest.raises(AirflowSkipException, match="No device predicted anything in 2014-11"):
        plant.judge()
    plant.predict(champion, 110.0)
    assert plant.judge().verdict == "good"


@pytest.mark.parametrize("interval", ["", "None", "2014-13", "v1@0123"])
def test_a_partition_key_that_is_no_interval_is_told(plant: Plant, interval: str) -> None:
    """A mistyped manual trigger says what a key looks like."""
    plant.champion()
    operator = JudgeIntervalOperator(task_id="judge", pipeline="wind_power", interval=interval)
    with pytest.raises(ConfigurationError, match="is no interval of event time") as caught:
        operator.execute({})  # type: ignore[typeddict-item]
    assert "2014-11" in caught.value.next


def test_a_verdict_that_is_not_there_is_told(plant: Plant) -> None:
    """A request without a verdict is an error that names the record."""
    operator = RequestRetrainOperator(task_id="request", pipeline="wind_power", verdict="None")
    with pytest.raises(NotFoundError, match="records/drift_verdict/None"):
        operator.execute({})  # type: ignore[typeddict-item]


def test_the_sweep_announces_what_was_missed_and_then_rests(plant: Plant) -> None:
    """An interval whose label event was lost is found; once it is judged nothing is announced."""
    plant.predict(plant.champion(), 110.0)
    plant.certify()

    assert plant.sweep() == ([MONTH], [MONTH])
    plant.judge()
    with pytest.raises(AirflowSkipException, match="Every complete interval is judged"):
        plant.sweep()


def backfilled(start: str, end: str) -> Any:
    """The context of a backfilled sweep over one data interval."""
    run = SimpleNamespace(run_type="backfill", conf=None, partition_key=None, run_id="b")
    start_at, end_at = (datetime.fromisoformat(f"{one}T06:00:00+00:00") for one in (start, end))
    return {"dag_run": run, "data_interval_start": start_at, "data_interval_end": end_at}


def test_a_backfilled_sweep_announces_what_ended_in_its_data_interval(plant: Plant) -> None:
    """Of sixty daily runs over two months exactly one announces each month, as a backfill; the others skip."""
    plant.predict(plant.champion(), 110.0)
    plant.certify()

    for start, end in (("2014-11-29", "2014-11-30"), ("2014-12-01", "2014-12-02")):
        with pytest.raises(AirflowSkipException, match=f"ended from {start}.* to {end}.* is judged"):
            plant.sweep(why=backfilled(start, end))
    assert plant.sweep(why=backfilled("2014-11-30", "2014-12-01")) == ([MONTH], [MONTH])
    assert plant.extras == [{"origin": "backfill", "promote": ""}], "only what emits says why"


def test_a_sweep_started_by_hand_is_a_live_one(plant: Plant) -> None:
    """Like intake it looks at what is due now, whoever woke it: what it announces may ask for a retraining."""
    plant.predict(plant.champion(), 300.0)
    plant.certify()

    why = {"dag_run": SimpleNamespace(run_type="manual", conf={}, partition_key=None, run_id="m")}
    assert plant.sweep(why=why) == ([MONTH], [MONTH])
    assert plant.extras == [{}]


def test_a_forced_sweep_announces_what_was_judged_too(plant: Plant) -> None:
    """A wrong verdict traps nobody: the interval comes round again, to be judged by force."""
    plant.predict(plant.champion(), 110.0)
    plant.certify()
    plant.judge()

    assert plant.sweep(force="the labels were corrected outside")[1] == [MONTH]


def test_a_fall_found_by_a_backfill_is_left_to_the_next_live_sweep(plant: Plant) -> None:
    """The verdict says that it was backfilled and asks for nothing; the sweep finds it unheard, and then it asks."""
    plant.predict(plant.champion(), 300.0)
    plant.certify()
    why = backfilled("2014-11-30", "2014-12-01")
    verdict = plant.judge(why=why)

    assert (verdict.verdict, verdict.origin) == ("fallen", "backfill")
    with pytest.raises(AirflowSkipException, match="a backfill only judges; the next sweep asks"):
        plant.request(verdict, why=why)
    assert plant.sweep()[1] == [MONTH]
    assert plant.request(plant.judge())[1] == [f"drift-{verdict.id[:16]}"]
    assert plant.extras == [{}, {}]


def test_a_fall_that_nobody_heard_is_announced_again(plant: Plant) -> None:
    """Until its retraining has a dataset, the sweep brings a fallen verdict back."""
    plant.predict(plant.champion(), 300.0)
    plant.certify()
    verdict = plant.judge()
    assert plant.sweep()[1] == [MONTH]

    plant.bench.store.fix("datasets", f"drift-{verdict.id[:16]}", "d" * 64)

    with pytest.raises(AirflowSkipException, match="Every complete interval"):
        plant.sweep()


def test_defaults_come_from_the_run() -> None:
    """The interval is the partition key and the verdict what the judge returned; a manual run has no key."""
    judge = JudgeIntervalOperator(task_id="judge", pipeline="wind_power")
    judge.render_template_fields({"dag_run": SimpleNamespace(partition_key=MONTH)})  # type: ignore[typeddict-item]
    assert judge.interval == MONTH
    manual = JudgeIntervalOperator(task_id="judge", pipeline="wind_power")
    manual.render_template_fields({"dag_run": SimpleNamespace(partition_key=None)})  # type: ignore[typeddict-item]
    assert manual.interval == ""
    request = RequestRetrainOperator(task_id="request", pipeline="wind_power")
    request.render_template_fields({"ti": SimpleNamespace(xcom_pull=lambda task_ids: f"{task_ids}'s verdict")})  # type: ignore[typeddict-item]
    assert request.verdict == "judge's verdict"
