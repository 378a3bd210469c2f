"""The blobs of an image on their way into a registry: what is there already is asked for and not sent again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edgeloop.containers import registry_problems as problems
from edgeloop.containers.registry_upload import Upload
from edgeloop.containers.registry_wire import Call

if TYPE_CHECKING:
    from collections.abc import Collection

    from edgeloop.containers.content import Content, ImageContent
    from edgeloop.containers.registry_wire import Deadline, Wire

OK = 200
LOG = logging.getLogger(__name__)


def has(wire: Wire, repository: str, content: Content, deadline: Deadline) -> bool:
    """Whether the registry holds that blob, of that size, for one who may push."""
    return holds(wire, repository, content.descriptor.digest, content.descriptor.size, deadline, push=True)


def holds(wire: Wire, repository: str, digest: str, size: int, deadline: Deadline, *, push: bool = False) -> bool:
    """As :func:`has`, of a blob that is known by its digest; ``push`` asks with the right to push."""
    answer = wire.send(
        Call(
            method="HEAD", path=f"/v2/{repository}/blobs/{digest}", doing=f"say whether it has {digest}",
            repository=repository, push=push, good=(OK, problems.NOT_FOUND),
        ),
        deadline,
    )  # fmt: skip
    length = answer.headers.get("Content-Length", "")
    return answer.status == OK and length in {"", str(size)}


def bring(
    wire: Wire,
    repository: str,
    image: ImageContent,
    deadline: Deadline,
    *,
    new: Collection[Content] = (),
    held: Collection[Content] = (),
) -> None:
    """Send what the registry lacks, in order; it is not asked for what is surely ``new`` there, or surely ``held``."""
    for content in image.blobs:
        if content not in held and (content in new or not has(wire, repository, content, deadline)):
            _send(wire, repository, content, deadline)


def bring_image(wire: Wire, repository: str, image: ImageContent, deadline: Deadline) -> bool:
    """Send what the registry lacks of an image, with few questions; whether the image may be there already.

    Without the newest layer there can be no configuration and no manifest that names it, so they are sent unasked.
    Layers below go in order: the last one is there only after the others, and is asked for them all. Should a registry
    have lost one since, it refuses the manifest, and each is asked for (so does Debian's; one that does not look at
    what a manifest names hides the loss until a pull fails: the next run of the push then asks for each).
    """
    newest, below = image.blobs[-1], image.blobs[1:-1]
    if has(wire, repository, newest, deadline):
        bring(wire, repository, image, deadline, held=(newest,))
        return True
    there = bool(below) and has(wire, repository, below[-1], deadline)
    new = (image.blobs[0], newest, *(() if there else below[-1:]))
    bring(wire, repository, image, deadline, new=new, held=below if there else ())
    return False


def _send(wire: Wire, repository: str, content: Content, deadline: Deadline) -> None:
    upload = Upload(wire, repository, content, deadline)
    upload.run()
    digest = content.descriptor.digest
    # A registry must compare the bytes with the digest; one that named it has, and need not be asked again.
    if not upload.vouched and not has(wire, repository, content, deadline):
        raise problems.other_bytes(wire.endpoint, digest, "nothing", f"a blob of {repository} that it took")
    LOG.info("Sent %s, %d bytes, to %s", digest[:19], upload.sent, repository)
