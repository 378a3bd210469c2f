"""A whole site on this machine: started, found, broken, made whole, and gone without a trace."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lab
from lab import describe, faults, layout, parts, postgres, proc, processes, tools
from lab import site as sites
from lab.errors import LabError, PortTakenError
from lab.layout import HOST_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.site import Device, Host, Site

pytestmark = pytest.mark.system

NAME = "selftest"
INCLUDE = Path(lab.__file__).parents[1]
# All but images, which take minutes and have tests of their own.
PARTS = ("network", "blob", "postgres", "registry", "share", *HOST_NUMBERS)


class Told:
    """Progress that remembers how each part ended."""

    def __init__(self) -> None:
        self.how: dict[str, str] = {}

    def begin(self, part: str) -> None:
        """Forget nothing, say nothing."""

    def end(self, part: str, how: str, seconds: float) -> None:
        """Remember."""
        assert seconds >= 0
        self.how[part] = how


def up() -> tuple[Site, dict[str, str]]:
    """Start the scratch site; returns it and how each part ended."""
    told = Told()
    return lab.up(NAME, parts=PARTS, progress=told), told.how


@pytest.fixture(scope="module")
def scratch() -> Iterator[Site]:
    """A site of this module's own, from nothing, and gone afterwards."""
    lab.clean(NAME)
    try:
        yield up()[0]
    finally:
        lab.clean(NAME)


@pytest.fixture(scope="module")
def ssh(scratch: Site, tmp_path_factory: pytest.TempPathFactory) -> Login:
    """Logs in on hosts of the scratch site, host keys pinned."""
    known = tmp_path_factory.mktemp("ssh") / "known_hosts"
    known.write_text("".join(f"{host.host} {host.host_key}\n" for host in (scratch.vm, *scratch.devices)))
    return Login(known)


class Login:
    """Debian's ssh client with nothing of this machine's own configuration."""

    def __init__(self, known: Path) -> None:
        self._known = known

    def run(self, host: Host, command: str) -> str:
        """What `command` prints on `host`."""
        pinned = ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={self._known}"]
        options = ["BatchMode=yes", "ConnectTimeout=5", *pinned]
        flags = [flag for option in options for flag in ("-o", option)]
        argv = ["ssh", "-F", "none", "-i", str(host.key_file), *flags, f"{host.user}@{host.host}", command]
        return tools.run(argv)


@pytest.fixture(scope="module")
def image(scratch: Site) -> str:
    """An image of `sleep` and its libraries, in the registry by way of the builder."""
    sleep = shutil.which("sleep") or ""
    linked = [word for word in tools.run(["ldd", sleep]).split() if word.startswith("/")]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in (sleep, *linked):
            tar.add(Path(path).resolve(), arcname=path)
    reference = f"{scratch.registry.host}/sleep:1"
    engine = ["docker", "--host", scratch.builder.docker]
    subprocess.run([*engine, "import", "-", reference], input=packed.getvalue(), check=True, capture_output=True)
    tools.run([*engine, "push", reference])
    return reference


def docker(device: Device, *command: str) -> str:
    """What the engine of `device` answers, asked on its socket."""
    return tools.run(["docker", "--host", device.docker, *command]).strip()


def run_sleep(device: Device, image: str, name: str) -> int:
    """Start a container that outlives its engine; returns the pid its engine gives it."""
    docker(
        device, "run", "--detach", "--name", name, "--init", "--network", "host", "--restart", "unless-stopped",
        "--entrypoint", shutil.which("sleep") or "", image, "100000",
    )  # fmt: skip
    return int(docker(device, "inspect", "--format", "{{.State.Pid}}", name))


def sleeping(site: Site, device: Device) -> list[int]:
    """Pids, as this machine counts, of `sleep 100000` in the device's network namespace."""
    space = (Path("/run/netns") / site.netns(device.name)).stat().st_ino
    named = [found.pid for found in proc.every() if found.name == "sleep" and not found.dead]
    return [pid for pid in named if proc.command(pid).endswith("100000") and proc.namespace(pid, "net") == space]


