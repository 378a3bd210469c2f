"""No value of an on_premises pipeline's data gets into a log, an exception, an XCom or an event: only its own account.

Files of unmistakable values go through the real tasks on a real Azurite, failures of every kind are provoked on the
way, and then everything that Airflow would print or keep is searched for those values.
"""

from __future__ import annotations

import json
import logging
import traceback
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from structlog.tracebacks import ExceptionDictTransformer
from tests.proven import proven

from edgeloop.records import Batch, Certificate
from edgeloop_airflow.assets import Assets
from edgeloop_airflow.drift import JudgeIntervalOperator
from edgeloop_airflow.share import ClaimBatchesOperator
from edgeloop_airflow.training_dataset import FixDatasetOperator
from edgeloop_airflow.validation import AnnounceLabelsOperator, CertifyBatchOperator, VerifyTransferOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.edgeloop_airflow.conftest import Floor

    from edgeloop.records import ModelVersion

NUMBER, TEXT = "424242.4242", "SENTINELVALUE"
ASSETS = Assets("tiny_power")
GOOD = [f"north,2014-01-01T00:{minute:02d}:00Z,5,{minute}.5" for minute in range(8)]


@dataclass(slots=True)
class Ears:
    """Hears what a person could read outside the private account."""

    caplog: pytest.LogCaptureFixture
    capfd: pytest.CaptureFixture[str]
    read: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def during(self, call: Callable[[], Any]) -> Any:
        """Run a task; what it returns goes to XCom, what it raises is printed by Airflow."""
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                result = call()
        except Exception as error:  # noqa: BLE001 - the words of whatever comes are what is under test
            self.errors.append(error)
            self.read.append(printed(error))
            return None
        finally:
            self.read += [str(one.message) for one in warned]
        self.read.append(repr(result))
        return result

    def everything(self) -> str:
        """All of it, standard output and Python's warnings included."""
        self.read += [self.caplog.text, *self.capfd.readouterr()]
        self.caplog.clear()
        return "\n".join(self.read)

    def must_not_have_heard_values(self) -> str:
        """The verdict; returns what was heard."""
        heard = self.everything()
        told = [line for line in heard.splitlines() if any(one in line for one in ("424242", TEXT))]
        assert not told, "\n".join(told)
        return heard


def printed(error: BaseException) -> str:
    """An exception as a terminal and as Airflow's log show it, and with every context that hangs on to it."""
    told = ["".join(traceback.format_exception(error))]
    told.append(json.dumps(ExceptionDictTransformer(use_rich=False, show_locals=False)(_exc_info(error)), default=str))
    waiting, met = [error], []
    while waiting:
        one = waiting.pop()
        if not any(one is other for other in met):
            met.append(one)
            told.append(f"{one!s} {one!r} {vars(one)!r}")
            waiting += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(told)


def _exc_info(error: BaseException) -> Any:
    return type(error), error, error.__traceback__


