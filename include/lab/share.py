"""The historian's share: Debian's smbd with a configuration and databases of its own, SMB 3 only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab import keys, processes, tools
from lab.probes import await_health
from lab.users import HISTORIAN

if TYPE_CHECKING:
    from pathlib import Path

    from lab.layout import Layout

SHARE = "historian"
_DEADLINE_S = 30.0
_SESSION_S = 5


def config(layout: Layout) -> str:
    """The text of smb.conf."""
    own, port = layout.home("share"), layout.ports.smb
    return f"""[global]
server role = standalone server
server string = Edgeloop lab {layout.name}
smb ports = {port}
interfaces = 127.0.0.1/8 {layout.gateway}/24
bind interfaces only = yes
server min protocol = SMB3
disable netbios = yes
private dir = {own}/private
lock directory = {own}/lock
state directory = {own}/state
cache directory = {own}/cache
pid directory = {own}/pid
ncalrpc dir = {own}/ncalrpc
passdb backend = tdbsam:{own}/private/passdb.tdb
logging = file
log file = {own}/smbd.log
max log size = 10000
map to guest = never
load printers = no
printcap name = /dev/null
disable spoolss = yes
usershare max shares = 0
# A client that holds a lease keeps what it wrote to itself; readers of the folder must see bytes as they arrive.
oplocks = no
smb2 leases = no

[{SHARE}]
path = {layout.state}/share
read only = no
valid users = {HISTORIAN}
# The same folder is used locally by root: without this a folder made locally could not be written over SMB.
force user = root
"""


def serve_command(conf: Path) -> list[str]:
    """The command that serves the share in the foreground."""
    return [tools.path("smbd"), f"--configfile={conf}", "--foreground", "--no-process-group"]


def password_command(conf: Path) -> list[str]:
    """The command that takes the historian's password twice from its standard input."""
    return ["smbpasswd", "-c", str(conf), "-s", "-a", HISTORIAN]


class ShareServer:
    """The part `share`."""

    name = "share"
    needs: tuple[str, ...] = ("network",)

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def healthy(self) -> bool:
        """Whether the historian can log in."""
        secrets = keys.load(self._layout)
        if secrets is None or processes.find(self._layout, self.name) is None:
            return False
        return can_log_in("127.0.0.1", self._layout.ports.smb, secrets.share_password)

    def start(self) -> None:
        """Write the configuration, set the password, serve, and await a login."""
        layout = self._layout
        self.stop()
        own = layout.home("share")
        for folder in ("private", "lock", "state", "cache", "pid", "ncalrpc"):
            (own / folder).mkdir(parents=True, exist_ok=True)
        served = layout.state / "share"
        served.mkdir(exist_ok=True)
        served.chmod(0o777)
        conf = own / "smb.conf"
        conf.write_text(config(layout))
        password = keys.ensure(layout).share_password
        tools.run(password_command(conf), given=f"{password}\n{password}\n")
        processes.spawn(layout, self.name, serve_command(conf))
        await_health(self.name, self.healthy, layout.state / "logs" / f"{self.name}.log", _DEADLINE_S)

    def stop(self) -> bool:
        """End smbd and its children."""
        return processes.stop(self._layout, self.name)


def can_log_in(host: str, port: int, password: str) -> bool:
    """Whether the historian gets a session on the SMB server at `host`:`port`."""
    import uuid

    from smbprotocol.connection import Connection
    from smbprotocol.exceptions import SMBException
    from smbprotocol.session import Session

    connection = Connection(uuid.uuid4(), host, port)
    try:
        connection.connect(timeout=_SESSION_S)
        Session(connection, HISTORIAN, password, require_encryption=False).connect()
    except (OSError, ValueError, SMBException):
        return False
    finally:
        connection.disconnect()
    return True
