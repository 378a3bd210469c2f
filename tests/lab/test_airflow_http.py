"""The REST client's transport against a real local HTTP server that misbehaves as told."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.errors import UnreachableError
from lab.airflow_api import AirflowApi, DeadlineError, wait_for
from lab.airflow_http import AirflowApiError, AirflowHttp, Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = Timeouts(connect=1, idle=2, whole=3)


@dataclass
class Script:
    """What the server answers, in order (the last one for ever), and what it was asked; status 0 hangs up."""

    answers: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    logins: int = 0
    url: str = ""

    def next(self) -> tuple[int, Any]:
        """The next scripted answer."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def server() -> Iterator[Script]:
    """A listening server and its script."""
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/auth/token":
                script.logins += 1
                status, body = 201, {"access_token": f"token-{script.logins}"}
            else:
                script.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
                status, body = script.next()
            if status == 0:
                self.connection.close()
                return
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{httpd.server_port}"
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield script
    httpd.shutdown()
    httpd.server_close()


def client(script: Script) -> AirflowHttp:
    """A client of the scripted server."""
    return AirflowHttp(script.url, "admin", "pw", QUICK)


@pytest.mark.parametrize("refusal", [(401, {"detail": "Token Expired"}), (403, {"detail": "Invalid JWT token"})])
def test_a_refused_token_leads_to_one_fresh_login(server: Script, refusal: tuple[int, Any]) -> None:
    """Expired, or of other keys: the call is repeated once with a fresh token."""
    server.answers = [refusal, (200, {"ok": 1})]
    assert client(server).call("GET", "/x") == {"ok": 1}
    assert [token for *_, token in server.asked] == ["Bearer token-1", "Bearer token-2"]


def test_a_forbidden_call_is_not_repeated(server: Script) -> None:
    """A 403 that speaks of rights is an answer, with Airflow's own words in the error."""
    server.answers = [(403, {"detail": "Forbidden for oncall"})]
    with pytest.raises(AirflowApiError, match="Forbidden for oncall") as refused:
        client(server).call("GET", "/x")
    assert (refused.value.status, len(server.asked)) == (403, 1)


def test_a_read_is_repeated_until_it_is_answered(server: Script) -> None:
    """502, 503, 504 and a dropped connection are passed over within the deadline."""
    server.answers = [(502, {}), (0, None), (503, {}), (504, {}), (200, {"ok": 1})]
    assert client(server).call("GET", "/x") == {"ok": 1}
    assert len(server.asked) == 5


def test_a_post_that_may_have_been_done_is_not_repeated(server: Script) -> None:
    """A dropped POST raises and says that it may have been done: repeated, it would make a second event."""
    server.answers = [(0, None)]
    with pytest.raises(UnreachableError, match="may have been done"):
        client(server).call("POST", "/assets/events", body={})
    assert len(server.asked) == 1


def test_a_post_that_was_turned_away_is_repeated(server: Script) -> None:
    """503 says that nothing was done."""
    server.answers = [(503, {}), (200, {"ok": 1})]
    assert client(server).call("POST", "/x", body={}) == {"ok": 1}


def test_nobody_there_is_said_within_the_deadline() -> None:
    """A refused connection raises with the address and where to look."""
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        AirflowHttp("http://127.0.0.1:9", "admin", "pw", Timeouts(connect=1, idle=1, whole=0.1)).call("GET", "/x")


def test_every_page_is_read(server: Script) -> None:
    """A list longer than Airflow's page limit comes back whole."""
    pages = [[{"n": n} for n in range(100)], [{"n": n} for n in range(100, 130)]]
    server.answers = [(200, {"things": page}) for page in pages]
    assert [item["n"] for item in client(server).items("/things", "things")] == list(range(130))
    assert ["offset=0" in server.asked[0][1], "offset=100" in server.asked[1][1]] == [True, True]


def test_runs_of_a_key_exclude_those_of_a_longer_key(server: Script) -> None:
    """The server matches prefixes; `a@1` must not find the run of `a@12`."""
    raw = dict.fromkeys(("queued_at", "start_date", "end_date", "conf")) | {
        "dag_id": "d",
        "state": "success",
        "run_type": "asset",
    }
    keys = ("a@1", "a@12")
    server.answers = [(200, {"dag_runs": [raw | {"dag_run_id": key, "partition_key": key} for key in keys]})]
    with AirflowApi(server.url, "admin", "pw", QUICK) as api:
        assert [run.run_id for run in api.runs("d", partition_key="a@1")] == ["a@1"]


def test_names_in_paths_are_quoted(server: Script) -> None:
    """A run id with a plus sign and a slash stays one segment of the path."""
    server.answers = [(200, None)]
    with AirflowApi(server.url, "admin", "pw", QUICK) as api:
        api.mark_run("d", "asset__2024-01-01T00:00:00+00:00/x", "failed")
    assert server.asked[0][1] == "/api/v2/dags/d/dagRuns/asset__2024-01-01T00%3A00%3A00%2B00%3A00%2Fx"


def test_waiting_ends_at_the_deadline_and_says_for_what() -> None:
    """A probe that never holds raises with the name of what was waited for, after reporting progress."""
    heard: list[float] = []
    with pytest.raises(DeadlineError, match="the moon"):
        wait_for(lambda: None, seconds=0.05, what="the moon", every=0.01, progress=heard.append)
    assert heard == sorted(heard) != []


def test_waiting_returns_the_first_true_answer() -> None:
    """The probe's own answer comes back."""
    answers = iter([None, (), "now"])
    assert wait_for(lambda: next(answers), seconds=5, what="now", every=0) == "now"