@pytest.fixture
def ears(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Ears:
    """Everything from DEBUG on, of every logger."""
    caplog.set_level(logging.DEBUG)
    return Ears(caplog=caplog, capfd=capfd)


def claim(floor: Floor) -> Batch:
    """The batch of what lies on the share."""
    context = floor.context(run="run-1", dag="tiny_power_intake", task="claim")
    ids = ClaimBatchesOperator(task_id="claim", pipeline="tiny_power", outlets=[ASSETS.batch]).execute(context)
    return floor.desk().store.get(Batch, ids[0])


def certify(floor: Floor, key: str) -> Certificate:
    """Run the certifying task."""
    context = floor.context(key=key, dag="tiny_power_ingest", task="certify")
    found = CertifyBatchOperator(task_id="certify", pipeline="tiny_power").execute(context)
    return floor.desk().store.get(Certificate, found)


def whole_ingest(floor: Floor, ears: Ears) -> list[Any]:
    """Every task from intake to the fixed dataset, on whatever lies on the share; the contexts with their events."""
    batch = ears.during(lambda: claim(floor))
    contexts = []
    for operator, outlets in (
        (CertifyBatchOperator, []),
        (VerifyTransferOperator, [ASSETS.dataset]),
        (AnnounceLabelsOperator, [ASSETS.labels]),
        (FixDatasetOperator, []),
    ):
        context = floor.context(key=batch.key, dag="tiny_power_ingest", task="t")
        more = {"key": batch.key} if operator is FixDatasetOperator else {}
        task: Any = operator(task_id="t", pipeline="tiny_power", outlets=outlets, **more)
        ears.during(lambda task=task, context=context: task.execute(context))
        contexts.append(context)
        ears.read += [repr(sorted(context["outlet_events"][one].partition_keys)) for one in outlets]
    return contexts


def kept_at_home(floor: Floor) -> str:
    """All text in the private account's container; data itself is Parquet and is searched as a table."""
    blobs = floor.desk().blobs
    return "".join(blobs.get(one.name).decode("utf-8", "replace") for one in blobs.list())


BAD_ROWS = {
    "a value out of range": [*GOOD, f"north,2014-01-01T01:00:00Z,{NUMBER},7"],
    "no instant": [*GOOD, f"north,{TEXT},5,{NUMBER}", f"north,{NUMBER},5,7"],
    "an unknown site": [*GOOD, f"{TEXT},2014-01-01T01:00:00Z,5,{NUMBER}"],
    "a double": [*GOOD, f"north,2014-01-01T01:00:00Z,5,{NUMBER}", f"north,2014-01-01T01:00:00Z,6,{NUMBER}"],
    "a torn line among many": [*GOOD * 20, f"north,{TEXT}"],
    "a number too big for any type": [*GOOD, f"north,2014-01-01T01:00:00Z,5,{'424242' * 80}"],
}
BLOCKING_ROWS = {
    "text where a number should be": [*GOOD, f"north,2014-01-01T01:00:00Z,5,{TEXT}"],
    "text in every number": [f"north,2014-01-01T0{hour}:00:00Z,{TEXT},{TEXT}" for hour in range(5)],
}
BAD_TEXTS = {
    "header and first row in one line": f"site,at,wind,powernorth,2014-01-01T00:00:00Z,{TEXT},{NUMBER}\n",
    "a column named by a value": f"site,at,wind,power,{TEXT}\nnorth,2014-01-01T00:00:00Z,5,6,7\n",
    "a column twice": f"site,at,wind,power,{TEXT},{TEXT}\nnorth,2014-01-01T00:00:00Z,5,6,7,8\n",
    "no header": f"north,2014-01-01T00:00:00Z,{NUMBER},{TEXT}\n" * 3,
    "another number of fields in each line": "site,at,wind,power\n" + f"{TEXT},{NUMBER}\n" * 4,
    "a quote that never ends": f'site,at,wind,power\nnorth,2014-01-01T00:00:00Z,5,"{TEXT}\n',
    "a quote in the middle": f'site,at,wind,power\nnorth,2014-01-01T00:00:00Z,5,"{TEXT}"{NUMBER}\n',
    "cut off": f"site,at,wind,power\nnorth,2014-01-01T00:00:00Z,5,{NUMBER}",
    "zero bytes": f"site,at,wind,power\nnorth,2014-01-01T00:00:00Z,5,{TEXT}\x00\n",
}


def named(what: str) -> str:
    """A file's name that says what is wrong with it."""
    return f"{what.replace(' ', '-')}_2014-01.csv"


def test_rows_that_break_a_rule_are_told_by_number(floor: Floor, ears: Ears) -> None:
    """Whatever is wrong with a row, its words and numbers are in the quarantine and nowhere else."""
    for what, rows in BAD_ROWS.items():
        floor.drop(named(what), *rows)
    whole_ingest(floor, ears)
    heard = ears.must_not_have_heard_values()
    assert not [what for what in BAD_ROWS if named(what) not in heard], "a file was never judged"
    assert f"{len(BAD_ROWS)} files" in heard, "the batch was not certified"
    assert TEXT in kept_at_home(floor)
    assert NUMBER in kept_at_home(floor)


def test_a_blocked_batch_names_no_value(floor: Floor, ears: Ears) -> None:
    """Text where numbers should be, and files that are no CSV: a header holds data, too, where a line end was lost."""
    for what, rows in BLOCKING_ROWS.items():
        floor.drop(named(what), *rows)
    for what, text in BAD_TEXTS.items():
        floor.drop(named(what), text=text)
    whole_ingest(floor, ears)
    assert "is blocked" in str(ears.errors[0])
    heard = ears.must_not_have_heard_values()
    assert not [what for what in (*BLOCKING_ROWS, *BAD_TEXTS) if named(what) not in heard], "a file was never judged"
    assert TEXT in kept_at_home(floor), "files that are no CSV are set aside as they came"


EVERY_KIND: list[dict[str, Any]] = [
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "power"}},
    {"type": "expect_column_values_to_be_null", "kwargs": {"column": "power"}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "power"}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "power", "value_set": [1]}},
    {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": "site", "value_set": ["north"]}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "power", "max_value": 1}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "note", "max_value": 1}},
    {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "note", "regex": "^x"}},
    {"type": "expect_column_values_to_not_match_regex", "kwargs": {"column": "note", "regex": "S"}},
    {"type": "expect_column_value_lengths_to_equal", "kwargs": {"column": "note", "value": 1}},
    {"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "power", "max_value": 1}},
    {"type": "expect_column_values_to_be_of_type", "kwargs": {"column": "note", "type_": "float64"}},
    {"type": "expect_column_values_to_be_in_type_list", "kwargs": {"column": "note", "type_list": ["int64"]}},
    {"type": "expect_column_pair_values_a_to_be_greater_than_b", "kwargs": {"column_A": "wind", "column_B": "power"}},
    {"type": "expect_column_pair_values_to_be_equal", "kwargs": {"column_A": "wind", "column_B": "power"}},
    {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["power", "note"]}},
    {"type": "expect_multicolumn_sum_to_equal", "kwargs": {"column_list": ["wind", "power"], "sum_total": 1}},
    {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "power", "max_value": 1}},
    {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "note", "max_value": 1}},
    {"type": "expect_column_max_to_be_between", "kwargs": {"column": "power", "max_value": 1}},
    {"type": "expect_column_min_to_be_between", "kwargs": {"column": "power", "min_value": 1e9}},
    {"type": "expect_column_sum_to_be_between", "kwargs": {"column": "power", "max_value": 1}},
    {"type": "expect_column_distinct_values_to_be_in_set", "kwargs": {"column": "note", "value_set": ["a"]}},
    {"type": "expect_column_unique_value_count_to_be_between", "kwargs": {"column": "note", "min_value": 900}},
    {"type": "expect_table_row_count_to_be_between", "kwargs": {"max_value": 1}},
    {"type": "expect_table_column_count_to_equal", "kwargs": {"value": 9}},
]


