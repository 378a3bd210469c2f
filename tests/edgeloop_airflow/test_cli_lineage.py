from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.edgeloop_airflow.yard import PORTS, Yard, bring
from tests.proven import proven
from tests.shipyard import linear

from edgeloop import registry
from edgeloop.records import Batch, Certificate, Dataset, FileRef, ModelImage, Rollout, TrainingRun, sha256_hex
from edgeloop.rollout import history
from edgeloop_airflow import cli, cli_lineage

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.records import ModelVersion
    from lab.site import Site

CANARY = "R80711"
ROWS = b"rows of January"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line: its exit code, what it printed and what it complained of."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(arguments)
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


def grown(yard: Yard, weight: float) -> ModelVersion:
    """A candidate with everything behind it: a batch, its certificate, a dataset, a training that put it out."""
    desk = yard.desk
    store, name = desk.store, yard.name
    file = FileRef(path="R80711_2014-01.csv", size=3, sha256=sha256_hex(b"csv"))
    batch = store.put(Batch(pipeline=name, group="2014-01", files=(file,), config=yard.config, claimed_at="2014-02-01"))
    parquet = FileRef(path=f"data/{batch.id}/a.parquet", size=len(ROWS), sha256=sha256_hex(ROWS))
    etag = desk.blobs.put_whole(parquet.path, ROWS, metadata={"sha256": parquet.sha256})
    certificate = store.put(
        Certificate(pipeline=name, batch=batch.id, suite="s", group="2014-01", files=(parquet,), etags=(etag,))
    )
    dataset = store.put(
        Dataset(
            pipeline=name, files=(parquet,), certificates=(certificate.id,), window_start="2014-01-01",
            window_end="2014-02-01", holdout_start="2014-01-20",
        )
    )  # fmt: skip
    onnx = linear(*([weight] * len(desk.snapshot.spec.model.features)))
    run = store.put(
        TrainingRun(
            pipeline=name, dataset=dataset.id, code=desk.snapshot.code_digest, image="i", parameters="{}",
            outputs=(FileRef(path="training/x/model.onnx", size=len(onnx), sha256=sha256_hex(onnx)),),
            config=yard.config,
        )
    )  # fmt: skip
    model = registry.register(
        store, desk.blobs, pipeline=name, onnx=onnx, training_run=run, metrics=proven(onnx, {"accuracy": 0.9})
    )
    registry.nominate(store, model, by="test", why="test")
    return model


def kinds(nodes: list[dict[str, Any]]) -> list[str]:
    """What stands in a chain that was printed as JSON."""
    return [kind for one in nodes for kind in (one["kind"], *kinds(one["links"]))]


def test_what_a_device_runs_is_told_back_to_the_files_and_on_the_device_itself(
    site: Site, yard: Yard, said: Callable[..., tuple[int, str, str]]
) -> None:
    """From the registry's real manifest and labels to the share; the canary is asked; its bytes stand in the record."""
    model = grown(yard, 1.0)
    before = datetime.now(UTC)
    canary = yard.switched(yard.package(model))
    assert canary.task("gate") == "approve"
    canary.answer("Approve", "oncall")
    passed = yard.desk.store.get(Rollout, canary.task("advance"))
    (image,) = yard.desk.store.children(model.id, ModelImage)

    predicted, pulled = (canary.xcom["prefetch", f"{name}_bytes"][CANARY] for name in ("predicted", "pulled"))
    assert predicted == pulled > 0
    assert (passed.predicted, passed.pulled) == ((f"{CANARY}={predicted}",), (f"{CANARY}={pulled}",))
    (served,) = history.history(yard.desk.store, CANARY)
    assert (served.image, served.digest, served.by) == (image.id, image.digest, f"{yard.name}_test run2")
    assert before - timedelta(seconds=1) < datetime.fromisoformat(served.since) <= datetime.now(UTC)
    canary.task("gate")
    assert history.history(yard.desk.store, CANARY) == (served,)

    code, out, err = said("lineage", CANARY, "--live")
    assert (code, err) == (0, "")
    for text in (image.digest, "v1", "R80711_2014-01.csv", "all of them hold", "brought by"):
        assert text in out, out
    code, out, _ = said("lineage", CANARY, "--json")
    assert kinds(json.loads(out)["made_of"]) == [
        "image", "model", "training_run", "code", "dataset", "certificate", "batch", "file",
    ]  # fmt: skip
    code, out, _ = said("lineage", image.digest, "--json")
    assert (code, kinds(json.loads(out)["made_into"])) == (0, ["rollout", "device"])

    yard.desk.blobs.put(model.blob, b"somebody else's model")
    _swap_by_hand(site, image)
    code, out, _ = said("lineage", CANARY, "--live")
    assert code == 1
    assert "BROKEN: its bytes hash to its sha256? blob models/" in out
    assert "BROKEN: the device says so itself? it runs nothing; last seen there was sha256:" in out
    assert "R80711_2014-01.csv" in out


