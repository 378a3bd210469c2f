from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.proven import proven

from edgeloop import registry
from edgeloop.errors import IntegrityError, TrainingFailedError
from edgeloop.records import ModelVersion, sha256_hex
from edgeloop.registry.decision import not_finite
from edgeloop.registry.versions import check_metrics, check_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.records import TrainingRun
    from edgeloop.store import Store

    Register = Callable[..., ModelVersion]
    Onnx = Callable[[float], bytes]
    Training = Callable[..., TrainingRun]

AT_ONCE = 8
MLP = Path(__file__).parents[2] / "data" / "onnx" / "mlp.onnx"


def test_the_first_model_is_version_one_and_its_bytes_are_stored(
    store: Store, container: BlobContainer, registered: Register, onnx_bytes: Onnx, training_run: Training
) -> None:
    """The record names version, digest and blob; the blob holds exactly the bytes; the ledger says who and when."""
    model = registered(1.0)

    onnx = onnx_bytes(1.0)
    assert (model.version, model.sha256, model.size) == (1, sha256_hex(onnx), len(onnx))
    assert model.blob == f"models/{sha256_hex(onnx)}.onnx"
    assert container.get(model.blob) == onnx
    (entry,) = store.ledger("promotions")
    assert entry.body["event"] == "registered"
    assert entry.body["model"] == model.id
    assert entry.body["version"] == 1
    assert entry.body["from"] == ""
    assert store.children(training_run().id, ModelVersion) == [model]


def test_the_same_bytes_are_the_same_version(store: Store, registered: Register, training_run: Training) -> None:
    """Registering again changes nothing, appends nothing, and names the second training in the lineage."""
    first = registered(1.0)
    again = registered(1.0, run=2)

    assert again == first
    assert len(store.ledger("promotions")) == 1
    assert store.children(training_run(2).id, ModelVersion) == [first]


def test_an_onnx_file_of_another_framework_is_registered(
    store: Store, container: BlobContainer, training_run: Training
) -> None:
    """What PyTorch exported by itself becomes a version like any other."""
    onnx = MLP.read_bytes()
    model = registry.register(
        store, container, pipeline="wind", onnx=onnx, training_run=training_run(),
        metrics=proven(onnx, {"accuracy": 0.9}), features=3,
    )  # fmt: skip
    assert (model.version, container.get(model.blob)) == (1, onnx)


def test_other_bytes_are_the_next_version(registered: Register) -> None:
    """Versions count up by one."""
    assert [registered(float(n)).version for n in (1, 2, 3)] == [1, 2, 3]


def test_eight_at_once_with_the_same_bytes_are_one_version(store: Store, registered: Register) -> None:
    """Whatever the order of their steps, all get the same record and the ledger has one entry."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda run: registered(1.0, run=run), range(1, AT_ONCE + 1)))

    assert {one.version for one in found} == {1}
    assert len({one.id for one in found}) == 1
    assert len(set(found)) == 1
    assert len(store.ledger("promotions")) == 1


def test_eight_at_once_with_other_bytes_are_eight_versions_without_a_gap(store: Store, registered: Register) -> None:
    """The compare-and-swap gives each number once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda n: registered(float(n)), range(1, AT_ONCE + 1)))

    assert sorted(one.version for one in found) == list(range(1, AT_ONCE + 1))
    assert sorted(one.version for one in store.all(ModelVersion)) == list(range(1, AT_ONCE + 1))