@pytest.mark.parametrize("severity", ["block", "warn"])
def test_every_kind_of_expectation_breaks_in_silence(floor: Floor, ears: Ears, severity: str) -> None:
    """Unexpected values, observed values and what could not be evaluated: told as counts, in errors and in warnings."""
    columns = {
        "type": "expect_table_columns_to_match_set",
        "kwargs": {"column_set": ["site", "at", "wind", "power", "note"]},
    }
    kinds = [columns, *({**one, "meta": {"severity": severity}} for one in EVERY_KIND)]
    (floor.home / "expectations.json").write_text(json.dumps({"name": "all", "expectations": kinds}))
    rows = [f"north,2014-01-01T00:0{minute}:00Z,5,{NUMBER},{TEXT}" for minute in range(6)]
    floor.drop("north_2014-01.csv", text="site,at,wind,power,note\n" + "".join(f"{row}\n" for row in rows))
    whole_ingest(floor, ears)
    heard = ears.must_not_have_heard_values()
    assert "expect_column_values_to_be_unique" in heard
    assert bool(ears.errors and "is blocked" in str(ears.errors[0])) is (severity == "block")


def _raising(error: Callable[[], Exception]) -> Callable[..., Any]:
    def broken(*_: Any, **__: Any) -> Any:
        try:
            float(TEXT)
        except ValueError as first:
            raise error() from first

    return broken


LIBRARIES = {
    "pandas": lambda: ValueError(f"could not convert string to float: '{TEXT}'"),
    "great_expectations": lambda: RuntimeError(f"Error: The column contains {NUMBER}"),
    "pyarrow": lambda: __import__("pyarrow").ArrowInvalid(f"Could not convert '{TEXT}' with type str: tried double"),
    "an error of ours on top of theirs": lambda: __import__("edgeloop.errors").errors.IntegrityError("Not whole."),
}
PLACES = ("edgeloop.validation.certify.Certification.certify", "edgeloop.store.Store.put")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_an_error_in_the_middle_is_told_by_kind_and_place(
    floor: Floor, ears: Ears, monkeypatch: pytest.MonkeyPatch, place: str, library: str
) -> None:
    """The message, the cause and what was being handled quote a cell; kind and line do not."""
    floor.drop("north_2014-01.csv", *GOOD)
    batch = claim(floor)
    monkeypatch.setattr(place, _raising(LIBRARIES[library]))
    ears.everything()
    ears.during(lambda: certify(floor, batch.key))
    assert ears.errors
    heard = ears.must_not_have_heard_values()
    assert " broken" in heard, "the place is not told"


