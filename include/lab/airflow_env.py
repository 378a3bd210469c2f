"""The environment of a site's Airflow, as one pure function of a plan and its secrets.

Every part (api-server, scheduler, dag-processor, triggerer) and every `airflow` command of a site gets exactly
this environment: no airflow.cfg is edited, so what a site runs with can be read in one place.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.site import cache_root

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeloop.training.pools import Pool

LOG_PORTS_AFTER = 713
"""From the API's port to the log servers' two: 8080 gives Airflow's own 8793 and 8794, other sites their own pair."""

HIGHEST_PORT = 65535

ONCALL = "oncall"
USERS: Mapping[str, str] = {"admin": "admin", ONCALL: "op"}
"""Login name to SimpleAuthManager role. `op` may clear, trigger and answer gates, but not manage users."""

QUIET = ("azure=WARNING", "asyncssh=WARNING", "httpx=WARNING", "smbprotocol=WARNING", "great_expectations=WARNING")
"""Loggers that write several INFO lines per request into every task's log (azure-core prints whole headers)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowSecrets:
    """What a site's Airflow must keep to itself; made once per site (`lab.airflow_secrets`)."""

    fernet_key: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    api_secret: str = field(repr=False)
    passwords: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowPlan:
    """One site's Airflow: where it lives, what it serves, what it may reach.

    Args:
        name: Site name.
        index: Site index; the site's hosts are 10.77.<index>.*.
        state: The site's state folder; Airflow's home is `<state>/airflow`.
        port: Port of the API server and the UI.
        repo: Checkout whose `include/` and `plugins/` are the code that runs.
        sync_uri: SQLAlchemy URI with psycopg2.
        async_uri: SQLAlchemy URI with asyncpg.
        bin: Folder of the `airflow` executable.
        dags: DAG folder; the checkout's own unless a test brings another.
        connections: `AIRFLOW_CONN_*` variables.
        extra: Further variables for tasks and DAG files.
        fast: Shorten the time-outs after which Airflow believes that a part is dead (test sites only).
        host: Address the API server binds.
        pools: Pools made at every start, beside those of the pipelines' VMs.
        parallelism: LocalExecutor workers, each a forked process of about 50 MB.
    """

    name: str
    index: int
    state: Path
    repo: Path
    port: int
    sync_uri: str = field(repr=False)
    async_uri: str = field(repr=False)
    bin: Path
    dags: Path | None = None
    connections: Mapping[str, str] = field(default_factory=dict, repr=False)
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)
    fast: bool = False
    host: str = "127.0.0.1"
    pools: tuple[Pool, ...] = ()
    parallelism: int = 8

    @property
    def home(self) -> Path:
        """AIRFLOW_HOME."""
        return self.state / "airflow"

    @property
    def ports(self) -> Mapping[str, int]:
        """The TCP port that each listening part listens on."""
        after = self.port + LOG_PORTS_AFTER
        logs = after if after < HIGHEST_PORT else self.port - LOG_PORTS_AFTER
        return {"api-server": self.port, "scheduler": logs, "triggerer": logs + 1}

    @property
    def url(self) -> str:
        """Address of the UI, for a browser on this machine."""
        host = "127.0.0.1" if self.host in {"", "0.0.0.0"} else self.host
        return f"http://{host}:{self.port}"

    @property
    def passwords_file(self) -> Path:
        """What SimpleAuthManager reads; written before every start."""
        return self.home / "passwords.json"


