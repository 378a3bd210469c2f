"""A whole Edgeloop site on one machine: share, blob, registry, training VM, edge devices and PostgreSQL, each real.

`up` and `down` are the two calls most need; `lab.site.load` reads a site that is up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from lab.progress import Progress
    from lab.site import Site

__all__ = ["clean", "down", "up"]


def up(
    name: str,
    *,
    state: Path | None = None,
    parts: Collection[str] | None = None,
    progress: Progress | None = None,
) -> Site:
    """Start the site called `name` (only `parts` and what they stand on, if given), or find it healthy.

    Raises LabError: ports taken (nothing was started), a program missing, a part not healthy by its deadline.
    """
    from lab import lifecycle

    return lifecycle.up(name, state=state, parts=parts, progress=progress)


def down(name: str, *, state: Path | None = None, progress: Progress | None = None) -> None:
    """Stop everything the site called `name` started; its state stays."""
    from lab import lifecycle

    lifecycle.down(name, state=state, progress=progress)


def clean(name: str, *, state: Path | None = None, progress: Progress | None = None) -> None:
    """Stop the site called `name` and remove its state."""
    from lab import lifecycle

    lifecycle.clean(name, state=state, progress=progress)
