"""Trainer images of a pipeline's own, made on and run by a real VM."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeloop import catalog
from edgeloop.errors import ConfigurationError, IntegrityError, UnreachableError
from edgeloop.ssh.shell import Shell
from edgeloop.training import image_archive, trainer_image
from edgeloop.training.follow import Ending
from edgeloop.training.requirements import Pin
from edgeloop.training.trainer_image import VmImages, ensure, name_of, prove, reference, repository_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.edgeloop.training.conftest import Bench

    from edgeloop.catalog import Snapshot

TINY = Path(__file__).parents[2] / "data" / "pipelines" / "tiny_power"
USES = """
import json, answer
open("/outputs/model.onnx", "wb").write(b"onnx")
open("/outputs/metrics.json", "w").write(json.dumps({"accuracy": answer.VALUE}))
print("it says", answer.VALUE, flush=True)
"""
SPEAKS_SHELL = """
echo "rows in $EDGELOOP_DATA: $(ls "$EDGELOOP_DATA")"
printf onnx >"$EDGELOOP_OUTPUTS/model.onnx"
printf '{"accuracy": 0.5}' >"$EDGELOOP_OUTPUTS/metrics.json"
"""


def wheel(folder: Path, version: str, value: float) -> str:
    """Write the wheel of a package named answer; returns its sha256."""
    folder.mkdir(exist_ok=True)
    body = io.BytesIO()
    info = f"answer-{version}.dist-info"
    with zipfile.ZipFile(body, "w") as zipped:
        for name, text in (
            ("answer.py", f"VALUE = {value}\n"),
            (f"{info}/METADATA", f"Metadata-Version: 2.1\nName: answer\nVersion: {version}\n"),
            (f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            (f"{info}/RECORD", ""),
        ):
            zipped.writestr(zipfile.ZipInfo(name), text)
    (folder / f"answer-{version}-py3-none-any.whl").write_bytes(body.getvalue())
    return hashlib.sha256(body.getvalue()).hexdigest()


@dataclass
class Workshop:
    """A pipeline with a wheelhouse, and the images of a VM."""

    home: Path
    images: VmImages
    base: str
    said: list[str] = field(default_factory=list)

    def snapshot(self, version: str = "1.0", value: float = 0.75) -> Snapshot:
        """The pipeline when it asks for this version of the package."""
        digest = wheel(self.home / "wheels", version, value)
        return self.asking(f"answer=={version} --hash=sha256:{digest}\n")

    def asking(self, text: str) -> Snapshot:
        """The pipeline with this requirements file."""
        spec = (TINY / "pipeline.yaml").read_text()
        training = f"training: {{requirements: more.txt, image: '{self.base}'}}\n"
        (self.home / "pipeline.yaml").write_text(training + spec)
        (self.home / "more.txt").write_text(text)
        found, problems = catalog.read(self.home)
        assert found, problems
        return found

    def ensure(self, snapshot: Snapshot) -> str:
        """The name of its image, made if it is not there."""
        return ensure(self.images, snapshot, wheelhouse=self.home / "wheels", say=self.said.append)

    def names(self) -> list[str]:
        """The pipeline's images on the VM."""
        text = f"docker image ls --format '{{{{.Repository}}}}:{{{{.Tag}}}}' {repository_of('tiny_power')}"
        return sorted(self.images.shell.run(text, timeout=30).text.split())


@pytest.fixture
def workshop(bench: Bench, tmp_path: Path) -> Iterator[Workshop]:
    """The tiny pipeline on the test site's trainer image; its own images are removed afterwards."""
    home = shutil.copytree(TINY, tmp_path / "tiny_power")
    with Shell(bench.endpoint) as shell:
        one = Workshop(home, VmImages(shell), bench.image)
        yield one
        shell.run(f"docker rmi -f {' '.join(one.names())} 2>/dev/null || true", timeout=60)


def test_a_pipelines_packages_are_there_when_it_trains(workshop: Workshop, bench: Bench) -> None:
    """Made once, found after that; train.py imports them, and what the image had is there beside them."""
    snapshot = workshop.snapshot()
    name = workshop.ensure(snapshot)
    made = workshop.images.find(name)
    base = workshop.images.find(workshop.base)
    assert made
    assert base
    assert name == name_of("tiny_power", snapshot.text("more.txt"), base) == reference(workshop.images, snapshot)
    assert made.layers[:-1] == base.layers
    assert made.labels["edgeloop.pipeline"] == "tiny_power"
    said = len(workshop.said)
    assert workshop.ensure(snapshot) == name
    assert workshop.said[said:] == []
    bench.image = name
    job, lines = bench.job(), []
    bench.engage(job, USES + "import numpy\n")
    assert bench.follow(job, lines) is Ending.ENDED
    assert bench.look(job).exit_code == 0
    assert any("it says 0.75" in one for one in lines)


