"""Dockerfile, docker-compose.yaml and .env.example, checked for form: nothing is started here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url

from lab import airflow_env, envfile

REPO = Path(__file__).parents[1]
TEXT = (REPO / "docker-compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
EXAMPLE = (REPO / ".env.example").read_text()
DOCKERFILE = (REPO / "Dockerfile").read_text()

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer", "worker")
AIRFLOW = ("init", *COMPONENTS)
OURS = airflow_env.settings(
    airflow_env.AirflowPlan(
        name="x", index=0, state=Path("/s"), repo=Path("/r"), port=8080, sync_uri="", async_uri="", bin=Path("/b")
    )
)
PIPELINES = "./include/pipelines:/opt/airflow/include/pipelines:ro"
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?P<kind>:[-?])?(?P<rest>[^}]*)\}")


def filled() -> dict[str, str]:
    """What .env holds after `python -m lab.envfile`."""
    lines = envfile.fill(EXAMPLE).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def interpolated(text: str, values: dict[str, str]) -> str:
    """The text as Docker Compose sees it; a variable without value or default raises."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match["name"], match["kind"], match["rest"]
        if values.get(name):
            return values[name]
        if kind == ":-":
            return rest
        raise KeyError(name)

    return VARIABLE.sub(value, text)


def environment(service: str) -> dict[str, str]:
    """A service's environment, interpolated with a fresh .env."""
    compose = yaml.safe_load(interpolated(TEXT, filled()))
    return {name: str(value) for name, value in compose["services"][service]["environment"].items()}


def test_the_services_are_there() -> None:
    """PostgreSQL, init and the four parts; Redis and a worker only in the profile `celery`."""
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {"postgres", "init", "api-server", "scheduler", "dag-processor", "triggerer"}
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "redis": ["celery"],
        "worker": ["celery"],
    }
    for part in ("api-server", "scheduler", "dag-processor", "triggerer"):
        assert SERVICES[part]["command"] == part
    assert SERVICES["worker"]["command"] == "celery worker"


@pytest.mark.parametrize("service", AIRFLOW)
def test_every_part_has_what_all_must_share(service: str) -> None:
    """One execution API address, one set of keys and one database, in every container of Airflow."""
    got = SERVICES[service]["environment"]
    assert got["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://api-server:8080/execution/"
    assert got["AIRFLOW__CORE__EXECUTOR"] == "${AIRFLOW_EXECUTOR:-LocalExecutor}"
    for name, variable in (
        ("AIRFLOW__CORE__FERNET_KEY", "FERNET_KEY"),
        ("AIRFLOW__API__SECRET_KEY", "API_SECRET_KEY"),
        ("AIRFLOW__API_AUTH__JWT_SECRET", "JWT_SECRET"),
    ):
        assert got[name].startswith(f"${{{variable}:?")
    shared = {name: value for name, value in got.items() if name.startswith("AIRFLOW__")}
    assert shared == {k: v for k, v in SERVICES["init"]["environment"].items() if k.startswith("AIRFLOW__")}


@pytest.mark.parametrize(
    "name",
    [
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL",
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS",
        "AIRFLOW__CORE__LOAD_EXAMPLES",
        "AIRFLOW__CORE__TEST_CONNECTION",
        "AIRFLOW__CORE__PARALLELISM",
    ],
)
def test_settings_agree_with_those_that_the_lab_proves(name: str) -> None:
    """What the lab's Airflow was tested with is what the containers run with."""
    for service in COMPONENTS:
        assert environment(service)[name] == OURS[name]


def test_both_database_uris_carry_the_generated_password() -> None:
    """Generated passwords survive in a URI, and each URI names its driver, host and database."""
    values = filled()
    text = yaml.safe_load(interpolated(TEXT, values))["services"]["scheduler"]["environment"]
    for name, driver in (("SQL_ALCHEMY_CONN", "psycopg2"), ("SQL_ALCHEMY_CONN_ASYNC", "asyncpg")):
        url = make_url(text[f"AIRFLOW__DATABASE__{name}"])
        assert (url.drivername, url.host, url.database) == (f"postgresql+{driver}", "postgres", "airflow")
        assert url.password == values["POSTGRES_PASSWORD"]
    assert make_url(text["AIRFLOW__CELERY__BROKER_URL"]).password == values["REDIS_PASSWORD"]


def test_every_setting_is_known_to_the_installed_airflow() -> None:
    """A misspelt name would be ignored silently; those of the Celery provider are not Airflow's own to know."""
    import airflow

    known = yaml.safe_load((Path(airflow.__path__[0]) / "config_templates" / "config.yml").read_text())
    for name in SERVICES["scheduler"]["environment"]:
        if name.startswith("AIRFLOW_CONN_"):
            continue
        section, option = name.removeprefix("AIRFLOW__").lower().split("__", 1)
        assert section == "celery" or option in known[section]["options"], name


def test_no_secret_stands_in_the_file() -> None:
    """Keys and passwords are variables that must be given: no literal, no default."""
    secret = set(filled())
    for match in VARIABLE.finditer(TEXT):
        assert (match["kind"] == ":?") == (match["name"] in secret), match[0]
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD$|SECRET|_KEY$", name):
                assert VARIABLE.fullmatch(value), name
    assert not re.search(r"://[^$\s/@]*:[^$\s/@]+@", TEXT)


def test_the_example_documents_every_variable_and_no_other() -> None:
    """Each ${VAR} of the compose file stands in .env.example, with the default that holds; none is left over."""
    used = {match["name"]: match["rest"] if match["kind"] == ":-" else "" for match in VARIABLE.finditer(TEXT)}
    documented = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE, flags=re.MULTILINE))
    assert documented == used


