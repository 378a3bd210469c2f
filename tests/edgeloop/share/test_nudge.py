"""Azure's events as a queue's messages hold them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from edgeloop.pipeline import Source
from edgeloop.share.nudge import Arrival, PoisonError, concerns, read

SUBJECT = "/blobServices/default/containers/landing/blobs/plant-7/2014/01/a b_2014-01.csv"
GRID = {"topic": "/t", "subject": SUBJECT, "eventType": "Microsoft.Storage.BlobCreated", "id": "1", "data": {}}
CLOUD = {"specversion": "1.0", "subject": SUBJECT, "type": "Microsoft.Storage.BlobCreated", "source": "/s", "id": "1"}
FOUND = Arrival(container="landing", path="plant-7/2014/01/a b_2014-01.csv")


def encoded(value: Any) -> str:
    """As Event Grid writes it to a storage queue."""
    return base64.b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize("event", [GRID, CLOUD], ids=["event grid", "cloud events"])
def test_both_schemas_are_read_in_both_encodings(event: dict[str, Any]) -> None:
    """Plain or in base64, alone or in a list."""
    for body in (json.dumps(event), encoded(event), f"\n {json.dumps([event])}", encoded([event])):
        assert read(body) == (FOUND,)
    assert read(json.dumps([event, event])) == (FOUND, FOUND)
    assert read(base64.b64encode(b"\xef\xbb\xbf" + json.dumps(event).encode()).decode()) == (FOUND,)
    (odd,) = read(json.dumps(event | {"subject": f"{SUBJECT}\n.csv"}))
    assert odd.path == f"{FOUND.path}\n.csv"


def test_other_events_are_no_reason_to_look() -> None:
    """A deleted blob or a subscription's validation is an event, and no arrival."""
    assert read(json.dumps(GRID | {"eventType": "Microsoft.Storage.BlobDeleted"})) == ()
    assert read(json.dumps(CLOUD | {"type": "Microsoft.EventGrid.SubscriptionDeletedEvent"})) == ()


@pytest.mark.parametrize(
    "body",
    [
        "", "hello", "aGVsbG8=", "{", "[1]", '"text"', "{}", json.dumps({"eventType": 3}), "\ud800",
        json.dumps(GRID | {"eventType": ""}), json.dumps(GRID | {"subject": 3}),
        f"{encoded(GRID)[:8]}*{encoded(GRID)[8:]}",
        json.dumps(GRID | {"subject": "/other"}), json.dumps(GRID | {"subject": None}), "[" * 100_000, encoded("x"),
    ],
)  # fmt: skip
def test_poison_is_told_without_its_content(body: str) -> None:
    """Whatever lies in a queue, it is an event or a PoisonError, which does not repeat it."""
    with pytest.raises(PoisonError) as raised:
        read(body)
    assert "hello" not in str(raised.value)


def section(**more: Any) -> Source:
    """A blob source below a prefix."""
    return Source(kind="blob", folder="landing/plant-7", group=r"_(\d{4}-\d{2})\.", **more)


@pytest.mark.parametrize(
    ("container", "path", "wanted"),
    [
        ("landing", "plant-7/x_2014-01.csv", True),
        ("landing", "plant-7/deep/x.csv", True),
        ("landing", "plant-77/x.csv", False),
        ("landing", "x.csv", False),
        ("other", "plant-7/x.csv", False),
        ("landing", "plant-7/x.csv.part", False),
        ("landing", "plant-7/x.txt", False),
        ("landing", "plant-7/.hidden/x.csv", False),
    ],
)
def test_only_the_sources_own_blobs_concern_it(container: str, path: str, *, wanted: bool) -> None:
    """Container, prefix, pattern and excluded names decide, as they do in a listing."""
    assert concerns(Arrival(container=container, path=path), section()) is wanted


def test_a_marker_concerns_its_source() -> None:
    """What completes a delivery is a reason to look, although it is no data."""
    marked = section(complete="manifest", marker="*.sha256")
    assert concerns(Arrival(container="landing", path="plant-7/all.sha256"), marked)
    assert not concerns(Arrival(container="landing", path="plant-7/all.sha256"), section())
    assert concerns(Arrival(container="landing", path="plant-7/.done"), section(complete="sentinel", marker=".done"))


def test_names_are_looked_at_below_the_prefix() -> None:
    """As in a listing: what lies above the source is neither part of the pattern nor excluded."""
    folded = section(pattern="2014/*.csv")
    assert concerns(Arrival(container="landing", path="plant-7/2014/x.csv"), folded)
    hidden = Source(kind="blob", folder="landing/.plant", group=r"(\d+)")
    assert concerns(Arrival(container="landing", path=".plant/x.csv"), hidden)


def test_any_blob_concerns_a_share() -> None:
    """A share that the cloud mirrors has other names than its blobs; intake looks for itself."""
    share = Source(group=r"(\d+)")
    assert concerns(Arrival(container="c", path="p"), share)
