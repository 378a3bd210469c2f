"""What the lab raises: each says what happened, what was left, and what to type next.

LabError
├── PortTakenError      somebody else listens on a port the site needs; nothing was started
├── NeedsRootError      the step needs root; what it would have done is in the text
├── MissingToolError    a program is not installed
└── UnhealthyError      a part did not answer within its deadline
"""

from __future__ import annotations

from edgeloop.errors import EdgeloopError


class LabError(EdgeloopError):
    """Base of the lab's errors."""


class PortTakenError(LabError):
    """A port the site needs is in use by something that is not this site's."""


class NeedsRootError(LabError):
    """The step needs root."""


class MissingToolError(LabError):
    """A program the lab drives is not installed."""


class UnhealthyError(LabError):
    """A part did not become healthy, or did not stop, within its deadline."""
