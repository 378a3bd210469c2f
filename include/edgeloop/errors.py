"""Every error Edgeloop raises on purpose.

    EdgeloopError
    ├── ConfigurationError      a pipeline or a connection is wrong; nothing was started
    ├── UnreachableError        a VM, device, share, registry or storage account did not answer in time
    ├── RemoteCommandError      a command on a VM or device ended badly; it names the exit code and the last lines
    ├── ConflictError           somebody else already holds that name with other content
    ├── NotFoundError           a record, blob or image that must exist does not
    ├── IntegrityError          bytes are not what their digest says
    ├── ValidationBlockedError  a batch broke a blocking expectation or its budget
    ├── ResidencyError          data marked on_premises was about to leave its private account
    ├── LeakError               a training's outputs hold rows of its data, or cannot be searched for them
    ├── WithheldError           a library failed whose words may quote values of data marked on_premises
    ├── TrainingFailedError     the job on the VM ended badly, and would again
    │   └── TrainingInterruptedError  something else ended it; the next try goes on from its checkpoint
    ├── EngineError             a Docker engine answered that it could not do what was asked
    ├── ProofFailedError        an image does not answer as the registered model does
    ├── RolloutFailedError      a ring did not pass; the devices were restored
    └── CloudError              Azure refused what was asked of it, or began it and could not finish

Each says what happened, what was left as it was, and the next thing to type or to do.
"""

from __future__ import annotations


class EdgeloopError(Exception):
    """Base of all.

    Args:
        what: What happened, in one sentence.
        left: What was left untouched or in place.
        next: The next command to type or thing to do.
    """

    def __init__(self, what: str, *, left: str = "", next: str = "") -> None:  # noqa: A002 - reads as a sentence at the call
        self.what, self.left, self.next = what, left, next
        super().__init__(what, left, next)

    def __str__(self) -> str:
        """The three sentences, one a line."""
        lines = [self.what]
        if self.left:
            lines.append(f"Left in place: {self.left}")
        if self.next:
            lines.append(f"Next: {self.next}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the pickling between Airflow's processes, keyword-only arguments included."""
        return _rebuild, (type(self), self.what, self.left, self.next)


def _rebuild(kind: type[EdgeloopError], what: str, left: str, next_step: str) -> EdgeloopError:
    return kind(what, left=left, next=next_step)


class ConfigurationError(EdgeloopError):
    """A pipeline or a connection is wrong; nothing was started."""


class UnreachableError(EdgeloopError):
    """A VM, device, share, registry or storage account did not answer within its time-out."""


class RemoteCommandError(EdgeloopError):
    """A command on a VM or device ended with another exit code than 0."""


class ConflictError(EdgeloopError):
    """The name is already taken by other content."""


class NotFoundError(EdgeloopError):
    """A record, blob or image that must exist does not."""


class IntegrityError(EdgeloopError):
    """Bytes are not what their digest says."""


class ValidationBlockedError(EdgeloopError):
    """A batch broke a blocking expectation, or more rows than its budget allows."""


class ResidencyError(EdgeloopError):
    """Data marked ``on_premises`` was about to leave its private account."""


class LeakError(EdgeloopError):
    """What a training put out holds rows of its data or values of an identifier, or cannot be searched for them."""


class WithheldError(EdgeloopError):
    """A library failed whose own words may quote values of data marked ``on_premises``; kind and place are told."""


class TrainingFailedError(EdgeloopError):
    """The training job on the VM ended badly."""


class TrainingInterruptedError(TrainingFailedError):
    """Something other than the script ended the job, or it got further before it failed: worth another attempt."""


class EngineError(EdgeloopError):
    """A Docker engine answered that it could not do what was asked."""


class ProofFailedError(EdgeloopError):
    """An image does not answer as the registered model does; it was not pushed."""


class RolloutFailedError(EdgeloopError):
    """A ring did not pass its gate; the exposed devices were restored."""


class CloudError(EdgeloopError):
    """Azure refused what was asked of it, or began it and could not finish."""
