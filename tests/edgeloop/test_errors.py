from __future__ import annotations

import copy
import pickle

import pytest

from edgeloop import errors
from edgeloop.errors import ConflictError, EdgeloopError

KINDS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, EdgeloopError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_the_way_between_processes(kind: type[EdgeloopError]) -> None:
    """Airflow pickles what a task raised; type and all three sentences arrive."""
    error = kind("It broke.", left="the rest", next="Mend it.")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert (again.what, again.left, again.next) == ("It broke.", "the rest", "Mend it.")
        assert str(again) == str(error)


def test_an_error_reads_as_three_lines() -> None:
    """What happened, what was left, what to do; what there is nothing to say about is left out."""
    assert str(ConflictError("Taken.", left="theirs", next="Choose another.")) == (
        "Taken.\nLeft in place: theirs\nNext: Choose another."
    )
    assert str(ConflictError("Taken.")) == "Taken."


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Who reads the module's head sees every error there is."""
    drawn = {line.split("── ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "── " in line}
    assert drawn == {kind.__name__ for kind in KINDS} - {"EdgeloopError"}
