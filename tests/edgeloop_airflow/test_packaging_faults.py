"""A worker that dies after any effect of a packaging: the next try goes on, to one image and one record."""

from __future__ import annotations

import json
import os
import re
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop import registry
from edgeloop.azure.blob import BlobContainer
from edgeloop.containers.engine import Engine
from edgeloop.containers.registry_wire import Wire
from edgeloop.errors import EngineError, ProofFailedError
from edgeloop.packaging import golden, golden_rows
from edgeloop.records import ModelImage
from edgeloop_airflow import hooks
from edgeloop_airflow.packaging import ProveImageOperator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.edgeloop_airflow.yard import Yard

    from edgeloop.containers.registry_wire import Call

DIED = 9
DIGITS = re.compile(r"[0-9a-f-]{12,}|yard\d+|\?[^ ]*")
"""What differs from try to try; a blob that is sent is known by its size."""
READS = {"GET", "HEAD"}


def dying(known: Path, patch: Callable[[Any, str, Any], None]) -> None:
    """From now on end this process at once after the first effect of a kind that no process died of before."""

    def after(kind: str) -> None:
        name = DIGITS.sub("*", kind)
        died_of = known.read_text(encoding="utf-8").splitlines()
        if name not in died_of:
            known.write_text("\n".join([*died_of, name]), encoding="utf-8")
            os._exit(DIED)

    def follow(owner: Any, method: str, name: Callable[..., str]) -> None:
        before = getattr(owner, method)

        def instead(self: Any, *args: Any, **kwargs: Any) -> Any:
            value = before(self, *args, **kwargs)
            if kind := name(*args, **kwargs):
                after(kind)
            return value

        patch(owner, method, instead)

    follow(BlobContainer, "put_new", lambda blob, *_, **__: f"blob {blob}")
    follow(Engine, "load", lambda *_: "load")
    follow(Engine, "start", lambda *_, **__: "start")
    follow(Engine, "remove", lambda *_: "remove")
    follow(Wire, "once", lambda call, *_: "" if call.method in READS else asked(call))


def asked(call: Call) -> str:
    """A request that changes something."""
    return f"{call.method} {call.path.split('//')[-1]} {len(call.data)} B"


def package(yard: Yard, key: str) -> None:
    """The three tasks of a run."""
    run = yard.run(key)
    for task in ("build", "prove", "push"):
        run.task(task)


def in_a_process(work: Callable[[], None]) -> int:
    """Run ``work`` in a process of its own; returns how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - pytest must not go on in the child
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_packaging_that_dies_after_any_effect_is_finished_by_the_next(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each in turn, then left alone: one digest, one record, one bill, and no container of a proof."""
    model, known = yard.candidate(0.75), tmp_path / "known"
    known.write_text("", encoding="utf-8")

    def work() -> None:
        dying(known, monkeypatch.setattr)
        package(yard, model.key)

    ends = []
    while not ends or ends[-1] == DIED:
        ends.append(in_a_process(work))
        assert ends[-1] in {0, DIED}
    died_of = known.read_text(encoding="utf-8").split("\n")
    for step in (
        "load",
        "start",
        "blob records/image/*.json",
        "blob keys/proofs/",
        "blob golden/",
        "blob sboms/",
        "PUT",
    ):
        assert any(step in one for one in died_of), (step, died_of)
    assert len(ends) > 15
    store = yard.desk.store
    (image,) = store.children(model.id, ModelImage)
    package(yard, model.key)
    assert store.children(model.id, ModelImage) == [image]
    assert registry.tags(store, model.id)["image"] == image.digest
    assert image.sbom
    with Engine(hooks.engine_endpoint("edgeloop_builder")) as engine:
        assert engine.labels("edgeloop.proof") == {}


def test_a_proof_that_is_marked_failed_takes_its_container_away(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow says so to the task seconds before it kills it; no later packaging may come to clear up."""
    model, really, left = yard.candidate(0.25), Engine.ask, []
    run = yard.run(model.key)
    run.task("build")

    def marked(engine: Engine, *arguments: Any, **more: Any) -> Any:
        ProveImageOperator(task_id="prove", pipeline=yard.name).on_kill()
        left.append(engine.labels("edgeloop.proof"))
        return really(engine, *arguments, **more)

    monkeypatch.setattr(Engine, "ask", marked)
    with pytest.raises(EngineError):
        run.task("prove")
    assert left == [{}]


def test_a_forced_proof_makes_new_golden_rows_beside_the_old(yard: Yard) -> None:
    """Rows that were damaged trap nobody: a reason makes others, the old stay, and devices are asked the new ones."""
    model = yard.candidate(0.5)
    package(yard, model.key)
    desk = yard.desk
    (image,) = desk.store.children(model.id, ModelImage)
    assert image.golden == f"golden/{image.id}.json"
    good = desk.blobs.get(image.golden)
    broken = json.dumps({**json.loads(good), "answers": [9.0] * 64}).encode()
    desk.blobs.put(image.golden, broken)
    run = yard.run(model.key)
    with pytest.raises(ProofFailedError):
        desk.store.objects.delete(f"keys/proofs/{desk.store.keys('proofs')[0]}.json") or run.task("prove")
    run.task("prove", force="the stored rows were damaged")
    blob = golden_rows.blob_of(desk.store, image)
    assert blob.startswith(f"golden/{image.id}-")
    assert desk.blobs.get(blob) == good
    assert desk.blobs.get(image.golden) == broken
    assert desk.store.ledger(f"golden/{image.id}")[-1].body["why"] == "the stored rows were damaged"
    run.task("prove", force="once more")
    assert len(desk.store.ledger(f"golden/{image.id}")) == 1
    ring = yard.switched(f"{image.key}@ring0")
    assert ring.task("gate") == "approve"


def test_what_is_recorded_of_an_image(yard: Yard) -> None:
    """Digest, proof, bill and what the database said stand in the record, and the way back at the model."""
    model = yard.candidate(0.25)
    package(yard, model.key)
    (image,) = yard.desk.store.children(model.id, ModelImage)
    proof = json.loads(image.proof)
    assert set(proof) == {"rows", "start_seconds", "cpu_seconds", "memory_bytes", "engine_id"}
    assert yard.desk.blobs.exists(image.sbom)
    assert image.audit == ""
    tags = registry.tags(yard.desk.store, model.id)
    host = hooks.registry_endpoint("edgeloop_registry").host
    assert (tags["image"], tags["image_reference"], tags["image_registry"]) == (image.digest, image.reference, host)


def test_a_forced_proof_that_fails_leaves_the_rows_that_devices_are_asked(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that the image was never proven with, as another onnxruntime on the worker makes them, ask no device."""
    model = yard.candidate(0.125)
    package(yard, model.key)
    desk = yard.desk
    (image,) = desk.store.children(model.id, ModelImage)
    before = golden_rows.find(desk.store, desk.blobs, image)
    assert before is not None
    really = golden.answer
    monkeypatch.setattr(golden, "answer", lambda *given: tuple(one + 1.0 for one in really(*given)))
    with pytest.raises(ProofFailedError):
        yard.run(model.key).task("prove", force="is it still what it was?")
    assert golden_rows.find(desk.store, desk.blobs, image) == before
