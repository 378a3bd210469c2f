"""Reading and writing what belongs to an image: by the registry's referrers, or by the tags that stand for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edgeloop.containers import referrers, registry_manifests
from edgeloop.containers import registry_problems as problems
from edgeloop.containers.referrers import Attached
from edgeloop.containers.registry_wire import Call
from edgeloop.errors import ConflictError

if TYPE_CHECKING:
    from edgeloop.containers.content import ImageContent
    from edgeloop.containers.registry_manifests import Stored
    from edgeloop.containers.registry_wire import Deadline, Wire

OK = 200
ROUNDS = 20
"""Writers of one image's referrers at once, at most."""
PAGE = 1000


def listed(wire: Wire, repository: str, subject: str) -> tuple[Attached, ...]:
    """What belongs to ``subject``."""
    found = _native(wire, repository, subject)
    return _indexed(wire, repository, subject) if found is None else found


def write(wire: Wire, repository: str, subject: str, artifact: ImageContent, deadline: Deadline) -> None:
    """Put the manifest of an artifact whose blobs are there and whose ``subject`` is named in it."""
    headers = registry_manifests.write(wire, repository, artifact.digest, artifact.manifest, deadline)
    if headers.get("OCI-Subject") == subject or _native(wire, repository, subject) is not None:
        return
    own = referrers.own_tag(subject, artifact.digest)
    registry_manifests.write(wire, repository, own, artifact.manifest, deadline)
    _index(wire, repository, subject, deadline)


def _native(wire: Wire, repository: str, subject: str) -> tuple[Attached, ...] | None:
    """By the registry's own referrers; None where it has none."""
    answer = wire.send(
        Call(
            method="GET", path=f"/v2/{repository}/referrers/{subject}", doing=f"say what belongs to {subject}",
            repository=repository, good=(OK, problems.NOT_FOUND), headers={"Accept": referrers.OCI_INDEX},
        )
    )  # fmt: skip
    if answer.status != OK:
        return None
    return tuple(Attached.of(one) for one in json.loads(answer.body).get("manifests") or ())


def _indexed(wire: Wire, repository: str, subject: str) -> tuple[Attached, ...]:
    stored = registry_manifests.read(wire, repository, referrers.fallback_tag(subject))
    if stored is None:
        return ()
    return tuple(Attached.of(one) for one in stored.body.get("manifests") or ())


def _index(wire: Wire, repository: str, subject: str, deadline: Deadline) -> None:
    """Write the fallback's index until it holds whatever has a tag of its own."""
    for _ in range(ROUNDS):
        there = {one.digest: one for one in _indexed(wire, repository, subject)}
        missing = [one for one in _tagged(wire, repository, subject) if one.digest not in there]
        if not missing:
            return
        whole = referrers.index([*there.values(), *missing])
        registry_manifests.write(wire, repository, referrers.fallback_tag(subject), whole, deadline)
    raise ConflictError(
        f"The referrers of {repository}@{subject} were changed by others again and again.",
        left="the artifact, under a tag of its own",
        next="Clear the task.",
    )


def _tagged(wire: Wire, repository: str, subject: str) -> list[Attached]:
    found = []
    for tag in _tags(wire, repository):
        if not tag.startswith(f"{referrers.fallback_tag(subject)}."):
            continue
        stored = registry_manifests.read(wire, repository, tag)
        if stored is not None and (stored.body.get("subject") or {}).get("digest") == subject:
            found.append(_attached(stored))
    return found


def _attached(stored: Stored) -> Attached:
    return Attached(
        digest=stored.digest,
        size=stored.size,
        media_type=stored.media_type,
        artifact_type=referrers.kind_of(stored.body),
    )


def _tags(wire: Wire, repository: str) -> list[str]:
    tags: list[str] = []
    path = f"/v2/{repository}/tags/list?n={PAGE}"
    while path:
        answer = wire.send(Call(method="GET", path=path, doing=f"list the tags of {repository}", repository=repository))
        tags += json.loads(answer.body).get("tags") or []
        link, _, kind = answer.headers.get("Link", "").partition(";")
        path = link.strip().strip("<>") if "next" in kind else ""
    return tags
