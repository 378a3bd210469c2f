"""The VM that is ordered: what Azure would refuse, or nobody should want, is refused before anything is asked."""

from __future__ import annotations

import base64
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.errors import CloudError, ConfigurationError
from edgeloop.provision.bodies import resources
from edgeloop.provision.machine import differences
from edgeloop.provision.order import VmOrder, rsa_bits
from edgeloop.provision.script import host_key_of, install_script
from edgeloop.provision.stack import StackHub, endpoint_of

if TYPE_CHECKING:
    from pathlib import Path

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
MANAGEMENT = "https://management.local.azurestack.external"


def public_key(bits: int = 2048, kind: str = "ssh-rsa") -> str:
    """A public key that no private one belongs to."""
    parts = (kind.encode(), b"\x01\x00\x01", b"\0" + b"\xff" * (bits // 8))
    return f"{kind} " + base64.b64encode(b"".join(len(one).to_bytes(4, "big") + one for one in parts)).decode()


def order(**changes: Any) -> VmOrder:
    """A VM as it may be ordered, changed."""
    good = {
        "subscription": SUBSCRIPTION, "resource_group": "rg", "name": "trainer-vm", "location": "local",
        "public_key": public_key(), "allowed": ("198.51.100.7/32", "10.1.0.0/16"),
    }  # fmt: skip
    return VmOrder(**{**good, **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "Trainer_VM"}, "the name will not do"),
        ({"resource_group": ""}, "'' cannot be a resource group"),
        ({"resource_group": "rg?x"}, "cannot be a resource group"),
        ({"resource_group": "a/b"}, "cannot be a resource group"),
        ({"resource_group": "rg."}, "no dot at the end"),
        ({"user": "root"}, "refuses the user 'root'"),
        ({"user": "Trainer"}, "refuses the user"),
        ({"allowed": ()}, "nobody is allowed"),
        ({"allowed": ("0.0.0.0/0",)}, "an SSH port open to all is not made"),
        ({"allowed": ("10.1.0.0/16", "::/0")}, "holds ::/0"),
        ({"allowed": ("*",)}, r"holds \*"),
        ({"allowed": ("10.1.0.9/16",)}, "is no network"),
        ({"public_key": public_key(1024)}, "no ssh-rsa key of 2,048 bits"),
        ({"public_key": public_key(kind="ssh-ed25519")}, "ssh-keygen -t rsa -b 4096"),
        ({"public_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "no ssh-rsa key"),
        ({"image": "Ubuntu"}, "publisher:offer:sku:version"),
        ({"disk_gb": 10}, "disk_gb"),
        ({"network": "10.90.0.1/28"}, "is no network"),
    ],
)
def test_an_order_that_will_not_do_is_refused(changes: dict[str, Any], why: str) -> None:
    """Each with what to write instead."""
    order()
    with pytest.raises(ConfigurationError, match=why):
        order(**changes)


def test_the_bits_of_a_key_are_counted() -> None:
    """Of the modulus, whatever stands around it; a broken key has none."""
    assert rsa_bits(f"{public_key(4096)} somebody@somewhere") == 4096
    assert rsa_bits(public_key(2048)[:-40]) < 2048
    assert rsa_bits("ssh-rsa") == rsa_bits("") == rsa_bits("ssh-rsa !!!!") == 0


def test_the_same_order_is_the_same_bodies() -> None:
    """Nothing in them depends on when they are made; several networks are a list, a disk fits its size."""
    assert resources(order()) == resources(order())
    rule = resources(order())[0].body["properties"]["securityRules"][0]["properties"]
    assert rule["sourceAddressPrefixes"] == ["198.51.100.7/32", "10.1.0.0/16"]
    kinds = {
        size: resources(order(size=size))[4].body["properties"]["storageProfile"]["osDisk"]["managedDisk"]
        for size in ("Standard_F8s_v2", "Standard_DS3_v2", "Standard_D3_v2", "Standard_A4_v2")
    }
    assert [one["storageAccountType"] for one in kinds.values()] == ["Premium_LRS"] * 2 + ["Standard_LRS"] * 2


def test_a_vm_in_a_network_that_is_there_brings_none() -> None:
    """Without a public address it has neither that nor a network of its own."""
    made = resources(order(subnet="/subscriptions/x/subnets/y", public_address=False))
    assert [one.what for one in made][:2] == ["network security group", "network interface"]
    assert made[1].body["properties"]["ipConfigurations"][0]["properties"] == {
        "subnet": {"id": "/subscriptions/x/subnets/y"}, "privateIPAllocationMethod": "Dynamic", "primary": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "found", "told"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, []),
        ({"a": {"b": 1}}, {"a": {}}, ["a.b"]),
        ({"a": "/Subscriptions/X"}, {"a": "/subscriptions/x"}, []),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, ["a"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2, "c": 3}]}, ["a.0.b"]),
        ({"a": True}, {"a": None}, ["a"]),
    ],
)
def test_differences_are_what_is_wanted_and_not_there(wanted: Any, found: Any, told: list[str]) -> None:
    """What Azure adds is none, but one more entry in a list is: a rule that somebody added opens a door."""
    assert differences(wanted, found) == told


