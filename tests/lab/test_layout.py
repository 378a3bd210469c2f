"""Names, numbers, addresses and ports of a site."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import layout as layouts
from lab.errors import LabError
from lab.layout import Layout, Ports, ports_for


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that never had a site."""
    monkeypatch.setattr(layouts, "_MACHINE", tmp_path / "machine")
    monkeypatch.setenv("EDGELOOP_LAB_STATE", "/srv/lab")
    monkeypatch.delenv("EDGELOOP_LAB_PORT_BASE", raising=False)


def test_sites_are_a_hundred_ports_apart() -> None:
    """The demo has the well-known ports, the tests' site the same plus a hundred."""
    assert ports_for(0, {}) == Ports(smb=4445, blob=10000, registry=5000, airflow=8080)
    assert ports_for(1, {}) == Ports(smb=4545, blob=10100, registry=5100, airflow=8180)


def test_no_two_sites_share_a_port() -> None:
    """Of all numbers that are given out, no port is given twice."""
    sites = [ports_for(index, {}) for index in range(layouts._LAST_INDEX + 1)]
    given = [port for site in sites for port in (site.smb, site.blob, site.registry, site.airflow)]
    assert len(given) == len(set(given))


def test_four_ports_can_be_chosen() -> None:
    """EDGELOOP_LAB_PORT_BASE names the first of four."""
    chosen = ports_for(0, {"EDGELOOP_LAB_PORT_BASE": "21000"})
    assert chosen == Ports(smb=21000, blob=21001, registry=21002, airflow=21003)


@pytest.mark.parametrize("base", ["", "many", "80", "65533", "-1"])
def test_a_base_that_is_no_port_is_refused(base: str) -> None:
    """A wrong EDGELOOP_LAB_PORT_BASE is said, not rounded."""
    with pytest.raises(LabError, match="not a port number"):
        ports_for(0, {"EDGELOOP_LAB_PORT_BASE": base})


def test_new_sites_get_the_lowest_free_number() -> None:
    """Demo and test have 0 and 1; others fill up from 2, and a number that was given back is given out again."""
    assert [layouts.resolve(name).index for name in ("demo", "test", "one", "two", "one")] == [0, 1, 2, 3, 2]
    layouts.forget(layouts.resolve("one"))
    assert layouts.resolve("three").index == 2


def test_the_number_decides_the_addresses() -> None:
    """Addresses, namespaces and the registry's name follow from the site's number and name."""
    site = layouts.resolve("test")
    assert site.state == Path("/srv/lab/test")
    assert [site.gateway, site.address("builder"), site.address("vm"), site.address("R80736")] == [
        "10.77.1.1", "10.77.1.2", "10.77.1.10", "10.77.1.103",
    ]  # fmt: skip
    assert site.netns("vm") == "el-test-vm"
    assert site.registry == "10.77.1.1:5100"
    assert site.docker_socket("vm") == Path("/srv/lab/test/hosts/vm/docker.sock")


@pytest.mark.parametrize("name", ["", "Demo", "a/b", "../x", "a-b", "thirteenchars", "1st"])
def test_a_name_that_breaks_paths_is_refused(name: str) -> None:
    """A site's name becomes part of folders, interfaces and namespaces."""
    with pytest.raises(LabError, match="no name for a site"):
        layouts.resolve(name)


@pytest.mark.parametrize("state", ["/" + "x" * 80, "/with blank", "/with:colon", "/with,comma"])
def test_a_folder_that_cannot_hold_sockets_is_refused(state: str) -> None:
    """The kernel cuts socket paths at 108 bytes, and mounts and configurations cannot quote."""
    with pytest.raises(LabError, match="EDGELOOP_LAB_STATE"):
        layouts.resolve("demo", Path(state))


def test_chosen_ports_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`down` and `status` find a site on ports that only the shell which started it knew."""
    monkeypatch.setenv("EDGELOOP_LAB_PORT_BASE", "21000")
    layouts.remember(layouts.resolve("demo", tmp_path))
    monkeypatch.delenv("EDGELOOP_LAB_PORT_BASE")
    assert layouts.resolve("demo", tmp_path).ports == Ports(smb=21000, blob=21001, registry=21002, airflow=21003)


def test_interface_names_fit() -> None:
    """Linux cuts no name: one of more than 15 characters is an error."""
    from lab import network

    site = Layout(name="a" * 12, index=49, state=Path("/s"), cache=Path("/c"), ports=ports_for(49, {}))
    names = [network.root_link(site), *(network.port(host) for host in layouts.HOST_NUMBERS)]
    assert max(map(len, names)) <= 15