def traces(name: str) -> list[str]:
    """All that a site left on this machine outside its state folder, and mounts in it."""
    place = layout.resolve(name)
    spaces = [path.name for path in Path("/run/netns").glob(f"el-{name}-*")]
    links = [path.name for path in Path("/sys/class/net").glob(f"el{place.index}-root")]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {place.state}" in line]
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/el-{name}-*")]
    return [*spaces, *links, *mounts, *groups, *processes.strays(place), *(r.name for r in processes.every(place))]


def test_a_second_up_finds_everything(scratch: Site) -> None:
    """What is healthy is found and not started again, and the record stays the same."""
    site, how = up()
    assert how == dict.fromkeys(PARTS, "found")
    assert site == scratch == sites.load(scratch.state)


def test_the_vm_runs_docker_for_its_trainer(scratch: Site, ssh: Login) -> None:
    """A login reaches the VM's own engine, in a home and on a host of the VM's own."""
    assert ssh.run(scratch.vm, "docker ps --format x && hostname && id -un && pwd") == "vm\ntrainer\n/home/trainer\n"
    assert ssh.run(scratch.vm, "docker info --format '{{.Name}}'") == "vm\n"
    ssh.run(scratch.vm, "echo mine > note")
    assert (scratch.state / "hosts/vm/home/note").read_text() == "mine\n"
    assert not Path("/home/trainer/note").exists()


def test_engines_are_told_apart(scratch: Site) -> None:
    """No two engines share an id: each has its own /etc/docker."""
    sockets = [scratch.vm.docker, scratch.builder.docker, *(device.docker for device in scratch.devices)]
    ids = {tools.run(["docker", "--host", each, "info", "--format", "{{.ID}}"]) for each in sockets}
    assert len(ids) == len(sockets)


def test_a_key_of_another_host_does_not_open_it(scratch: Site, ssh: Login) -> None:
    """The VM lets in `trainer` with the trainer's key and nobody else."""
    wrong = dataclasses.replace(scratch.vm, user="edge", key_file=scratch.devices[0].key_file)
    with pytest.raises(LabError, match="Permission denied"):
        ssh.run(wrong, "true")


def test_a_device_pulls_what_the_builder_pushed(scratch: Site, ssh: Login, image: str) -> None:
    """An image built on the builder reaches a device through the registry, asked for over SSH."""
    device = scratch.devices[0]
    assert f"Status: Downloaded newer image for {image}" in ssh.run(device, f"docker pull {image}")


def test_the_share_is_one_folder(scratch: Site) -> None:
    """A file written over SMB is there locally, and one written locally is there over SMB."""
    import smbclient

    share = scratch.share
    where = f"\\\\{share.host}\\{share.share}"
    login = {"username": share.user, "password": share.password, "port": share.port, "encrypt": False}
    (share.path / "local").mkdir()
    with smbclient.open_file(f"{where}\\local\\remote.csv", mode="w", **login) as file:
        file.write("a,b\n")
    assert (share.path / "local" / "remote.csv").read_text() == "a,b\n"
    (share.path / "here.csv").write_text("c\n")
    assert sorted(smbclient.listdir(where, **login)) == ["here.csv", "local"]
    smbclient.reset_connection_cache()


def test_accounts_are_separate_and_survive_a_restart(scratch: Site) -> None:
    """What is written to one account is not in the other, and is still there after an orderly stop."""
    from azure.storage.blob import BlobServiceClient

    private = BlobServiceClient.from_connection_string(scratch.blob.private.connection_string)
    cloud = BlobServiceClient.from_connection_string(scratch.blob.cloud.connection_string)
    private.create_container("kept").upload_blob("x", b"bytes")
    with faults.stopped(scratch, "blob"), socket.socket() as probe:
        assert probe.connect_ex((scratch.registry.host.partition(":")[0], 10000 + 100 * scratch.index)) != 0
    assert private.get_blob_client("kept", "x").download_blob().readall() == b"bytes"
    assert [container.name for container in cloud.list_containers()] == []


def test_an_unplugged_host_is_unreachable_and_comes_back(scratch: Site) -> None:
    """A pulled cable takes one host away and no other."""
    near, far = scratch.devices[1], scratch.devices[2]

    def reaches(host: Host) -> bool:
        try:
            with socket.create_connection((host.host, host.port), timeout=1):
                return True
        except OSError:
            return False

    with faults.cut(scratch, far.name):
        assert not reaches(far)
        assert reaches(near)
    assert processes.wait(lambda: reaches(far), 10)


