"""Every command and configuration the lab runs its servers with, to the letter."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import blob, host_commands, install, network, parts, postgres, registry, share, tools, users
from lab.errors import LabError
from lab.layout import Layout, ports_for

SITE = Layout(name="demo", index=0, state=Path("/s"), cache=Path("/c"), ports=ports_for(0, {}))


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are where Debian puts them, installed or not."""
    monkeypatch.setattr(tools, "path", lambda program: f"/usr/sbin/{program}")


def test_the_network() -> None:
    """A hub with a bridge, the root namespace as .1, and one cable per host."""
    lines = [" ".join(command) for command in network.build_commands(SITE)]
    assert lines[:8] == [
        "ip netns add el-demo-hub",
        "ip -n el-demo-hub link set lo up",
        "ip -n el-demo-hub link add br0 type bridge",
        "ip -n el-demo-hub link set br0 up",
        "ip link add el0-root type veth peer name v-root netns el-demo-hub",
        "ip -n el-demo-hub link set v-root master br0 up",
        "ip addr add 10.77.0.1/24 dev el0-root",
        "ip link set el0-root up",
    ]
    assert lines[-6:] == [
        "ip netns add el-demo-R80736",
        "ip -n el-demo-R80736 link set lo up",
        "ip link add v-R80736 netns el-demo-hub type veth peer name eth0 netns el-demo-R80736",
        "ip -n el-demo-hub link set v-R80736 master br0 up",
        "ip -n el-demo-R80736 addr add 10.77.0.103/24 dev eth0",
        "ip -n el-demo-R80736 link set eth0 up",
    ]
    assert len(lines) == 8 + 5 * 6


def test_a_pulled_cable() -> None:
    """A cable is pulled at the hub's end, which the host cannot undo."""
    assert network.cable_command(SITE, "vm", "down") == ["ip", "-n", "el-demo-hub", "link", "set", "v-vm", "down"]


def test_only_the_sites_own_network_is_removed() -> None:
    """Namespaces and links of others, of another site too, are left alone."""
    there = ["el-demo-vm", "el-test-vm", "el-demo-other", "cni-1"]
    assert network.remove_commands(SITE, there, ["eth0", "el0-root", "el1-root"]) == [
        ["ip", "link", "del", "el0-root"],
        ["ip", "netns", "del", "el-demo-vm"],
    ]


def test_sshd() -> None:
    """Keys only, one user, the host's own engine, and a file of authorised keys per site."""
    assert (
        host_commands.sshd_config(SITE, "vm", "trainer")
        == """Port 22
ListenAddress 10.77.0.10
HostKey /s/keys/host_vm_ed25519
AuthorizedKeysFile /s/hosts/vm/authorized_keys
PidFile none
UsePAM no
UseDNS no
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AllowUsers trainer
Subsystem sftp internal-sftp
MaxSessions 50
MaxStartups 50:30:100
ClientAliveInterval 15
LogLevel VERBOSE
SetEnv DOCKER_HOST=unix:///s/hosts/vm/docker.sock
"""
    )
    assert host_commands.sshd_command(SITE, "vm") == [
        "/usr/sbin/sshd", "-D", "-f", "/s/hosts/vm/sshd_config", "-E", "/s/hosts/vm/sshd.log",
    ]  # fmt: skip


def test_the_engine_of_a_device() -> None:
    """Containers of a device outlive its engine; the engine touches no address, route or rule."""
    assert host_commands.engine_command(SITE, "R80711") == [
        "/usr/sbin/dockerd",
        "--host", "unix:///s/hosts/R80711/docker.sock",
        "--data-root", "/s/hosts/R80711/docker",
        "--exec-root", "/run/docker",
        "--pidfile", "/run/docker.pid",
        "--group", "edge",
        "--bridge", "none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-masq=false",
        "--ip-forward=false",
        "--storage-driver", "overlay2",
        "--exec-opt", "native.cgroupdriver=cgroupfs",
        "--cgroup-parent", "/el-demo-R80711",
        "--insecure-registry", "10.77.0.1:5000",
        "--live-restore",
    ]  # fmt: skip


def test_only_devices_keep_containers_without_an_engine() -> None:
    """A training that outlived the VM's engine would be nobody's."""
    assert "--live-restore" not in host_commands.engine_command(SITE, "vm")
    assert "--live-restore" not in host_commands.engine_command(SITE, "builder")


def test_an_engine_starts_after_a_crash_and_outside_its_record() -> None:
    """A stale pid file stops dockerd; the mark would make its containers part of the engine's own record."""
    assert host_commands.engine_start_command(SITE, "builder")[:2] == ["sh", "-c"]
    assert host_commands.engine_start_command(SITE, "builder")[2].startswith(
        "rm -f /run/docker.pid /run/docker/containerd/containerd.pid; unset EDGELOOP_LAB_PROCESS; "
        "exec setsid /usr/sbin/dockerd --host unix:///s/hosts/builder/docker.sock "
    )