@pytest.mark.fault
@pytest.mark.parametrize("dies_at", range(1, 7), ids=["bytes", "entry", "head", "record", "edge", "link"])
def test_a_try_that_died_at_any_write_is_completed_by_the_next(
    store: Store, container: BlobContainer, registered: Register, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """Whatever write the try died at, the next gives version 1, once, and the model after it version 2."""

    class Killed(BaseException):
        """As SIGKILL would: nothing catches it."""

    writes = 0
    put_new = type(container).put_new

    def dying(self: BlobContainer, *args: Any, **kwargs: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == dies_at:
            raise Killed
        put_new(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(container), "put_new", dying)
        with pytest.raises(Killed):
            registered(1.0)

    model = registered(1.0)

    assert (model.version, registered(2.0).version) == (1, 2)
    assert [one.body["event"] for one in store.ledger("promotions")] == ["registered", "registered"]
    assert model in store.children(model.training_run, ModelVersion)
    assert container.digest(model.blob) == (model.size, model.sha256)


@pytest.mark.fault
@pytest.mark.parametrize("rival", [1.0, 2.0], ids=["same bytes", "other bytes"])
@pytest.mark.parametrize("step", range(1, 7), ids=["bytes", "entry", "head", "record", "edge", "link"])
def test_a_registration_between_any_two_steps_of_another(
    store: Store, registered: Register, monkeypatch: pytest.MonkeyPatch, step: int, rival: float
) -> None:
    """A second training registers as a whole just before one of the first's writes: no gap, no number twice."""
    kind, writes, theirs = type(store.objects), 0, []
    put_new = kind.put_new

    def overtaken(self: BlobContainer, *args: Any, **kwargs: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == step:
            with monkeypatch.context() as patch:
                patch.setattr(kind, "put_new", put_new)
                theirs.append(registered(rival, run=2))
        put_new(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "put_new", overtaken)
        mine = registered(1.0)

    (other,) = theirs
    ours_first = step > 2
    numbers = (1, 1) if rival == 1.0 else (1, 2) if ours_first else (2, 1)
    assert (mine.version, other.version) == numbers
    assert (mine == other) == (rival == 1.0)
    assert sorted(one.body["version"] for one in store.ledger("promotions")) == sorted(set(numbers))
    assert sorted(one.version for one in store.all(ModelVersion)) == sorted(set(numbers))
    assert registry.current(store).versions == {mine.id: numbers[0], other.id: numbers[1]}


def test_a_blob_with_other_bytes_under_the_models_name_is_refused(
    store: Store, container: BlobContainer, registered: Register, onnx_bytes: Onnx
) -> None:
    """Nothing is registered over bytes that are not what their name says, and they are left as they are."""
    sha256 = sha256_hex(onnx_bytes(1.0))
    container.put_new(f"models/{sha256}.onnx", b"half a mod")

    with pytest.raises(IntegrityError, match="holds 10 bytes"):
        registered(1.0)

    assert container.get(f"models/{sha256}.onnx") == b"half a mod"
    assert store.ledger("promotions") == []


@pytest.mark.parametrize("onnx", [b"", b"no model at all", b"\x08\x08"], ids=["empty", "text", "a graphless message"])
def test_bytes_that_do_not_load_are_no_model(onnx: bytes) -> None:
    """Onnxruntime itself decides, and the error names the training and what to do."""
    with pytest.raises(TrainingFailedError, match=r"training run abc cannot be loaded") as caught:
        check_onnx(onnx, "abc")
    assert "clear the train task" in caught.value.next


def test_half_a_model_is_no_model(onnx_bytes: Onnx) -> None:
    """A copy that was cut short is found before anything is stored."""
    whole = onnx_bytes(1.0)
    check_onnx(whole, "abc")
    with pytest.raises(TrainingFailedError, match="cannot be loaded"):
        check_onnx(whole[: len(whole) // 2], "abc")


@pytest.mark.parametrize(
    ("metrics", "named"),
    [
        ({"accuracy": float("nan")}, "accuracy"),
        ({"accuracy": 0.9, "mae": float("inf")}, "mae"),
        ({"accuracy": 0.9, "champion": {"mae": float("-inf")}}, "champion.mae"),
        ({"accuracy": 0.9, "folds": [0.1, float("nan")]}, "folds.1"),
    ],
)
def test_a_metric_that_is_no_finite_number_is_named(metrics: dict[str, Any], named: str) -> None:
    """NaN anywhere in metrics.json stops the registration and the error says where it is."""
    assert not_finite(metrics) == [named]
    with pytest.raises(TrainingFailedError, match=f"not finite: {named}"):
        check_metrics(metrics, "abc")


@pytest.mark.parametrize("metrics", [{}, {"accuracy": None}, {"accuracy": "0.9"}, {"accuracy": True}, {"accuracy": 93}])
def test_metrics_without_a_share_of_right_rows_are_refused(metrics: dict[str, Any]) -> None:
    """Accuracy is a number between 0 and 1, never text, a percentage or absent."""
    with pytest.raises(TrainingFailedError, match="must be a share between 0 and 1"):
        check_metrics(metrics, "abc")


def test_nothing_is_stored_of_a_training_that_is_refused(
    store: Store, container: BlobContainer, registered: Register
) -> None:
    """Neither bytes nor ledger nor record are written before everything was checked."""
    with pytest.raises(TrainingFailedError):
        registered(accuracy=float("nan"))
    assert list(container.list()) == []
    assert store.all(ModelVersion) == []
