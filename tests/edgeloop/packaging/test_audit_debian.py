"""The real debsecan against the tracker's data in its own format, served or lying there."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.packaging.advisories import Database

from edgeloop.packaging import audit_debian
from edgeloop.packaging.audit import Audit
from edgeloop.packaging.inventory import Inventory, Package

if TYPE_CHECKING:
    from pathlib import Path

TRACKER = """VERSION 1
CVE-2024-1,,a hole in openssl
CVE-2024-2,,one that nobody fixes
CVE-2024-3,,fixed long ago
CVE-2024-4,,of another package
CVE-2024-5,,of the source's version

openssl,0,SHRF,3.2.0-1,3.0.16-1~deb12u1
glibc,1,S ? ,,
openssl,2,SL F,3.0.1-1,
curl,3,SMRF,8.0-1,
gcc-12,4,SM F,12.2.0-14,

openssl,libssl3 openssl
glibc,libc6
gcc-12,libgcc-s1
"""
"""Flags: of a source package, urgency, remote, whether a fix is there; then fixed in unstable, and elsewhere."""


def deb(name: str, version: str, source: str = "", source_version: str = "") -> Package:
    """A Debian package."""
    return Package(kind="deb", name=name, version=version, where="amd64", source=source, source_version=source_version)


INSIDE = Inventory(
    packages=(
        deb("libssl3", "3.0.15-1~deb12u1", "openssl"),
        deb("libc6", "2.36-9", "glibc"),
        deb("libgcc-s1", "14.2.0-1+b1", "gcc-12", "12.1.0-1"),
        deb("tini", "0.19.0-1+b3", "", "0.19.0-1"),
        Package(kind="pypi", name="curl", version="1"),
    ),
    release="debian-12",
    codename="bookworm",
)
FOUND = (
    "libc6 2.36-9 CVE-2024-2",
    "libgcc-s1 14.2.0-1+b1 CVE-2024-5 fixed",
    "libssl3 3.0.15-1~deb12u1 CVE-2024-1 fixed",
)


@pytest.mark.system
def test_findings_are_those_of_the_images_packages_and_suite() -> None:
    """By the source package and its version; what is fixed in the image's version, and other packages, are none."""
    database = Database({"/bookworm": zlib.compress(TRACKER.encode())})
    for address in database.serve():
        said = audit_debian.run(INSIDE, source=address)
    assert said == Audit(of="Debian packages", asked=4, findings=FOUND)
    assert database.asked == ["/bookworm"]
    assert said.complete
    assert said.pressing == (FOUND[1], FOUND[2])


@pytest.mark.system
def test_a_base_that_names_no_suite_is_judged_by_the_general_data(tmp_path: Path) -> None:
    """From a mirror that is a folder; a version that another suite fixed it in is fixed."""
    (tmp_path / "GENERIC").write_bytes(zlib.compress(TRACKER.replace("SHRF", "SHR ").encode()))
    patched = replace(INSIDE, codename="", packages=(deb("libssl3", "3.0.16-1~deb12u1", "openssl"),))
    assert audit_debian.run(patched, source=tmp_path.as_uri()) == Audit(of="Debian packages", asked=1)
    older = replace(patched, packages=INSIDE.packages[:1])
    said = audit_debian.run(older, source=tmp_path.as_uri())
    assert said.findings == ("libssl3 3.0.15-1~deb12u1 CVE-2024-1",)
    assert said.pressing == ()


@pytest.mark.system
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (404, "Are you sure 'bookworm' is a Debian codename?"),
        (503, "Service Unavailable"),
        (b"<html>a captive portal</html>", "incorrect header check"),
        (zlib.compress(b"VERSION 2\n"), "unknown format"),
        (zlib.compress(TRACKER.encode())[:60], "incomplete"),
    ],
)
def test_a_tracker_that_does_not_answer_has_judged_nothing(answer: object, why: str) -> None:
    """Whatever goes wrong is told, and nothing is called clean."""
    for address in Database({"/bookworm": answer}).serve():
        said = audit_debian.run(INSIDE, source=address)
    assert (said.asked, said.findings, said.complete) == (4, (), False)
    assert why in said.why
    assert str(said).startswith("no vulnerability database answered for 4 Debian packages: ")


@pytest.mark.system
def test_nobody_at_the_address_and_no_end_are_told() -> None:
    """A closed port, and a time that is up."""
    assert "Connection refused" in audit_debian.run(INSIDE, source="http://127.0.0.1:9/").why
    assert audit_debian.run(INSIDE, source="http://127.0.0.1:9/", whole_seconds=0.001).why == "not done after 0 s"


def test_what_cannot_be_judged_is_told_and_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A base of another distribution or without a list of its packages, and a worker without debsecan."""
    monkeypatch.setattr(audit_debian, "DEBSECAN", "no-such-program")
    assert audit_debian.run(INSIDE).why == "no-such-program is not installed where this ran"
    assert audit_debian.run(replace(INSIDE, release="ubuntu-24.04")).why == "the base is ubuntu-24.04, no Debian"
    assert audit_debian.run(replace(INSIDE, release="")).why == "the base is of no named distribution, no Debian"
    empty = audit_debian.run(replace(INSIDE, packages=INSIDE.packages[-1:]))
    assert (empty.asked, empty.why, empty.complete) == (0, "the base lists no packages", False)


def test_packages_are_listed_as_dpkg_lists_them() -> None:
    """With the source, and its version where it is another."""
    assert audit_debian.status(INSIDE.packages[2:4]) == (
        "Package: libgcc-s1\nStatus: install ok installed\nVersion: 14.2.0-1+b1\nSource: gcc-12 (12.1.0-1)\n\n"
        "Package: tini\nStatus: install ok installed\nVersion: 0.19.0-1+b3\nSource: tini (0.19.0-1)\n"
    )
