"""What a vulnerability database said, and what it did not: never taken for the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeloop.packaging import audit
from edgeloop.packaging.audit import Audit
from edgeloop.packaging.inventory import Inventory, Package

PINS = ("h11==0.16.0", "numpy==2.4.6")
PACKAGES = tuple(
    Package(kind="pypi", name=name, version=version) for name, version in (("H11", "0.16.0"), ("numpy", "2.4.6"))
)


def answer(*dependencies: dict[str, object]) -> str:
    """Pip-audit's JSON."""
    return json.dumps({"dependencies": list(dependencies), "fixes": []})


H11 = {"name": "h11", "version": "0.16.0", "vulns": []}
NUMPY = {"name": "numpy", "version": "2.4.6", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.5"], "aliases": []}]}
SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited: numpy (2.4.6)"}


@pytest.mark.parametrize(
    ("out", "err", "expected"),
    [
        (answer(H11, {**NUMPY, "vulns": []}), "", Audit(asked=2)),
        (answer(H11, NUMPY), "", Audit(asked=2, findings=("numpy 2.4.6 PYSEC-1",))),
        (answer(H11, SKIPPED), "", Audit(asked=2, unknown=("numpy==2.4.6",))),
        (answer(H11), "", Audit(asked=2, unknown=("numpy==2.4.6",))),
        (answer(SKIPPED), "No known vulnerabilities found", Audit(asked=2, unknown=PINS, why="it knew none of them")),
        ("", "Traceback\n  x\nConnectionError: no route", Audit(asked=2, why="ConnectionError: no route")),
        ("", "", Audit(asked=2, why="it said nothing")),
        ("[]", "odd", Audit(asked=2, why="odd")),
    ],
)
def test_what_was_not_judged_is_no_pass(out: str, err: str, expected: Audit) -> None:
    """Pip-audit says "no known vulnerabilities" and ends with 0 where its database knew nothing; here it is unknown."""
    found = audit.parse(out, err, PINS)
    assert found == expected
    assert found.complete == (not expected.unknown and not expected.why)
    assert Audit.from_json(found.to_json()) == found


def test_each_outcome_is_said_in_a_line() -> None:
    """For the log: findings by name, and what stayed open."""
    assert str(Audit(asked=2)) == "0 known vulnerabilities in 2 Python distributions"
    assert (
        str(Audit(asked=2, findings=("numpy 2.4.6 PYSEC-1",), unknown=("h11==0.16.0",)))
        == "1 known vulnerabilities in 1 Python distributions (numpy 2.4.6 PYSEC-1); not judged: h11==0.16.0"
    )
    assert (
        str(Audit(asked=2, why="no route")) == "no vulnerability database answered for 2 Python distributions: no route"
    )


def test_the_command_installs_and_resolves_nothing() -> None:
    """The image's own pins are asked about, not what this machine would install."""
    assert audit.command([Path("/r/0.txt"), Path("/r/1.txt")])[1:] == [
        "-m", "pip_audit", "-r", "/r/0.txt", "-r", "/r/1.txt", "--no-deps", "--disable-pip",
        "--progress-spinner", "off", "--desc", "off", "-f", "json", "--timeout", "5",
    ]  # fmt: skip


def test_an_unreachable_database_is_said_and_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip-audit, whose way out is closed; two versions of one name are asked about as well."""
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    found = audit.run([*PACKAGES, Package(kind="pypi", name="h11", version="0.15.0", where="x")])
    assert found.asked == 3
    assert "127.0.0.1" in found.why
    assert not found.complete


def test_a_database_that_never_answers_ends_in_time() -> None:
    """After the time given the packaging goes on without an answer."""
    assert audit.run(PACKAGES, whole_seconds=0.01).why == "not done after 0 s"


def test_an_image_without_python_distributions_asks_nobody() -> None:
    """There is nothing to ask about."""
    assert audit.run([Package(kind="deb", name="tini", version="1")]) == Audit(asked=0)


def test_an_answer_holds_for_a_day_and_these_distributions() -> None:
    """Another day, another version or another Debian package is asked anew."""
    deb = Package(kind="deb", name="tini", version="1")
    inside = Inventory(packages=PACKAGES, codename="bookworm")
    keys = {
        audit.key(inside, "2026-01-01"),
        audit.key(inside, "2026-01-02"),
        audit.key(replace(inside, packages=PACKAGES[:1]), "2026-01-01"),
        audit.key(replace(inside, packages=(*PACKAGES, deb)), "2026-01-01"),
        audit.key(replace(inside, codename="trixie"), "2026-01-01"),
    }
    assert len(keys) == 5
    assert audit.key(replace(inside, packages=tuple(reversed(PACKAGES))), "2026-01-01") in keys


def test_both_databases_stand_in_the_record_and_older_records_are_read() -> None:
    """One that did not answer leaves the whole open, whatever the other says."""
    debian = Audit(of="Debian packages", asked=3, findings=("libc6 2.36 CVE-1 fixed", "libc6 2.36 CVE-2"))
    both = Audit(asked=2, debian=debian)
    assert Audit.from_json(both.to_json()) == both
    assert Audit.from_json('{"asked":2,"findings":[],"unknown":["a==1"],"why":""}') == Audit(asked=2, unknown=("a==1",))
    assert (both.complete, both.parts, debian.pressing) == (True, (both, debian), ("libc6 2.36 CVE-1 fixed",))
    assert not replace(both, debian=replace(debian, why="no route")).complete
    assert (
        str(debian) == "2 known vulnerabilities in 3 Debian packages, 1 of them fixed by newer ones "
        "(libc6 2.36 CVE-1 fixed)"
    )
