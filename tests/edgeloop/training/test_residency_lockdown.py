"""A training that tries every way out finds none; the same script in an open container finds them open."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.edgeloop.training.conftest import Bench, eventually

from edgeloop.training import commands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.site import Site

PROBE = Path(__file__).with_name("probe.py")
ABSTRACT, METADATA, PORT = "edgeloop-probe", "169.254.169.254", 80
FOLDER = "edgeloop/open-run"
NEIGHBOUR = f"""
import fcntl, signal, socket, struct, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
alias = b"lo:9"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    address = struct.pack("16sH2x4s8x", alias, socket.AF_INET, socket.inet_aton("{METADATA}"))
    fcntl.ioctl(one, 0x8916, address)
    try:
        tcp = socket.create_server(("0.0.0.0", {PORT}))
        unix = socket.socket(socket.AF_UNIX)
        unix.bind("\\0{ABSTRACT}")
        unix.listen()
        print("ready", flush=True)
        time.sleep(200)
    finally:
        fcntl.ioctl(one, 0x8914, struct.pack("16sh22x", alias, 0))
"""
"""Runs in a container on the VM's network: answers at the metadata address, on the VM itself, on an abstract socket."""
CAPABILITIES = ("SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "NET_ADMIN", "NET_RAW", "MKNOD", "SYSLOG", "SYS_RAWIO")
PROVEN = {
    *("tcp: the VM's sshd", "tcp: the VM itself", "tcp: the gateway's sshd", "tcp: metadata", "tcp: a device"),
    *("tcp: a server beyond the gateway", "tcp: the private account", "udp: a name server", "interfaces"),
    *("raw socket", "packet socket", "abstract unix socket", "unix socket /var/run/docker.sock", "/dev/shm"),
    *("run from /tmp", "setuid", "mount", "namespaces", "network namespace", "mknod", "processes of others", "ptrace"),
    *(
        "kill",
        "kernel settings",
        "host name",
        "chroot",
        "write to /etc",
        "write to /usr",
        "write to /opt",
        "write to /",
    ),
    *("write to /run", "write to /var/tmp", "write to /data", "write to /code"),
}
"""What the open container must find open; the others (IPv6, vsock, BPF, ...) depend on the machine's kernel."""


@dataclass(frozen=True)
class Outside:
    """Servers on the other side of the VM's gateway, and a process of somebody else."""

    host: str
    tcp: int
    udp: int
    victim: int


@pytest.fixture
def outside(site: Site, bench: Bench) -> Iterator[Outside]:
    """A TCP server and a name server beyond the gateway, an abstract socket on the VM, a process to strike at."""
    host, name = site.registry.host.partition(":")[0], f"probe-{uuid.uuid4().hex[:12]}"
    bench.on_vm(f"mkdir -p {FOLDER} && chmod 777 {FOLDER} && echo '{{}}' >{FOLDER}/dataset.json")
    run = ["docker", "run", "-d", "--rm", "--init", "--pull", "never", "--name", name, "--network", "host", "-u", "0:0",
           "--cap-add", "NET_ADMIN", "--entrypoint", "python3", bench.image, "-c", NEIGHBOUR]  # fmt: skip
    bench.on_vm(commands.shell_text(run))
    try:
        eventually(lambda: "ready" in bench.on_vm(f"docker logs {name} 2>&1"), "the neighbour")
        victim = int(bench.on_vm(f"docker inspect -f '{{{{.State.Pid}}}}' {name}"))
        with _servers(host) as (tcp, udp):
            yield Outside(host=host, tcp=tcp, udp=udp, victim=victim)
    finally:
        bench.on_vm(f"docker stop -t 10 {name}; rm -rf {FOLDER}")


@contextmanager
def _servers(host: str) -> Iterator[tuple[int, int]]:
    with socket.create_server((host, 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((host, 0))

        def answer() -> None:
            while True:
                try:
                    _, who = udp.recvfrom(64)
                    udp.sendto(b"name!", who)
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()
        yield tcp.getsockname()[1], udp.getsockname()[1]


def _asked(site: Site, bench: Bench, outside: Outside) -> dict[str, Any]:
    return {
        "host": outside.host, "tcp": outside.tcp, "udp": outside.udp, "victim": outside.victim, "abstract": ABSTRACT,
        "dial": {
            "the VM's sshd": [site.vm.host, site.vm.port], "the VM itself": ["127.0.0.1", PORT],
            "Docker's gateway": ["172.17.0.1", 22], "the gateway's sshd": [outside.host, 22],
            "metadata": [METADATA, PORT], "a device": [site.devices[0].host, 22],
            "the private account": [outside.host, 10000],
        },
        "sockets": ["/var/run/docker.sock", "/run/containerd/containerd.sock"],
        "files": [_secret(bench), "/var/lib/docker", "/etc/shadow", "/dev/mem", "/dev/sda"],
    }  # fmt: skip


def _secret(bench: Bench) -> str:
    return f"{bench.on_vm('echo $HOME')}/{FOLDER}/dataset.json"


def test_there_is_no_way_out(site: Site, bench: Bench, outside: Outside) -> None:
    """Network, sockets, processes, kernel, files: all closed for a training, and found open by the same script."""
    probe = PROBE.read_text(encoding="utf-8").replace('"@ASKED@"', repr(json.dumps(_asked(site, bench, outside))))
    job, said = bench.job(memory_mb=1024), []
    bench.engage(job, probe)
    bench.follow(job, said)
    locked = json.loads(said[-1])
    assert {way for way, how in locked.items() if how == "open"} == set()
    assert locked["writable folders"] == []
    assert locked["status"] == {
        "CapEff": "0" * 16, "CapPrm": "0" * 16, "CapBnd": "0" * 16, "CapAmb": "0" * 16,
        "NoNewPrivs": "1", "Seccomp": "2", "Uid": "10001",
    }  # fmt: skip
    assert 100 < locked["processes"] < commands.PIDS
    assert 200 < locked["MiB in /tmp"] <= commands.TMP_MB
    assert [name for name in locked["environment"] if "KEY" in name or "SECRET" in name or "AIRFLOW" in name] == []

    control = _open_run(bench, job.image, probe)
    assert {way for way in {*PROVEN, f"read {_secret(bench)}"} if control[way] != "open"} == set()
    assert {"/etc", "/usr", "/"} <= set(control["writable folders"])
    assert control["processes"] >= commands.PIDS
    assert control["MiB in /tmp"] > commands.TMP_MB


def _open_run(bench: Bench, image: str, probe: str) -> dict[str, Any]:
    """The same script with everything open that a container can have here."""
    engine = bench.on_vm("echo ${DOCKER_HOST:-unix:///var/run/docker.sock}").removeprefix("unix://")
    argv = [
        "docker", "run", "--rm", "--pull", "never", "--network", "host", "--pid", "host", "--ipc", "host", "-u", "0:0",
        "--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined",
        *(word for one in CAPABILITIES for word in ("--cap-add", one)),
        *(word for one in ("data", "code", "outputs") for word in ("-v", f"{commands.HOME}/{FOLDER}:/{one}")),
        "-v", f"{commands.HOME}:{_secret(bench).partition('/edgeloop/')[0]}:ro",
        "-v", f"{engine}:/var/run/docker.sock",
        "--entrypoint", "python3", image, "-c", probe,
    ]  # fmt: skip
    return dict(json.loads(bench.on_vm(commands.shell_text(argv)).splitlines()[-1]))