def _swap_by_hand(site: Site, image: ModelImage) -> None:
    """Somebody stops the scorer."""
    import docker

    client = docker.DockerClient(base_url=site.device(CANARY).docker, timeout=30)
    for one in client.containers.list(filters={"label": f"edgeloop.reference={image.reference}"}):
        one.stop(timeout=1)
    client.close()


def test_the_data_is_tried_by_its_etag_and_on_demand_by_its_bytes_and_on_the_share(
    site: Site, yard: Yard, said: Callable[..., tuple[int, str, str]]
) -> None:
    """On real storage and a real share: as it was, written again with the same bytes, with others, and deleted."""
    yard.desk.blobs.ensure()
    model = grown(yard, 1.0)
    spec = yard.desk.snapshot.spec
    share = Path(site.share.path) / spec.source.folder / "R80711_2014-01.csv"
    share.parent.mkdir(parents=True, exist_ok=True)
    share.write_bytes(b"csv")
    (batch,) = yard.desk.store.all(Batch)
    name = f"data/{batch.id}/a.parquet"

    assert said("lineage", "v1")[0] == 0
    code, out, err = said("lineage", "v1", "--bytes")
    assert (code, "not looked at" in out) == (0, False)
    assert err.splitlines() == [
        "reading 1 data files, 0.0 MiB", f"reading 1 files of batch {batch.key} on the share",
    ]  # fmt: skip

    yard.desk.blobs.put(name, ROWS)
    code, out, _ = said("lineage", model.id)
    assert (code, "R80711_2014-01.csv" in out, "not looked at" in out) == (0, True, True)
    yard.desk.blobs.put(name, ROWS[::-1])
    share.write_bytes(b"CSV")
    code, out, _ = said("lineage", "v1", "--bytes")
    assert code == 1
    assert f"BROKEN: {name} is stored as it was certified? it reads as 15 bytes with sha256 " in out
    assert f"Next: Put {spec.storage.container}/{name} back from a backup" in out
    assert "BROKEN: is on the share as it was claimed? it hashes to " in out
    yard.desk.blobs.delete(name)
    code, out, _ = said("lineage", batch.id[:16], "--json")
    assert code == 1
    (only,) = json.loads(out)["wrong"]
    assert (only["kind"], only["state"], only["found"]) == ("certificate", "broken", "there is no such blob")
    assert f"--container-name {spec.storage.container} --name '{name}'" in only["next"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("R80711",), "Nobody saw R80711 serve anything.\nNext: Ask the device itself: edgeloop lineage R80711 --live"),
        (("R80711", "--on", "2014-01-31"), "Nobody saw R80711 serve anything on 2014-01-31."),
        (("R80711", "--on", "31.1.2014"), "'31.1.2014' is no day.\nNext: Write it as 2014-01-31."),
        (("v7",), "knows nothing called 'v7'.\nNext: Give a device's name, a version (v3), "),
        (("R80711", "--pipeline", "nowhere"), "There is no pipeline 'nowhere'.\nNext: Choose one of: yard"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_code_of_its_own(
    yard: Yard, said: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], says: str
) -> None:
    """2, nothing on standard output, and what to type next on standard error."""
    code, out, err = said("lineage", *arguments)
    assert (code, out) == (cli.REFUSED, "")
    assert says in err


def test_a_connection_that_airflow_does_not_have_is_named(
    yard: Yard, said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to add, and where the command would find it."""
    monkeypatch.delenv("AIRFLOW_CONN_EDGELOOP_PRIVATE")
    code, _, err = said("lineage", "R80711")
    assert code == cli.REFUSED
    assert "edgeloop_private" in err
    assert "airflow connections add" in err


def test_where_there_are_several_pipelines_one_is_asked_for(
    yard: Yard, pipelines_folder: Path, said: Callable[..., tuple[int, str, str]]
) -> None:
    """All that there are is told."""
    assert cli_lineage.only_pipeline() == yard.name
    bring(pipelines_folder, "other", next(PORTS))
    code, _, err = said("lineage", "R80711")
    assert code == cli.REFUSED
    assert f"There are 2 pipelines.\nNext: Add --pipeline and one of: other, {yard.name}." in err


def test_a_day_is_asked_of_a_device(yard: Yard, said: Callable[..., tuple[int, str, str]]) -> None:
    """A batch ran nowhere."""
    batch = yard.desk.store.put(Batch(pipeline=yard.name, group="g", files=(), config="c", claimed_at="2014-01-01"))
    code, _, err = said("lineage", batch.key, "--on", "2014-01-01")
    assert code == cli.REFUSED
    assert "--on and --live are asked of a device" in err
