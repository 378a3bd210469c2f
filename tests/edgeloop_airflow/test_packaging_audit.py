from __future__ import annotations

import zlib
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.edgeloop.packaging.advisories import Database, osv
from tests.memory import Memory

from edgeloop.packaging import audit_debian
from edgeloop.packaging.audit import Audit
from edgeloop.packaging.inventory import Inventory, Package
from edgeloop.packaging.proof import Proof
from edgeloop.store import Store
from edgeloop_airflow.packaging import ProveImageOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACKER = "VERSION 1\nCVE-1,,old\nCVE-2,,new\n\nopenssl,0,S ? ,,\nopenssl,1,SHRF,3.2-1,\n\nopenssl,libssl3\n"
INSIDE = Inventory(
    packages=(
        Package(kind="pypi", name="h11", version="0.15.0"),
        Package(kind="deb", name="libssl3", version="3.0-1", where="amd64", source="openssl"),
    ),
    release="debian-12",
    codename="bookworm",
)


@pytest.fixture
def databases(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Database, Database]]:
    """One of each kind, which the environment and the worker's configuration name."""
    python = Database({"h11==0.15.0": {"vulns": [osv("GHSA-x", "h11", "0.16.0")]}})
    debian = Database({"/bookworm": zlib.compress(TRACKER.encode())})
    for first in python.serve():
        for second in debian.serve():
            monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
            monkeypatch.setenv("PIP_AUDIT_OSV_URL", first)
            monkeypatch.setattr(audit_debian, "run", partial(audit_debian.run, source=second))
            yield python, debian


def bench(store: Store, inside: Inventory) -> Any:
    """What the task works with, as far as this goes."""
    spec = SimpleNamespace(image=SimpleNamespace(audit=True))
    return SimpleNamespace(
        desk=SimpleNamespace(store=store, snapshot=SimpleNamespace(spec=spec)),
        builder=SimpleNamespace(inventory=lambda: inside),
        image=SimpleNamespace(id="i" * 64, key="k"),
        proof_key="p",
    )


@pytest.mark.system
def test_both_databases_are_asked_once_a_day_and_told_in_log_and_record(
    databases: tuple[Database, Database], capsys: pytest.CaptureFixture[str]
) -> None:
    """The log names what an upgrade removes, the record everything; the same packages again ask nobody."""
    store, operator = Store(Memory()), ProveImageOperator(task_id="prove", pipeline="p")
    this = bench(store, INSIDE)
    said = operator._audit(this)
    assert said is not None
    assert operator._audit(this) == said
    assert [len(one.asked) for one in databases] == [1, 1]
    capsys.readouterr()
    operator._note(this, Proof(rows=1, start_seconds=0.1, cpu_seconds=0.1, memory_bytes=1, engine_id="e"), said)
    warnings = [line for line in capsys.readouterr().out.splitlines() if "[warning" in line]
    for line, text in zip(
        warnings,
        (
            "Image k: 1 known vulnerabilities in 1 Python distributions (h11 0.15.0 GHSA-x)",
            "Image k: 2 known vulnerabilities in 1 Debian packages, 1 of them fixed by newer ones (libssl3 3.0-1 CVE-2",
        ),
        strict=True,
    ):
        assert text in line
    (entry,) = store.ledger(f"audits/{this.image.id}")
    kept = Audit.from_json(entry.body["said"])
    assert kept == said
    assert kept.debian is not None
    assert kept.debian.findings == ("libssl3 3.0-1 CVE-1", "libssl3 3.0-1 CVE-2 fixed")


@pytest.mark.system
def test_an_answer_of_one_database_alone_is_not_kept_for_the_day(databases: tuple[Database, Database]) -> None:
    """The tracker was down: the next packaging asks again, and what Python's said stands all the same."""
    operator, this = ProveImageOperator(task_id="prove", pipeline="p"), bench(Store(Memory()), INSIDE)
    tracker, databases[1].answers = databases[1].answers, {"/bookworm": 503}
    first = operator._audit(this)
    assert first is not None
    assert (first.findings, first.complete) == (("h11 0.15.0 GHSA-x",), False)
    databases[1].answers = tracker
    again = operator._audit(this)
    assert again is not None
    assert again.complete
