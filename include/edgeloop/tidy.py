"""Removing what nothing depends on any more, with or without the right to delete."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from edgeloop.errors import ConfigurationError, ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterable

RIGHT = "permission d of its SAS"

_log = logging.getLogger(__name__)
_told: set[str] = set()


class Deletes(Protocol):
    """A storage that blobs can be removed from; :class:`edgeloop.azure.blob.BlobContainer` is one."""

    def delete(self, name: str) -> None:
        """Remove it; that it is not there is no error."""
        ...


def tidy(blobs: Deletes, names: Iterable[str]) -> bool:
    """Remove blobs that are only in the way; False where the account refuses to.

    A SAS may lack the permission, a container may have a policy against it: what was written before counts, so the
    refusal is told once in a process and fails nothing.
    """
    for name in names:
        try:
            blobs.delete(name)
        except (ConfigurationError, ConflictError) as error:
            if error.what not in _told:
                _told.add(error.what)
                _log.warning(
                    "%s Nothing failed: what could not be removed (%s and others) takes room and makes listings longer."
                    " Give the connection the right to delete: %s.",
                    error.what, name, RIGHT,
                )  # fmt: skip
            return False
    return True