def test_whatever_is_generated_has_its_command_above_it() -> None:
    """For each empty value somebody can make it by hand, and `lab.envfile` can make it for them."""
    blocks = EXAMPLE.split("\n\n")
    for name in filled():
        (block,) = [block for block in blocks if re.search(rf"^{name}=$", block, flags=re.MULTILINE)]
        assert "#   python -c '" in block, name
    assert set(filled()) == set(envfile.MAKERS)


@pytest.mark.parametrize("service", COMPONENTS)
def test_no_part_starts_before_the_database_is_migrated(service: str) -> None:
    """Each part waits for a healthy PostgreSQL and a finished init, and for Redis where there is one."""
    needs = SERVICES[service]["depends_on"]
    assert needs["postgres"] == {"condition": "service_healthy"}
    assert needs["init"] == {"condition": "service_completed_successfully"}
    assert needs["redis"] == {"condition": "service_healthy", "required": False}


def test_init_migrates_makes_the_pool_and_writes_the_logins() -> None:
    """It ends instead of staying, and does three things, each of which may be repeated."""
    init = SERVICES["init"]
    assert (init["restart"], init["depends_on"]) == ("no", {"postgres": {"condition": "service_healthy"}})
    (script,) = init["command"]
    assert "airflow db migrate\npython -m edgeloop_airflow.pools\n" in script
    written = init["environment"]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]
    assert f"> {written}" in script
    assert {f"{user.upper()}_PASSWORD" for user in airflow_env.USERS} <= set(init["environment"])


def test_logins_reach_nobody_but_init_and_the_api_server() -> None:
    """Tasks run in the other containers: the password file and the passwords are not there."""
    for service in ("scheduler", "dag-processor", "triggerer", "worker"):
        assert "ADMIN_PASSWORD" not in SERVICES[service]["environment"]
        assert not [mount for mount in SERVICES[service]["volumes"] if mount.startswith("auth:")]
    for service in ("init", "api-server"):
        assert "auth:/opt/airflow/auth" in SERVICES[service]["volumes"]


@pytest.mark.parametrize("service", sorted(set(SERVICES) - {"init"}))
def test_whatever_stays_up_is_watched(service: str) -> None:
    """Every lasting service has a health check with its own interval and time-out, and comes back after a crash."""
    check = SERVICES[service]["healthcheck"]
    assert {"test", "interval", "timeout", "retries", "start_period"} <= set(check)
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert SERVICES[service]["restart"] == "unless-stopped"


def test_volumes_and_images_are_declared() -> None:
    """Every named volume is declared; every image can be replaced from .env and names no registry host."""
    mounted = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert mounted == {*COMPOSE["volumes"], PIPELINES.split(":", maxsplit=1)[0]}
    for service in SERVICES.values():
        match = VARIABLE.fullmatch(service["image"])
        assert match is not None
        assert match["kind"] == ":-"
        assert "." not in match["rest"].split("/")[0].split(":")[0]


@pytest.mark.parametrize("service", AIRFLOW)
def test_a_pipeline_is_brought_without_building_an_image(service: str) -> None:
    """Every part reads the checkout's own pipelines, where the image looks for them, and writes none."""
    assert PIPELINES in SERVICES[service]["volumes"]
    assert (REPO / PIPELINES.split(":", maxsplit=1)[0]).is_dir()
    assert f"EDGELOOP_PIPELINES={PIPELINES.split(':')[1]}" in DOCKERFILE


def test_the_ui_listens_on_this_machine_only_unless_told() -> None:
    """The default bind address is the loopback: simple logins are no guard against a network."""
    assert interpolated(SERVICES["api-server"]["ports"][0], {}) == "127.0.0.1:8080:8080"


def test_the_dockerfile_takes_its_base_as_an_argument() -> None:
    """The default is the official image; hashes are required; the project is not resolved, and not run by root."""
    default = re.search(r"^ARG BASE_IMAGE=(.+)$", DOCKERFILE, flags=re.MULTILINE)
    assert default is not None
    assert default[1] == "apache/airflow:3.3.2-python3.11"
    assert f"${{BASE_IMAGE:-{default[1]}}}" in TEXT
    assert re.findall(r"^FROM (.+)$", DOCKERFILE, flags=re.MULTILINE) == ["${BASE_IMAGE}"]
    assert "--require-hashes -r requirements.txt" in DOCKERFILE
    assert re.search(r"pip install .*--no-deps \.(\s|$)", DOCKERFILE)
    assert re.findall(r"^USER (.+)$", DOCKERFILE, flags=re.MULTILINE) == ["root", "airflow"]


def test_the_image_holds_what_it_runs_and_no_secret() -> None:
    """Sources exist and are copied, volumes find a folder of the right owner, .env and .git stay out of the context."""
    for source in ("dags", "plugins", "include", "pyproject.toml", "requirements.txt"):
        assert (REPO / source).exists()
        assert re.search(rf"^COPY --chown=airflow:0 .*\b{re.escape(source)}\b", DOCKERFILE, flags=re.MULTILINE)
    folders = re.search(r"^RUN mkdir -p ([\w ]+?) &&", DOCKERFILE, flags=re.MULTILINE)
    assert folders is not None
    mounts = {mount.split(":")[1] for name in AIRFLOW for mount in SERVICES[name]["volumes"] if mount != PIPELINES}
    assert {f"/opt/airflow/{folder}" for folder in folders[1].split()} == mounts
    assert {".env", ".git", ".venv"} <= set((REPO / ".dockerignore").read_text().splitlines())
