"""The record of a site that is up: written and read back whole, and what others are told when it is not there."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from lab import describe
from lab import site as sites
from lab.connections import environment
from lab.errors import LabError
from lab.keys import Secrets
from lab.layout import Layout, ports_for


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A site in a folder of its own, with keys that only look like keys."""
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("host_vm", "host_R80711", "host_R80721", "host_R80736", "trainer", "edge"):
        (keys / f"{name}_ed25519.pub").write_text(f"ssh-ed25519 AAAA{name} a comment\n")
    return Layout(name="test", index=1, state=tmp_path, cache=Path("/c"), ports=ports_for(1, {}))


@pytest.fixture
def site(layout: Layout) -> sites.Site:
    """The record of that site."""
    secrets = Secrets(share_password="pw", private_key="cHJpdmF0ZQ==", cloud_key="Y2xvdWQ=")
    return describe.describe(layout, secrets, sites.Images(trainer="edgeloop/trainer:1", scorer_base="edgeloop/s:2"))


def test_a_saved_site_is_loaded_as_it_was(site: sites.Site) -> None:
    """What is written to site.json comes back equal, nested records and paths included."""
    sites.save(site)
    assert sites.load(site.state) == site


def test_a_saved_site_is_its_owners_alone(site: sites.Site) -> None:
    """site.json holds keys and a password: nobody else may read it."""
    assert stat.S_IMODE(sites.save(site).stat().st_mode) == 0o600


def test_the_file_has_the_agreed_shape(site: sites.Site) -> None:
    """The names in site.json are what programs in other languages and other rooms read."""
    raw = json.loads(sites.save(site).read_text())
    assert list(raw) == [
        "name", "index", "state", "cache", "share", "blob", "vm", "devices", "registry", "builder", "postgres",
        "airflow", "images",
    ]  # fmt: skip
    assert raw["vm"] == {
        "name": "vm", "host": "10.77.1.10", "port": 22, "user": "trainer",
        "key_file": f"{site.state}/keys/trainer_ed25519", "host_key": "ssh-ed25519 AAAAhost_vm",
        "docker": f"unix://{site.state}/hosts/vm/docker.sock",
    }  # fmt: skip
    assert raw["blob"]["private"]["connection_string"] == (
        "DefaultEndpointsProtocol=http;AccountName=stackhub;AccountKey=cHJpdmF0ZQ==;"
        "BlobEndpoint=http://10.77.1.1:10100/stackhub;"
    )
    assert sorted(raw["postgres"]) == ["async", "sync"]
    assert raw["devices"][2]["share"] == f"{site.state}/devices/R80736/share"


def test_a_site_that_is_not_up_says_how_to_start_it(tmp_path: Path) -> None:
    """Loading a site without site.json names the command that makes one."""
    with pytest.raises(LabError, match="python -m lab up --site"):
        sites.load(tmp_path)


def test_a_damaged_file_names_what_is_missing(site: sites.Site) -> None:
    """A site.json without a key, of an older lab perhaps, is refused by the key's name."""
    path = sites.save(site)
    raw = json.loads(path.read_text())
    del raw["registry"]["host"]
    path.write_text(json.dumps(raw))
    with pytest.raises(LabError, match="lacks 'host' of Registry"):
        sites.load(site.state)


def test_a_secret_is_not_in_a_sites_repr(site: sites.Site) -> None:
    """A site that ends up in a log or a traceback shows no key and no password."""
    assert "cHJpdmF0ZQ==" not in repr(site)
    assert "'pw'" not in repr(site)


def test_the_layout_of_a_site_is_what_it_was_made_from(site: sites.Site, layout: Layout) -> None:
    """Faults are given the record and must reach the same ports and folders."""
    assert describe.layout_of(site) == layout


def test_airflow_gets_every_connection(site: sites.Site) -> None:
    """One connection per outside part, in the JSON that Airflow reads from the environment."""
    found = {name: json.loads(text) for name, text in environment(site).items()}
    assert list(found) == [
        "AIRFLOW_CONN_EDGELOOP_BUILDER",
        "AIRFLOW_CONN_EDGELOOP_CLOUD",
        "AIRFLOW_CONN_EDGELOOP_DEVICE_R80711",
        "AIRFLOW_CONN_EDGELOOP_DEVICE_R80721",
        "AIRFLOW_CONN_EDGELOOP_DEVICE_R80736",
        "AIRFLOW_CONN_EDGELOOP_PRIVATE",
        "AIRFLOW_CONN_EDGELOOP_REGISTRY",
        "AIRFLOW_CONN_EDGELOOP_SHARE",
        "AIRFLOW_CONN_EDGELOOP_VM",
    ]
    assert found["AIRFLOW_CONN_EDGELOOP_DEVICE_R80721"] == {
        "conn_type": "edgeloop_ssh", "host": "10.77.1.102", "port": 22, "login": "edge",
        "extra": {
            "key_file": f"{site.state}/keys/edge_ed25519", "host_key": "ssh-ed25519 AAAAhost_R80721",
            "share": f"{site.state}/devices/R80721/share",
        },
    }  # fmt: skip
    assert found["AIRFLOW_CONN_EDGELOOP_REGISTRY"] == {
        "conn_type": "edgeloop_registry", "host": "10.77.1.1:5100", "extra": {"insecure": True},
    }  # fmt: skip
    assert found["AIRFLOW_CONN_EDGELOOP_SHARE"] == {"conn_type": "fs", "extra": {"path": f"{site.state}/share"}}