def test_a_cable_left_unplugged_is_plugged_by_the_next_up(scratch: Site) -> None:
    """A test that died in the middle of a cut costs nobody a restart."""
    faults.unplug(scratch, "vm")
    _, how = up()
    assert how == dict.fromkeys(PARTS, "found") | {"network": "started"}


def test_a_network_that_was_half_made_is_made_again(scratch: Site) -> None:
    """A link without its address is what a kill leaves between two commands; hosts move to the new network."""
    tools.run(["ip", "addr", "flush", "dev", f"el{scratch.index}-root"])
    _, how = up()
    assert how["network"] == "started"
    assert {how[host] for host in HOST_NUMBERS} == {"started"}
    assert all(part.healthy() for part in parts.every(describe.layout_of(scratch)).values())


def test_a_site_that_is_up_keeps_its_ports(scratch: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other ports for a site that runs are refused: half of it would move and the engines would not know."""
    monkeypatch.setenv("EDGELOOP_LAB_PORT_BASE", "21000")
    with pytest.raises(LabError, match="is up on other ports"):
        up()
    monkeypatch.delenv("EDGELOOP_LAB_PORT_BASE")
    assert up()[1] == dict.fromkeys(PARTS, "found")
    assert layout.resolve(NAME).ports.smb == scratch.share.port


def test_a_container_outlives_the_engine_of_a_device(scratch: Site, image: str) -> None:
    """After SIGKILL of the engine the container runs on, and the next engine adopts the same process."""
    device = scratch.devices[1]
    pid = run_sleep(device, image, "adopted")
    before = sleeping(scratch, device)
    faults.crash_engine(scratch, device.name)
    assert before
    assert sleeping(scratch, device) == before
    faults.start(scratch, device.name)
    assert docker(device, "inspect", "--format", "{{.State.Running}} {{.State.Pid}}", "adopted") == f"true {pid}"
    assert sleeping(scratch, device) == before


def test_a_power_cut_ends_containers_and_booting_brings_them_back(scratch: Site, image: str) -> None:
    """Without power nothing of a host runs; once booted its engine starts what must always run."""
    device = scratch.devices[2]
    run_sleep(device, image, "revived")
    with faults.powered_off(scratch, device.name):
        assert sleeping(scratch, device) == []
        assert not any(name.startswith(device.name) for name in processes.strays(scratch))
    assert processes.wait(lambda: len(sleeping(scratch, device)) == 1, 30)
    assert docker(device, "inspect", "--format", "{{.State.Running}}", "revived") == "true"


def test_crashed_parts_are_started_by_the_next_up(scratch: Site) -> None:
    """SIGKILL of servers, of a host and of an engine: the next `up` starts those, finds the rest, loses no row."""
    import psycopg2

    dsn = scratch.postgres.sync.replace("postgresql+psycopg2", "postgresql")
    with psycopg2.connect(dsn) as connection:
        connection.cursor().execute("create table kept (n int); insert into kept values (1)")
    connection.close()
    for part in ("blob", "postgres", "registry", "share", "vm"):
        faults.crash(scratch, part)
    faults.crash_engine(scratch, "builder")
    _, how = up()
    started = {"blob", "postgres", "registry", "share", "vm", "builder"}
    assert how == {part: "started" if part in started else "found" for part in PARTS}
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("select n from kept")
        assert cursor.fetchall() == [(1,)]
    connection.close()


def test_a_half_made_database_is_made_again(scratch: Site) -> None:
    """A database whose making was cut short looks whole to PostgreSQL's tools; it is thrown away and redone."""
    faults.stop(scratch, "postgres")
    folder = postgres.folder(describe.layout_of(scratch))
    (folder / "made").unlink()
    shutil.rmtree(folder / "data" / "global")
    assert (folder / "data" / "PG_VERSION").exists()
    faults.start(scratch, "postgres")
    assert parts.every(describe.layout_of(scratch))["postgres"].healthy()


def test_a_stale_pid_file_of_the_database_does_not_stop_it(scratch: Site) -> None:
    """After a power cut postmaster.pid may name a live process of somebody else, who is left alone."""
    faults.stop(scratch, "postgres")
    folder = postgres.folder(describe.layout_of(scratch))
    with subprocess.Popen(["sleep", "1000"]) as other:
        (folder / "data" / "postmaster.pid").write_text(f"{other.pid}\n{folder}/data\n1\n5432\n\n\n0 0\nready\n")
        faults.start(scratch, "postgres")
        assert other.poll() is None
        other.kill()
    assert parts.every(describe.layout_of(scratch))["postgres"].healthy()


def test_a_taken_port_is_said_before_anything_is_started() -> None:
    """With one port taken, `up` of a new site makes no folder, no namespace and no process."""
    place = layout.resolve("refused")
    try:
        with socket.create_server(("127.0.0.1", place.ports.registry)), pytest.raises(PortTakenError) as raised:
            lab.up("refused")
        assert f"port {place.ports.registry}, which site refused needs for registry" in str(raised.value)
        assert traces("refused") == []
        assert not place.state.exists()
    finally:
        lab.clean("refused")


def test_two_ups_at_once_are_one(scratch: Site) -> None:
    """Two shells that start a site at once take turns: one starts it, the other finds it."""
    lab.down(NAME)
    told = [Told(), Told()]
    wanted = [{"parts": PARTS, "progress": each} for each in told]
    threads = [threading.Thread(target=lab.up, args=(NAME,), kwargs=each) for each in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    hows = sorted({tuple(sorted({how for part, how in each.how.items() if part in PARTS})) for each in told})
    assert hows == [("found",), ("started",)]
    assert sites.load(scratch.state) == scratch


@pytest.mark.parametrize("after", ["network", "registry", "vm"])
def test_an_up_that_was_killed_is_finished_by_the_next(scratch: Site, after: str) -> None:
    """SIGKILL in the middle of `up` leaves halves behind; the next one recognises them and ends healthy."""
    lab.down(NAME)
    environment = os.environ | {"PYTHONPATH": str(INCLUDE), "PYTHONUNBUFFERED": "1"}
    argv = [sys.executable, "-m", "lab", "up", "--site", NAME, "--parts", ",".join(PARTS)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as half:
        assert half.stdout is not None
        for line in half.stdout:
            if f" {after} " in line:
                half.send_signal(signal.SIGKILL)
                break
    site, how = up()
    assert set(how.values()) <= {"found", "started"}
    assert site == scratch
    layout_parts = parts.every(describe.layout_of(site))
    assert {name: part.healthy() for name, part in layout_parts.items()} == dict.fromkeys(PARTS, True)


def test_down_leaves_nothing_and_the_state_stays(scratch: Site, image: str) -> None:
    """After `down` no process, namespace, link, mount or control group is left, containers included."""
    up()
    device = scratch.devices[0]
    run_sleep(device, image, "left")
    extra = processes.spawn(scratch, "R80711-player", ["sleep", "1000"], netns=scratch.netns("R80711"))
    lab.down(NAME)
    assert traces(NAME) == []
    assert not extra.running
    assert not (scratch.state / sites.FILE).exists()
    assert json.loads((scratch.state / "keys" / "secrets.json").read_text())
    lab.down(NAME)


def test_clean_removes_only_what_the_lab_made(tmp_path: Path) -> None:
    """A state folder that was there before, with somebody's files, is refused."""
    (tmp_path / "thesis.tex").write_text("years of work")
    try:
        with pytest.raises(LabError, match="was not made by the lab"):
            lab.clean("other", state=tmp_path)
        assert (tmp_path / "thesis.tex").exists()
    finally:
        layout.forget(layout.resolve("other", tmp_path))


def test_a_site_that_never_was_is_said_and_uses_up_no_network(capsys: pytest.CaptureFixture[str]) -> None:
    """`status` and `down` of a mistyped name say so, fail or do nothing, and give its number back."""
    from lab import cli

    assert cli.main(["status", "--site", "mistyped"]) == 1
    assert "site mistyped was never up" in capsys.readouterr().out
    assert cli.main(["down", "--site", "mistyped"]) == 0
    assert "mistyped" not in (layout._MACHINE / "sites.json").read_text()
