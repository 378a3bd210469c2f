"""A port that is taken is said before anything is started, with its holder and the way out."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lab import ports, processes
from lab.errors import PortTakenError
from lab.layout import Layout, Ports

TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 20 4 30 10 -1
   2: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
"""


def free_ports() -> list[int]:
    """Four ports nobody holds."""
    sockets = [socket.create_server(("0.0.0.0", 0)) for _ in range(4)]
    found = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return found


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A site on four free ports."""
    smb, blob, registry, airflow = free_ports()
    chosen = Ports(smb=smb, blob=blob, registry=registry, airflow=airflow)
    return Layout(name="scratch", index=9, state=tmp_path, cache=tmp_path, ports=chosen)


def test_free_ports_are_no_error(layout: Layout) -> None:
    """Nothing is said when nothing is taken."""
    ports.check(layout, set())


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
def test_a_taken_port_is_said_with_its_holder(layout: Layout, address: str) -> None:
    """The error names port, purpose, pid and command, says that nothing was started, and how to choose others."""
    with socket.create_server((address, layout.ports.blob)), pytest.raises(PortTakenError) as raised:
        ports.check(layout, set())
    text = str(raised.value)
    assert f"port {layout.ports.blob}, which site scratch needs for blob, is taken (pid {os.getpid()}: " in text
    assert "nothing was started" in text
    assert "EDGELOOP_LAB_PORT_BASE" in text


def test_all_taken_ports_are_said_at_once(layout: Layout) -> None:
    """Who frees one port should not learn of the next one only then."""
    with (
        socket.create_server(("127.0.0.1", layout.ports.smb)),
        socket.create_server(("127.0.0.1", layout.ports.airflow)),
        pytest.raises(PortTakenError, match=f"(?s){layout.ports.smb}.*{layout.ports.airflow}"),
    ):
        ports.check(layout, set())


def test_a_port_of_a_part_that_is_up_is_not_asked_for(layout: Layout) -> None:
    """A healthy part holds its own port."""
    with socket.create_server(("127.0.0.1", layout.ports.blob)):
        ports.check(layout, {"blob"})


def test_a_port_of_the_sites_own_sick_process_is_no_conflict(layout: Layout) -> None:
    """A part that hangs holds its port; `up` ends it, nobody else has to."""
    listen = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(1000)"
    processes.spawn(layout, "blob", [sys.executable, "-c", listen, str(layout.ports.blob)])
    try:
        assert processes.wait(lambda: ports.holder(layout.ports.blob) != 0, 20)
        ports.check(layout, set())
    finally:
        processes.stop(layout, "blob")


def test_listeners_are_told_from_connections() -> None:
    """Of /proc/net/tcp only rows in state LISTEN hold a port."""
    assert ports.listening_inodes(TABLE, 8080) == {"111"}
    assert ports.listening_inodes(TABLE, 5000) == {"333"}
    assert ports.listening_inodes(TABLE, 80) == set()


def test_a_holder_that_cannot_be_seen_is_looked_for_by_the_reader() -> None:
    """Without root the holder's pid is hidden: the command that shows it is given instead."""
    text = ports.describe("demo", [ports.Taken(port=5000, purpose="registry")])
    assert text == (
        "port 5000, which site demo needs for registry, is taken (find out by whom: ss -ltnp 'sport = :5000')"
    )


def test_the_command_line_refuses_without_root() -> None:
    """A plain user is told what root would do, and gets exit status 1."""
    if os.geteuid() != 0:
        pytest.skip("runs as root, to become nobody")
    include = Path(ports.__file__).parents[1]
    script = (
        "import os, sys; from lab import cli; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "sys.exit(cli.main(['up', '--site', 'scratch']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(include)},
    )
    assert done.returncode == 1
    assert "only root can start a site; it would do:" in done.stdout
    assert "nothing was changed" in done.stdout
