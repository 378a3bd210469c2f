"""The lab's container images, made without a container registry: a trainer for the VM, a scorer base for the builder.

Debian's packages become the base image (mmdebstrap), Python's a tar of pinned wheels; the Dockerfiles only add them.
Where a registry answers, EDGELOOP_BASE_IMAGE=python:3.11-slim replaces the first.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import tools
from lab.errors import LabError
from lab.image_parts import COMPILE, PACKAGES, SLIM, STATUS, SUITE, UNSTABLE, UNUSED
from lab.site import Images, cache_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGES = Path(__file__).parents[1] / "images"
OURS = {"scorer": ("server", "scorer"), "trainer": ("helper", "edgeloop_trainer")}
"""Of each image the folder below /opt with a package of this checkout, and the package."""
EPOCH = "1700000000"
RECIPE = "1"  # raise it when the way tars are made changes
MMDEBSTRAP_SECONDS, INSTALL_SECONDS, ENGINE_SECONDS = 900, 900, 600


def ensure(docker_vm: str, docker_builder: str, cache: Path, report: Callable[[str], None] = print) -> Images:
    """Build the trainer on the VM's engine and the scorer's base on the builder's, or find them there.

    Args:
        docker_vm: URL of the VM's engine (unix:///...).
        docker_builder: URL of the builder's engine.
        cache: The lab's cache; tars are made there once for all sites.
        report: Told one line for each image and tar, starting with `found` or `built`.

    Raises:
        LabError: A tar or an image could not be made; the text holds the tool's own last words.
    """
    folder = cache / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / ".lock"):
        trainer = _image(docker_vm, "trainer", "edgeloop/trainer", folder, report)
        scorer = _image(docker_builder, "scorer", "edgeloop/scorer-base", folder, report)
    return Images(trainer=trainer, scorer_base=scorer)


def context(name: str, folder: Path, cache: Path, report: Callable[[str], None] = print) -> dict[str, Path]:
    """Files of the build context of image `name` ("trainer" or "scorer"): name in the context -> file."""
    files = {"Dockerfile": IMAGES / name / "Dockerfile", "site.tar": _site_tar(name, cache, report)}
    room, package = OURS[name]
    stage = folder / room
    source = stage / "opt" / room / package
    source.mkdir(parents=True)
    for path in sorted((IMAGES / name / package).glob("*.py")):
        shutil.copyfile(path, source / path.name)
    _compile(stage)
    pack(stage, folder / f"{room}.tar")
    files[f"{room}.tar"] = folder / f"{room}.tar"
    return files


def pack(stage: Path, target: Path) -> None:
    """Tar a folder so that the same files give the same bytes, on every machine and in every layer.

    Sorted, owned by root, dated 0, GNU format, every parent folder an entry of its own: without those a layer's digest
    changes with the time of the build, and each device pulls all libraries again.
    """
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(stage.rglob("*"), key=lambda p: p.relative_to(stage).parts):
            info = tarfile.TarInfo(path.relative_to(stage).as_posix())
            if path.is_symlink():
                info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(info)
            elif path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                status = path.stat()
                info.size, info.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
                with path.open("rb") as stream:
                    tar.addfile(info, stream)


def rootfs_command(target: Path, sources: Path | None) -> list[str]:
    """The mmdebstrap call; `sources` is the machine's own apt source list, so that its mirror is used."""
    hooks = (f'chroot "$1" python3 {" ".join(COMPILE)} /usr/lib/python3.11', STATUS, SLIM)
    command = ["mmdebstrap", "--variant=extract", "--format=tar", f"--include={','.join(PACKAGES)}"]
    command += [f"--extract-hook={hook}" for hook in hooks]
    return [*command, SUITE, str(target), *([str(sources)] if sources else [])]


def install_command(requirements: Path, target: Path, *, uv: bool) -> list[str]:
    """Install pinned, hashed wheels into a folder, with uv where it is there."""
    options = [
        "--target",
        str(target),
        "--require-hashes",
        "--no-deps",
        "--only-binary",
        ":all:",
        "-r",
        str(requirements),
    ]
    if uv:
        return [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, *options]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", *options]


def _image(url: str, name: str, repository: str, cache: Path, report: Callable[[str], None]) -> str:
    import docker

    client = None
    try:
        client = docker.DockerClient(base_url=url, timeout=ENGINE_SECONDS)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".context-") as scratch:
            files = context(name, Path(scratch), cache, report)
            base = os.environ.get("EDGELOOP_BASE_IMAGE") or _base(client, cache, report)
            tag = (
                f"{repository}:{_digest(base.encode(), *(_sha256(files[key]).encode() for key in sorted(files)))[:12]}"
            )
            found = bool(client.images.list(name=tag))
            if not found:
                _build(client, files, base, tag, Path(scratch))
            image = client.images.get(tag)
            image.tag(repository, "latest")  # pipeline.yaml names the repository; the digest in the tag changes with us
            report(f"found: {tag}" if found else f"built: {tag}, {image.attrs['Size'] / 1e6:.0f} MB")
            return tag
    except docker.errors.DockerException as error:
        what = f"the image {repository} could not be made on {url}: {error}"
        raise LabError(
            what, left="the engine's other images", next="python -m lab status, and read that engine's log"
        ) from error
    finally:
        if client:
            client.close()