def test_a_host_boots() -> None:
    """Name, empty /run, home and engine folder of its own, in its own network namespace."""
    script = (
        "hostname R80721 && mount -t tmpfs -o mode=755 tmpfs /run && mkdir -p /run/sshd"
        " && mount --bind /s/hosts/R80721/etc-docker /etc/docker"
        " && mount --bind /s/hosts/R80721/home /home/edge && touch /run/booted || exit 1;"
        " while :; do sleep 1000 & wait $!; done"
    )
    assert host_commands.machine_command(SITE, "R80721") == [
        "nsenter", "--net=/run/netns/el-demo-R80721",
        "unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--propagation", "slave",
        "--kill-child=SIGKILL", "sh", "-c", script,
    ]  # fmt: skip
    assert "/home/" not in host_commands.machine_command(SITE, "builder")[-1]
    assert host_commands.inside_command(7, ["id"]) == [
        "nsenter", "--target", "7", "--mount", "--uts", "--net", "--pid", "id",
    ]  # fmt: skip


def test_the_share() -> None:
    """SMB 3 only, nothing of the machine's own samba, no client may keep what it wrote to itself."""
    text = share.config(SITE)
    for line in (
        "smb ports = 4445", "interfaces = 127.0.0.1/8 10.77.0.1/24", "bind interfaces only = yes",
        "server min protocol = SMB3", "passdb backend = tdbsam:/s/hosts/share/private/passdb.tdb",
        "oplocks = no", "smb2 leases = no", "path = /s/share", "valid users = historian",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert share.serve_command(Path("/x/smb.conf")) == [
        "/usr/sbin/smbd", "--configfile=/x/smb.conf", "--foreground", "--no-process-group",
    ]  # fmt: skip
    assert share.password_command(Path("/x/smb.conf")) == ["smbpasswd", "-c", "/x/smb.conf", "-s", "-a", "historian"]


def test_blob_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Azurite's blob server alone, on the wheel's Node, for clients newer than itself."""
    monkeypatch.setattr(blob, "_wheel", lambda: Path("/wheel"))
    assert blob.serve_command(SITE) == [
        "/wheel/bin/node", "/c/azurite-3.37.0/node_modules/azurite/dist/src/blob/main.js",
        "--blobHost", "0.0.0.0", "--blobPort", "10000", "--location", "/s/blob",
        "--skipApiVersionCheck", "--disableTelemetry",
    ]  # fmt: skip
    assert blob.install_command(Path("/part")) == [
        "/wheel/bin/node", "/wheel/lib/node_modules/npm/bin/npm-cli.js", "ci", "--prefix", "/part",
        "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error",
    ]  # fmt: skip


def test_the_container_registry() -> None:
    """Files in the state folder, deletes allowed, on the site's own address."""
    lines = registry.config(SITE).splitlines()
    assert "    rootdirectory: /s/registry" in lines
    assert "  addr: 10.77.0.1:5000" in lines
    assert lines[lines.index("  delete:") + 1] == "    enabled: true"
    assert registry.serve_command(Path("/c.yml")) == ["/usr/sbin/docker-registry", "serve", "/c.yml"]


def test_the_database() -> None:
    """A Unix socket only, and connections enough for Airflow's processes."""
    assert postgres.serve_command(Path("/pg"), SITE) == [
        "/pg/postgres", "-D", "/s/postgres/data", "-k", "/s/postgres", "-c", "listen_addresses=",
        "-c", "max_connections=200",
    ]  # fmt: skip
    assert postgres.uri(SITE, "asyncpg") == "postgresql+asyncpg://postgres:@/airflow?host=/s/postgres"


def test_users() -> None:
    """A login has a home; sshd without PAM lets nobody in whose password is the `!` of useradd."""
    assert users.create_command("edge") == [
        "useradd", "--create-home", "--user-group", "--shell", "/bin/bash", "edge",
    ]  # fmt: skip
    assert users.create_command("historian")[:3] == ["useradd", "--system", "--no-create-home"]
    assert users.unlock_command("edge") == ["usermod", "--password", "*", "edge"]


def test_packages() -> None:
    """Only what is missing is installed, and nothing at all when nothing is."""
    assert install.install_commands([]) == []
    assert install.install_commands(["samba"]) == [
        ["apt-get", "update"],
        ["apt-get", "install", "--yes", "--no-install-recommends", "samba"],
    ]


def test_parts_bring_what_they_stand_on() -> None:
    """Asked for one part, the lab starts those it needs; asked for an unknown one, it names those it has."""
    every = parts.every(SITE)
    assert list(parts.chosen(every, ["registry"])) == ["network", "registry"]
    assert list(parts.chosen(every, ["postgres"])) == ["postgres"]
    assert parts.chosen(every, None) == every
    with pytest.raises(LabError, match="no part teapot"):
        parts.chosen(every, ["teapot"])
