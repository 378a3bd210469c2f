"""`edgeloop reconcile`: what the workspace and the container registry show otherwise than the store, and mending it."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError, IntegrityError
from edgeloop.records import ModelImage
from edgeloop.registry.blob_backend import BlobRegistry
from edgeloop.registry.reconcile import image_differences
from edgeloop_airflow import hooks
from edgeloop_airflow.azure_ml_registry import mirror_of, mirrored

if TYPE_CHECKING:
    import argparse

    from edgeloop.registry.reconcile import Difference
    from edgeloop_airflow.hooks import Desk

SAME, DIFFERS, UNANSWERED = 0, 1, 2

_log = logging.getLogger(__name__)


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this verb."""
    text = (
        "Compare the workspace's models and the container registry's images with the store, which is right. Exit code "
        "1 if something differs, 2 if somebody did not answer."
    )
    made = verbs.add_parser("reconcile", help="what mirrors show otherwise than the store", description=text)
    made.add_argument("pipeline", metavar="PIPELINE")
    made.add_argument("--mend", action="store_true", help="write the workspace as the store has it; never the store")
    made.set_defaults(run=run)


def run(asked: argparse.Namespace) -> int:
    """Print every difference that is left; a side that does not answer does not hide what the other one shows."""
    desk = hooks.desk(asked.pipeline)
    left: list[Difference] = []
    unanswered = 0
    for side in (workspace, images):
        try:
            left += side(desk, mend=asked.mend)
        except EdgeloopError as error:
            sys.stderr.write(f"{error}\n")
            unanswered += 1
    for one in left:
        sys.stdout.write(f"{one}\n")
    if unanswered:
        return UNANSWERED
    if left and not asked.mend and any(one.mendable for one in left):
        sys.stdout.write(f"Next: edgeloop reconcile {asked.pipeline} --mend\n")
    return DIFFERS if left else SAME


def workspace(desk: Desk, *, mend: bool) -> tuple[Difference, ...]:
    """What the workspace shows otherwise, after mending it if that is asked for."""
    spec = desk.snapshot.spec
    section = mirrored(spec)
    if section is None:
        sys.stdout.write(f"{spec.name} has no mirror (registry.backend: {spec.registry.backend})\n")
        return ()
    with mirror_of(desk, section) as mirror:
        found = mirror.differences()
        left = mirror.mend(_log.info) if mend else found
        count = len(mirror.truth())
    mended = f", {len(left)} after mending" if mend else ""
    for number, why in mirror.home.items():
        sys.stdout.write(f"version {number} stays at home: {why}\n")
    sys.stdout.write(f"{count} versions in workspace {section.workspace}: {len(found)} differences{mended}\n")
    return left


def images(desk: Desk, *, mend: bool) -> tuple[Difference, ...]:
    """Which images the container registry has lost; nothing here pushes, so ``mend`` changes nothing."""
    from edgeloop.containers.registry import Registry

    del mend
    conn_id = desk.snapshot.spec.image.registry
    registry = Registry(hooks.registry_endpoint(conn_id))
    truth = BlobRegistry(desk.store, desk.blobs, desk.snapshot.spec.name).versions()
    pushed = [one for one in desk.store.all(ModelImage) if one.digest]

    def holds(repository: str, digest: str) -> bool:
        try:
            return registry.whole(repository, digest)
        except IntegrityError:
            return False

    left = image_differences(pushed, truth, holds, f"registry {conn_id}")
    sys.stdout.write(f"{len(pushed)} images in registry {conn_id}: {len(left)} differences\n")
    return left
