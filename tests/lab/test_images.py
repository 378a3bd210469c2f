"""How the lab's images are made: the same bytes every time, the versions of the lock, the commands exactly."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab import images

if TYPE_CHECKING:
    from lab.site import Site

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def test_the_same_files_give_the_same_tar(tmp_path: Path) -> None:
    """Times, owners and the order on disk do not matter; parents are entries, the executable bit is kept."""
    digests = set()
    for turn, names in enumerate((("b", "a"), ("a", "b"))):
        stage = tmp_path / str(turn)
        (stage / "opt" / "site").mkdir(parents=True)
        for name in names:
            (stage / "opt" / "site" / name).write_text(name)
            os.utime(stage / "opt" / "site" / name, (turn * 1000, turn * 1000))
        (stage / "opt" / "site" / "a").chmod(0o700 + turn)
        (stage / "opt" / "link").symlink_to("site/a")
        images.pack(stage, tmp_path / f"{turn}.tar")
        digests.add(hashlib.sha256((tmp_path / f"{turn}.tar").read_bytes()).hexdigest())
    assert len(digests) == 1
    with tarfile.open(tmp_path / "0.tar") as tar:
        found = [(member.name, member.mode, member.uid, member.mtime) for member in tar if not member.issym()]
    assert found == [
        ("opt", 0o755, 0, 0),
        ("opt/site", 0o755, 0, 0),
        ("opt/site/a", 0o755, 0, 0),
        ("opt/site/b", 0o644, 0, 0),
    ]


@pytest.mark.parametrize("name", ["scorer", "trainer"])
def test_images_hold_the_versions_that_were_tested(name: str) -> None:
    """Every pin of an image is the root lock's, and every one of its direct requirements is pinned."""
    lock = dict(PIN.findall((ROOT / "requirements.txt").read_text()))
    pins = dict(PIN.findall((images.IMAGES / name / "requirements.txt").read_text()))
    assert {package: lock.get(package) for package in pins} == pins
    wanted = (images.IMAGES / name / "requirements.in").read_text().splitlines()
    assert {line for line in wanted if line and not line.startswith("#")} <= set(pins)


@pytest.mark.parametrize("name", ["scorer", "trainer"])
def test_dockerfiles_take_a_base_and_run_as_nobody_special(name: str) -> None:
    """The base is a build argument; the user is a number, because the base knows no names; nothing needs a shell."""
    lines = (images.IMAGES / name / "Dockerfile").read_text().splitlines()
    assert "ARG BASE_IMAGE=python:3.11-slim" in lines
    assert "FROM ${BASE_IMAGE}" in lines
    assert "USER 10001:10001" in lines
    assert not [line for line in lines if line.startswith("RUN")]
    assert any(line.startswith('ENTRYPOINT ["python3"') for line in lines)
    assert any(line.startswith("HEALTHCHECK") for line in lines)


def test_commands_are_these() -> None:
    """Mmdebstrap uses the machine's mirror where it has one; wheels are pinned by hash, by uv or pip alike."""
    command = images.rootfs_command(Path("/t.tar"), Path("/etc/apt/sources.list"))
    assert command[:3] == ["mmdebstrap", "--variant=extract", "--format=tar"]
    assert command[3] == f"--include={','.join(images.PACKAGES)}"
    assert command[4] == (
        '--extract-hook=chroot "$1" python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3.11'
    )
    assert command[5:7] == [f"--extract-hook={images.STATUS}", f"--extract-hook={images.SLIM}"]
    assert command[7:] == ["bookworm", "/t.tar", "/etc/apt/sources.list"]
    assert images.rootfs_command(Path("/t.tar"), None)[-1] == "/t.tar"
    tail = ["--target", "/s", "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", "/r.txt"]
    for uv, head in ((True, ["-m", "uv", "pip", "install"]), (False, ["-m", "pip", "install"])):
        command = images.install_command(Path("/r.txt"), Path("/s"), uv=uv)
        assert command[1 : 1 + len(head)] == head
        assert command[-len(tail) :] == tail


def test_a_tar_is_made_once_and_named_by_its_content(tmp_path: Path) -> None:
    """A second call finds it; a broken making leaves nothing that the next could take for it."""
    calls: list[int] = []

    def make(target: Path, stage: Path) -> None:
        calls.append(1)
        if len(calls) == 1:
            target.write_bytes(b"half")
            raise RuntimeError
        target.write_bytes(b"whole")

    said: list[str] = []
    with pytest.raises(RuntimeError):
        images._tar("x", "key", make, tmp_path, said.append)
    assert list(tmp_path.iterdir()) == []
    one = images._tar("x", "key", make, tmp_path, said.append)
    two = images._tar("x", "key", make, tmp_path, said.append)
    assert one == two
    assert one.stem.endswith(hashlib.sha256(b"whole").hexdigest()[:12])
    assert (len(calls), [line.split(":")[0] for line in said]) == (2, ["built", "found"])
    assert images._tar("x", "other", make, tmp_path, said.append) != one


@pytest.mark.system
def test_the_sites_images_are_found_and_run(site: Site) -> None:
    """The second call builds nothing; trainer and scorer start as user 10001, read-only, with no network."""
    import docker

    said: list[str] = []
    made = images.ensure(site.vm.docker, site.builder.docker, site.cache, said.append)
    assert (made.trainer, made.scorer_base) == (site.images.trainer, site.images.scorer_base)
    assert {line.split(":")[0] for line in said} == {"found"}
    programs = {
        (site.vm.docker, made.trainer): "import os, sklearn, skl2onnx, pyarrow.parquet, pandas; "
        "import lightgbm, xgboost, onnxmltools.convert, edgeloop_trainer.export, edgeloop_trainer.parity; "
        "print(os.getuid())",
        (
            site.builder.docker,
            made.scorer_base,
        ): "import os, scorer.app, uvicorn, uvloop, httptools; print(os.getuid())",
    }
    for (engine, tag), program in programs.items():
        client = docker.DockerClient(base_url=engine, timeout=60)
        try:
            output = client.containers.run(
                tag,
                ["-c", program],
                entrypoint="python3",
                network_mode="none",
                read_only=True,
                remove=True,
                cap_drop=["ALL"],
            )
        finally:
            client.close()
        assert output.strip() == b"10001"
