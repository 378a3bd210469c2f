"""Reading and writing what belongs to an image: by the registry's referrers, or by the tag that stands for them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from edgeloop.containers import referrers, registry_manifests
from edgeloop.containers import registry_problems as problems
from edgeloop.containers.referrers import OCI_INDEX, Attached
from edgeloop.containers.registry_wire import Call
from edgeloop.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from edgeloop.containers.registry_manifests import Stored
    from edgeloop.containers.registry_wire import Deadline, Wire

OK = 200
ROUNDS = 20
"""Writers of one image's referrers at once, at most."""


def listed(wire: Wire, repository: str, subject: str) -> tuple[Attached, ...]:
    """What belongs to ``subject``."""
    answer = wire.send(
        Call(
            method="GET", path=f"/v2/{repository}/referrers/{subject}", doing=f"say what belongs to {subject}",
            repository=repository, good=(OK, problems.NOT_FOUND), headers={"Accept": OCI_INDEX},
        )
    )  # fmt: skip
    if answer.status != OK:
        return entries(listing(wire, repository, subject))
    return tuple(Attached.of(one) for one in json.loads(answer.body).get("manifests") or ())


def listing(wire: Wire, repository: str, subject: str, deadline: Deadline | None = None) -> Stored | None:
    """The index under the tag that stands for the referrers of ``subject``."""
    return registry_manifests.read(wire, repository, referrers.fallback_tag(subject), deadline, OCI_INDEX)


def entries(index: Stored | None) -> tuple[Attached, ...]:
    """What an index names."""
    return () if index is None else tuple(Attached.of(one) for one in index.body.get("manifests") or ())


def enter(
    wire: Wire, repository: str, subject: str, entry: Attached, *, before: Stored | None, deadline: Deadline
) -> None:
    """Write ``entry``, whose manifest is there, into that index, which was ``before``, until it stands there."""
    tag, pauses = referrers.fallback_tag(subject), list(registry_manifests.PAUSES)
    for _ in range(ROUNDS):
        whole = referrers.index([*(before.body.get("manifests") or () if before else ()), entry.to_dict()])
        unchanged = {"If-None-Match": "*"} if before is None else {"If-Match": before.etag or f'"{before.digest}"'}
        try:
            registry_manifests.write(wire, repository, tag, whole, deadline, only=unchanged)
        except (ConflictError, NotFoundError) as error:
            if not registry_manifests.misses(error) or not pauses:
                raise
            time.sleep(pauses.pop(0))
        if registry_manifests.told(wire, repository, tag, OCI_INDEX, deadline) == whole.descriptor.digest:
            return
        before = listing(wire, repository, subject, deadline)
        if entry in entries(before):
            return
    raise ConflictError(
        f"The referrers of {repository}@{subject} were changed by others again and again.",
        left="the artifact, which nothing names yet",
        next="Clear the task.",
    )
