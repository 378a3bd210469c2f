"""Who waits for a job: what a task signs on the VM, and when Airflow's word means that it waits no more."""

from __future__ import annotations

import dataclasses

import pytest

from edgeloop.training import parked
from edgeloop.training.parked import Parked, Seen

ONE = Parked(dag="wind_train", run="asset__2014", task="train", version="v1", host="worker", pid=17)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (None, "run asset__2014 of wind_train was deleted"),
        (Seen(state="failed", host="worker", pid=17), "train of run asset__2014 was marked failed while it was parked"),
        (Seen(state="success", host="worker", pid=17), "was marked success"),
        (Seen(state="skipped", host="worker", pid=17), "was marked skipped"),
        (Seen(state="failed", host="worker", pid=18), ""),
        (Seen(state="failed", host="other", pid=17), ""),
        *[
            (Seen(state=state, host="worker", pid=17), "")
            for state in ("deferred", "scheduled", "queued", "running", "up_for_retry", "restarting", "")
        ],
    ],
)
def test_only_what_was_ended_while_it_was_parked_was_given_up(seen: Seen | None, said: str) -> None:
    """A worker that had it since failed it by itself, and its job lives on; what waits for its turn still waits."""
    why = parked.given_up(ONE, seen)
    assert said in why
    assert bool(said) == bool(why)


def test_what_is_signed_is_read_again_and_nothing_else() -> None:
    """Each task instance has one name whatever its try; a line of another version makes nobody's word of it."""
    later, other = dataclasses.replace(ONE, pid=99), dataclasses.replace(ONE, map_index=2)
    assert (ONE.name == later.name, ONE.name == other.name) == (True, False)
    assert parked.read(f"{ONE.text}\n{other.text}\n") == (ONE, other)
    assert parked.read("") == ()
    for broken in ("nonsense", '{"dag": "d"}', "[]", f"{ONE.text}\n3"):
        assert parked.read(broken) == ()
