"""The whole loop once, on real parts, as one story: each test holds one behaviour and stands on those before it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from edgeloop import registry
from edgeloop.records import Batch, Certificate, ModelImage, ModelVersion, TrainingRun
from lab import campaign_site, faults, plant, proof
from lab.airflow_api import wait_for
from lab.story import Story

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.airflow_records import Run, Task
    from lab.campaign_site import Ground
    from lab.loop import Loop
    from lab.site import Device

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]

SECONDS = 120.0
PLAYED = "2014-12"


@dataclass(slots=True)
class Told:
    """What the story has come to so far."""

    january: Certificate | None = None
    first: ModelVersion | None = None
    image: ModelImage | None = None
    rejected: ModelVersion | None = None
    second: ModelVersion | None = None

    def get(self, name: str) -> object:
        """What an earlier test left; without it the story cannot go on."""
        value = getattr(self, name)
        if value is None:
            pytest.fail(f"the story broke off before it came to {name!r}: see the tests above")
        return value


@pytest.fixture(scope="module")
def told() -> Told:
    """The story so far."""
    return Told()


@pytest.fixture(scope="module", autouse=True)
def _loaded(loop: Loop) -> None:
    """Every stage's DAG is there."""
    stages = {loop.dag(one) for one in ("intake", "ingest", "train", "package", "rollout", "drift", "drift_sweep")}
    wait_for(lambda: stages <= {dag.dag_id for dag in loop.admin.dags()}, seconds=SECONDS, what="the DAGs")


def ended(loop: Loop, stage: str, key: str, seconds: float = SECONDS) -> Run:
    """The run of a partition once it has ended."""

    def look() -> Run | None:
        runs = loop.admin.runs(loop.dag(stage), partition_key=key)
        return runs[-1] if runs and runs[-1].done else None

    return wait_for(look, seconds=seconds, what=f"the end of {stage} {key}")


def states(loop: Loop, run: Run) -> dict[str, str]:
    """The state of each task of a run."""
    return {task.task_id: task.state for task in loop.admin.tasks(run.dag_id, run.run_id)}


def scorers(device: Device) -> list[str]:
    """Names of the containers that run on a device."""
    import docker

    client = docker.DockerClient(base_url=device.docker, timeout=20)
    try:
        return [one.name for one in client.containers.list()]
    finally:
        client.close()


def served(loop: Loop, model: ModelVersion) -> list[str]:
    """Every device runs the model's image and answers as it does, seen from outside."""
    (image,) = loop.store.children(model.id, ModelImage)
    onnx = loop.blobs.get(model.blob)
    return [proof.device(one, loop.spec, image, onnx) for one in loop.site.devices]


def quiet() -> Story:
    """A story that nobody listens to."""
    return Story(Console(quiet=True))