DOMAINS = {
    "compares text with a number": "note > 5",
    "names no column": "nothing > 5",
    "is Python and no query": "wind if power else note",
}


@pytest.fixture
def champion(floor: Floor) -> ModelVersion:
    """A champion to judge."""
    from tests.shipyard import linear

    from edgeloop import registry
    from edgeloop.records import TrainingRun

    desk = floor.desk()
    run = desk.store.put(TrainingRun(pipeline="tiny_power", dataset="d" * 64, code="c", image="i", parameters="{}"))
    metrics = proven(linear(1.0), {"accuracy": 0.9})
    made = registry.register(
        desk.store, desk.blobs, pipeline="tiny_power", onnx=linear(1.0), training_run=run, metrics=metrics
    )
    registry.nominate(desk.store, made, by="test", why="test")
    registry.promote(desk.store, made.id, by="test", why="test", evidence="e", expected_champion="")
    return made


@pytest.mark.parametrize("what", [*DOMAINS, "the label is text", "the Parquet file is damaged", "the log is none"])
def test_judging_fails_without_a_value(floor: Floor, ears: Ears, champion: ModelVersion, what: str) -> None:
    """Labels and prediction logs are data, too: a query that fails, a damaged file and a torn line are told as such."""
    suite = {
        "type": "expect_table_columns_to_match_set",
        # Not exact: of an exact suite's columns it is told at load that the domain names none of them.
        "kwargs": {"column_set": ["site", "at", "wind", "power", "note"], "exact_match": False},
    }
    (floor.home / "expectations.json").write_text(json.dumps({"name": "all", "expectations": [suite]}))
    label = TEXT if what == "the label is text" else NUMBER
    for site in ("north", "south"):
        rows = "".join(f"{site},2014-01-01T00:0{minute}:00Z,5,{label},{TEXT}\n" for minute in range(4))
        floor.drop(f"{site}_2014-01.csv", text="site,at,wind,power,note\n" + rows)
    if what in DOMAINS:
        floor.edit("pipeline.yaml", "  tolerance: 1.0\n", f"  tolerance: 1.0\n  domain: '{DOMAINS[what]}'\n")
    predictions = floor.desk().blobs.account.container(f"{floor.desk().blobs.name}-edge")
    floor.edit("pipeline.yaml", "  preset: stack_hub\n", f"  preset: stack_hub\n  predictions: {predictions.name}\n")
    certificate = certify(floor, claim(floor).key)
    line = {"site": "north", "event_time": "2014-01-01T00:00:00Z", "model": "m", "version": "1"}
    log = json.dumps({**line, "sha256": champion.sha256, "y": 424242.4242}) + "\n"
    torn = f'{{"y": "{TEXT}"\n{{"site": "{TEXT}", "y": {NUMBER}\n'
    predictions.put("north/predictions/2014-01/a-0.jsonl", (torn if what == "the log is none" else log).encode())
    if what == "the Parquet file is damaged":
        name = certificate.files[0].path
        floor.desk().blobs.put(name, floor.desk().blobs.get(name)[:-40] + TEXT.encode() * 3)
    ears.must_not_have_heard_values()
    task = JudgeIntervalOperator(task_id="judge", pipeline="tiny_power", interval="2014-01")
    ears.during(lambda: task.execute(floor.context(key="2014-01", dag="tiny_power_drift", task="judge")))
    assert bool(ears.errors) is (what != "the log is none"), ears.errors
    assert not any(isinstance(one, AirflowSkipException) for one in ears.errors), ears.errors
    ears.must_not_have_heard_values()


def test_the_ears_hear(floor: Floor, ears: Ears) -> None:
    """The test's own ears: a value in a log line, in a warning, in a cause or in XCom would have been found."""
    del floor
    from edgeloop_airflow.validation import CertifyBatchOperator as Task

    speaking: list[Callable[[], Any]] = [
        lambda: Task(task_id="t", pipeline="tiny_power").log.info("a row of %s", NUMBER),
        lambda: logging.getLogger("great_expectations").error("a row of %s", NUMBER),
        lambda: warnings.warn(f"a row of {TEXT}", stacklevel=1),
        lambda: [f"id of {TEXT}"],
        _raising(lambda: RuntimeError("nothing")),
    ]
    for one in speaking:
        ears.during(one)
        with pytest.raises(AssertionError):
            ears.must_not_have_heard_values()
        ears.read.clear()