def test_other_requirements_are_another_image_and_the_old_one_goes(workshop: Workshop) -> None:
    """The VM keeps one image of a pipeline, and those that a container still uses; made again it is the same."""
    snapshot, shell = workshop.snapshot(), workshop.images.shell
    old = workshop.ensure(snapshot)
    first = workshop.images.find(old)
    shell.check(f"docker create --name keeps-{old[-12:]} {old} >/dev/null", timeout=60)
    try:
        new = workshop.ensure(workshop.snapshot("1.1", 0.8))
        assert workshop.names() == sorted([old, new])
    finally:
        shell.check(f"docker rm keeps-{old[-12:]}", timeout=60)
    workshop.images.prune(repository_of("tiny_power"), new)
    assert workshop.names() == [new]
    again = workshop.images.find(workshop.ensure(snapshot))
    assert first
    assert again
    assert first.id == again.id


def test_a_package_with_other_bytes_is_not_installed(workshop: Workshop) -> None:
    """What the hash does not name never reaches the VM."""
    snapshot = workshop.snapshot()
    wheel(workshop.home / "wheels", "1.0", 0.1)
    with pytest.raises(ConfigurationError, match="other bytes than its hash"):
        workshop.ensure(snapshot)
    assert workshop.names() == []


def test_a_package_that_is_not_there_says_where_to_put_it(workshop: Workshop) -> None:
    """A site without an index has a folder of wheels, and the error names it."""
    snapshot = workshop.snapshot()
    shutil.rmtree(workshop.home / "wheels")
    (workshop.home / "wheels").mkdir()
    with pytest.raises(ConfigurationError, match=r"put the wheels into a folder 'wheels' beside pipeline\.yaml"):
        workshop.ensure(snapshot)


def test_an_index_that_does_not_answer_is_told(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a wheelhouse pip asks where it is told to; what it says stands in the error."""
    snapshot = workshop.snapshot()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises((UnreachableError, ConfigurationError), match="the index of the worker's pip"):
        ensure(workshop.images, snapshot, wheelhouse=None, say=workshop.said.append)


def test_an_image_without_python_takes_no_requirements(workshop: Workshop) -> None:
    """Said before anything is downloaded."""
    shell = workshop.images.shell
    shell.check("tar -cf - -C /etc hostname | docker import - edgeloop/nothing:t", timeout=60)
    try:
        workshop.base = "edgeloop/nothing:t"
        with pytest.raises(ConfigurationError, match="has no python3"):
            workshop.ensure(workshop.snapshot())
    finally:
        shell.check("docker rmi edgeloop/nothing:t", timeout=60)


def test_an_image_that_holds_other_versions_is_refused(workshop: Workshop) -> None:
    """The image itself is asked; a package for another platform may be absent, and 1.0 is 1.0.0."""
    pins = [Pin(name="numpy", version="0.1", always=True), Pin(name="none-such", version="1", always=True)]
    with pytest.raises(IntegrityError, match=r"numpy \d.*, not 0\.1; none-such \(none\), not 1"):
        prove(workshop.images, workshop.base, pins)
    found = workshop.images.packages(workshop.base)["numpy"]
    prove(
        workshop.images,
        workshop.base,
        [Pin(name="numpy", version=f"{found}.0", always=True), Pin(name="pywin32", version="1", always=False)],
    )


def test_an_image_that_arrived_as_another_is_refused(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id that was computed here is what the VM must have."""
    monkeypatch.setattr(image_archive.Archive, "image_id", "sha256:" + "0" * 64)
    with pytest.raises(IntegrityError, match="none of it is sha256:0000"):
        workshop.ensure(workshop.snapshot())


def test_an_image_of_ones_own_trains_in_any_language(workshop: Workshop, bench: Bench) -> None:
    """The contract is /data, /outputs, the log and the exit code: this one is a shell script, and knows no Python."""
    base = workshop.images.find(bench.image)
    assert base
    config = {**base.config, "Entrypoint": ["sh", "-c", SPEAKS_SHELL], "Env": ["PATH=/usr/bin:/bin"]}
    import dataclasses

    layer = workshop.home / "layer.tar"
    image_archive.pack(workshop.home / "wheels", layer, below="opt/nothing")
    name = f"{repository_of('tiny_power')}:shell"
    archive = image_archive.Archive.on(dataclasses.replace(base, config=config), layer, {}, name)
    workshop.images.load(archive.chunks(), archive.image_id)
    bench.image = name
    job, lines = bench.job(), []
    bench.engage(job, "this is no Python\n")
    assert bench.follow(job, lines) is Ending.ENDED
    assert bench.look(job).exit_code == 0
    assert any("rows in /data: dataset.json" in one for one in lines)


def test_a_whole_image_is_brought_from_another_engine(workshop: Workshop, bench: Bench) -> None:
    """As the builder would save it; on the VM it has the same id and the name that pipeline.yaml says."""
    import docker
    from tests.conftest import SITE

    from lab.site import load, state_of

    client = docker.DockerClient(base_url=load(state_of(SITE)).vm.docker, timeout=60)
    try:
        workshop.images.shell.check("tar -cf - -C /etc hostname | docker import - edgeloop/small:t", timeout=60)
        image = client.images.get("edgeloop/small:t")
        saved = list(image.save())
        client.images.remove("edgeloop/small:t")
        assert workshop.images.find("edgeloop/small:t") is None
        trainer_image.bring(workshop.images, "edgeloop/small:t", image.id, iter(saved))
        found = workshop.images.find("edgeloop/small:t")
        assert found
        assert found.id == image.id
        client.images.remove("edgeloop/small:t")
    finally:
        client.close()
    assert json.dumps(bench.said) == "[]"