def bad_files(folder: Path, good: bytes) -> dict[str, str]:
    """Four exports of January that cannot be validated, by name, each with the word its reason starts with."""
    head, rest = good.split(b"\n", 1)
    files = {
        "R80790_2014-01.csv": (bytes(range(256)) * 8, "no CSV"),
        "R80791_2014-01.csv": (b"", "empty"),
        "R80792_2014-01.csv": (good[: len(good) // 2 + 7].rstrip(b"\n"), "half-written"),
        "R80793_2014-01.csv": (b"when,who,how_much\n" + rest, "no CSV"),
        "R80794_2014-01.csv": (head.replace(b"Ot_avg", b"Temperature") + b"\n" + rest, "other schema"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    return {name: reason for name, (_, reason) in files.items()}


def test_bad_files_are_set_aside_and_the_others_go_on(ground: Ground, loop: Loop, told: Told, tmp_path: Path) -> None:
    """No CSV, an empty, a half-written, a foreign file: set aside with the reason, and no row of the others is lost."""
    good = ground.extracts("2014-01")
    bad = bad_files(tmp_path, good[0].read_bytes())
    files = [*good, *(tmp_path / name for name in bad)]
    assert loop.export(files).written == len(files)
    certificate, batch, _ = loop.certificate("2014-01", files)
    told.january = certificate
    reasons = {line.split(": ", 1)[0].rsplit("/", 1)[-1]: line.split(": ", 1)[1] for line in certificate.set_aside}
    assert {name: reasons[name].startswith(reason) for name, reason in bad.items()} == dict.fromkeys(bad, True)
    assert set(reasons) == set(bad)
    proof.share(loop.site, loop.spec, [batch])
    proof.certified(loop.blobs, [certificate])
    rows = sum(file.read_bytes().count(b"\n") - 1 for file in good)
    assert certificate.rows + certificate.quarantined == rows
    kept = {one.name.rsplit("/", 1)[-1]: loop.blobs.get(one.name) for one in loop.blobs.list(f"set_aside/{batch.id}/")}
    assert kept == {name: (tmp_path / name).read_bytes() for name in bad}


def test_one_month_is_not_enough_to_train(loop: Loop, told: Told) -> None:
    """A dataset below training.minimum_months is skipped with the reason, and nothing is started on the VM."""
    certificate = told.get("january")
    assert isinstance(certificate, Certificate)
    run = ended(loop, "train", loop.store.get(Batch, certificate.batch).key)
    assert run.state == "success"
    assert states(loop, run)["fix_dataset"] == "skipped"
    log = loop.admin.log(loop.admin.task(run.dag_id, run.run_id, "fix_dataset"))
    assert "1 of the 2 months" in log
    assert loop.store.all(TrainingRun) == []


def test_the_second_month_trains_the_first_model(ground: Ground, loop: Loop, told: Told) -> None:
    """Enough months train on the VM once; the registered bytes load, and nothing is left on the VM."""
    files = ground.extracts("2014-02")
    loop.export(files)
    loop.certificate("2014-02", files)
    model, _ = loop.model()
    told.first = model
    assert model.version == 1
    assert len(loop.store.all(TrainingRun)) == 1
    proof.model(loop.blobs, model)
    proof.vm_clean(loop.site)


def test_the_image_holds_the_model_that_was_registered(loop: Loop, told: Told) -> None:
    """The registry's manifest hashes to the recorded digest, and its last layer is the registered model."""
    first = told.get("first")
    assert isinstance(first, ModelVersion)
    told.image, _ = loop.image(first)
    proof.image(loop.site, told.image, first)


def test_only_the_canary_serves_before_approval(loop: Loop, told: Told) -> None:
    """While the canary's gate waits for a person, ring 1 has no run and its devices no scorer."""
    first, image = told.get("first"), told.get("image")
    assert isinstance(first, ModelVersion)
    assert isinstance(image, ModelImage)
    wait_for(lambda: loop.oncall.gates(loop.dag("rollout")), seconds=SECONDS, what="the canary's gate")
    canary, *rest = loop.site.devices
    proof.device(canary, loop.spec, image, loop.blobs.get(first.blob))
    assert [scorers(one) for one in rest] == [[], []]
    assert loop.admin.runs(loop.dag("rollout"), partition_key=f"{image.key}@ring1") == ()


def test_oncall_approves_and_every_device_answers(loop: Loop, told: Told) -> None:
    """After approval by oncall ring 1 follows, the model is champion, and each device answers as the model does."""
    first, image = told.get("first"), told.get("image")
    assert isinstance(first, ModelVersion)
    assert isinstance(image, ModelImage)
    loop.answer(image, first, "Approve")
    loop.champion(first)
    assert len(served(loop, first)) == len(loop.site.devices)
    (gate,) = loop.admin.gates(loop.dag("rollout"), pending=False)
    assert (gate.chosen, gate.responded_by) == (("Approve",), "oncall")
    assert registry.candidate(loop.store) is None


def test_a_refused_model_leaves_every_device_as_it_was(ground: Ground, loop: Loop, told: Told) -> None:
    """A second model, trained by force, is refused at the canary: the first serves everywhere, and the run says why."""
    first = told.get("first")
    assert isinstance(first, ModelVersion)
    campaign_site.retune(ground.spec_file, 60)
    loop.admin.trigger(
        loop.dag("train"), partition_key="forced-1", conf={"force": "more iterations", "promote": "a test"}
    )
    other, _ = loop.model(beyond=first)
    told.rejected = other
    assert other.sha256 != first.sha256
    image, _ = loop.image(other)
    key = f"{image.key}@ring0"
    gates = wait_for(lambda: loop.oncall.gates(loop.dag("rollout")), seconds=SECONDS, what="the canary's gate")
    assert loop.admin.run(gates[0].dag_id, gates[0].run_id).partition_key == key
    proof.device(loop.site.devices[0], loop.spec, image, loop.blobs.get(other.blob))
    loop.tolerated.add(gates[0].run_id)
    loop.oncall.answer(gates[0], "Reject")
    run = ended(loop, "rollout", key)
    assert run.state == "failed"
    assert "refused by oncall" in loop.admin.log(loop.admin.task(run.dag_id, run.run_id, "report"))
    assert len(served(loop, first)) == len(loop.site.devices)
    assert loop.admin.runs(loop.dag("rollout"), partition_key=f"{image.key}@ring1") == ()
    standing = registry.current(loop.store)
    assert (standing.champion, standing.candidate, standing.rejected) == (first.id, "", {other.id})


def test_what_devices_predict_is_carried_to_blob_storage(loop: Loop, told: Told) -> None:
    """Each device's own log of the played month arrives in the private account, every line of the serving model."""
    first = told.get("first")
    assert isinstance(first, ModelVersion)
    plant.play(loop, campaign_site.EXTRACTS, quiet(), [PLAYED])
    proof.served(loop.predictions, loop.spec, first)
    for one in loop.spec.sites:
        logs = list(loop.predictions.list(f"{one.name}/predictions/{PLAYED}/"))
        lines = [json.loads(line) for log in logs for line in loop.predictions.get(log.name).splitlines()]
        assert {line["sha256"] for line in lines} == {first.sha256}
        assert all(line["event_time"].startswith(PLAYED) for line in lines)


def test_new_data_trains_nothing_while_the_champion_serves(ground: Ground, loop: Loop) -> None:
    """With retrain_on: drift a new month is certified and goes no further."""
    before = len(loop.store.all(TrainingRun))
    files = ground.extracts("2014-11")
    loop.export(files)
    _, batch, _ = loop.certificate("2014-11", files)
    run = ended(loop, "train", batch.key)
    assert (run.state, states(loop, run)["fix_dataset"]) == ("success", "skipped")
    assert len(loop.store.all(TrainingRun)) == before


def test_labels_that_arrive_show_the_fall(ground: Ground, loop: Loop, told: Told) -> None:
    """The labels of the played month complete it; the verdict is fallen, and counting again outside says the same."""
    first = told.get("first")
    assert isinstance(first, ModelVersion)
    files = ground.extracts(PLAYED)
    loop.export(files)
    loop.certificate(PLAYED, files)
    verdict, _ = loop.verdict(PLAYED, first)
    assert verdict.verdict == "fallen"
    assert verdict.accuracy < verdict.reference - loop.spec.drift.fall
    proof.verdict(loop.site, loop.spec, loop.predictions, verdict, first)


def test_the_fall_starts_the_loop_again(loop: Loop, told: Told) -> None:
    """A better model on the same hold-out is trained, packaged, approved and served on every device."""
    rejected = told.get("rejected")
    assert isinstance(rejected, ModelVersion)
    second, _ = loop.model(beyond=rejected)
    told.second = second
    metrics = json.loads(second.metrics)
    assert metrics["accuracy"] > metrics["champion"]["accuracy"]
    keys = {run.partition_key or "" for run in loop.admin.runs(loop.dag("train"))}
    (asked,) = (key for key in keys if key.startswith("drift-"))
    assert ended(loop, "train", asked).state == "success"
    image, _ = loop.image(second)
    loop.answer(image, second, "Approve")
    loop.champion(second)
    assert len(served(loop, second)) == len(loop.site.devices)
    proof.vm_clean(loop.site)


def test_driving_it_again_finds_everything(ground: Ground, loop: Loop, told: Told) -> None:
    """The same exports, claims, trainings and images are found: no file is written, no run and no container started."""
    second = told.get("second")
    assert isinstance(second, ModelVersion)
    months = ("2014-02", "2014-11", "2014-12")
    stages = ("ingest", "train", "package", "rollout", "drift")
    wait_for(lambda: not busy(loop, stages), seconds=SECONDS, what="the last runs to end")
    before = {stage: len(loop.admin.runs(loop.dag(stage))) for stage in stages}
    trainings = len(loop.store.all(TrainingRun))
    assert loop.export(ground.extracts(*months)).written == 0
    run = loop.admin.trigger(loop.dag("intake"))
    wait_for(lambda: loop.admin.run(run.dag_id, run.run_id).done, seconds=SECONDS, what="the intake")
    assert states(loop, run)["claim"] == "skipped"
    found = [loop.certificate(month, ground.extracts(month))[2].found for month in months]
    found += [loop.model()[1].found, loop.image(second)[1].found, loop.champion(second).found]
    assert found == [True] * len(found)
    again = loop.admin.trigger(loop.dag("train"), partition_key="drift-again")
    wait_for(lambda: loop.admin.run(again.dag_id, again.run_id).done, seconds=SECONDS, what="the training")
    assert states(loop, again)["fix_dataset"] == "skipped"
    after = {stage: len(loop.admin.runs(loop.dag(stage))) for stage in stages}
    assert after == before | {"train": before["train"] + 1}
    assert len(loop.store.all(TrainingRun)) == trainings


def busy(loop: Loop, stages: tuple[str, ...]) -> list[Run]:
    """Runs that have not ended."""
    return [run for stage in stages for run in loop.admin.runs(loop.dag(stage)) if not run.done]


@pytest.fixture
def broken(ground: Ground) -> Iterator[Path]:
    """A second pipeline beside the first, with a tolerance that cannot be."""
    home = ground.pipelines / "broken"
    campaign_site.small_pipeline(ground.pipelines / ".second")
    spec = ground.pipelines / ".second" / campaign_site.PIPELINE / "pipeline.yaml"
    campaign_site.edit(spec, "name: wind_power\n", "name: broken\n")
    campaign_site.edit(spec, "tolerance: 51.0", "tolerance: -1")
    spec.parent.rename(home)
    try:
        yield home / "pipeline.yaml"
    finally:
        shutil.rmtree(home)
        shutil.rmtree(ground.pipelines / ".second", ignore_errors=True)


def test_a_broken_pipeline_is_one_import_error_and_hurts_no_other(loop: Loop, broken: Path) -> None:
    """dags/pipeline_errors.py alone fails, with file, line, field and remedy; the healthy DAGs stay active and run."""
    lines = broken.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.lstrip().startswith("tolerance:"))
    (problem,) = wait_for(loop.admin.import_errors, seconds=SECONDS, what="the import error")
    assert problem.filename.endswith("pipeline_errors.py")
    assert f"{broken}:{line}: model.tolerance: " in problem.stack_trace
    run = loop.admin.trigger(loop.dag("intake"))
    wait_for(lambda: loop.admin.run(run.dag_id, run.run_id).done, seconds=SECONDS, what="the intake")
    assert loop.admin.run(run.dag_id, run.run_id).state == "success"
    dags = {dag.dag_id: dag for dag in loop.admin.dags()}
    mine = [dag for name, dag in dags.items() if name.startswith("wind_power_")]
    assert len(mine) == 8
    assert not [dag.dag_id for dag in mine if dag.stale or dag.import_errors or dag.paused]
    assert not [name for name in dags if name.startswith("broken_")]


def test_the_import_error_goes_away_with_its_cause(loop: Loop) -> None:
    """Once the broken pipeline is gone, so is the error, by itself."""
    wait_for(lambda: not loop.admin.import_errors(), seconds=SECONDS, what="the import error to go")


def test_an_unreachable_vm_fails_the_task_by_name_and_the_rerun_succeeds(ground: Ground, loop: Loop) -> None:
    """With the VM's link cut a task fails within its time-out naming the connection; with the link back it succeeds."""
    campaign_site.retune(ground.spec_file, 31, gain=1.0)
    with faults.cut(loop.site, "vm"):
        run = loop.admin.trigger(loop.dag("train"), partition_key="drift-link")

        def failed() -> Task | None:
            task = loop.admin.task(run.dag_id, run.run_id, "attach_compute")
            return task if task.state in {"up_for_retry", "failed"} else None

        task = wait_for(failed, seconds=60, what="the task to give the VM up")
        text = loop.admin.log(task, try_number=1)
    assert "edgeloop_vm" in text
    assert "UnreachableError" in text
    assert "Next: " in text
    if task.state == "failed":
        loop.admin.clear_run(run.dag_id, run.run_id, only_failed=True)
    wait_for(lambda: loop.admin.run(run.dag_id, run.run_id).done, seconds=180, what="the training")
    assert loop.admin.run(run.dag_id, run.run_id).state == "success"
    proof.vm_clean(loop.site)
