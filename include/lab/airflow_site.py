"""A site's Airflow as four processes: started in order, awaited, stopped whole, and broken on purpose one by one."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from edgeloop import catalog
from edgeloop.training.pools import pools as vm_pools
from lab import airflow_secrets, processes
from lab.airflow_api import AirflowApi
from lab.airflow_database import migrated, remember_migration
from lab.airflow_env import AirflowPlan, AirflowSecrets, environment, passwords_text
from lab.airflow_http import AirflowApiError
from lab.errors import MissingToolError, PortTakenError, UnhealthyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeloop.training.pools import Pool
    from lab.site import Site

PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
REPO = Path(__file__).resolve().parents[2]

START_S = 240.0
"""Until all four are healthy; 25 s on an idle machine, two minutes were seen at load 10."""
MIGRATE_S = 300.0
STOP_S = 15.0
"""Time to end before the whole session is killed: the scheduler waits for running tasks, uvicorn for open pages."""
TAIL = 25
ENVIRONMENT = "environment.sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What `start` did: `found` when everything was up already."""

    url: str
    found: bool
    seconds: float


def plan_for(
    site: Site,
    *,
    fast: bool = False,
    dags: Path | None = None,
    connections: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
) -> AirflowPlan:
    """The Airflow of a site that is up.

    Args:
        site: The site, as `lab.site.load` returns it.
        fast: Shortened time-outs, for sites on which parts are broken on purpose.
        dags: Another DAG folder than the checkout's.
        connections: `AIRFLOW_CONN_*` variables (`lab.connections.environment(site)`).
        extra: Further variables for tasks and DAG files.
    """
    return AirflowPlan(
        name=site.name,
        index=site.index,
        state=site.state,
        repo=REPO,
        port=site.airflow.port,
        sync_uri=site.postgres.sync,
        async_uri=site.postgres.async_,
        bin=Path(sys.executable).parent,
        dags=dags,
        connections=connections or {},
        extra=extra or {},
        fast=fast,
        host=os.environ.get("EDGELOOP_AIRFLOW_HOST", "127.0.0.1"),
    )


