"""Tasks of an ``on_premises`` pipeline fail without quoting its data."""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk.exceptions import AirflowException

from edgeloop import catalog
from edgeloop.discreet import quietly
from edgeloop.errors import ConfigurationError
from edgeloop.residency import private

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")
MARK = "edgeloop_discreet"


def discreet(method: F) -> F:
    """Wrap what an operator runs: whatever it raises for an ``on_premises`` pipeline holds no value of its data.

    The operator names its pipeline in ``self.pipeline``; one that is not known counts as ``on_premises``. An operator
    that names none works alone, on data that no pipeline.yaml says anything about.
    """

    @wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = partial(method, self, *args, **kwargs)
        return quietly(call, speaking=(AirflowException,)) if _private(self.pipeline) else call()

    setattr(run, MARK, True)
    return run  # type: ignore[return-value]


def _private(pipeline: str) -> bool:
    if not pipeline:
        return False
    try:
        return private(catalog.load().find(pipeline).spec)
    except ConfigurationError:
        return True