def _build(client: Any, files: dict[str, Path], base: str, tag: str, scratch: Path) -> None:
    archive = scratch / "context.tar"
    with tarfile.open(archive, "w") as tar:
        for name, path in files.items():
            tar.add(path, arcname=name)
    with archive.open("rb") as stream:
        client.images.build(fileobj=stream, custom_context=True, tag=tag, buildargs={"BASE_IMAGE": base}, rm=True)


def _base(client: Any, cache: Path, report: Callable[[str], None]) -> str:
    """Tag of the imported base image on this engine."""
    tar = _rootfs_tar(cache, report)
    version = tar.stem.rsplit("-", 1)[1]
    tag = f"edgeloop/base:{version}"
    if not client.images.list(name=tag):
        answer = client.api.import_image_from_file(str(tar), repository="edgeloop/base", tag=version)
        # The engine reports a failed import with status 200 and an error in the stream.
        if '"error"' in answer:
            raise LabError(
                f"the base image was not imported: {answer[-300:]}", next="look at the engine's log and disk"
            )
        report(f"built: {tag}")
    return tag


def _rootfs_tar(cache: Path, report: Callable[[str], None]) -> Path:
    machine = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
    sources = next((path for path in machine if path.exists() and SUITE in path.read_text(encoding="utf-8")), None)

    def make(target: Path, _stage: Path) -> None:
        environment = {"SOURCE_DATE_EPOCH": EPOCH, "PYTHONHASHSEED": "0"}
        tools.run(rootfs_command(target, sources), deadline=MMDEBSTRAP_SECONDS, env=environment)

    recipe = (part.encode() for part in rootfs_command(Path("rootfs"), None))
    return _tar("rootfs", _digest(*recipe), make, cache, report)


def _site_tar(name: str, cache: Path, report: Callable[[str], None]) -> Path:
    requirements = IMAGES / name / "requirements.txt"
    unused = UNUSED if name == "scorer" else ()

    def make(target: Path, stage: Path) -> None:
        site = stage / "opt" / "site"
        site.mkdir(parents=True)
        uv = subprocess.run([sys.executable, "-m", "uv", "--version"], capture_output=True, check=False).returncode == 0
        tools.run(install_command(requirements, site, uv=uv), deadline=INSTALL_SECONDS)
        _prune(site, unused)
        _compile(stage)
        pack(stage, target)

    key = _digest(requirements.read_bytes(), *(one.encode() for one in unused))
    return _tar(f"site-{name}", key, make, cache, report)


def _prune(site: Path, unused: tuple[str, ...]) -> None:
    # Scripts carry this machine's path of Python, the installers' notes its name; tests are half of some wheels.
    shutil.rmtree(site / "bin", ignore_errors=True)
    (site / ".lock").unlink(missing_ok=True)
    for folder in [path for path in site.rglob("*") if path.is_dir() and path.name in ("tests", "__pycache__")]:
        shutil.rmtree(folder, ignore_errors=True)
    for pattern in (*unused, *(f"*.dist-info/{note}" for note in UNSTABLE)):
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _compile(stage: Path) -> None:
    # Exit code 1 says that some file is no Python 3 (a template); the rest is compiled.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [sys.executable, *COMPILE, "-s", str(stage), "-p", "/", str(stage / "opt")]
    subprocess.run(command, env=environment, capture_output=True, timeout=INSTALL_SECONDS, check=False)


def _tar(name: str, key: str, make: Callable[[Path, Path], None], cache: Path, report: Callable[[str], None]) -> Path:
    """`<name>-<key>-<sha256>.tar` of the cache; made by `make(target, stage)` when it is not there."""
    recipe = _digest(RECIPE.encode(), key.encode())[:12]
    for path in sorted(cache.glob(f"{name}-{recipe}-*.tar")):
        report(f"found: {path.name}")
        return path
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}-") as scratch:
        part, stage = Path(scratch) / "part.tar", Path(scratch) / "stage"
        stage.mkdir()
        make(part, stage)
        path = cache / f"{name}-{recipe}-{_sha256(part)[:12]}.tar"
        part.rename(path)
    report(f"built: {path.name}, {path.stat().st_size / 1e6:.0f} MB")
    return path


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    """Write an image's build context to a folder, for `docker build` anywhere."""
    parser = argparse.ArgumentParser(prog="python -m lab.images", description=main.__doc__)
    parser.add_argument("name", choices=("trainer", "scorer"))
    parser.add_argument("--context", type=Path, required=True, metavar="DIR")
    chosen = parser.parse_args(arguments)
    cache = cache_root() / "images"
    for folder in (cache, chosen.context):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(cache / ".lock"), tempfile.TemporaryDirectory() as scratch:
        for name, path in context(chosen.name, Path(scratch), cache).items():
            shutil.copyfile(path, chosen.context / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