class AirflowSite:
    """Starts, stops and breaks the Airflow of one plan. Every call may be repeated; `say` hears what is going on."""

    def __init__(self, plan: AirflowPlan, say: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self._say = say or (lambda _: None)

    @cached_property
    def secrets(self) -> AirflowSecrets:
        """The site's keys and passwords."""
        return airflow_secrets.load_or_create(self.plan.home)

    def api(self, user: str = "admin") -> AirflowApi:
        """A REST client as `admin` or `oncall`."""
        return AirflowApi(self.plan.url, user, self.secrets.passwords[user])

    def environment(self) -> dict[str, str]:
        """What every part and command runs with."""
        return environment(self.plan, self.secrets, os.environ)

    def command(self, *args: str, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run `airflow ...` against this site and return what it printed; its exit code is the caller's to judge."""
        argv = [str(self._program), *args]
        return subprocess.run(
            argv,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            cwd=self.plan.home,
        )

    def start(self) -> Started:
        """Bring all four parts up and wait until they are healthy.

        Raises:
            PortTakenError: Something else listens where a part must; nothing was started.
            UnhealthyError: A part died, or was not healthy in time; its last log lines are in the message.
        """
        began, since = time.monotonic(), datetime.now(UTC)
        self._end_others()
        missing = [part for part in PARTS if processes.find(self.plan, _name(part)) is None]
        if not missing and self._health_ok(None):
            return Started(url=self.plan.url, found=True, seconds=time.monotonic() - began)
        self._sweep(missing)
        self._check_ports(missing)
        airflow_secrets.write_private(self.plan.passwords_file, passwords_text(self.secrets))
        self._migrate()
        for part in missing:
            self._spawn(part)
        self.await_healthy(since)
        self._make_pools()
        airflow_secrets.write_private(self.plan.home / ENVIRONMENT, self._fingerprint())
        return Started(url=self.plan.url, found=False, seconds=time.monotonic() - began)

    def _fingerprint(self) -> str:
        """The sha256 of what we set in the environment; the shell's own variables differ from call to call."""
        ours = [one for one in self.environment().items() if one[0].startswith(("AIRFLOW", "EDGELOOP", "PYTHONPATH"))]
        return hashlib.sha256(json.dumps(sorted(ours)).encode()).hexdigest()

    def _end_others(self) -> None:
        """Stop parts that run with another environment: a changed connection would never reach them."""
        known = self.plan.home / ENVIRONMENT
        if self.running() and known.exists() and known.read_text() != self._fingerprint():
            self._say("airflow: its environment has changed, starting it anew")
            self.stop()

    def stop(self) -> bool:
        """End all parts and everything they started; True when anything ran. Running tasks get `STOP_S` to finish."""
        # The API server goes last: ending tasks report to it.
        with ThreadPoolExecutor() as pool:
            ended = list(pool.map(lambda part: processes.stop(self.plan, _name(part), deadline=STOP_S), PARTS[1:]))
        ended.append(processes.stop(self.plan, _name(PARTS[0]), deadline=STOP_S / 3))
        return any(ended)

    def kill(self, part: str) -> None:
        """SIGKILL a part and all it forked, as a power cut would: of the scheduler, running tasks too."""
        processes.kill(self.plan, _name(part))
        # Tasks leave their parent's process group; the session and the mark still find them.
        processes.stop(self.plan, _name(part), deadline=0.0)

    def restart(self, part: str) -> None:
        """Start a part that is down, or stop and start it, and wait until all are healthy."""
        since = datetime.now(UTC)
        processes.stop(self.plan, _name(part), deadline=STOP_S)
        self._check_ports([part])
        self._spawn(part)
        self.await_healthy(since)

    def running(self) -> tuple[str, ...]:
        """The parts whose process runs."""
        return tuple(part for part in PARTS if processes.find(self.plan, _name(part)))

    def await_healthy(self, since: datetime | None = None, *, seconds: float = START_S) -> None:
        """Wait until all four are healthy, with heartbeats younger than `since`.

        Raises:
            UnhealthyError: A part died, or the deadline passed.
        """
        began = last = time.monotonic()
        while not self._health_ok(since):
            if dead := [part for part in PARTS if part not in self.running()]:
                raise self._unhealthy(f"Airflow's {dead[0]} of site {self.plan.name} ended.", dead[0])
            now = time.monotonic()
            if now - began > seconds:
                raise self._unhealthy(
                    f"Airflow of site {self.plan.name} is not healthy after {seconds:.0f} s.", PARTS[0]
                )
            if now - last > 5:  # noqa: PLR2004 - one line of progress every five seconds
                last = now
                self._say(f"airflow: waiting for {', '.join(self._sick(since))} ({now - began:.0f} s)")
            time.sleep(0.25)

    def _health_ok(self, since: datetime | None) -> bool:
        return not self._sick(since)

    def _sick(self, since: datetime | None) -> tuple[str, ...]:
        try:
            with self.api() as api:
                health = api.health()
        except (httpx.HTTPError, AirflowApiError):
            return ("api-server",)
        if health.ok(since):
            return ()
        return health.unhealthy or ("a fresh heartbeat",)

    def _make_pools(self) -> None:
        with self.api() as api:
            for pool in (*self._vm_pools(), *self.plan.pools):
                api.set_pool(pool.name, pool.slots, pool.description)

    def _vm_pools(self) -> tuple[Pool, ...]:
        folder = self.plan.extra.get("EDGELOOP_PIPELINES") or self.plan.repo / "include" / "pipelines"
        known = [catalog.read(home)[0] for home in sorted(Path(folder).iterdir()) if home.is_dir()]
        return vm_pools(one.spec for one in known if one is not None)

    @property
    def _program(self) -> Path:
        program = self.plan.bin / "airflow"
        if not program.exists():
            raise MissingToolError(f"{program} does not exist.", left="Nothing was started.", next="make setup")
        return program

    def _sweep(self, parts: list[str]) -> None:
        # What a killed part left behind (an api-server holds the port and answers "healthy" for its dead siblings).
        for part in parts:
            processes.stop(self.plan, _name(part), deadline=STOP_S)

    def _check_ports(self, parts: list[str]) -> None:
        for part in parts:
            port = self.plan.ports.get(part)
            if port is not None and _listening(self.plan.host, port):
                raise PortTakenError(
                    f"Port {port}, which Airflow's {part} of site {self.plan.name} needs, is in use.",
                    left="Nothing was started.",
                    next=f"see who holds it: ss -ltnp 'sport = :{port}'",
                )

    def _migrate(self) -> None:
        if migrated(self.plan):
            return
        self._say("airflow: migrating the database")
        self.plan.home.mkdir(parents=True, exist_ok=True)
        done = self.command("db", "migrate", seconds=MIGRATE_S)
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL:])
            raise UnhealthyError(
                f"`airflow db migrate` of site {self.plan.name} failed:\n{tail}",
                left="No part of Airflow was started; a migration stops between two revisions.",
                next="check that PostgreSQL of the site answers, then start again",
            )
        remember_migration(self.plan)

    def _spawn(self, part: str) -> None:
        env = self.environment()
        # `spawn` adds to this process's environment: what must not reach Airflow is taken out by env(1).
        strays = [name for name in os.environ if name.startswith("AIRFLOW") and name not in env]
        unset = [word for name in sorted(strays) for word in ("-u", name)]
        argv = [*(["env", *unset] if unset else []), str(self._program), part]
        processes.spawn(self.plan, _name(part), argv, env=env, cwd=self.plan.home)

    def _unhealthy(self, what: str, part: str) -> UnhealthyError:
        log = self.plan.state / "logs" / f"{_name(part)}.log"
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:]) if log.exists() else "(no log)"
        return UnhealthyError(
            f"{what}\n--- last lines of {log} ---\n{tail}",
            left=f"Parts still running: {', '.join(self.running()) or 'none'}.",
            next=f"read {log}, then start the site's Airflow again",
        )


def _name(part: str) -> str:
    return f"airflow-{part}"


def _listening(host: str, port: int) -> bool:
    # Binding is the only honest question: a socket in TIME_WAIT does not hinder a server with SO_REUSEADDR.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
