"""Where a run comes from, and what that lets its results do."""

from __future__ import annotations

import pytest

from edgeloop.errors import ConfigurationError
from edgeloop.origin import Origin, origin_of

LIVE, RERUN, BACKFILL = {}, {"origin": "rerun"}, {"origin": "backfill"}


@pytest.mark.parametrize(
    ("run_type", "kind"),
    [
        ("manual", "rerun"),
        ("backfill", "backfill"),
        ("asset_triggered", "live"),
        ("scheduled", "live"),
        ("operator_triggered", "live"),
        ("", "live"),
    ],
)
def test_the_type_of_a_run_says_why_it_is_there(run_type: str, kind: str) -> None:
    """What a person starts is a rerun; what data, a clock or another DAG starts is live."""
    assert origin_of(run_type, None).kind == kind


@pytest.mark.parametrize(
    ("run_type", "conf", "kind"),
    [
        ("manual", BACKFILL, "backfill"),
        ("manual", {"origin": ""}, "rerun"),
        ("manual", {"origin": "live"}, "rerun"),
        ("backfill", RERUN, "backfill"),
    ],
)
def test_conf_moves_a_run_away_from_live_and_never_back(run_type: str, conf: dict[str, str], kind: str) -> None:
    """Nobody makes a rerun live by writing so."""
    assert origin_of(run_type, conf).kind == kind


@pytest.mark.parametrize(
    ("extras", "kind"),
    [([], "live"), ([RERUN], "rerun"), ([RERUN, BACKFILL], "rerun"), ([BACKFILL, LIVE], "live")],
)
def test_a_run_inherits_from_what_set_it_off(extras: list[dict[str, str]], kind: str) -> None:
    """Of several events the nearest to live counts: what new data asked for stays live."""
    assert origin_of("asset_triggered", {}, extras).kind == kind


def test_an_origin_that_is_none_is_told() -> None:
    """A mistyped conf says which words there are."""
    with pytest.raises(ConfigurationError, match="origin 'replay'") as caught:
        origin_of("manual", {"origin": "replay"})
    assert "rerun or backfill" in caught.value.next


def test_only_live_results_and_promoted_ones_may_go_out() -> None:
    """A reason, of the run's own conf or of what set it off, lets a rerun out; a blank one does not."""
    assert origin_of("scheduled", {}).may_go_out
    assert not origin_of("manual", {"promote": "  "}).may_go_out
    assert origin_of("manual", {"promote": "the winter model"}).may_go_out
    assert origin_of("asset_triggered", {}, [RERUN | {"promote": "why"}]) == Origin(kind="rerun", promote="why")


def test_what_events_carry_reads_back_the_same() -> None:
    """Origin and reason survive from stage to stage; live events carry nothing."""
    assert Origin().to_extra() == {}
    for one in (Origin(kind="rerun"), Origin(kind="backfill", promote="why"), Origin(promote="why")):
        assert origin_of("asset_triggered", {}, [one.to_extra()]) == one