FAKES = {
    "apt-get": """echo "apt-get $*" >>"$LOG"
case "$*" in *install*) [ -e "$BIN/broken" ] || cp "$BIN/ok" "$BIN/docker";; esac""",
    "systemctl": 'echo "systemctl $*" >>"$LOG"',
    "usermod": 'echo "usermod $*" >>"$LOG"',
    "cut": 'echo "ssh-ed25519 AAAA"',
    "ok": 'echo "Docker 24.0.5"',
}


def run(tmp_path: Path, *, broken: bool = False, installed: bool = False, prepare: str = "") -> Any:
    """Run the script as the extension does, with stand-ins for what would change this machine."""
    home = tmp_path / "bin"
    home.mkdir()
    for name, text in FAKES.items():
        (home / name).write_text(f"#!/bin/sh\n{text}\n")
        (home / name).chmod(0o755)
    if installed:
        (home / "ok").rename(home / "docker")
    if broken:
        (home / "broken").touch()
    for tool in ("cp", "sleep", "sh"):
        (home / tool).symlink_to(f"/bin/{tool}")
    environment = {"PATH": str(home), "BIN": str(home), "LOG": str(tmp_path / "log"), "EDGELOOP_PAUSE": "0"}
    return subprocess.run(
        ["/bin/sh", "-c", install_script("trainer", prepare)],
        env={**environment, "HOME": os.environ.get("HOME", "/")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_script_installs_docker_and_says_the_host_key(tmp_path: Path) -> None:
    """In a real shell: prepared, installed, enabled, the user in the group, and one line for us."""
    done = run(tmp_path, prepare="export http_proxy=http://proxy:3128")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["Docker 24.0.5", "edgeloop host key: ssh-ed25519 AAAA"]
    assert (tmp_path / "log").read_text().splitlines() == [
        "apt-get -o DPkg::Lock::Timeout=300 update",
        "apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends docker.io",
        "systemctl enable --now docker",
        "usermod -aG docker trainer",
    ]


def test_a_second_run_of_the_script_installs_nothing(tmp_path: Path) -> None:
    """Docker is there; the host key is said again."""
    done = run(tmp_path, installed=True)
    assert done.stdout.endswith("edgeloop host key: ssh-ed25519 AAAA\n")
    assert "apt-get" not in (tmp_path / "log").read_text()


def test_a_docker_that_cannot_be_installed_fails_the_extension(tmp_path: Path) -> None:
    """After six tries, with a word; no host key is said then."""
    done = run(tmp_path, broken=True)
    assert (done.returncode, done.stderr) == (1, "docker.io could not be installed\n")
    assert "host key" not in done.stdout
    assert (tmp_path / "log").read_text().count("install -y") == 6


def test_a_host_key_is_one_clear_line() -> None:
    """Said twice the same, it is one; a line that only holds it somewhere is none."""
    blob = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
    line = f"edgeloop host key: ssh-ed25519 {blob}\n"
    assert host_key_of(f"x\n{line}{line}") == f"ssh-ed25519 {blob}"
    for bad in ("", f"echo {line}", line.replace(blob, blob[:-8])):
        with pytest.raises(CloudError, match="nothing was pinned"):
            host_key_of(bad)


@pytest.mark.parametrize(
    ("extra", "login", "why"),
    [
        ({"arm_endpoint": ""}, "c", "extra.arm_endpoint is ''"),
        ({"arm_endpoint": "http://management.local.azurestack.external"}, "c", "https://management"),
        ({"subscriptionId": "mine"}, "c", "extra.subscriptionId is 'mine'"),
        ({}, "", "takes a service principal"),
    ],
)
def test_a_connection_that_names_no_stack_hub_is_refused(extra: dict[str, str], login: str, why: str) -> None:
    """Each with the field to write."""
    good = {"arm_endpoint": MANAGEMENT, "subscriptionId": SUBSCRIPTION}
    with pytest.raises(ConfigurationError, match=why):
        StackHub.of("stack", login, "a secret", {**good, "tenantId": "t", **extra})


def test_tokens_come_from_who_the_stack_hub_names() -> None:
    """AD FS is its own tenant; Entra ID keeps the connection's; an answer without https is refused."""
    stack = StackHub.of(
        "stack", "c", "a secret",
        {"arm_endpoint": f"{MANAGEMENT}/", "subscriptionId": SUBSCRIPTION, "tenantId": "t"},
    )  # fmt: skip

    def told(login: str) -> Any:
        return endpoint_of(
            stack, {"authentication": {"loginEndpoint": login, "audiences": ["https://management.x/1/"]}}
        )

    found = told("https://adfs.local.azurestack.external/adfs/")
    assert (found.identity.authority, found.identity.tenant) == ("https://adfs.local.azurestack.external", "adfs")
    assert (found.scope, found.base) == (
        "https://management.x/1/.default",
        "https://management.local.azurestack.external",
    )
    entra = told("https://login.microsoftonline.com/")
    assert (entra.identity.authority, entra.identity.tenant) == ("https://login.microsoftonline.com", "t")
    for bad in ("http://adfs.local.azurestack.external/adfs", ""):
        with pytest.raises(ConfigurationError, match="no ARM of a Stack Hub"):
            told(bad)