def environment(plan: AirflowPlan, secrets: AirflowSecrets, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a part.

    Args:
        plan: The site's Airflow.
        secrets: Its keys and passwords.
        inherited: The caller's environment. Every AIRFLOW* variable in it is dropped: a stray one from the
            user's shell would otherwise point one part at another database.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(("AIRFLOW", "PYTHONPATH"))}
    path = os.pathsep.join([str(plan.bin), kept.get("PATH", os.defpath)])
    return {
        **kept,
        # Airflow's own subprocesses are started as `airflow ...`.
        "PATH": path,
        # The checkout of the plan runs, wherever the environment's editable install points.
        "PYTHONPATH": os.pathsep.join([str(plan.repo / "include"), str(plan.repo / "plugins")]),
        **_no_proxy(plan, kept),
        "EDGELOOP_PIPELINES": str(plan.repo / "include" / "pipelines"),
        # What a worker keeps beside its tasks (the base's packed layers) stays with what the lab keeps.
        "EDGELOOP_CACHE": kept.get("EDGELOOP_CACHE") or str(cache_root() / "worker"),
        **settings(plan),
        **(_FAST if plan.fast else {}),
        **_secret_settings(plan, secrets),
        **_own_connection(plan, secrets),
        **plan.connections,
        **plan.extra,
    }


def settings(plan: AirflowPlan) -> dict[str, str]:
    """Every setting of a site that is no secret and no time-out of the test site."""
    return {
        "AIRFLOW_HOME": str(plan.home),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # LocalExecutor forks this many processes at once; the default of 32 costs 1.5 GB.
        "AIRFLOW__CORE__PARALLELISM": str(plan.parallelism),
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(plan.parallelism),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(plan.dags or plan.repo / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(plan.repo / "plugins"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        # Tasks talk to this address; it does not follow [api] port by itself.
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{plan.url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(plan.passwords_file),
        "AIRFLOW__API__HOST": plan.host,
        "AIRFLOW__API__PORT": str(plan.port),
        "AIRFLOW__API__BASE_URL": plan.url,
        "AIRFLOW__API__INSTANCE_NAME": f"Edgeloop {plan.name}",
        "AIRFLOW__API__WORKERS": "1",
        # A new DAG file is seen after this long; the default is five minutes.
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(plan.home / "logs"),
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": ",".join(QUIET),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        # Each site's scheduler and triggerer serve running tasks' logs; two sites share one machine.
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(plan.ports["scheduler"]),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(plan.ports["triggerer"]),
        # Not a matter of taste: at the default of 5 s a task that resumes within seconds of parking is failed by
        # the stale `success` of its parking phase (16 of 64 against 0 of 128).
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # At one heartbeat a second the default of 3 failed ones would kill every running task in the seconds that
        # a restart of the API server takes: 21 s on two busy cores, and with 15 the tasks were lost.
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "60",
    }


_FAST: Mapping[str, str] = {
    # A running task whose process was killed alone is noticed after 300 s; not below 40, since the API server takes
    # 21 s to restart on two busy cores, and one heartbeat call retries for up to 15 s meanwhile.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    # Tasks of a killed scheduler are reset once its last heartbeat is older than the threshold (30 s), by a check
    # that runs every 300 s.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "12",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    # Triggers of a killed triggerer move to the new one after this long (30 s).
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "12",
    # Deferral and gate time-outs are swept every 15 s.
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "3",
    # The dag-processor's health, as above (30 s); its heartbeat is [scheduler] job_heartbeat_sec (5 s).
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__DAG_PROCESSOR__HEALTH_CHECK_THRESHOLD": "15",
    # An edited pipeline.yaml shows at the next parse of its stage files (30 s).
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "2",
}
"""Shortened time-outs of the test site, each with what it is by default: faults are noticed in seconds."""


def passwords_text(secrets: AirflowSecrets) -> str:
    """Content of SimpleAuthManager's passwords file; users that are missing there get a printed random one."""
    return json.dumps(dict(secrets.passwords), sort_keys=True) + "\n"


def _secret_settings(plan: AirflowPlan, secrets: AirflowSecrets) -> dict[str, str]:
    return {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": plan.sync_uri,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": plan.async_uri,
        "AIRFLOW__CORE__FERNET_KEY": secrets.fernet_key,
        # Every part must hold the same two keys: tasks authenticate with one, log servers with the other.
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.jwt_secret,
        "AIRFLOW__API__SECRET_KEY": secrets.api_secret,
    }


def _own_connection(plan: AirflowPlan, secrets: AirflowSecrets) -> dict[str, str]:
    """The connection by which a task clears and starts runs: this site's own API, as the person on call."""
    login = {"conn_type": "edgeloop_airflow", "host": plan.url, "login": ONCALL, "password": secrets.passwords[ONCALL]}
    return {"AIRFLOW_CONN_EDGELOOP_AIRFLOW": json.dumps(login)}


def _no_proxy(plan: AirflowPlan, inherited: Mapping[str, str]) -> dict[str, str]:
    # With a proxy in the environment a task's call to its own API server would leave the machine.
    site = [f"10.77.{plan.index}.{host}" for host in (1, 2, 10, 101, 102, 103)]
    given = [part for part in (inherited.get("NO_PROXY") or inherited.get("no_proxy") or "").split(",") if part]
    value = ",".join(dict.fromkeys([*given, "127.0.0.1", "localhost", *site]))
    return {"NO_PROXY": value, "no_proxy": value}
