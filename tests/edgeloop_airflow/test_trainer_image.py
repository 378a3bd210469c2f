"""The image that a pipeline trains in gets to the VM by itself: made of its requirements, or from the builder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.training.test_trainer_image import USES, wheel
from tests.edgeloop_airflow.test_training import CONTEXT, Stage

from edgeloop.records import TrainingRun
from edgeloop.ssh.shell import Shell
from edgeloop.training.trainer_image import VmImages, repository_of
from edgeloop_airflow import hooks, trainer_image
from edgeloop_airflow.training import AttachComputeOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.edgeloop_airflow.conftest import Floor

    from lab.site import Site

SMALL = "edgeloop/small-of-test:t"


@pytest.fixture
def stage(floor: Floor, site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The tiny pipeline with three certified months, the VM and the builder; its images are removed afterwards."""
    from lab.connections import environment

    for name in ("AIRFLOW_CONN_EDGELOOP_VM", "AIRFLOW_CONN_EDGELOOP_BUILDER"):
        monkeypatch.setenv(name, environment(site)[name])
    one = Stage(floor)
    yield one
    with Shell(hooks.ssh_endpoint("edgeloop_vm")) as shell:
        names = f"$(docker image ls -q {repository_of('tiny_power')}) {SMALL}"
        shell.run(f"docker rmi -f {names} 2>/dev/null || true", timeout=60)


def test_a_training_runs_with_the_packages_its_pipeline_asks_for(stage: Stage) -> None:
    """attach_compute makes the image, train finds it by its name, and the record's image is that one."""
    digest = wheel(stage.floor.home / "wheels", "1.0", 0.25)
    stage.floor.edit("pipeline.yaml", "rollout:", "training: {requirements: more.txt}\nrollout:")
    (stage.floor.home / "more.txt").write_text(f"answer==1.0 --hash=sha256:{digest}\n")
    stage.script(USES)
    for month in ("2014-01", "2014-02", "2014-03"):
        stage.certify(month)
    data = stage.fix()
    AttachComputeOperator(task_id="attach_compute", pipeline="tiny_power", key=stage.key).execute(CONTEXT)
    run = stage.floor.desk().store.get(TrainingRun, stage.train(data))
    assert json.loads(run.metrics) == {"accuracy": 0.25}
    assert run.reason == f"new data {stage.key}"
    with Shell(hooks.ssh_endpoint("edgeloop_vm")) as shell:
        images = VmImages(shell)
        (name,) = shell.run(
            f"docker image ls --format '{{{{.Repository}}}}:{{{{.Tag}}}}' {repository_of('tiny_power')}", timeout=30
        ).text.split()
        found = images.find(name)
    assert found
    assert run.image == found.id


def test_an_image_that_the_vm_lacks_is_brought_from_the_builder(stage: Stage) -> None:
    """Whole, with its id; where the builder lacks it too the log says so and the next look says what to type."""
    import docker

    stage.floor.edit("pipeline.yaml", "rollout:", f"training: {{image: '{SMALL}'}}\nrollout:")
    said: list[str] = []
    builder = docker.DockerClient(base_url=hooks.engine_endpoint("edgeloop_builder").url, timeout=60)
    try:
        with Shell(hooks.ssh_endpoint("edgeloop_vm")) as shell:
            assert trainer_image.ensure(stage.floor.desk(), shell, said.append) == SMALL
            assert "edgeloop_builder cannot give it" in said[-1]
            assert VmImages(shell).find(SMALL) is None
            base = builder.images.list(name="edgeloop/scorer-base")[0]
            base.tag(*SMALL.split(":"))
            trainer_image.ensure(stage.floor.desk(), shell, said.append)
            found = VmImages(shell).find(SMALL)
            assert found
            assert found.id == base.id
            count = len(said)
            trainer_image.ensure(stage.floor.desk(), shell, said.append)
            assert len(said) == count
    finally:
        builder.images.remove(SMALL)
        builder.close()
