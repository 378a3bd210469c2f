"""What is inside a layer, as its own files say it."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

from edgeloop.packaging import inventory
from edgeloop.packaging.inventory import Inventory, Package
from edgeloop.packaging.layer import pack

STATUS = b"""Package: libssl3
Status: install ok installed
Source: openssl
Version: 3.0.22-1~deb12u2
Architecture: amd64
Description: shared libraries
 that run over lines
 Package: of a description

Package: gone
Status: deinstall ok config-files
Version: 1
Architecture: all
"""
SSL = Package(kind="deb", name="libssl3", version="3.0.22-1~deb12u2", where="amd64", source="openssl")


def read(files: dict[str, bytes]) -> Inventory:
    """The inventory of a layer of these files."""
    with tarfile.open(fileobj=io.BytesIO(pack(files)), mode="r|") as tar:
        return inventory.read(tar)


def test_dpkgs_own_list_is_read() -> None:
    """As python:slim has it: installed packages only, with their source package, where advisories look."""
    named = b'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'
    said = read({"var/lib/dpkg/status": STATUS, "etc/os-release": named})
    assert said == Inventory(packages=(SSL,), whole=True, release="debian-12", codename="bookworm")
    rebuilt = read({"var/lib/dpkg/status": STATUS.replace(b"Source: openssl", b"Source: openssl (3.0.22-1)")})
    assert rebuilt.packages == (replace(SSL, source_version="3.0.22-1"),)
    assert Inventory.from_json(rebuilt.to_json()) == rebuilt


def test_an_inventory_that_an_older_version_wrote_is_read() -> None:
    """Without the suite's name and the sources' versions."""
    row = '["deb","libssl3","3.0.22-1~deb12u2","amd64","openssl"]'
    said = Inventory.from_json(f'{{"packages":[{row}],"release":"debian-12","whole":true}}')
    assert said == Inventory(packages=(SSL,), whole=True, release="debian-12")


def test_a_base_without_dpkg_names_its_packages_in_files() -> None:
    """As the lab's base and distroless ones have it: a file each, whose packages are installed without saying so."""
    one = b"Package: tini\nVersion: 0.19.0-1\nArchitecture: amd64\n"
    said = read({"var/lib/dpkg/status.d/tini": one, "var/lib/dpkg/status": b""})
    assert said.packages == (Package(kind="deb", name="tini", version="0.19.0-1", where="amd64"),)


def test_python_distributions_are_read_wherever_they_lie() -> None:
    """By their METADATA; an editable link or a broken one names nothing."""
    said = read(
        {
            "opt/site/numpy-2.4.6.dist-info/METADATA": b"Name: numpy\nVersion: 2.4.6\n\nName: prose\n",
            "usr/local/lib/python3.11/site-packages/pip-24.dist-info/METADATA": b"Name: pip\nVersion: 24.0\n",
            "opt/site/broken-1.dist-info/METADATA": b"\xff\xfe",
            "opt/site/numpy/METADATA": b"Name: no\nVersion: 1\n",
        }
    )
    assert [(one.name, one.version) for one in said.of("pypi")] == [("numpy", "2.4.6"), ("pip", "24.0")]


def test_upper_layers_win() -> None:
    """A later status file takes the place of the earlier, an upgraded distribution that of the older beside it."""
    removed = Package(kind="deb", name="removed", version="1", where="all")
    below = Inventory(
        packages=(SSL, removed, Package(kind="pypi", name="a", version="1", where="x/")),
        whole=True,
        release="debian-12",
    )
    newer = Package(kind="deb", name="libssl3", version="4", where="amd64")
    above = Inventory(packages=(newer, Package(kind="pypi", name="a", version="2", where="x/")), whole=True)
    image = inventory.united([below, above, Inventory(packages=(Package(kind="pypi", name="b", version="1"),))])
    assert [(one.name, one.version) for one in image.packages] == [("libssl3", "4"), ("a", "2"), ("b", "1")]
    assert image.release == "debian-12"
    assert Inventory.from_json(image.to_json()) == image
