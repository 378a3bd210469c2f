"""The trainer image on the VM: brought there where it is missing, made where a pipeline needs packages of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowNotFoundException

from edgeloop import catalog
from edgeloop.errors import NotFoundError, UnreachableError
from edgeloop.training import trainer_image
from edgeloop.training.trainer_image import VmImages
from edgeloop_airflow import hooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.ssh.shell import Shell
    from edgeloop_airflow.hooks import Desk

WHEELS = "wheels"
"""The folder beside pipeline.yaml that packages are taken from in the place of an index."""


def ensure(desk: Desk, shell: Shell, say: Callable[[str], None]) -> str:
    """Make sure that the VM has the image a pipeline trains in; returns its name.

    An image that the VM lacks is brought from the engine that builds the pipeline's other images, if that has it. Where
    neither has it the name is returned all the same: whoever looks next says what to type.
    """
    spec, images = desk.snapshot.spec, VmImages(shell)
    if images.find(spec.training.image) is None:
        _bring(desk, images, say)
    folder = catalog.pipelines_folder() / spec.name / WHEELS
    return trainer_image.ensure(images, desk.snapshot, wheelhouse=folder if folder.is_dir() else None, say=say)


def _bring(desk: Desk, images: VmImages, say: Callable[[str], None]) -> None:
    from edgeloop.containers.engine import Engine

    name, builder = desk.snapshot.spec.training.image, desk.snapshot.spec.image.engine
    where = f"{images.shell.endpoint.host} (connection {images.shell.endpoint.connection})"
    try:
        with Engine(hooks.engine_endpoint(builder)) as engine:
            found = engine.get(name)
            say(f"{where} lacks image {name}: {found.size / 2**20:.0f} MiB are brought from {builder}")
            trainer_image.bring(images, name, found.id, engine.save(found.id))
    except (NotFoundError, UnreachableError, AirflowNotFoundException) as error:
        say(f"{where} lacks image {name}, and {builder} cannot give it: {error}")
