"""The real pip-audit against databases that answer."""

from __future__ import annotations

import inspect
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.edgeloop.packaging.advisories import Database, advisory, osv
from tests.registries import Authority

from edgeloop.packaging import audit
from edgeloop.packaging.audit import Audit
from edgeloop.packaging.inventory import Package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

PACKAGES = tuple(
    Package(kind="pypi", name=name, version=version)
    for name, version in (("H11", "0.15.0"), ("numpy", "2.4.6"), ("ours", "1.0"))
)
H11, NUMPY, OURS = (f"/pypi/{name}/json" for name in ("h11/0.15.0", "numpy/2.4.6", "ours/1.0"))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[Database]]:
    """The database that pip-audit asks by itself: its host is behind a proxy, which answers in its place."""
    from pip_audit._service.pypi import PyPIService

    url = re.search(r"https://([^/]+)/", inspect.getsource(PyPIService.query))
    assert url
    tls = Authority.of(tmp_path, url[1])

    @contextmanager
    def serving(**answers: object) -> Iterator[Database]:
        database = Database({path: answers[name] for name, path in PATHS.items() if name in answers}, tls)
        for address in database.serve():
            for name in ("HTTPS_PROXY", "https_proxy"):
                monkeypatch.setenv(name, address)
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
            for name in ("NO_PROXY", "no_proxy"):
                monkeypatch.delenv(name, raising=False)
            yield database

    return serving


PATHS = {"h11": H11, "numpy": NUMPY, "ours": OURS}


def test_findings_of_the_index_are_read_and_what_it_does_not_know_is_not_judged(
    index: Callable[..., AbstractContextManager[Database]],
) -> None:
    """By their own ids, one withdrawn advisory left out; a package that the index does not have is no clean one."""
    found = [advisory("PYSEC-2024-1", "0.16.0", "CVE-2024-1"), advisory("PYSEC-2024-2", "0.16.0", withdrawn="x")]
    with index(h11={"vulnerabilities": found}, numpy={"vulnerabilities": []}) as database:
        said = audit.run(PACKAGES)
    assert said == Audit(asked=3, findings=("h11 0.15.0 PYSEC-2024-1",), unknown=("ours==1.0",))
    assert not said.complete
    assert sorted(database.asked) == [H11, NUMPY, OURS]
    assert Audit.from_json(said.to_json()) == said


def test_an_index_that_knows_everything_and_finds_nothing_is_a_whole_answer(
    index: Callable[..., AbstractContextManager[Database]],
) -> None:
    """Only then is it complete without a finding."""
    nothing = {"vulnerabilities": []}
    with index(h11=nothing, numpy=nothing, ours=nothing):
        said = audit.run(PACKAGES)
    assert said == Audit(asked=3)
    assert said.complete


@pytest.mark.parametrize("trouble", [503, b"<html>a captive portal</html>"], ids=["busy", "portal"])
def test_an_index_that_breaks_off_has_judged_nothing(
    index: Callable[..., AbstractContextManager[Database]], trouble: object
) -> None:
    """One answer that is none, and those before it do not count."""
    with index(h11={"vulnerabilities": []}, numpy=trouble, ours={"vulnerabilities": []}):
        said = audit.run(PACKAGES)
    assert (said.asked, said.findings, said.complete) == (3, (), False)
    assert said.why


def test_a_database_of_ones_own_is_asked_where_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror of OSV inside a closed network, as docs/pipeline.md says; a finding has its CVE where it is no PYSEC."""
    database = Database({
        "h11==0.15.0": {"vulns": [osv("GHSA-x", "h11", "0.16.0", "CVE-2024-1")]}, "numpy==2.4.6": {}, "ours==1.0": {},
    })  # fmt: skip
    for address in database.serve():
        monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"{address}/v1/query")
        said = audit.run(PACKAGES)
    assert said == Audit(asked=3, findings=("h11 0.15.0 CVE-2024-1",))
    assert sorted(database.asked) == ["h11==0.15.0", "numpy==2.4.6", "ours==1.0"]
