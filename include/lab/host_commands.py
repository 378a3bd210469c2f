"""What a host is made of, as text: sshd_config and the commands that boot it and run its engine."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from lab import keys, tools
from lab.layout import BUILDER, VM
from lab.processes import MARK
from lab.users import EDGE, TRAINER

if TYPE_CHECKING:
    from pathlib import Path

    from lab.layout import Layout

SSH_PORT = 22


def user_of(host: str) -> str | None:
    """The user that logs in on `host`; nobody does on the builder."""
    return {VM: TRAINER, BUILDER: None}.get(host, EDGE)


def sshd_config(layout: Layout, host: str, user: str) -> str:
    """The text of sshd_config."""
    own = layout.home(host)
    return f"""Port {SSH_PORT}
ListenAddress {layout.address(host)}
HostKey {keys.host_key(layout, host)}
AuthorizedKeysFile {own}/authorized_keys
PidFile none
UsePAM no
UseDNS no
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AllowUsers {user}
Subsystem sftp internal-sftp
MaxSessions 50
MaxStartups 50:30:100
ClientAliveInterval 15
LogLevel VERBOSE
SetEnv DOCKER_HOST=unix://{layout.docker_socket(host)}
"""


def engine_command(layout: Layout, host: str) -> list[str]:
    """The command that runs a host's Docker engine, from inside the host."""
    user = user_of(host)
    command = [
        tools.path("dockerd"),
        "--host",
        f"unix://{layout.docker_socket(host)}",
        "--data-root",
        str(layout.home(host) / "docker"),
        "--exec-root",
        "/run/docker",
        "--pidfile",
        "/run/docker.pid",
        "--group",
        user or "root",
        "--bridge",
        "none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-masq=false",
        "--ip-forward=false",
        "--storage-driver",
        "overlay2",
        "--exec-opt",
        "native.cgroupdriver=cgroupfs",
        "--cgroup-parent",
        f"/{layout.netns(host)}",
        "--insecure-registry",
        layout.registry,
    ]
    return [*command, "--live-restore"] if user == EDGE else command


def machine_command(layout: Layout, host: str) -> list[str]:
    """The command that boots a host: its first process mounts what is its own and then reaps orphans for ever."""
    own, user = layout.home(host), user_of(host)
    steps = [
        f"hostname {host}",
        "mount -t tmpfs -o mode=755 tmpfs /run",
        "mkdir -p /run/sshd",
        f"mount --bind {own}/etc-docker /etc/docker",
        *([f"mount --bind {own}/home /home/{user}"] if user else []),
        "touch /run/booted",
    ]
    script = " && ".join(steps) + " || exit 1; while :; do sleep 1000 & wait $!; done"
    spaces = ["--mount", "--uts", "--pid", "--fork", "--mount-proc", "--propagation", "slave", "--kill-child=SIGKILL"]
    return [
        "nsenter", f"--net=/run/netns/{layout.netns(host)}",
        "unshare", *spaces, "sh", "-c", script,
    ]  # fmt: skip


def inside_command(first_pid: int, argv: list[str]) -> list[str]:
    """The command that runs `argv` on the host whose first process has `first_pid`."""
    return ["nsenter", "--target", str(first_pid), "--mount", "--uts", "--net", "--pid", *argv]


def engine_start_command(layout: Layout, host: str) -> list[str]:
    """The command that starts the engine after a crash as after a boot.

    The session of its own and the missing mark keep containers, which outlive an engine, out of its record.
    """
    stale = "rm -f /run/docker.pid /run/docker/containerd/containerd.pid"
    return ["sh", "-c", f"{stale}; unset {MARK}; exec setsid {shlex.join(engine_command(layout, host))}"]


def sshd_command(layout: Layout, host: str) -> list[str]:
    """The command that runs sshd; it starts itself again for each login, from /, so its paths are absolute."""
    own = layout.home(host)
    return [tools.path("sshd"), "-D", "-f", str(own / "sshd_config"), "-E", str(own / "sshd.log")]


def device_share(layout: Layout, device: str) -> Path:
    """A device's local share as seen from this machine."""
    return layout.state / "devices" / device / "share"
