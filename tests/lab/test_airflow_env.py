"""The environment of a site's Airflow, as exact values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeloop.errors import UnreachableError
from lab import airflow_database, airflow_env
from lab.airflow_env import AirflowPlan, AirflowSecrets, environment

SECRETS = AirflowSecrets(
    fernet_key="fernet-x", jwt_secret="jwt-x", api_secret="api-x", passwords={"admin": "pw-a", "oncall": "pw-o"}
)
PLAN = AirflowPlan(
    name="test",
    index=1,
    state=Path("/s/test"),
    repo=Path("/repo"),
    port=8180,
    sync_uri="postgresql+psycopg2://u:secret-db@/airflow",
    async_uri="postgresql+asyncpg://u:secret-db@/airflow",
    bin=Path("/venv/bin"),
    connections={"AIRFLOW_CONN_EDGELOOP_VM": "{}"},
    extra={"EDGELOOP_SOAK_SECONDS": "2"},
)


def env(**changes: object) -> dict[str, str]:
    """The environment of the plan with changes, from an empty shell."""
    return environment(replace(PLAN, **changes), SECRETS, {"PATH": "/bin"})


def test_addresses_follow_the_port_of_the_site() -> None:
    """API, base URL, execution API and log servers of two sites never meet."""
    got = env()
    assert got["AIRFLOW__API__PORT"] == "8180"
    assert got["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8180"
    assert got["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8180/execution/"
    assert got["AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT"] == "8893"
    assert got["AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT"] == "8894"
    assert not set(PLAN.ports.values()) & set(replace(PLAN, port=8080).ports.values())
    assert max(replace(PLAN, port=65000).ports.values()) == 65000


def test_both_drivers_reach_the_same_database() -> None:
    """Airflow gets the psycopg2 and the asyncpg URI."""
    got = env()
    assert got["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == PLAN.sync_uri
    assert got["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"] == PLAN.async_uri


def test_settings_that_are_no_matter_of_taste() -> None:
    """The heartbeat interval that saves parked tasks, its patience, and the bounded executor."""
    got = env(parallelism=6)
    assert got["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"] == "1"
    assert got["AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS"] == "60"
    assert got["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert got["AIRFLOW__CORE__PARALLELISM"] == "6"
    assert got["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert got["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "admin:admin,oncall:op"
    assert "azure=WARNING" in got["AIRFLOW__LOGGING__NAMESPACE_LEVELS"].split(",")


def test_folders_are_those_of_the_plans_checkout() -> None:
    """DAGs, plugins, pipelines and code come from the checkout; a test may bring its own DAGs."""
    got = env()
    assert got["AIRFLOW__CORE__DAGS_FOLDER"] == "/repo/dags"
    assert got["AIRFLOW__CORE__PLUGINS_FOLDER"] == "/repo/plugins"
    assert got["EDGELOOP_PIPELINES"] == "/repo/include/pipelines"
    assert got["PYTHONPATH"] == "/repo/include:/repo/plugins"
    assert got["PATH"] == "/venv/bin:/bin"
    assert env(dags=Path("/t/dags"))["AIRFLOW__CORE__DAGS_FOLDER"] == "/t/dags"


def test_variables_of_the_callers_shell_do_not_leak_in() -> None:
    """A stray AIRFLOW or PYTHONPATH variable of the shell never reaches a part; the rest does."""
    shell = {"AIRFLOW__CORE__FERNET_KEY": "other", "AIRFLOW_CONN_X": "{}", "PYTHONPATH": "/elsewhere", "LANG": "C"}
    got = environment(PLAN, SECRETS, shell)
    assert got["AIRFLOW__CORE__FERNET_KEY"] == "fernet-x"
    assert "AIRFLOW_CONN_X" not in got
    assert "/elsewhere" not in got["PYTHONPATH"]
    assert got["LANG"] == "C"


def test_connections_and_extras_come_last() -> None:
    """The site's connections and the caller's variables are in the environment as given."""
    got = env()
    assert got["AIRFLOW_CONN_EDGELOOP_VM"] == "{}"
    assert got["EDGELOOP_SOAK_SECONDS"] == "2"


def test_the_sites_own_addresses_bypass_a_proxy() -> None:
    """With a proxy set, calls to this machine and to the site's hosts stay direct; given exceptions are kept."""
    got = environment(PLAN, SECRETS, {"NO_PROXY": "intranet,localhost"})
    hosts = got["NO_PROXY"].split(",")
    assert hosts[:3] == ["intranet", "localhost", "127.0.0.1"]
    assert {"10.77.1.1", "10.77.1.10", "10.77.1.103"} <= set(hosts)
    assert got["no_proxy"] == got["NO_PROXY"]


def test_only_the_fast_variant_shortens_time_outs() -> None:
    """The demo keeps Airflow's own patience; the test site notices a dead part within seconds."""
    timeouts = {name for name in env(fast=True) if "TIMEOUT" in name or "THRESHOLD" in name}
    assert timeouts
    assert not timeouts & set(env())
    fast = env(fast=True)
    assert int(fast["AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD"]) > 2 * int(
        fast["AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC"]
    )


@pytest.mark.parametrize("fast", [False, True])
def test_every_setting_is_known_to_the_installed_airflow(fast: bool) -> None:
    """A misspelt section or option would be ignored silently; each name must exist in the installed version."""
    import airflow
    import yaml

    known = yaml.safe_load((Path(airflow.__path__[0]) / "config_templates" / "config.yml").read_text())
    for name in env(fast=fast):
        if name.startswith("AIRFLOW__"):
            section, option = name.removeprefix("AIRFLOW__").lower().split("__", 1)
            assert option in known[section]["options"], name


def test_secrets_show_in_no_representation() -> None:
    """Neither plan nor secrets print a password or key."""
    shown = repr(PLAN) + repr(SECRETS)
    for secret in ("secret-db", "fernet-x", "jwt-x", "api-x", "pw-a", "pw-o"):
        assert secret not in shown


def test_a_dead_database_is_named_without_its_password() -> None:
    """Nobody at the database's address: the error names the site and the remedy, not the secret."""
    dead = replace(PLAN, sync_uri="postgresql+psycopg2://u:secret-db@127.0.0.1:9/airflow")
    with pytest.raises(UnreachableError, match="site test") as raised:
        airflow_database.head(dead)
    assert "secret-db" not in str(raised.value)


def test_the_passwords_file_names_every_user() -> None:
    """A user that the file lacks would get a random password that is printed into a log."""
    assert json.loads(airflow_env.passwords_text(SECRETS)) == {"admin": "pw-a", "oncall": "pw-o"}
    assert set(airflow_env.USERS) == {"admin", "oncall"}
