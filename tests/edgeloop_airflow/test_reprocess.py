"""What reprocessing reads from Airflow's answers, and the form of its DAG."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.edgeloop_airflow.airflow_answers import answering

from edgeloop.errors import ConfigurationError
from edgeloop.reprocess import STAGES, parse
from edgeloop.reprocess.request import FIELDS
from edgeloop_airflow.rest import AirflowRefusedError, AirflowRest, ApiEndpoint, last_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import DAG

DAGS = Path(__file__).resolve().parents[2] / "dags"


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> DAG:
    """The DAG as its file builds it."""
    import runpy

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGELOOP_LAST_VALID", str(tmp_path_factory.mktemp("last")))
        found: DAG = runpy.run_path(str(DAGS / "reprocess.py"))["reprocess"]
    return found


def test_the_form_has_every_field_and_is_safe_as_it_stands(dag: DAG) -> None:
    """Triggered without looking it changes nothing: a range must be typed, and the rest is a dry run."""
    form = {name: dag.params[name] for name in dag.params}
    assert sorted(form) == sorted(FIELDS)
    with pytest.raises(ConfigurationError, match="from, to: nothing says which partitions"):
        parse(form, ["wind_power"])
    request = parse({**form, "from": "2014-01-01", "to": "2014-01-31"}, ["wind_power"])
    assert (request.dry_run, request.only_failed, request.force, request.promote) == (True, True, "", "")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("pipeline", "water"), ("stage", "intake"), ("from", "1.1.2014"), ("dry_run", "no"), ("reason", "x" * 501)],
)
def test_the_ui_refuses_what_cannot_be(dag: DAG, field: str, wrong: Any) -> None:
    """Choices, days and switches are held by the form itself, before a run is made."""
    from airflow.sdk.exceptions import ParamValidationError

    param = dag.params.get_param(field)
    with pytest.raises(ParamValidationError):
        param.resolve(wrong)
    assert dag.params.get_param("stage").schema["enum"] == list(STAGES)


def test_the_last_error_of_a_log_is_one_line() -> None:
    """Of a try that was retried within one log the last error counts; only its first line, and not endlessly."""
    log = [
        {"event": "::group::"},
        {"event": "Task failed", "error_detail": [{"exc_type": "OSError", "exc_value": "first"}]},
        {
            "event": "Task failed with exception",
            "error_detail": [
                {"exc_type": "KeyError", "exc_value": "cause"},
                {"exc_type": "BatchBlockedError", "exc_value": "Batch x is blocked\nLeft in place: all"},
            ],
        },
        {"event": "done"},
        "a line of text",
    ]
    assert last_error(log) == "BatchBlockedError: Batch x is blocked"
    assert last_error(log[:2]) == "OSError: first"
    assert last_error(["text", {"event": "fine"}]) == ""
    assert len(last_error([{"error_detail": [{"exc_type": "E", "exc_value": "y" * 9999}]}])) == 400


class Answers(BaseHTTPRequestHandler):
    """Answers every request with the server's next status, and remembers what was asked."""

    def do_POST(self) -> None:
        """Log in, or answer as told."""
        server: Any = self.server
        server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        server.asked.append(self.path)
        status = 201 if self.path == "/auth/token" else server.statuses.pop(0)
        body = json.dumps({"access_token": "t", "total_entries": server.failed, "detail": "because"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Any]:
    """A server that answers with the statuses it is given."""
    one: Any = HTTPServer(("127.0.0.1", 0), Answers)
    one.statuses, one.asked, one.bodies, one.failed = [], [], [], 0
    thread = threading.Thread(target=one.serve_forever, daemon=True)
    thread.start()
    yield one
    one.shutdown()
    one.server_close()


RUNS = "/api/v2/dags/d/dagRuns"


def rest(server: Any) -> AirflowRest:
    """A client of that server."""
    url = f"http://127.0.0.1:{server.server_port}"
    return AirflowRest(ApiEndpoint(connection="edgeloop_airflow", url=url, user="oncall", password="x"))


def test_a_run_that_is_there_is_not_started_again(server: Any) -> None:
    """A retry of the request finds the run under its id; while the API restarts it is asked again."""
    server.statuses = [503, 200, 409]
    with rest(server) as client:
        assert client.start("d", "r", "k", {}, "note") is True
        assert client.start("d", "r", "k", {}, "note") is False
    assert server.asked == ["/auth/token", *["/api/v2/dags/d/dagRuns"] * 3]


def test_a_log_that_is_gone_hides_no_partition() -> None:
    """The list says what it could not read, and of which task; a log that is there says its last error."""
    tasks = "/dags/d/dagRuns/r/taskInstances"
    failed = {"task_id": "certify", "state": "failed", "try_number": 2, "map_index": -1}
    with answering() as airflow:
        airflow.known[tasks] = {"task_instances": [{**failed, "state": "success"}, failed]}
        with AirflowRest(ApiEndpoint(connection="c", url=f"http://127.0.0.1:{airflow.port}", user="oncall")) as client:
            assert client.error("d", "r").startswith("certify: its log cannot be read: Airflow answered 404")
            said = [{"error_detail": [{"exc_type": "OSError", "exc_value": "full"}]}]
            airflow.known[f"{tasks}/certify/logs/2"] = {"content": said}
            assert client.error("d", "r") == "certify: OSError: full"


def test_a_token_that_ended_is_asked_for_anew(server: Any) -> None:
    """Once: a login that is good and may not is told, and what a first token may not is not asked for twice."""
    server.statuses = [200, 401, 200, 401, 401]
    with rest(server) as client:
        assert [client.start("d", one, "k", {}, "note") for one in ("r1", "r2")] == [True, True]
        assert server.asked == ["/auth/token", RUNS, RUNS, "/auth/token", RUNS]
        with pytest.raises(ConfigurationError, match="answered 401"):
            client.start("d", "r3", "k", {}, "note")
    server.statuses = [401]
    with rest(server) as client, pytest.raises(ConfigurationError, match="answered 401"):
        client.start("d", "r4", "k", {}, "note")


def test_nothing_is_cleared_where_nothing_failed(server: Any) -> None:
    """A run that somebody else cleared meanwhile is asked about and left alone."""
    server.statuses = [200]
    with rest(server) as client:
        assert client.clear_failed("d", "r/1", "note") == 0
    assert server.asked == ["/auth/token", "/api/v2/dags/d/dagRuns/r%2F1/clear"]


def test_only_what_failed_is_cleared(server: Any) -> None:
    """Tasks of the run that succeeded keep their results, and the run says who asked for it."""
    server.statuses, server.failed = [200, 200], 2
    with rest(server) as client:
        assert client.clear_failed("d", "r", "reprocess run-1: why") == 2
    assert server.bodies[1:] == [
        {"dry_run": True, "only_failed": True},
        {"dry_run": False, "only_failed": True, "note": "reprocess run-1: why"},
    ]


@pytest.mark.parametrize("status", [401, 403])
def test_a_user_who_may_not_is_told_which_role_it_takes(server: Any, status: int) -> None:
    """The error names the user and the connection."""
    server.statuses = [status]
    with (
        rest(server) as client,
        pytest.raises(ConfigurationError, match="'oncall' of connection 'edgeloop_airflow'") as c,
    ):
        client.start("d", "r", "k", {}, "note")
    assert "role 'op'" in c.value.next


def test_what_airflow_refuses_is_repeated_in_its_words(server: Any) -> None:
    """An unknown DAG, for example; what was done before stays."""
    server.statuses = [404]
    with rest(server) as client, pytest.raises(AirflowRefusedError, match=r"404 to POST /dags/d/dagRuns: .*because"):
        client.start("d", "r", "k", {}, "note")
